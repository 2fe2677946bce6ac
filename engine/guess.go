package engine

import (
	"context"
	"slices"
)

// A token that was sampled may be run together with guesses of those that follow it. When the step lands, the sampler
// takes row after row as long as what it picks is what was guessed: it draws as often and in the same order as without
// guesses, so it picks the same. What is behind the first wrong guess is taken back. A slot's cache holds guesses like
// other tokens; whether one was right shows when the row before it is sampled.

// proposer guesses how texts go on.
type proposer interface {
	// propose sets the guesses of each wish, at most as many as it is for. Fewer or none are fine.
	propose(ctx context.Context, wishes []wish)
}

// wish is for guesses of what follows a slot's text.
type wish struct {
	slot    *slot
	text    []Token // prompt and answer, with the guesses under way. It is the scheduler's
	sure    int     // how many of them are no guesses
	most    int
	guesses []Token
}

// Overlapper is a Pipeline that can have several steps of one sequence under way, so that guesses are run behind guesses.
type Overlapper interface {
	Pipeline
	// Overlap is how many they may be. The logits of a row are valid until so many further steps of its sequence have begun.
	Overlap() int
}

// promising is how often a source has to be right for finding out what its guesses cost.
const promising = 0.3

// mostTrusted is how often guesses are thought to be right before the answer has shown it, however right they were in others.
const mostTrusted = 0.6

// guess finds guesses for the slots that decode in the next step, and says whether there are any.
func (s *scheduler) guess(ctx context.Context, slots []*slot) (any bool) {
	for _, sl := range slots {
		sl.guesses = sl.guesses[:0]
	}
	s.foresee(ctx, slots)
	answers := s.answers()
	if len(slots) == 0 || s.anyReads() || s.always == 0 && !s.pace.ready(answers) {
		return false
	}
	beside := answers
	if s.widths.used.rows < s.widths.usual(answers).rows { // few are ready at once
		beside = len(slots)
	}
	room := (min(stepRows, s.info.BatchSize, s.outputs) - len(s.slots)) / len(slots) // each slot has a row of its own
	credit, tried := s.credit(), false
	for _, src := range s.usable() {
		s.wishes = s.wishes[:0]
		for _, sl := range slots {
			most := min(room, sl.room(s.info.Context), mostGuesses)
			known := src == s.lookup && len(sl.pending) > 0 // was looked up already
			if known {
				most = min(most, len(sl.foreseen))
			}
			if most <= 0 || sl.job.plain || len(sl.guesses) > 0 || !src.serves(sl) {
				continue
			}
			n := s.worth(sl, src, answers, beside, most, credit)
			if n == 0 && !tried && len(sl.pending) > 0 && *sl.hit(src) > promising {
				n = s.pace.try(sl, src, answers, most, credit)
				tried = n > 0
			}
			if n > 0 && len(sl.pending) > 0 {
				sl.gain = s.pace.gain(src, *sl.hit(src), answers, n, n*beside)
			}
			switch {
			case n == 0:
			case known:
				sl.guesses, sl.source = append(sl.guesses, sl.foreseen[:n]...), src
				any = true
			default:
				s.wishes = append(s.wishes, wish{sl, append(sl.cache, sl.pending...), sl.sure(), n, sl.guesses})
			}
		}
		if len(s.wishes) == 0 {
			continue
		}
		src.propose(ctx, s.wishes)
		for _, a := range s.wishes {
			if n := min(len(a.guesses), a.most); n > 0 {
				a.slot.guesses, a.slot.source = a.guesses[:n], src
				any = true
			}
		}
	}
	return any
}

// foresee looks up how the slots' answers may go on, whether or not it pays to run that. It costs next to nothing, and shows
// how often it would be right.
func (s *scheduler) foresee(ctx context.Context, slots []*slot) {
	s.wishes = s.wishes[:0]
	for _, sl := range slots {
		if len(sl.foreseen) == 0 && len(sl.pending) > 0 && !sl.job.plain {
			s.wishes = append(s.wishes, wish{sl, append(sl.cache, sl.pending...), sl.sure(), mostGuesses, sl.foreseen})
		}
	}
	if len(s.wishes) == 0 {
		return
	}
	s.lookup.propose(ctx, s.wishes)
	for _, w := range s.wishes {
		w.slot.foreseen = w.guesses[:min(len(w.guesses), w.most)]
	}
}

