package blob

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/centram/centram/p2p/wire"
)

const (
	// ahead is how long a source may be busy with what it was asked for. Little, since what waits at a slow source keeps
	// the others waiting at the end; but more than a round trip, so that it is never without work.
	ahead = time.Second

	// maxSpare bounds how many chunks of a blob are asked for twice at the end.
	maxSpare = 2 * wire.Window

	// patience is how many times as long as it takes to lose its chunks to others a silent source is waited for.
	patience = 6

	firstPace          = time.Second // what a new source is thought to need for a chunk
	minRetry, maxRetry = 100 * time.Millisecond, time.Minute
	defaultRetry       = time.Second
)

// plan decides which source is asked for which chunk: the chunk that fewest sources have, of those the first from start
// on; each chunk once, until its source refuses, leaves or falls silent. When nothing is left to ask for, a source without
// work is asked for what others are too slow to bring.
//
// It does nothing but decide: it has no clock, starts nothing and is not safe for concurrent use.
type plan struct {
	stall   time.Duration
	done    set
	left    int     // chunks that are not done
	asks    []uint8 // of each chunk: how many sources are expected to bring it
	holders []int   // of each chunk: how many sources of a part of the blob say that they have it
	free    int     // chunks that are neither done nor expected
	start   int     // chunk that counts as the first, so that two who fetch the same have something for each other
	first   int     // counted from start: all chunks before it are done or expected
	spare   int     // chunks that may still be asked for twice
	peers   []*peer
}

// peer is a source as the plan sees it.
type peer struct {
	complete bool
	has      set
	lacks    map[uint32]bool // chunks that it has refused for good
	asked    []ask           // that are unanswered, the oldest first
	pace     time.Duration   // for one chunk, smoothed
	known    bool            // pace is more than a guess
	heard    time.Time       // last answer; or when it was asked, if it had nothing to answer
	until    time.Time       // it does not want to be asked before
	silent   bool            // has lost its chunks to others, and gets none before it answers
}

type ask struct {
	index uint32
	at    time.Time
	lost  bool // no longer expected, though it may come
}

// newPlan is the plan for a blob of n chunks of which some are there.
func newPlan(n, start int, have set, stall time.Duration) *plan {
	left := n - have.count()
	return &plan{
		stall: stall, done: slices.Clone(have), left: left, asks: make([]uint8, n), holders: make([]int, n), free: left,
		start: start, spare: maxSpare,
	}
}

func (p *plan) join(have wire.HaveMap) *peer {
	s := &peer{pace: firstPace, lacks: map[uint32]bool{}}
	p.peers = append(p.peers, s)
	p.update(s, have)
	return s
}

// update notes what a source has now.
func (p *plan) update(s *peer, have wire.HaveMap) {
	p.count(s, -1)
	before := s.has
	s.complete, s.has = have.Complete, set(have.Bits)
	p.count(s, 1)
	maps.DeleteFunc(s.lacks, func(i uint32, _ bool) bool { return s.has.has(i) && !before.has(i) }) // it has come by now
}

func (p *plan) count(s *peer, by int) {
	for i := range p.holders {
		if s.has.has(uint32(i)) {
			p.holders[i] += by
		}
	}
}

func (p *plan) leave(s *peer) {
	for _, a := range s.asked {
		p.release(a)
	}
	s.asked = nil
	p.update(s, wire.HaveMap{})
	p.peers = slices.DeleteFunc(p.peers, func(o *peer) bool { return o == s })
}

// next picks a chunk to ask s for, and counts on s to bring it.
func (p *plan) next(now time.Time, s *peer) (index uint32, ok bool) {
	if s.silent || now.Before(s.until) || len(s.asked) >= p.window(now, s) {
		return 0, false
	}
	if index, ok = p.rarest(s); !ok {
		if index, ok = p.late(now, s); !ok {
			return 0, false
		}
		p.spare--
	}
	if len(s.asked) == 0 {
		s.heard = now
	}
	s.asked = append(s.asked, ask{index: index, at: now})
	if p.asks[index]++; p.asks[index] == 1 {
		p.free--
	}
	return index, true
}

// window is how many chunks s may be asked for at once: no more than it brings in some time, nor than its share of what
// is left, so that all are done at the same time.
func (p *plan) window(now time.Time, s *peer) int {
	all := 0.0
	for _, o := range p.peers {
		if !o.silent && !now.Before(o.until) {
			all += o.speed()
		}
	}
	share := math.Ceil(float64(p.left) * s.speed() / all)
	return int(min(wire.Window, 1+ahead.Seconds()*s.speed(), share))
}

// speed is in chunks a second.
func (s *peer) speed() float64 { return 1 / max(s.pace, 1).Seconds() }

// gives reports whether s can be asked for a chunk.
func (s *peer) gives(index uint32) bool {
	return (s.complete || s.has.has(index)) && !s.lacks[index] && s.find(index) < 0
}

