package plan

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/centram/centram"
)

// never is longer than all sums of times.
const never = time.Duration(math.MaxInt64 / 4)

// split is the best chain of two devices and more. A chain is judged by its round; of those within worthwhile percent of
// the shortest, the ones with the fewest stages count, and of these the most even one, since prompts are read at the pace
// of the slowest stage.
//
// All chains of the head and up to maxOthers others are looked at. If there are more, these are the ones whose layers cost
// the least time with the way there and back; or if such a chain does not hold the model, the ones with the most memory.
func (in Input) split(others []Device) (Option, bool) {
	if len(others) == 0 || len(in.Model.Layers) < 2 {
		return Option{}, false
	}
	ways := [][]Device{others}
	if len(others) > maxOthers {
		byTime, byMemory := slices.Clone(others), slices.Clone(others)
		slices.SortStableFunc(byTime, func(a, b Device) int { return cmp.Compare(in.price(a), in.price(b)) })
		slices.SortStableFunc(byMemory, func(a, b Device) int { return cmp.Compare(b.Memory, a.Memory) })
		ways = [][]Device{byTime, byMemory}
	}
	for _, way := range ways {
		if chain, ok := in.bestChain(way[:min(len(way), maxOthers)]); ok {
			return in.option(Split, chain), true
		}
	}
	return Option{}, false
}

// price is the time that a layer takes on d, with its share of what it costs to go there at all.
func (in Input) price(d Device) time.Duration {
	rest := centram.LayerRange{First: 1, End: len(in.Model.Layers)}
	held := max(1, min(d.room()*int64(rest.Len())/max(1, in.memory(rest)), int64(rest.Len())))
	there, _ := in.hop(in.Head, d, in.frame(1))
	back, _ := in.hop(d, in.Head, replyBytes)
	return (there+back)/time.Duration(held) + in.stepTime(part{d, rest}, 1, 1)/time.Duration(rest.Len())
}

func (in Input) bestChain(others []Device) ([]part, bool) {
	searches, best := newSearches(in, others), never
	for _, s := range searches {
		best = s.shortestRound(best)
	}
	if best == never {
		return nil, false
	}
	limit := best + best*worthwhile/100
	for stages := 2; ; stages++ {
		for _, s := range searches {
			if chain, ok := s.mostEven(limit, stages); ok {
				return chain, true
			}
		}
	}
}

// search finds chains by dynamic programming. A row belongs to a set of devices beside the head and to the one of them
// that comes last, and says for every layer how soon a token can be through the layers before it, if that set has them.
// Times are whole nanoseconds, so that a sum does not depend on its order.
type search struct {
	in      Input
	devices []Device // the head is the first
	layers  int
	groups  int               // in which the chats go around
	size    int               // chats of a group
	memory  []int64           // of the layers before each
	clock   [][]time.Duration // for each device: what the layers before each take
	hop     [][]time.Duration // from one to the other; to the head: of the reply
	busy    [][]time.Duration // the link's share of it
	rows    []row

	enter []time.Duration // scratch: how soon a token can arrive at a device to go on with each layer
	open  []int           // scratch: where the device's range may begin
}

type row struct {
	done  []time.Duration
	first []int // where the last range begins that ends there
	from  []int // which device comes before a range that begins there
}

// newSearches makes a search for each number of groups. They share their scratch, so they take turns.
func newSearches(in Input, others []Device) (searches []*search) {
	layers := len(in.Model.Layers)
	rows := make([]row, (len(others)+1)<<len(others))
	for i := range rows {
		rows[i] = row{make([]time.Duration, layers+1), make([]int, layers+1), make([]int, layers+1)}
	}
	memory := make([]int64, layers+1)
	for i := range layers {
		memory[i+1] = memory[i] + in.layerMemory(i)
	}
	for groups := 1; groups <= in.Work.maxGroups(); groups++ {
		s := &search{
			in: in, devices: append([]Device{in.Head}, others...), layers: layers, groups: groups, size: in.Work.groupSize(groups), memory: memory, rows: rows,
			enter: make([]time.Duration, layers+1), open: make([]int, 0, layers),
		}
		for _, d := range s.devices {
			clock := make([]time.Duration, layers+1)
			for i := range layers {
				clock[i+1] = clock[i] + in.layerTime(d, i, s.size, s.size)
			}
			hop, busy := make([]time.Duration, len(s.devices)), make([]time.Duration, len(s.devices))
			for to, other := range s.devices {
				bytes := in.frame(s.size)
				if to == 0 {
					bytes = s.size * replyBytes
				}
				hop[to], busy[to] = in.hop(d, other, bytes)
			}
			s.clock, s.hop, s.busy = append(s.clock, clock), append(s.hop, hop), append(s.busy, busy)
		}
		searches = append(searches, s)
	}
	return searches
}

func (s *search) row(set uint, last int) row { return s.rows[int(set)*len(s.devices)+last] }

// shortestRound is the length of the shortest round, or best if there is none below it.
func (s *search) shortestRound(best time.Duration) time.Duration {
	for low := time.Duration(0); low < best; {
		goal := best - 1
		if low > 0 {
			goal = low + (goal-low)/2
		}
		chain, ok := s.quickest(s.within(goal, len(s.devices)))
		switch {
		case ok:
			total, _ := s.in.around(chain, s.size, s.size)
			low, best = max(low, total), s.in.round(chain, s.groups) // narrower bounds make no chain quicker
		case low == 0:
			return best
		default:
			low = goal + 1
		}
	}
	return best
}

