package engine

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// narrow is what steps cost llama.cpp on one core, measured with a model of the shape of Qwen 2.5 0.5B: one row has kernels
// of its own, and then it takes eight for a step to pay.
func narrow(rows int) time.Duration {
	at := [...]float64{0, 1. / 46, 2. / 26, 0.091, 4. / 38, 0.115, 0.124, 0.134, 8. / 56}
	last := len(at) - 1
	return seconds(at[min(rows, last)] + float64(max(rows-last, 0))/60)
}

// flat is what they cost a graphics card.
func flat(int) time.Duration { return 10 * time.Millisecond }

// concave steps cost ever less for another row.
func concave(rows int) time.Duration { return seconds(0.02 * math.Sqrt(float64(rows))) }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// machines are an oracle behind machines in a row, each of which takes its part of what a step costs.
type machines struct {
	*oracleModel
	cost   func(rows int) time.Duration
	far    time.Duration // from one to the next, and back
	queues []chan func()
	ended  sync.WaitGroup
}

func newMachines(m *oracleModel, n int, cost func(rows int) time.Duration, far time.Duration) *machines {
	p := &machines{oracleModel: m, cost: cost, far: far}
	for range n {
		p.queues = append(p.queues, make(chan func(), 1024))
	}
	for i, queue := range p.queues {
		p.ended.Go(func() {
			for work := range queue {
				work()
			}
			if i+1 < n {
				time.Sleep(far) // what is on its way arrives before
				close(p.queues[i+1])
			}
		})
	}
	return p
}

func (p *machines) Depth() (groups, steps int) { return len(p.queues), 2 * len(p.queues) }

func (p *machines) Start(_ context.Context, b Batch) (<-chan StepResult, error) {
	b.Rows = append([]Row(nil), b.Rows...)
	result := make(chan StepResult, 1)
	p.through(0, p.cost(len(b.Rows))/time.Duration(len(p.queues)), func() {
		out, err := p.oracleModel.Step(context.Background(), b)
		time.AfterFunc(p.far, func() { result <- StepResult{out, err} })
	})
	return result, nil
}

// through has work done by the last machine when the others have done theirs.
func (p *machines) through(i int, part time.Duration, work func()) {
	p.queues[i] <- func() {
		time.Sleep(part)
		if i+1 == len(p.queues) {
			work()
			return
		}
		time.AfterFunc(p.far, func() { p.through(i+1, part, work) })
	}
}

func (p *machines) Trim(seq, pos int) error {
	p.through(0, 1, func() { _ = p.oracleModel.Trim(seq, pos) })
	return nil
}

func (p *machines) Close() error {
	close(p.queues[0])
	p.ended.Wait()
	return p.oracleModel.Close()
}

// speed is how many tokens a second so many answers of n tokens make together, all of which have to be right. tries says
// whether other than the usual splits may be tried.
func speed(t *testing.T, m *oracleModel, model Model, answers, n int, tries bool) float64 {
	t.Helper()
	e := guessing(t, model, 0, nobody{})
	defer e.Close()
	if !tries {
		e.residents["m"].sched.widths.debt = math.Inf(1)
	}
	began := time.Now()
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			prompt := fmt.Sprint("answer ", i)
			text, _ := m.Tokenize(prompt, true, true)
			for range n {
				text = append(text, m.next(text, nil))
			}
			want := ""
			for _, token := range text[len(prompt):] {
				want += string(m.Piece(token, false))
			}
			got, _, err := hear(t.Context(), e, ask(prompt, n), nil)
			if err != nil || got.text != want {
				t.Errorf("%q: got %q, %v, want %q", prompt, got.text, err, want)
			}
		})
	}
	wg.Wait()
	return float64(answers*n) / time.Since(began).Seconds()
}

