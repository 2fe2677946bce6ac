package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// deep are machines that can have guesses behind guesses. The first of them is where the scheduler is.
type deep struct {
	*machines
	steps int // of an answer under way
}

func (p deep) Overlap() int { return p.steps }

func (p deep) Start(_ context.Context, b Batch) (<-chan StepResult, error) {
	b.Rows = append([]Row(nil), b.Rows...)
	result, part := make(chan StepResult, 1), p.cost(len(b.Rows))/time.Duration(len(p.queues))
	time.Sleep(part)
	time.AfterFunc(p.far, func() {
		p.through(1, part, func() {
			out, err := p.oracleModel.Step(context.Background(), b)
			time.AfterFunc(p.far, func() { result <- StepResult{out, err} })
		})
	})
	return result, nil
}

func (p deep) Trim(seq, pos int) error {
	time.Sleep(time.Nanosecond) // it follows on what was started
	time.AfterFunc(p.far, func() { p.through(1, 1, func() { _ = p.oracleModel.Trim(seq, pos) }) })
	return nil
}

// unquiet is what else machines do.
type unquiet struct {
	mu   sync.Mutex
	rand *rand.Rand
}

// takes is how long it takes what would take so long on a quiet machine.
func (u *unquiet) takes(took time.Duration) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	busy := 0.9 + 0.3*u.rand.Float64()
	if u.rand.IntN(12) == 0 {
		busy = 2
	}
	return time.Duration(busy * float64(took))
}

// What a window takes and how often guesses are right differs from one to the next. Neither a few that took long nor a few
// that were wrong are a reason to do without a draft that pays.
func TestADraftThatPaysIsUsedOnAMachineThatIsNotQuiet(t *testing.T) {
	target := func(rows int) time.Duration { return seconds(0.0133 + 0.0035*float64(rows)) }
	for _, c := range []struct {
		name  string
		far   time.Duration
		draft time.Duration
		wrong uint32
		least float64 // of what is fastest: no guesses, always one, or always one with others behind it
	}{
		{"network of 20 ms", 10 * time.Millisecond, 6 * time.Millisecond, 35, 0.95},
		{"network of 50 ms", 25 * time.Millisecond, 6 * time.Millisecond, 35, 0.8},
		{"network of 5 ms", 2500 * time.Microsecond, 6 * time.Millisecond, 35, 0.87},
		{"one in two", 10 * time.Millisecond, 6 * time.Millisecond, 50, 0.85},
		{"a slow draft", 10 * time.Millisecond, 15 * time.Millisecond, 35, 0.9},
		{"mostly wrong", 10 * time.Millisecond, 6 * time.Millisecond, 85, 0.95},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				run := func(always, steps int, plain bool) float64 {
					m, d := newOracle(1, 4000), newOracle(1, 4000)
					m.endless, d.endless, d.wrong = true, true, c.wrong
					busy := &unquiet{rand: rand.New(rand.NewPCG(1, 2))}
					cost := func(rows int) time.Duration { return busy.takes(target(rows)) }
					d.each = func(rows int) time.Duration { return busy.takes(c.draft*15/16 + c.draft/16*time.Duration(rows)) }
					e := drafted(m, d, 0)
					defer e.Close()
					open := e.cfg.Open
					e.cfg.Open = func(ctx context.Context, name string, progress func(float64)) (Model, error) {
						if name == "m" {
							return deep{newMachines(m, 2, cost, c.far), steps}, nil
						}
						return open(ctx, name, progress)
					}
					if err := e.Load(t.Context(), "m", 0); err != nil {
						t.Fatal(err)
					}
					s := e.residents["m"].sched
					s.always, s.lookup.proposer = always, nobody{}
					began, tokens := time.Now(), 0
					for i := range 20 {
						q := ask(fmt.Sprint("answer ", i), 96)
						q.NoSpeculation = plain
						_, res, err := hear(t.Context(), e, q, nil)
						if err != nil {
							t.Fatal(err)
						}
						tokens += res.GeneratedTokens
					}
					return float64(tokens) / time.Since(began).Seconds()
				}
				plain, one, more, got := run(0, 1, true), run(1, 1, false), run(1, 4, false), run(0, 4, false)
				t.Logf("%s: %.1f tokens/s without guesses, %.1f with one always, %.1f with others behind it, %.1f", c.name, plain, one, more, got)
				if want := c.least * max(plain, one, more); got < want {
					t.Errorf("%s: %.1f tokens/s, want %.1f", c.name, got, want)
				}
			})
		})
	}
}