// mostEven is the chain of no more stages than that, and of no longer rounds than limit, whose slowest stage is the
// fastest, unless it costs more than worthwhile percent of the time that the stages of the quickest chain take. The links
// do not count in that: the slower one is, the more layers could be put behind it.
func (s *search) mostEven(limit time.Duration, stages int) ([]part, bool) {
	b := s.within(limit, stages)
	chain, ok := s.quickest(b)
	if !ok {
		return nil, false
	}
	total, _ := s.in.around(chain, s.size, s.size)
	steps, slowest := s.steps(chain)
	b.total = min(limit, total+steps*worthwhile/100)
	for low := time.Duration(0); low < slowest; {
		b.stage = low + (slowest-low)/2
		if c, ok := s.quickest(b); ok {
			chain = c
			_, slowest = s.steps(chain)
		} else {
			low = b.stage + 1
		}
	}
	return chain, true
}

// steps are the times of the stages of a chain together, and the longest of them.
func (s *search) steps(chain []part) (sum, slowest time.Duration) {
	for _, p := range chain {
		t := s.in.stepTime(p, s.size, s.size)
		sum, slowest = sum+t, max(slowest, t)
	}
	return sum, slowest
}

// bounds are the longest that a stage, a link and the whole way around may take, and the most stages.
type bounds struct {
	stage, link, total time.Duration
	stages             int
}

// within are the bounds of rounds no longer than limit, in which every stage and link serves all groups.
func (s *search) within(limit time.Duration, stages int) bounds {
	each := limit / time.Duration(s.groups)
	return bounds{each, each, limit, stages}
}

// quickest is the chain that takes a token around in the least time within b.
func (s *search) quickest(b bounds) ([]part, bool) {
	head := s.row(0, 0)
	for end := range head.done {
		head.done[end] = never
		t := s.devices[0].Overhead + s.clock[0][end]
		if 0 < end && end < s.layers && t <= min(b.stage, b.total) && s.memory[end]+s.in.Model.Fixed <= s.devices[0].room() {
			head.done[end] = t
		}
	}
	best, bestSet, bestLast := never, uint(0), 0
	for set := uint(1); set < 1<<(len(s.devices)-1); set++ { // after all sets that lack one of its devices
		if bits.OnesCount(set) >= b.stages {
			continue
		}
		for last := 1; last < len(s.devices); last++ {
			if set>>(last-1)&1 == 1 {
				s.extend(set, last, b)
				if t := s.row(set, last).done[s.layers]; t < best {
					best, bestSet, bestLast = t, set, last
				}
			}
		}
	}
	if best == never {
		return nil, false
	}
	return s.trace(bestSet, bestLast), true
}

// extend fills the row of a set and its last device from the rows of the set without it.
func (s *search) extend(set uint, last int, b bounds) {
	rest, r := set&^(1<<(last-1)), s.row(set, last)
	for i := range s.enter {
		s.enter[i], r.done[i] = never, never
	}
	for prev := range s.devices {
		in := prev == 0 && rest == 0 || prev > 0 && rest>>(prev-1)&1 == 1
		if !in || s.busy[prev][last] > b.link {
			continue
		}
		hop := s.hop[prev][last]
		for i, t := range s.row(rest, prev).done[:s.layers] {
			if t+hop < s.enter[i] {
				s.enter[i], r.from[i] = t+hop, prev
			}
		}
	}
	// A range that begins at first takes enter[first] - clock[first] + clock[end]. Only the first two depend on where it
	// begins, so open keeps the beginnings that may still be the best, with rising times: a sliding-window minimum.
	device, clock := s.devices[last], s.clock[last]
	open, low := s.open[:0], 1
	for end := 2; end <= s.layers; end++ {
		if now := s.enter[end-1] - clock[end-1]; s.enter[end-1] < never {
			for n := len(open); n > 0 && s.enter[open[n-1]]-clock[open[n-1]] > now; n-- {
				open = open[:n-1]
			}
			open = append(open, end-1)
		}
		for low < end && (s.memory[end]-s.memory[low]+s.in.Model.Fixed > device.room() || device.Overhead+clock[end]-clock[low] > b.stage) {
			low++
		}
		for len(open) > 0 && open[0] < low {
			open = open[1:]
		}
		if len(open) == 0 {
			continue
		}
		first := open[0]
		t := s.enter[first] + device.Overhead + clock[end] - clock[first]
		if end == s.layers {
			t += s.hop[last][0]
			if s.busy[last][0] > b.link {
				t = never
			}
		}
		if t <= b.total {
			r.done[end], r.first[end] = t, first
		}
	}
}

// trace reads the chain that the last row of it stands for.
func (s *search) trace(set uint, last int) []part {
	var chain []part
	for end := s.layers; ; {
		if last == 0 {
			chain = append(chain, part{s.devices[0], centram.LayerRange{End: end}})
			slices.Reverse(chain)
			return chain
		}
		r := s.row(set, last)
		first := r.first[end]
		chain = append(chain, part{s.devices[last], centram.LayerRange{First: first, End: end}})
		set, last, end = set&^(1<<(last-1)), r.from[first], first
	}
}