// even has the test fail if one of so many answers of n tokens gets more than one token ahead of another, or a step has them
// in another order than that of their sequences, which llama.cpp would compute in several passes.
func even(t *testing.T, m *oracleModel, answers, n int) {
	count := map[int]int{}
	m.fail = func(b Batch) error {
		for i, r := range b.Rows {
			if r.Logits {
				count[r.Seq]++
			}
			if i > 0 && wantedRows(b) == len(b.Rows) && r.Seq <= b.Rows[i-1].Seq && !t.Failed() && count[r.Seq] > 1 {
				t.Errorf("a row of sequence %d follows one of %d", r.Seq, b.Rows[i-1].Seq)
			}
		}
		least, most := n, 0
		for _, c := range count {
			least, most = min(least, c), max(most, c)
		}
		if len(count) == answers && most > least+1 && !t.Failed() {
			t.Errorf("an answer has %d tokens when another has %d", most, least)
		}
		return nil
	}
}

func TestAnswersAreSplitAsIsFastest(t *testing.T) {
	const n = 600
	for _, c := range []struct {
		name        string
		cost        func(rows int) time.Duration
		machines    int
		far         time.Duration
		answers     int
		least, most float64 // how much faster than with the usual split
	}{
		{"narrow", narrow, 1, 0, 1, 1, 1},
		{"narrow", narrow, 1, 0, 2, 1.6, 1.8},
		{"narrow", narrow, 1, 0, 3, 1.3, 1.5},
		{"narrow", narrow, 1, 0, 4, 1.15, 1.3},
		{"narrow", narrow, 1, 0, 8, 0.98, 1},
		{"flat", flat, 1, 0, 2, 0.98, 1},
		{"flat", flat, 1, 0, 8, 0.98, 1},
		{"concave", concave, 1, 0, 5, 0.98, 1},
		{"linear", rows(10 * time.Millisecond), 1, 0, 2, 0.98, 1.02},
		{"linear", rows(10 * time.Millisecond), 1, 0, 7, 0.98, 1.02},
		{"narrow", narrow, 2, 0, 2, 0.98, 1.02},
		{"narrow", narrow, 2, time.Millisecond, 4, 1.5, 2},
		{"narrow", narrow, 2, time.Millisecond, 8, 1.15, 1.3},
		{"narrow", narrow, 3, 20 * time.Millisecond, 8, 1.1, 2},
		{"flat", flat, 2, 0, 8, 0.98, 1.02},
		{"flat", flat, 2, 30 * time.Millisecond, 8, 0.98, 1.5},
		{"concave", concave, 3, 5 * time.Millisecond, 8, 0.98, 1.5},
		{"linear", rows(10 * time.Millisecond), 2, 5 * time.Millisecond, 7, 0.98, 1.5},
	} {
		synctest.Test(t, func(t *testing.T) {
			run := func(tries bool) float64 {
				m := newOracle(8, 4000)
				m.endless = true
				even(t, m, c.answers, n)
				if c.machines > 1 {
					return speed(t, m, newMachines(m, c.machines, c.cost, c.far), c.answers, n, tries)
				}
				m.each = c.cost
				return speed(t, m, m, c.answers, n, tries)
			}
			usual, got := run(false), run(true)
			t.Logf("%s, %d machines, %d answers: %.1f tokens/s, %.1f with the usual split: %.3f", c.name, c.machines, c.answers, got, usual, got/usual)
			if got < c.least*usual || got > c.most*usual*1.001 {
				t.Errorf("%s, %d machines, %d answers: %.3f times as fast as with the usual split, want %v to %v", c.name, c.machines, c.answers, got/usual, c.least, c.most)
			}
		})
	}
}

func TestTwoMachinesAnswerEightFasterThanOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alone, m := newOracle(8, 4000), newOracle(8, 4000)
		alone.endless, alone.each, m.endless = true, narrow, true
		one := speed(t, alone, alone, 8, 600, true)
		two := speed(t, m, newMachines(m, 2, narrow, time.Millisecond), 8, 600, true)
		t.Logf("one machine %.1f tokens/s, two %.1f: %.2f", one, two, two/one)
		if two < 1.5*one {
			t.Errorf("one machine makes %.1f tokens/s and two %.1f, want 1.5 times as many", one, two)
		}
	})
}

