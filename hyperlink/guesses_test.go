package hyperlink_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/p2p/p2ptest"
)

// Where rows take as long as each, a token and the guesses behind it pass the machines one by one. Every row has to come out
// as it would alone, right guesses and wrong ones, and also when a machine dies with a part of them under way.
func TestGuessesThatPassOneByOneAreExactAndSurviveADeath(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { guessing(t, seed) })
		})
	}
}

func guessing(t *testing.T, seed uint64) {
	const steps = 60
	rng := rand.New(rand.NewPCG(seed, 18))
	stages := 2 + rng.IntN(3)
	p := newPark(t, seed, stages+1, p2ptest.Faults{Latency: time.Duration(rng.IntN(20)) * time.Millisecond})
	var together atomic.Int64
	p.own = func(o *oracle) {
		o.perRow = 5 * time.Millisecond
		o.fail = func(b *engine.StageBatch, _ *engine.StageOutput) error {
			if len(b.Rows) > 1 {
				together.Add(1)
			}
			return nil
		}
	}
	p.shape = func(_ int, o *oracle) { o.perRow = 5 * time.Millisecond }
	p.tail = sharedBy(seed)
	c, err := p.chain(stages, 1, false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	prompt := prompts(1, 5)
	answer, want := greedy(t, alone{newOracle(0, oracleLayers, 1)}, prompt, steps, 0)
	text := slices.Concat(prompt[0], answer[0])
	var wg sync.WaitGroup
	at, victim := time.Duration(rng.IntN(2000))*time.Millisecond, 1+rng.IntN(stages-1)
	wg.Go(func() {
		time.Sleep(at)
		p.kill(c.Stages()[victim].Node)
	})
	defer wg.Wait()
	guess := func(batch *engine.Batch, pos, n int) (right int) {
		right = rng.IntN(n + 1)
		for i := range n {
			token := text[pos+1+i]
			if i >= right {
				token = (token + 1) % 250
			}
			batch.Rows = append(batch.Rows, engine.Row{Token: token, Pos: pos + 1 + i, Logits: true})
		}
		return right
	}
	greedy(t, c, prompt, 4, 0) // shows what a row takes
	for range 3 {              // and two
		b := engine.Batch{Rows: []engine.Row{{Token: text[8], Pos: 8, Logits: true}, {Token: text[9], Pos: 9, Logits: true}}}
		if _, err := c.Step(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	known := together.Load()
	for done := 4; done < steps; {
		pos := len(prompt[0]) + done - 1 // of the last token that is sure
		b := engine.Batch{Rows: []engine.Row{{Token: text[pos], Pos: pos, Logits: true}}}
		right := guess(&b, pos, min(1+rng.IntN(10), steps-done-1))
		out, err := c.Step(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Logits) != len(b.Rows) {
			t.Fatalf("%d rows of logits, want %d", len(out.Logits), len(b.Rows))
		}
		for i, got := range out.Logits[:right+1] {
			if !slices.Equal(got, want[done+i]) {
				t.Fatalf("token %d, %d guesses behind the sure one: got %v..., want %v...", done+i, i, got[:3], want[done+i][:3])
			}
		}
		done += right + 1
	}
	if n := together.Load() - known; n > 0 {
		t.Errorf("%d steps were computed together, want all rows to go one by one", n)
	}
}