// compare holds a token of an answer against what was foreseen and against the guess that was run, if there was one.
func (s *scheduler) compare(sl *slot, token Token, src *source, guess []Token) {
	if len(sl.foreseen) > 0 {
		right := sl.foreseen[0] == token
		s.lookup.judge(sl, right)
		if sl.foreseen = sl.foreseen[1:]; !right {
			sl.foreseen = nil
		}
		if src == s.lookup {
			return
		}
	}
	if src != nil && len(guess) > 0 {
		src.judge(sl, guess[0] == token)
	}
}

// usable lists the sources. Looking up costs nothing, so it comes first, but only where it does better than the draft.
func (s *scheduler) usable() []*source {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sources = append(s.sources[:0], s.lookup)
	if s.draft != nil {
		s.sources = append(s.sources, s.draft)
	}
	return s.sources
}

// credit is what guesses may cost each answer. One answer's guesses slow down the others, so the poorest decides.
func (s *scheduler) credit() float64 {
	least := s.pace.credit
	for _, sl := range s.slots {
		if sl.decoding() {
			least = min(least, sl.credit+loan)
		}
	}
	return least
}

// worth is how many guesses of a source pay for a slot, or 0.
func (s *scheduler) worth(sl *slot, src *source, answers, beside, most int, credit float64) int {
	if s.always > 0 {
		return min(s.always, most)
	}
	if credit < 0 || len(sl.pending) == 0 && credit < 1 { // what follows guesses is for when they have paid
		return 0
	}
	n, gain := s.pace.best(src, *sl.hit(src), answers, beside, most)
	if gain < needed(credit) {
		return 0
	}
	if len(sl.pending) == 0 && likely(*sl.hit(src), len(sl.cache)-sl.sure()) < s.pace.likelyEnough(answers) {
		return 0
	}
	if d := s.sources[len(s.sources)-1]; d != src && d.serves(sl) {
		if _, better := s.pace.best(d, *sl.hit(d), answers, beside, most); better > gain {
			return 0
		}
	}
	return n
}

// followers are slots whose guesses are under way and may be followed by more before it is known whether they are right.
// They fill the machines of a pipeline that nobody else has work for.
func (s *scheduler) followers(ctx context.Context) []*slot {
	o, ok := s.pipeline.(Overlapper)
	if !ok || s.anyReads() {
		return nil
	}
	most := min(o.Overlap(), s.depth/max(s.answers(), 1))
	s.group = s.group[:0]
	for _, sl := range s.slots {
		if sl.decoding() && len(sl.pending) == 0 && sl.flying < most && (len(s.group) == 0 || sl.sharesAdapters(s.group[0])) {
			s.group = append(s.group, sl)
		}
	}
	s.guess(ctx, s.group)
	return slices.DeleteFunc(s.group, func(sl *slot) bool { return len(sl.guesses) == 0 })
}

// retract takes back what is in a slot's cache behind the first n tokens. Steps under way with more of it are stale.
func (s *scheduler) retract(sl *slot, n int) error {
	if n == len(sl.cache) {
		return nil
	}
	sl.cache = sl.cache[:n]
	sl.generation++
	return s.model.Trim(sl.id, n)
}

// sure is how many tokens the slot's answer has with its prompt, none of them a guess.
func (sl *slot) sure() int { return len(sl.job.prompt) + sl.job.generated }

// room is how many guesses can be of use before the answer has all its tokens or the context is full.
func (sl *slot) room(context int) int {
	end := context - 1
	if sl.job.maxTokens > 0 {
		end = min(end, len(sl.job.prompt)+sl.job.maxTokens-1)
	}
	return end - len(sl.cache) - len(sl.pending)
}

// hit is how often a source's guesses are right in the slot's answer.
func (sl *slot) hit(src *source) *float64 { return &sl.hits[src.kind] }

// guessWith has another model guess, or none if d is nil.
func (s *scheduler) guessWith(d *scheduler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d == nil {
		s.draft = nil
		return
	}
	if old := s.draft; old == nil || old.proposer.(*draft).sched != d {
		s.draft = newSource(byDraft, &draft{d})
	}
}

// guessed is what was guessed in all answers that have ended.
func (s *scheduler) guessed() Guesses {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.guesses
}
