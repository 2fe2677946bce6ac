package blob

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

// Source is a peer that may have some of a blob's chunks, for as long as there is a connection to it.
type Source interface {
	ID() centram.PeerID

	// Have says what the peer has now, without asking it. It is called again every second, since a peer may be fetching too.
	Have() wire.HaveMap

	// Chunks asks the peer for the ranges that come out of asks, which has never more than wire.Window chunks outstanding,
	// and gives the answers one at a time to got, whose Data it may use again afterwards. It returns soon when ctx ends,
	// when got fails, and when the peer is lost; the error says why.
	Chunks(ctx context.Context, asks <-chan wire.ChunkRange, got func(Answer) error) error
}

// Answer is a CHUNK_DATA or CHUNK_REJECT.
type Answer struct {
	Index  uint32
	Data   []byte          // nil if the chunk is refused
	Reject wire.RejectCode // why
	Retry  time.Duration   // when to ask again, or zero
}

// FetchConfig says what to fetch, and from whom.
type FetchConfig struct {
	Store    *Store
	Manifest *wire.Manifest
	// Sources come at any time. One that was lost may come again, and takes the place of an older one with the same ID. The
	// channel is closed when no more will come, which need not happen.
	Sources <-chan Source
	// Stall is after how much silence a source's chunks are asked for elsewhere. Zero means 10 s.
	Stall time.Duration
	// Linger is how long to wait for a source when none has what is missing. Zero means 30 s.
	Linger time.Duration
	// First is the chunk to begin with; the order goes on at 0 after the last. Two who fetch the same blob at the same time
	// have something for each other if they begin at different places.
	First int
	// Progress is told how many of the chunks are here. It must return soon. Nil means that nobody is told.
	Progress func(have, of int)
}

// Result says what came from whom.
type Result struct {
	// Receipts have a row for every source that was asked, in the order in which they came, to be signed. Bytes are those
	// of all chunks that were asked for and right, also if another source was faster.
	Receipts []wire.TransferDone
	// Lost says why sources were left before the end.
	Lost map[centram.PeerID]error
}

// Fetch brings a blob into the Store, unless it is there already. If somebody else fetches it, Fetch waits for that. It
// fails with centram.Unavailable if no source is left or the disk is full, and as Begin does. After an error another Fetch
// goes on where this one was. The Result is never nil.
func Fetch(ctx context.Context, cfg FetchConfig) (*Result, error) {
	if cfg.Stall == 0 {
		cfg.Stall = 10 * time.Second
	}
	if cfg.Linger == 0 {
		cfg.Linger = 30 * time.Second
	}
	f := &fetch{
		FetchConfig: cfg, wake: make(chan struct{}, 1), live: map[centram.PeerID]*talk{},
		receipts: map[centram.PeerID]*wire.TransferDone{}, lost: map[centram.PeerID]error{},
	}
	err := f.all(ctx)
	return f.result(err == nil), err
}

func (f *fetch) all(ctx context.Context) error {
	part, err := f.begin(ctx)
	if err != nil || part == nil {
		return err
	}
	// An error of Close would mean that chunks have to be hashed again, which happens by itself.
	defer part.Close()
	f.part = part
	f.plan = newPlan(int(f.Manifest.Count()), f.First, part.have(), f.Stall)
	if err := f.run(ctx); err != nil {
		return err
	}
	return part.Complete(ctx)
}

// begin waits until nobody else fetches the blob. It returns nil if the blob is here.
func (f *fetch) begin(ctx context.Context) (*Partial, error) {
	for {
		part, err := f.Store.Begin(ctx, f.Manifest)
		if centram.CodeOf(err) != centram.Conflict {
			return part, err
		}
		if f.Store.Have(f.Manifest.Blob).Complete {
			return nil, nil
		}
		if done := f.Store.writerDone(f.Manifest.Blob); done != nil {
			select {
			case <-done:
			case <-ctx.Done():
				return nil, fmt.Errorf("wait for another fetch of the blob %s: %w", short(f.Manifest.Blob), context.Cause(ctx))
			}
		}
	}
}

// fetch is one call of Fetch. Its run loop starts and ends the talks with sources, and what they bring drives the plan.
type fetch struct {
	FetchConfig
	part  *Partial
	wake  chan struct{} // has a value when the run loop should look
	talks sync.WaitGroup

	mu       sync.Mutex // guards all below
	plan     *plan
	live     map[centram.PeerID]*talk
	receipts map[centram.PeerID]*wire.TransferDone
	order    []centram.PeerID // of receipts
	lost     map[centram.PeerID]error
	failed   error // ends the fetch
}

// talk is a call of a source's Chunks.
type talk struct {
	Source
	peer   *peer
	asks   chan wire.ChunkRange // has room for a window
	cancel context.CancelFunc
	start  time.Time
}

const (
	lookEvery = 100 * time.Millisecond // at what time alone makes a difference to
	haveEvery = time.Second
)

func (f *fetch) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer f.talks.Wait()
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	renewed, moving := time.Now(), time.Now() // moving is when there was last something to wait for
	for sources := f.Sources; ; {
		now := time.Now()
		if now.Sub(renewed) >= haveEvery {
			f.renew()
			renewed = now
		}
		if done, err := f.look(now); done {
			return err
		}
		switch stuck, alone := f.idle(); {
		case !stuck:
			moving = now
		case now.Sub(moving) >= f.Linger, sources == nil && alone:
			return f.noSource()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("fetch the blob %s: %w", short(f.Manifest.Blob), context.Cause(ctx))
		case s, ok := <-sources:
			if ok {
				f.join(ctx, s)
			} else {
				sources = nil
			}
		case <-f.wake:
		case <-tick.C:
		}
	}
}

