package plan

import "time"

const (
	// MoveGain is how many times as fast a fresh plan has to be for a move. Measurements that are off by 5 % either way
	// make up 11 %, and the preference for fewer machines, counted twice, 6 %.
	MoveGain = 1.2

	// MoveAfter is for how long it has to be that fast. A move fetches weights and reads the chats anew, which takes about
	// as long, and a machine that is busy for less is not worth it.
	MoveAfter = time.Minute
)

// Keep says whether the plan that runs should stay although there is a fresh one, both by what in has measured: unless it
// is no longer possible, or the fresh one is MoveGain times as fast and has been for MoveAfter. Ahead says whether it is
// that fast now, and better is for how long, without a break, it has been: the caller remembers since when.
func Keep(in Input, current Option, fresh Choice, better time.Duration) (keep, ahead bool) {
	now, err := Predict(in, current)
	if err != nil {
		return false, true
	}
	in, _ = in.checked() // Predict has
	ahead = in.score(fresh.Option) > MoveGain*in.score(now)
	return !ahead || better < MoveAfter, ahead
}
