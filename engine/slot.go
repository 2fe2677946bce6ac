package engine

import (
	"slices"
	"time"
)

// slot is one sequence of the Runner and, while job is set, the answer that it is busy with.
type slot struct {
	id       int
	cache    []Token // what the KV cache holds, by position, when the steps under way are over
	adapters []AdapterScale
	used     time.Time // when it became free

	job     *job
	pending []Token // to be run next: the rest of the prompt, or the token sampled last
	flying  int     // steps under way that the slot has a part in
	served  int     // the scheduler's when it was the slot's turn to read last
	round   int     // of the scheduler in which the answer had its turn last
	cached  int     // how much of the prompt was in the cache already

	guesses    []Token // to be run behind pending
	source     *source // of the guesses
	gain       float64 // that is expected of the guesses
	guessed    *source // of those in the step before
	generation int     // how often something of the cache was taken back
	grams      ngrams
	foreseen   []Token        // how the answer goes on if it repeats itself
	warm       *job           // has the draft read the prompt. Nil when that is over
	warmed     bool           // it has
	hits       [kinds]float64 // how often a guess of each source is right
	credit     float64        // of the answer
	emitted    time.Time      // when the last tokens came; zero before
	plainly    bool           // they came while there were no guesses
}

// forker is a Runner that can give a sequence the beginning of another for less than computing it again costs.
type forker interface {
	// Fork makes sequence to hold the first n positions of from, of which it shares the first kept already. If that saves
	// too little it changes nothing. It returns how many of those positions to holds.
	Fork(from, to, n, kept int) (int, error)
}

// free says whether another job may have the slot. That of a client who left may still be in a step under way.
func (sl *slot) free() bool { return sl.job == nil && sl.flying == 0 }

// ready says whether the slot has something to be run.
func (sl *slot) ready() bool { return sl.job != nil && len(sl.pending) > 0 }

func (sl *slot) decoding() bool { return sl.job != nil && sl.job.generated > 0 }

func (sl *slot) sharesAdapters(o *slot) bool {
	return slices.Equal(sl.job.adapters, o.job.adapters)
}

// launch notes that pending tokens and guesses are in a step under way, up to the end-th of the slot's cache. It returns
// how many are guesses.
func (sl *slot) launch(end int) (guesses int) {
	n := min(end-len(sl.cache), len(sl.pending))
	sl.cache = append(sl.cache, sl.pending[:n]...)
	sl.pending = append(sl.pending[:0], sl.pending[n:]...)
	guesses = end - len(sl.cache)
	sl.cache = append(sl.cache, sl.guesses[:guesses]...)
	sl.job.guesses.Guessed += guesses
	sl.flying++
	return guesses
}

// landed notes that what is in the cache up to end has been run, in a step that began then.
func (sl *slot) landed(end int, began time.Time) {
	j := sl.job
	if j.generated > 0 {
		return
	}
	now := time.Now()
	if j.read.After(began) { // in a pipeline its steps overlap
		began = j.read
	}
	j.promptTime += now.Sub(began)
	j.read = now
	j.progress(len(j.prompt), sl.cached, min(end, len(j.prompt)))
	if end >= len(j.prompt) {
		j.firstToken = now
	}
}

// place chooses a free slot for a job and prepares its cache. A conversation goes back to the slot that holds its
// beginning. If taking that slot would destroy more than it saves, or the beginning is in a busy slot, the least recently
// used free slot shares the common part instead, or keeps what it has in common with the job itself.
func (s *scheduler) place(j *job) (*slot, error) {
	var source, target *slot
	common := 0
	for _, sl := range s.slots {
		if sl.free() && (target == nil || sl.used.Before(target.used)) {
			target = sl
		}
		if n := sl.common(j); n > common {
			source, common = sl, n
		}
	}
	if source != nil && source.free() && 2*common >= len(source.cache) {
		target = source
	}
	kept := target.common(j)
	if f, ok := s.model.(forker); ok && common > kept {
		var err error
		if common, err = f.Fork(source.id, target.id, common, kept); err != nil {
			return nil, err
		}
		if common > kept {
			target.cache = append(target.cache[:0], source.cache[:common]...)
		}
	} else {
		common = kept
	}
	if err := s.model.Trim(target.id, common); err != nil {
		return nil, err
	}
	target.cache = target.cache[:common]
	target.adapters = j.adapters
	target.job, target.cached, target.served = j, common, s.served
	target.pending = append(target.pending[:0], j.prompt[common:]...)
	target.grams.reset()
	target.foreseen = nil
	target.credit, target.emitted, target.warm = 0, time.Time{}, nil
	target.guessed, target.warmed = nil, false
	for _, src := range s.usable() {
		*target.hit(src) = min(max(src.hit, 1.1*promising), mostTrusted) // each answer is another chance
	}
	return target, nil
}

// common is how many tokens of the job's prompt the slot's cache begins with. At least one token of a prompt is to be run,
// to have logits to sample from, so it is never all of them.
func (sl *slot) common(j *job) int {
	if !slices.Equal(sl.adapters, j.adapters) || j.vector != nil { // all rows of an embedding are wanted
		return 0
	}
	n := min(len(sl.cache), len(j.prompt)-1)
	for i := range n {
		if sl.cache[i] != j.prompt[i] {
			return i
		}
	}
	return n
}