// look does what is due, and reports whether the fetch is over.
func (f *fetch) look(now time.Time) (done bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed != nil || f.plan.left == 0 {
		return true, f.failed
	}
	hopeless := f.plan.silence(now)
	for _, t := range f.live {
		if slices.Contains(hopeless, t.peer) {
			f.end(t, fmt.Errorf("no answer for %v", now.Sub(t.peer.heard).Round(time.Second)))
		}
	}
	f.feed(now)
	return false, nil
}

// idle reports whether nothing will come as things are, and whether there is no source at all.
func (f *fetch) idle() (stuck, alone bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.plan.stuck(), len(f.live) == 0
}

// renew asks all sources what they have. f.mu is not held meanwhile, since a source may hold a lock of its own while it
// gives an answer.
func (f *fetch) renew() {
	f.mu.Lock()
	live := slices.Collect(maps.Values(f.live))
	f.mu.Unlock()
	for _, t := range live {
		have := f.has(t)
		f.mu.Lock()
		if f.live[t.ID()] == t {
			f.plan.update(t.peer, have)
		}
		f.mu.Unlock()
	}
}

func (f *fetch) has(s Source) wire.HaveMap {
	if have := s.Have(); have.Blob == f.Manifest.Blob {
		return have
	}
	return wire.HaveMap{}
}

// join starts to talk with a source, unless it has sent wrong bytes before.
func (f *fetch) join(ctx context.Context, s Source) {
	id, have := s.ID(), f.has(s)
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, liar := errors.AsType[*BadChunk](f.lost[id]); liar {
		return
	}
	if old := f.live[id]; old != nil {
		f.end(old, nil)
	}
	delete(f.lost, id)
	if f.receipts[id] == nil {
		f.order = append(f.order, id)
		f.receipts[id] = &wire.TransferDone{Blob: f.Manifest.Blob, Sender: id, Bad: []uint32{}}
	}
	ctx, cancel := context.WithCancel(ctx)
	t := &talk{
		Source: s, peer: f.plan.join(have), asks: make(chan wire.ChunkRange, wire.Window), cancel: cancel, start: time.Now(),
	}
	f.live[id] = t
	f.talks.Go(func() {
		err := s.Chunks(ctx, t.asks, func(a Answer) error { return f.take(t, a) })
		switch {
		case ctx.Err() != nil:
			err = nil // we have left
		case err == nil:
			err = errors.New("it has left")
		}
		f.mu.Lock()
		f.end(t, err)
		f.mu.Unlock()
		f.poke()
	})
}

// end stops to talk with a source. f.mu is held.
func (f *fetch) end(t *talk, why error) {
	t.cancel()
	if f.live[t.ID()] != t {
		return
	}
	delete(f.live, t.ID())
	f.plan.leave(t.peer)
	f.receipts[t.ID()].TimeMs += time.Since(t.start).Milliseconds()
	if why != nil {
		f.lost[t.ID()] = why
	}
}

func (f *fetch) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// feed asks sources for as much as the plan wants. f.mu is held.
func (f *fetch) feed(now time.Time) {
	for _, t := range f.live {
		for index, ok := f.plan.next(now, t.peer); ok; index, ok = f.plan.next(now, t.peer) {
			select {
			case t.asks <- wire.ChunkRange{First: index, Count: 1}:
				continue
			default:
				f.end(t, errors.New("it answers what it has not been asked"))
			}
			break
		}
	}
}

// take is given the answers of a source.
func (f *fetch) take(t *talk, a Answer) error {
	f.mu.Lock()
	expected := t.peer.expects(a.Index)
	f.mu.Unlock()
	var err error
	if expected && a.Data != nil {
		err = f.part.Write(a.Index, a.Data) // takes its time, and others go on meanwhile
	}
	_, bad := errors.AsType[*BadChunk](err)

	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	switch done := f.receipts[t.ID()]; {
	case !expected:
		err = fmt.Errorf("it sent chunk %d without being asked", a.Index)
		f.end(t, err)
	case bad:
		done.Bad = append(done.Bad, a.Index)
		f.end(t, err)
		f.lost[t.ID()] = err // also if it has just been replaced: it is not talked with again
	case err != nil:
		f.failed = err
	case a.Data == nil && a.Reject == wire.RejectUnpaid:
		err = centram.Errorf(centram.Forbidden, "it wants to be paid for chunk %d", a.Index)
		f.end(t, err)
	case a.Data == nil:
		f.plan.refused(now, t.peer, a.Index, a.Reject, a.Retry)
	default:
		done.Bytes += uint64(len(a.Data))
		if f.plan.came(now, t.peer, a.Index) && f.Progress != nil {
			all := int(f.Manifest.Count())
			f.Progress(all-f.plan.left, all)
		}
	}
	f.feed(now)
	if f.failed != nil || f.plan.left == 0 {
		f.poke()
	}
	return err
}

func (f *fetch) noSource() error {
	have, all := f.part.have().count(), int(f.Manifest.Count())
	err := centram.Errorf(centram.Unavailable, "%d of %d chunks of the blob %s are here, and no source has the others", have, all,
		short(f.Manifest.Blob)).WithHint("They stay, and a fetch goes on from there as soon as a peer with the blob is reachable.")
	err.Details = map[string]any{"have": have, "of": all}
	return err
}

func (f *fetch) result(whole bool) *Result {
	r := &Result{Lost: f.lost}
	for _, id := range f.order {
		f.receipts[id].Whole = whole
		r.Receipts = append(r.Receipts, *f.receipts[id])
	}
	return r
}
