package engine

import "slices"

// What guesses cost and bring, as far as that was measured.

// source is a proposer and how well it does.
type source struct {
	proposer
	kind  int             // index of slot.hits
	token middle          // seconds that a guess takes to be made, if it takes any
	hit   float64         // how often a guess is right, over all answers
	slow  [wide + 1]trend // how many times as long a token takes as without guesses, with so many answers at once
	yield [wide + 1]yield
}

const (
	byLookup = iota
	byDraft
	kinds
)

func newSource(kind int, p proposer) *source { return &source{proposer: p, kind: kind, hit: 0.5} }

// middle is the median of the last few times that something took: now and then the machine is busy with something else.
type middle struct {
	value float64
	count int
	last  [9]float64
}

func (m *middle) add(x float64) {
	m.last[m.count%len(m.last)] = x
	m.count++
	sorted := m.last
	n := min(m.count, len(sorted))
	slices.Sort(sorted[:n])
	m.value = (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// trend is a straight line through what steps with guesses cost. A row more costs about as much as the row before it, but the
// first may cost what many do, so the line need not begin at the cost of none. It is drawn by least squares through the medians
// of each width; what is older counts less. From steps of a single width its slope is not to be seen: then it is the one that is
// expected.
type trend struct {
	costs   [mostRows]middle // by guesses
	weights [mostRows]float64
	widest  int
}

const (
	fades   = 0.95 // how much of what was measured still counts at the next window
	certain = 4.0  // windows that know better than what is expected
	luck    = 0.15 // how much more often guesses may be right than the last few were
)

// add takes in what a step with guesses has cost.
func (t *trend) add(guesses int, cost float64) {
	if guesses >= mostRows {
		return
	}
	for i := range t.weights {
		t.weights[i] *= fades
	}
	t.costs[guesses].add(cost)
	t.weights[guesses]++
	t.widest = max(t.widest, guesses)
}

// line is the cost of a window whose width is the mean, what that is, and what each guess more costs if it is expected to cost each.
func (t *trend) line(each float64) (cost, mean, slope float64) {
	var n, x, y, xx, xy float64
	for i, w := range t.weights[:t.widest+1] {
		g, c := float64(i), t.costs[i].value
		n, x, y, xx, xy = n+w, x+w*g, y+w*c, xx+w*g*g, xy+w*g*c
	}
	cost, mean = y/n, x/n
	each = min(each, max(cost-1, 0)/mean) // the first guess may cost more than a whole step, and the sixteenth next to nothing
	slope = (xy - x*cost + certain*each) / (xx - x*mean + certain)
	return cost, mean, max(slope, 0)
}

// at is what a step with so many guesses costs.
func (t *trend) at(guesses int, each float64) float64 {
	cost, mean, slope := t.line(each)
	return max(cost+slope*(float64(guesses)-mean), 1)
}

// yield is how many tokens guesses have brought of late.
type yield struct{ came, expected float64 }

// bias is how many times as many tokens come as a window's cost and its guesses let expect. Guesses that are run behind others
// make windows slower, and the tokens that they bring are none of the windows'.
func (y *yield) bias() float64 {
	const prior = 16 // tokens
	return (y.came + prior) / (y.expected + prior)
}

func (y *yield) add(tokens int, expected float64) {
	const fades = 0.99
	y.came, y.expected = fades*y.came+float64(tokens), fades*y.expected+expected
}

// best is how many guesses, at least one, are fastest if one is right so often, and how much faster than none that is.
func (p *pace) best(src *source, hit float64, answers, beside, most int) (n int, gain float64) {
	most = min(most, 2*p.known(src, answers)/beside+1) // no far jump into the unknown
	for k := 1; k <= most; k++ {
		if g := p.gain(src, hit, answers, k, k*beside); g > gain*1.005 {
			n, gain = k, g
		}
	}
	return n, gain * src.yield[min(answers, wide)].bias()
}

// gain is how much faster than none so many guesses of an answer are, among all those of its step, but for the bias.
func (p *pace) gain(src *source, hit float64, answers, guesses, all int) float64 {
	return tokens(hit, guesses) / p.slowdown(src, answers, all)
}

// tokens is how many a window with so many guesses brings.
func tokens(hit float64, guesses int) float64 {
	sum, right := 1.0, 1.0
	for range guesses {
		right *= hit
		sum += right
	}
	return sum
}

// slowdown is how many times as long as without guesses a token takes, with so many answers at once, if their step has so many.
func (p *pace) slowdown(src *source, answers, guesses int) float64 {
	each := p.unknown(src, answers)
	if t := &src.slow[min(answers, wide)]; t.widest > 0 {
		return t.at(guesses, each)
	}
	below, before := 0, 1.0
	for g := 1; g < mostRows; g++ {
		at, ok := p.readAs(src, answers, g)
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

// readAs is the slowdown of a step with so many guesses that cost nothing to make, if prompts were read in steps as wide.
func (p *pace) readAs(src *source, answers, guesses int) (float64, bool) {
	plain, rows := p.plain[min(answers, wide)].value, answers+guesses
	if src.kind == byLookup && rows < mostRows && p.reads[rows].count > 0 && plain > 0 {
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
	each := row + src.token.value/plain/float64(answers)
	for other := range src.slow {
		if t := &src.slow[other]; t.widest > 0 && other != answers {
			each = min(each, (t.at(t.widest, 0)-1)/float64(t.widest)*p.plain[other].value/plain)
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
	if t := &src.slow[min(answers, wide)]; t.widest > 0 {
		return t.widest
	}
	for g := mostRows - 1; g > 0; g-- {
		if _, ok := p.readAs(src, answers, g); ok {
			return g
		}
	}
	return 0
}

// promise is how much faster than none guesses may well be: they may be right more often than of late, and a window costs no less
// than the widest that was run, if it is wider, and what it takes to guess what is in it besides.
func (p *pace) promise(src *source, hit float64, answers, guesses int) float64 {
	t, from := &src.slow[min(answers, wide)], 0
	least := 1.0
	if t.widest > 0 {
		from = min(t.widest, guesses)
		least = t.at(from, 0)
	}
	each := src.token.value / p.plain[min(answers, wide)].value / float64(answers)
	return tokens(min(hit+luck, 1), guesses) / (least + each*float64(guesses-from)) * max(src.yield[min(answers, wide)].bias(), 1)
}
