package engine

import "time"

// How many answers go best into one step depends on the machine. On a graphics card a step of eight takes as long as one of
// one. On a processor the second row may cost three times what the first does, since there are kernels for a single one, and
// then two answers come faster in turn than side by side. In a chain of machines narrow steps are many, so that each machine
// has one. None of that is known beforehand, so a few ways to split the answers are tried, and the one whose tokens come
// fastest is taken.
//
// A try may lose time. What it lost is a debt, of which every second pays back a hundredth, and while there is a debt nothing
// is tried but the usual split. So answers come a hundredth later than they would have that way, and one try, at the most.
const (
	tryRounds   = 3    // that are measured in a try
	tryAgain    = 800  // tokens of each answer after which what is not in use is tried again
	trySoon     = 64   // the same for what was never tried. It doubles with each try
	tryPays     = 0.01 // what every second pays back
	tryLoses    = 32   // tokens of each answer at most, whatever it lost: the machine may have slept
	splitPays   = 1.04 // how much faster than the usual split another has to be, since measures err
	splitLeaves = 1.01 // and how much faster when it is in use
	costRounds  = 32   // that a cost is the average of, or hardly more
	costJumps   = 1.5  // how much more than the average a round counts at most: the machine was busy with something else
)

// split is how answers are put into steps.
type split struct {
	rows  int // in a step
	steps int // under way at once
}

// widths is what the scheduler knows of the time that tokens take in steps with more and fewer answers. Only what stretches of
// nothing but answers' single tokens took is measured, from landing to landing: in a pipeline that is what it yields, and not
// how long a step is under way.
type widths struct {
	groups, depth int // as of the scheduler

	costs   map[split]*cost
	used    split   // chosen last
	tokens  int     // in all stretches: the clock for trying again
	debt    float64 // seconds
	try     try
	stretch stretch
}

// cost is how many seconds a token takes.
type cost struct {
	value  float64
	rounds int
	tries  int
	at     int // tokens in all stretches when it was measured last
}

// try is a split that is being tried.
type try struct {
	split
	answers int // zero if there is none
	rounds  int // to be measured
	tokens  int // since it began
	began   time.Time
	best    float64 // seconds of a token otherwise
}

// stretch is the steps of the same answers, split in the same way, that landed last.
type stretch struct {
	split
	answers       int
	rounds        int       // in each of which as many steps landed as are under way
	began         time.Time // the round
	steps, tokens int       // in the round
}

func newWidths(groups, depth int) widths {
	return widths{groups: groups, depth: depth, costs: map[split]*cost{}}
}

// choose says how to split so many answers.
func (w *widths) choose(answers int) split {
	if w.trying() && w.try.answers != answers {
		w.endTry()
	}
	if w.trying() {
		return w.try.split
	}
	usual := w.usual(answers)
	if w.costs[usual] == nil {
		w.used = usual
		return usual
	}
	all := [...]split{usual, w.of(answers, answers), w.of(answers, 4), w.of(answers, 2), w.of(answers, 1)} // the narrowest first
	best, least := usual, w.costs[usual].value
	for _, o := range all[1:] {
		c := w.costs[o]
		if c == nil || o == usual {
			continue
		}
		pays := splitPays
		if o == w.used {
			pays = splitLeaves
		}
		if v := c.value * pays; v < least {
			best, least = o, v
		}
	}
	w.used = best
	for _, o := range all {
		if o != best && (o == usual || w.debt == 0) && w.due(o, answers) {
			w.try = try{split: o, answers: answers, rounds: tryRounds, began: time.Now(), best: w.costs[best].value}
			return o
		}
	}
	return best
}

// usual is how answers are split while nothing is known.
func (w *widths) usual(answers int) split { return w.of(answers, w.groups) }

// of splits answers in so many parts.
func (w *widths) of(answers, parts int) split {
	rows := max((answers+parts-1)/parts, 1)
	return split{rows, max(min((answers+rows-1)/rows, w.depth), 1)}
}

// known says whether so many answers can be split in one way only or it is known what the usual one costs.
func (w *widths) known(answers int) bool { return answers < 2 || w.costs[w.usual(answers)] != nil }

// due says whether a split is to be tried. That can wait while there are guesses.
func (w *widths) due(o split, answers int) bool {
	c := w.costs[o]
	return w.stretch.rounds > 0 && (c == nil || w.tokens-c.at > answers*min(trySoon<<min(c.tries, 8), tryAgain))
}

func (w *widths) trying() bool { return w.try.answers > 0 }

// endTry books what was lost.
func (w *widths) endTry() {
	lost := time.Since(w.try.began).Seconds() - float64(w.try.tokens)*w.try.best
	w.debt += max(min(lost, tryLoses*float64(w.try.answers)*w.try.best), 0)
	w.try = try{}
}

// landed takes in that a step has ended. Its split is zero if there was anything in it but single tokens of answers.
func (w *widths) landed(f *flight, answers int) {
	now, st := time.Now(), &w.stretch
	w.try.tokens += len(f.takes)
	if f.split == (split{}) || f.split != st.split || f.answers != st.answers || f.answers != answers {
		if f.split == (split{}) && w.trying() {
			w.endTry()
		}
		w.stretch = stretch{split: f.split, answers: f.answers, began: now}
		return
	}
	w.tokens += len(f.takes)
	st.tokens += len(f.takes)
	if st.steps++; st.steps < st.split.steps {
		return
	}
	took := now.Sub(st.began).Seconds()
	w.debt = max(w.debt-took*tryPays, 0)
	if st.rounds > 0 || st.split.steps == 1 { // the first one fills a pipeline
		w.measured(st.split, took/float64(st.tokens))
	}
	st.rounds, st.began, st.steps, st.tokens = st.rounds+1, now, 0, 0
}

// measured takes in what a token took in a round.
func (w *widths) measured(s split, seconds float64) {
	c := w.costs[s]
	if c == nil {
		c = &cost{}
		w.costs[s] = c
	}
	tried := w.trying() && s == w.try.split
	if tried && w.try.rounds == tryRounds {
		c.tries++
		c.rounds = min(c.rounds, tryRounds) // what was long ago counts as much as what is measured now
	}
	if c.rounds > 0 {
		seconds = min(seconds, costJumps*c.value)
	}
	c.rounds = min(c.rounds+1, costRounds)
	c.value += (seconds - c.value) / float64(c.rounds)
	c.at = w.tokens
	if tried {
		if w.try.rounds--; w.try.rounds == 0 {
			w.endTry()
		}
	}
}
