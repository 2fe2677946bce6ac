package plan

import (
	"cmp"
	"slices"
)

// replicas is the fewest devices that hold the whole model and answer about as many tokens as all of them would. The head
// has to be one of them, and a single chat has no use for the others.
func (in Input) replicas(others []Device) (Option, bool) {
	parts := []part{{in.Head, in.all()}}
	for _, d := range others {
		parts = append(parts, part{d, in.all()})
	}
	parts = slices.DeleteFunc(parts, func(p part) bool { return !in.fits(p) })
	if in.Work.Private || in.Work.Chats == 1 || len(parts) < 2 || parts[0].ID != in.Head.ID {
		return Option{}, false
	}
	_, best := in.deal(parts)
	slices.SortStableFunc(parts[1:], func(a, b part) int { return cmp.Compare(in.stepTime(a, 1, 1), in.stepTime(b, 1, 1)) })
	for n := 2; ; n++ {
		if _, rate := in.deal(parts[:n]); n == len(parts) || rate*(100+worthwhile) >= best*100 {
			return in.option(Replicas, parts[:n]), true
		}
	}
}

// deal gives each chat to the replica to whose throughput it adds the most, and returns how many each has and what they
// answer together, in tokens a second. The more chats a replica has, the less one adds, so there is no better way.
func (in Input) deal(parts []part) (chats []int, throughput float64) {
	chats = make([]int, len(parts))
	rate := func(i, n int) float64 {
		if n == 0 {
			return 0
		}
		return perSecond(n, in.stepTime(parts[i], n, n))
	}
	gains := make([]float64, len(parts)) // of one chat more
	for i := range gains {
		gains[i] = rate(i, 1)
	}
	for range min(in.Work.Chats, in.Work.Lanes*len(parts)) {
		to := slices.Index(gains, slices.Max(gains))
		throughput += gains[to]
		chats[to]++
		gains[to] = 0
		if n := chats[to]; n < in.Work.Lanes {
			gains[to] = rate(to, n+1) - rate(to, n)
		}
	}
	return chats, throughput
}