// Steps of a machine that has other things to do, too, are no reason to leave the usual split.
func TestAnswersAreSplitWellOnAMachineThatIsNotQuiet(t *testing.T) {
	for _, c := range []struct {
		name              string
		cost              func(rows int) time.Duration
		machines, answers int
		least             float64 // how much faster than with the usual split
	}{
		{"narrow", narrow, 1, 2, 1.6},
		{"narrow", narrow, 1, 8, 0.97},
		{"flat", flat, 1, 8, 0.97},
		{"concave", concave, 1, 8, 0.97},
		{"narrow", narrow, 2, 8, 1.2},
		{"flat", flat, 2, 8, 0.97},
		{"concave", concave, 2, 8, 0.97},
	} {
		synctest.Test(t, func(t *testing.T) {
			run := func(tries bool) float64 {
				m := newOracle(8, 4000)
				m.endless = true
				r := rand.New(rand.NewPCG(1, 2))
				cost := func(rows int) time.Duration {
					busy := 0.8 + 0.4*r.Float64()
					if r.IntN(100) == 0 {
						busy = 6
					}
					return time.Duration(busy * float64(c.cost(rows)))
				}
				if c.machines > 1 {
					return speed(t, m, newMachines(m, c.machines, cost, time.Millisecond), c.answers, 1000, tries)
				}
				m.each = cost
				return speed(t, m, m, c.answers, 1000, tries)
			}
			usual, got := run(false), run(true)
			t.Logf("%s, %d machines, %d answers: %.1f tokens/s, %.1f with the usual split: %.3f", c.name, c.machines, c.answers, got, usual, got/usual)
			if got < c.least*usual {
				t.Errorf("%s, %d machines, %d answers: %.3f times as fast as with the usual split, want %v", c.name, c.machines, c.answers, got/usual, c.least)
			}
		})
	}
}

func TestGuessesAreNoLossWithAnySplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := func(p proposer) float64 {
			m := newOracle(8, 4000)
			m.endless = true
			return rate(t, m, newMachines(m, 2, narrow, 30*time.Millisecond), p, 8, 1000)
		}
		plain := run(nobody{})
		for _, right := range []float64{0, 0.5, 1} {
			got := run(prophecy(newOracle(8, 4000), right))
			t.Logf("%v right: %.1f tokens/s, %.1f without", right, got, plain)
			if got < 0.97*plain {
				t.Errorf("%v right: %.1f tokens/s, want no less than %.1f", right, got, 0.97*plain)
			}
		}
	})
}

func TestASplitIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, began := newOracle(2, 8000), time.Now()
		m.endless = true
		m.each = func(rows int) time.Duration {
			if time.Since(began) > 10*time.Second {
				return narrow(rows)
			}
			return flat(rows)
		}
		e := guessing(t, m, 0, nobody{})
		defer e.Close()
		arrived := map[int]time.Time{}
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() {
				r := ask(fmt.Sprint("answer ", i), 3000)
				r.TopLogprobs = 0
				tokens := 0
				if _, err := e.Generate(t.Context(), r, func(ev Event) error {
					tokens += len(ev.Tokens)
					if i == 0 {
						arrived[tokens] = time.Now()
					}
					return nil
				}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if took, most := arrived[3000].Sub(arrived[2500]), 500*2*narrow(1)*102/100; took > most {
			t.Errorf("when a row alone had become cheap, 500 tokens of two answers took %v, want at most %v", took, most)
		}
	})
}

func TestThePromptTimeOfAPipelineIsThatOfTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newOracle(2, 4000)
		m.endless = true
		e := guessing(t, newMachines(m, 2, rows(time.Millisecond), time.Millisecond), 0, nobody{})
		defer e.Close()
		r := ask(string(make([]byte, 640)), 1)
		began := time.Now()
		_, res, err := hear(t.Context(), e, r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); res.PromptTime > took || res.PromptTime < took/2 {
			t.Errorf("reading 640 tokens took %v of the %v that all took", res.PromptTime, took)
		}
	})
}
