package engine

import (
	"context"
	"slices"
)

// Which answers go into one step. llama.cpp computes rows in one pass as long as their sequences' numbers follow on each
// other, and reads all weights again for each pass. So answers are put together in the order of those numbers.

// gatherAnswers sets the group of slots that decode in the next step, in the order of their sequences. It may be none,
// although some could: in a pipeline they wait for others to land and fill a step with them.
func (s *scheduler) gatherAnswers(ctx context.Context, chosen *slot) {
	s.group = s.group[:0]
	for _, sl := range s.slots {
		if sl.ready() && sl.decoding() && sl.sharesAdapters(chosen) {
			s.group = append(s.group, sl)
		}
	}
	if len(s.group) == 0 {
		return
	}
	answers, ready := s.answers(), s.ofRound(s.group)
	s.group = first(ready, s.widths.usual(answers).rows)
	if s.anyReads() || s.always > 0 { // prompts make for a wide step anyway
		s.guess(ctx, s.group)
		return
	}
	split := s.widths.choose(answers)
	most := split.steps
	if s.pace.guessing > 0 { // steps with guesses are as wide as usual
		most = s.widths.usual(answers).steps
	}
	if s.waves() >= most || s.scattered(first(ready, split.rows), split.rows) {
		s.group = s.group[:0]
		return
	}
	if !s.widths.trying() && s.widths.known(answers) && s.guess(ctx, s.group) {
		return
	}
	s.group = first(ready, split.rows)
	for _, sl := range s.group {
		sl.guesses = sl.guesses[:0]
	}
	s.split = split
}

// ofRound leaves those of some slots that have not had their turn in this round, and begins another if all have. So no answer
// gets ahead of the others, however often it changes which of them go into a step.
func (s *scheduler) ofRound(slots []*slot) []*slot {
	had := func(sl *slot) bool { return sl.round == s.round }
	if !slices.ContainsFunc(slots, func(sl *slot) bool { return !had(sl) }) {
		s.round++
	}
	return slices.DeleteFunc(slots, had)
}

// first is the n slots that come first, or all if they are fewer.
func first(slots []*slot, n int) []*slot { return slots[:min(n, len(slots))] }

// scattered says whether it takes fewer passes from now on if the group waits until all answers have landed, and they are put
// together anew.
func (s *scheduler) scattered(group []*slot, rows int) bool {
	now := passes(group)
	if len(s.flights) == 0 || now == 1 {
		return false
	}
	var under []*slot
	for _, f := range s.flights {
		if f.reads > 0 {
			return false
		}
		under = under[:0]
		for _, t := range f.takes {
			under = append(under, t.slot)
		}
		now += passes(under)
	}
	var all []*slot
	for _, sl := range s.slots {
		if sl.decoding() && sl.sharesAdapters(group[0]) {
			all = append(all, sl)
		}
	}
	return passesInSteps(all, rows) < now
}

// passesInSteps is how many passes slots take in steps of n.
func passesInSteps(all []*slot, n int) (sum int) {
	for part := range slices.Chunk(all, n) {
		sum += passes(part)
	}
	return sum
}

// passes is in how many llama.cpp computes a token of each of the slots, which are in the order of their sequences.
func passes(slots []*slot) int {
	n := 0
	for i, sl := range slots {
		if i == 0 || sl.id != slots[i-1].id+1 {
			n++
		}
	}
	return n
}

// waves is how many steps of answers are under way that follow on what is sure.
func (s *scheduler) waves() (n int) {
	for _, f := range s.flights {
		if f.reads == 0 && slices.ContainsFunc(f.takes, func(t take) bool { return t.first }) {
			n++
		}
	}
	return n
}

// answers is how many slots decode.
func (s *scheduler) answers() int {
	decoding := 0
	for _, sl := range s.slots {
		if sl.decoding() {
			decoding++
		}
	}
	return decoding
}

// anyReads says whether a slot reads its prompt.
func (s *scheduler) anyReads() bool {
	for _, sl := range s.slots {
		if sl.job != nil && !sl.decoding() {
			return true
		}
	}
	return false
}