func (s *peer) find(index uint32) int {
	return slices.IndexFunc(s.asked, func(a ask) bool { return a.index == index })
}

func (p *plan) rarest(s *peer) (best uint32, ok bool) {
	if p.free == 0 {
		return 0, false
	}
	fewest := 0 // no chunk that s has is in fewer hands
	if !s.complete {
		fewest = 1
	}
	for i := p.first; i < len(p.asks); i++ {
		switch c := uint32((p.start + i) % len(p.asks)); {
		case p.done.has(c) || p.asks[c] > 0:
			if i == p.first {
				p.first++
			}
		case s.gives(c) && (!ok || p.holders[c] < p.holders[best]):
			if best, ok = c, true; p.holders[c] == fewest {
				return best, true
			}
		}
	}
	return best, ok
}

// late finds the chunk that its source, which is much slower than s, will take the longest to bring, if s would bring it
// in less than half of that time.
func (p *plan) late(now time.Time, s *peer) (best uint32, ok bool) {
	if p.free > 0 || p.spare == 0 {
		return 0, false
	}
	longest := 2 * s.pace * time.Duration(len(s.asked)+1)
	enough := longest // a source that could have brought it by now
	for _, o := range p.peers {
		if max(o.pace, now.Sub(o.heard)) <= 2*s.pace {
			continue
		}
		for before, a := range o.asked {
			if a.lost || p.done.has(a.index) || p.asks[a.index] > 1 || now.Sub(a.at) <= enough || !s.gives(a.index) {
				continue
			}
			if w := o.wait(now, before); w > longest {
				best, ok, longest = a.index, true, w
			}
		}
	}
	return best, ok
}

// wait guesses how long s will need for what it was asked for after some other chunks. What is overdue will take as long
// again as it is overdue, for all that is known.
func (s *peer) wait(now time.Time, before int) time.Duration {
	return s.pace*time.Duration(before) + (s.pace - now.Sub(s.heard)).Abs()
}

// expects reports whether s was asked for a chunk and has not answered.
func (s *peer) expects(index uint32) bool { return s.find(index) >= 0 }

// came notes that s has brought a chunk, which is on the disk now, and reports whether it was the first to do so.
func (p *plan) came(now time.Time, s *peer, index uint32) bool {
	if a, ok := p.answer(s, index); ok {
		since := a.at
		if s.heard.After(since) {
			since = s.heard
		}
		if s.pace += (now.Sub(since) - s.pace) / 4; !s.known {
			s.pace, s.known = now.Sub(since), true
		}
		s.heard = now
	}
	if p.done.has(index) {
		return false
	}
	p.done.add(index)
	p.left--
	if p.asks[index] == 0 {
		p.free--
	}
	return true
}

// refused notes that s will not bring a chunk: not at all, or not now.
func (p *plan) refused(now time.Time, s *peer, index uint32, code wire.RejectCode, retry time.Duration) {
	if _, ok := p.answer(s, index); !ok {
		return
	}
	s.heard = now
	switch {
	case code == wire.RejectMissing:
		s.lacks[index] = true
	case retry == 0:
		s.until = now.Add(defaultRetry)
	default:
		s.until = now.Add(min(max(retry, minRetry), maxRetry))
	}
}

func (p *plan) answer(s *peer, index uint32) (ask, bool) {
	i := s.find(index)
	if i < 0 {
		return ask{}, false
	}
	a := s.asked[i]
	s.asked = slices.Delete(s.asked, i, i+1)
	s.silent = false
	p.release(a)
	return a, true
}

// release lets others be asked for a chunk.
func (p *plan) release(a ask) {
	if a.lost {
		return
	}
	p.asks[a.index]--
	if p.asks[a.index] == 0 && !p.done.has(a.index) {
		p.free++
		p.first = min(p.first, (int(a.index)-p.start+len(p.asks))%len(p.asks))
	}
}

// silence takes the chunks from sources that have not answered for too long, and returns the ones not worth waiting for.
func (p *plan) silence(now time.Time) (hopeless []*peer) {
	for _, s := range p.peers {
		if len(s.asked) == 0 || now.Sub(s.heard) < p.stall {
			continue
		}
		s.silent = true
		for i := range s.asked {
			p.release(s.asked[i])
			s.asked[i].lost = true
		}
		if now.Sub(s.heard) >= patience*p.stall {
			hopeless = append(hopeless, s)
		}
	}
	return hopeless
}

// stuck reports whether nothing more will come unless a source joins or gets more chunks.
func (p *plan) stuck() bool {
	if slices.ContainsFunc(p.peers, func(s *peer) bool { return len(s.asked) > 0 }) {
		return false
	}
	for i := range p.asks {
		if c := uint32(i); !p.done.has(c) && slices.ContainsFunc(p.peers, func(s *peer) bool { return s.gives(c) }) {
			return false
		}
	}
	return p.left > 0
}
