package engine

import (
	"math"
	"time"
)

// A window of guesses pays if its tokens come faster than one by one would. What a wider step costs depends on the machine
// (on a processor a second row may cost as much as the first, in a chain of machines next to nothing), and how many guesses
// are right on the text; both are measured. Since measures err, there are accounts, one for each answer and one for the
// model, of the time, in tokens, that was gained by guessing. Every token brings them a hundredth. No guesses are made while
// the model is in debt, or an answer under way is deeper in it than it may be on what others have gained. So all answers together
// take a hundredth longer than without guesses, and a single one two tokens more, whatever is guessed.
const (
	mostGuesses = 16   // of a slot in a step
	mostRows    = 64   // guesses of a step whose cost is told apart
	wide        = 8    // from so many answers at once on it matters little how many they are
	earned      = 0.01 // tokens that a token brings to the accounts
	firstCredit = 2.0  // of a model just loaded
	mostCredit  = 8.0
	mostDebt    = 8.0  // one bad moment, such as a machine that slept, is not paid off for ever
	loan        = 2.0  // tokens that an answer may lose of what others have gained
	pays        = 1.03 // how much faster than plain steps a window has to be expected, since measures err
	trust       = 0.04 // how much less of that for each token of credit
	tryWindows  = 4    // of a trial
	plainEvery  = 64   // steps with guesses after which those without are measured again
	sameAnswer  = 1.0 / 8
	anyAnswer   = 1.0 / 64
)

// pace is what the scheduler knows of the time that tokens take.
type pace struct {
	plain  [wide + 1]middle // seconds from a token of an answer to its next, with so many answers at once and no guesses
	credit float64
	since  int // steps with guesses since those without were measured
	tried  int // trials
	trial  trial

	reads    [mostRows]middle // seconds of a step that reads so many tokens of prompts and does nothing else
	readRows int              // of the last one that was wider
	readTook float64

	behind middle // seconds for which guesses that are run behind others keep the scheduler busy

	disturbed time.Time // when anything but the same answers' decoding was under way last
	guessed   time.Time // when guesses were
	guessing  int       // guesses under way
}

// ready says whether it is known what a token takes without guesses.
func (p *pace) ready(answers int) bool {
	return p.since < plainEvery && p.plain[min(answers, wide)].count >= 2
}

// likelyEnough is how likely it has to be that all guesses under way are right for more to be run behind them. If one is wrong,
// the token that follows waits for them; if all are right, it need not wait for those under way. Until it is known for how long
// it would, both count the same.
func (p *pace) likelyEnough(answers int) float64 {
	plain := p.plain[min(answers, wide)].value
	if p.behind.count == 0 || plain <= 0 {
		return 0.5
	}
	return p.behind.value / plain
}

// needed is how much faster than none guesses have to be expected to be. Where they have gained something, which is measured and
// not expected, some of that may be lost again before they are given up: the last few words are not all of a text.
func needed(credit float64) float64 { return pays - trust*max(credit-loan, 0) }

// trial is a few windows of an answer in a row that are not thought to pay. The first one has a draft read what it has missed,
// so one window alone would not tell what they cost.
type trial struct {
	slot    *slot // nil: there is none
	job     *job
	source  *source
	guesses int
	windows int // that are left
}

func (t *trial) under() bool { return t.windows > 0 && t.slot.job == t.job }

// try is how many guesses to make although they are not thought to pay, or 0.
func (p *pace) try(sl *slot, src *source, answers, most int, credit float64) int {
	if t := &p.trial; t.under() {
		if t.slot != sl || t.source != src || credit < -firstCredit {
			return 0
		}
		t.windows--
		return min(t.guesses, most)
	}
	sizes, narrower := [...]int{1, 3, 7, 15}, mostGuesses
	for i := range sizes {
		n := min(sizes[(p.tried+i)%len(sizes)], most)
		if n >= narrower || p.promise(src, *sl.hit(src), answers, n) < pays {
			continue
		}
		cost := p.slowdown(src, answers, n) - 1
		all := cost * float64(answers)
		if all > mostCredit {
			continue
		}
		if all > p.credit || cost > credit {
			narrower = n // it waits for its turn, which those that cost less need not
			continue
		}
		p.trial = trial{sl, sl.job, src, n, tryWindows - 1}
		p.tried++
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
	if own.source != nil {
		own.source.yield[min(answers, wide)].add(tokens, own.gain*slower)
	}
	if own.steady {
		own.source.slow[min(answers, wide)].add(step.guesses, slower)
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
