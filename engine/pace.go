package engine

import (
	"math"
	"time"
)

// A window of guesses pays if its tokens come faster than one by one would. What a wider step costs depends on the machine
// (on a processor a second row may cost as much as the first, in a chain of machines next to nothing), and how many guesses
// are right on the text; both are measured. Since measures err, there are accounts, one for each answer and one for the
// model, of the time, in tokens, that was gained by guessing. Every token brings them a hundredth. No guesses are made while
// any of those under way is in debt, and none that are not known to pay for more than there is. So an answer takes a hundredth
// longer than without guesses, and one window that was thought to pay, at the most, whatever is guessed in it and beside it.
const (
	mostGuesses = 16   // of a slot in a step
	mostRows    = 64   // guesses of a step whose cost is told apart
	wide        = 8    // from so many answers at once on it matters little how many they are
	earned      = 0.01 // tokens that a token brings to the accounts
	firstCredit = 1.0  // of a model just loaded
	mostCredit  = 8.0
	mostDebt    = 8.0  // one bad moment, such as a machine that slept, is not paid off for ever
	pays        = 1.03 // how much faster than plain steps a window has to be expected, since measures err
	plainEvery  = 64   // steps with guesses after which those without are measured again
	sameAnswer  = 1.0 / 8
	anyAnswer   = 1.0 / 64
)

// average forgets slowly what was long ago.
type average struct {
	value float64
	count int
}

func (a *average) add(x float64) {
	a.count++
	a.value += (x - a.value) / float64(min(a.count, 8))
}

// pace is what the scheduler knows of the time that tokens take.
type pace struct {
	plain  [wide + 1]average // seconds from a token of an answer to its next, with so many answers at once and no guesses
	credit float64
	since  int // steps with guesses since those without were measured
	tried  int

	reads    [mostRows]average // seconds of a step that reads so many tokens of prompts and does nothing else
	readRows int               // of the last one that was wider
	readTook float64

	disturbed time.Time // when anything but the same answers' decoding was under way last
	guessed   time.Time // when guesses were
	guessing  int       // guesses under way
}

// source is a proposer and how well it does.
type source struct {
	proposer
	kind  int                         // index of slot.hits
	token float64                     // seconds that a guess takes to be made, if it takes any
	hit   float64                     // how often a guess is right, over all answers
	slow  [wide + 1][mostRows]average // how much longer a token takes than without, with so many guesses in a step
}

const (
	byLookup = iota
	byDraft
	kinds
)

func newSource(kind int, p proposer) *source { return &source{proposer: p, kind: kind, hit: 0.5} }

// ready says whether it is known what a token takes without guesses.
func (p *pace) ready(answers int) bool {
	return p.since < plainEvery && p.plain[min(answers, wide)].count >= 2
}

// best is how many guesses pay most, if one is right so often, and how much faster than none that is.
func (p *pace) best(src *source, hit float64, answers, beside, most int) (n int, gain float64) {
	most = min(most, 2*p.known(src, answers)/beside+1) // no far jump into the unknown
	gain = 1
	yield, right, unknown := 1.0, 1.0, p.unknown(src, answers)
	for k := 1; k <= most; k++ {
		right *= hit
		yield += right
		if g := yield / p.slowdown(src, answers, k*beside, unknown); g > gain*1.005 {
			n, gain = k, g
		}
	}
	return n, gain
}

// slowdown is how much longer a token takes, with so many answers at once, if their step has so many guesses. each is what
// one costs that nothing is known of.
func (p *pace) slowdown(src *source, answers, guesses int, each float64) float64 {
	below, before := 0, 1.0
	for g := 1; g < mostRows; g++ {
		at, ok := p.cost(src, answers, g)
		if !ok {
			continue
		}
		if g >= guesses {
			return before + (at-before)*float64(guesses-below)/float64(g-below)
		}
		below, before = g, at
	}
	if below > 0 { // the first guess may cost more than a whole step, and the sixteenth next to nothing
		each = min(each, (before-1)/float64(below))
	}
	return before + max(each, 0.01)*float64(guesses-below)
}

// cost is the slowdown of a step with so many guesses, if it was measured or prompts were read in steps as wide.
func (p *pace) cost(src *source, answers, guesses int) (float64, bool) {
	if a := &src.slow[min(answers, wide)][guesses]; a.count > 0 {
		return a.value, true
	}
	plain := p.plain[min(answers, wide)].value
	if rows := answers + guesses; src.kind == byLookup && rows < mostRows && p.reads[rows].count > 0 && plain > 0 {
		return p.reads[rows].value / plain, true
	}
	return 0, false
}

// unknown is what a guess may cost if none was measured yet with so many answers: as much as with more or fewer, or what it
// takes to make and twice what a token of a prompt does, which is read in wide steps, but no more than another answer.
func (p *pace) unknown(src *source, answers int) float64 {
	plain := p.plain[min(answers, wide)].value
	if plain <= 0 {
		return 1
	}
	row := 1 / float64(answers)
	if rows, took := p.reading(); rows > 0 {
		row = min(row, max(2*(took/plain-1)/float64(rows), 0))
	}
	each := row + src.token/plain/float64(answers)
	for other := 1; other < len(src.slow); other++ {
		if g := p.known(src, other); g > 0 && other != answers {
			slower, _ := p.cost(src, other, g)
			each = min(each, (slower-1)/float64(g)*p.plain[other].value/plain)
		}
	}
	return each
}

// reading is what the widest step took that read prompts and did nothing else. Narrow ones say little of what a row costs.
func (p *pace) reading() (rows int, took float64) {
	for n := mostRows - 1; n >= 8 && p.readRows == 0; n-- {
		if p.reads[n].count > 0 {
			return n, p.reads[n].value
		}
	}
	return p.readRows, p.readTook
}

// known is the most guesses in a step whose cost is known.
func (p *pace) known(src *source, answers int) int {
	for g := mostRows - 1; g > 0; g-- {
		if _, ok := p.cost(src, answers, g); ok {
			return g
		}
	}
	return 0
}

// try is how many guesses to make although they are not thought to pay, or 0.
func (p *pace) try(src *source, answers, most int, credit float64) int {
	sizes, unknown := [...]int{1, 3, 7, 15}, p.unknown(src, answers)
	for i := range sizes {
		n := min(sizes[(p.tried+i)%len(sizes)], most)
		cost := p.slowdown(src, answers, n, unknown) - 1
		all := cost * float64(answers)
		if all > mostCredit {
			continue
		}
		if all > p.credit || cost > credit {
			return 0
		}
		return n
	}
	return 0
}

// read takes in that prompts, or pieces of them, were read in a step.
func (p *pace) read(rows int, took time.Duration) {
	if rows < mostRows {
		p.reads[rows].add(took.Seconds())
	} else {
		p.readRows, p.readTook = rows, took.Seconds()
	}
}

// launched takes in that a step with guesses has begun.
func (p *pace) launched(guesses int) {
	if guesses > 0 {
		p.guessing += guesses
		p.since++
		p.tried++
	}
}

// landed takes in that a step with guesses has ended.
func (p *pace) landed(guesses int) {
	if guesses > 0 {
		p.guessing -= guesses
		p.guessed = time.Now()
	}
}

// came takes in that tokens of a slot's answer came.
func (p *pace) came(sl *slot, tokens, answers int, step *flight, own *take) {
	now, last, plainly := time.Now(), sl.emitted, sl.plainly
	sl.emitted, sl.plainly = now, step.guesses == 0 && p.guessing == 0
	if last.IsZero() || p.disturbed.After(last) {
		return
	}
	plain, took := &p.plain[min(answers, wide)], now.Sub(last).Seconds()
	if step.guesses > 0 && last.Before(step.after) {
		took = now.Sub(step.after).Seconds() // before that it was the others' turn
	}
	if step.guesses == 0 && p.guessing == 0 && !p.guessed.After(last) {
		if !plainly && !step.after.IsZero() && len(step.takes) < answers { // the guesses were in the others' step too
			p.pay(sl, earned)
			return
		}
		if plain.count >= 4 {
			took = min(took, 4*plain.value)
		}
		plain.add(took)
		p.since = 0
		p.pay(sl, earned)
		return
	}
	if plain.count < 2 || plain.value <= 0 {
		return
	}
	slower := min(took/plain.value, float64(4*(1+step.guesses))) // the machine was busy with something else
	if own.source != nil && own.first && step.guesses < mostRows {
		own.source.slow[min(answers, wide)][step.guesses].add(slower)
	}
	p.pay(sl, float64(tokens)*(1+earned)-slower)
}

// pay books gained tokens.
func (p *pace) pay(sl *slot, tokens float64) {
	for _, account := range []*float64{&p.credit, &sl.credit} {
		*account = min(max(*account+tokens, -mostDebt), mostCredit)
	}
}

// judge takes in whether a guess was right.
func (src *source) judge(sl *slot, right bool) {
	x := 0.0
	if right {
		x = 1
	}
	hit := sl.hit(src)
	*hit += (x - *hit) * sameAnswer
	src.hit += (x - src.hit) * anyAnswer
}

// likely is how likely so many guesses in a row are all right.
func likely(hit float64, guesses int) float64 { return math.Pow(hit, float64(guesses)) }
