package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/centram/centram"
)

// drafted serves a target with a draft, both oracles.
func drafted(target, draft *oracleModel, budget uint64) *Engine {
	return New(Config{
		KeepAlive: -1, MemoryBudget: budget, Estimate: func(string) (uint64, error) { return 100, nil },
		Open: func(_ context.Context, name string, _ func(float64)) (Model, error) {
			if name == "draft" && draft == nil {
				return nil, centram.Errorf(centram.NotFound, "there is no draft")
			} else if name == "draft" {
				return draft, nil
			}
			return target, nil
		},
		Speculate: func(name string) (string, bool) {
			if name == "m" {
				return "draft", true
			}
			return "", true
		},
	})
}

func TestADraftModelGuesses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 200
		target := newOracle(rapid.IntRange(1, 4).Draw(t, "slots"), size)
		draft := newOracle(rapid.IntRange(1, 5).Draw(t, "draft slots"), rapid.IntRange(30, 300).Draw(t, "draft context"))
		e := drafted(target, draft, 0)
		defer e.Close()
		if err := e.Load(context.Background(), "m", 0); err != nil {
			t.Fatal(err)
		}
		s := e.residents["m"].sched
		s.always = rapid.IntRange(1, 12).Draw(t, "most")
		var wg sync.WaitGroup
		for range rapid.IntRange(1, 8).Draw(t, "requests") {
			prompt := rapid.StringMatching("[x-z]{1,40}").Draw(t, "prompt")
			model := rapid.SampledFrom([]string{"m", "m", "m", "draft"}).Draw(t, "model")
			wg.Go(func() {
				r := ask(prompt, 50)
				r.Model = model
				limit := size
				if model == "draft" {
					limit = draft.info.Context
				}
				if len(prompt) >= limit {
					return
				}
				got, _, err := hear(context.Background(), e, r, nil)
				if want := oracle(prompt, nil, 50, limit); err != nil || got.text != want {
					t.Errorf("%s %q: got %q, %v, want %q", model, prompt, got.text, err, want)
				}
			})
		}
		wg.Wait()
	})
}

func TestADraftReadsATextOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target, draft := newOracle(2, 1000), newOracle(2, 1000)
		target.endless, draft.endless = true, true
		target.delay, draft.delay = 50*time.Millisecond, time.Millisecond
		e := drafted(target, draft, 0)
		defer e.Close()
		if err := e.Load(t.Context(), "m", 0); err != nil {
			t.Fatal(err)
		}
		e.residents["m"].sched.always = 4
		e.residents["m"].sched.lookup.proposer = nobody{}
		_, res, err := hear(t.Context(), e, ask(strings.Repeat("a long prompt ", 20), 100), nil)
		if err != nil {
			t.Fatal(err)
		}
		if g := res.Guesses; g.Accepted < 75 || g.Accepted != g.Guessed {
			t.Errorf("%d of %d guesses of the same model accepted", g.Accepted, g.Guessed)
		}
		if most := 280 + 100 + 100/4; draft.rows > most {
			t.Errorf("the draft ran %d rows, want at most %d", draft.rows, most)
		}
	})
}

// Somebody may talk with the draft itself, for as long as they like.
func TestAnAnswerDoesNotWaitForADraftThatOthersTalkWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target, draft := newOracle(2, 1000), newOracle(1, 1000)
		target.endless, draft.endless = true, true
		target.delay, draft.delay = 50*time.Millisecond, 10*time.Millisecond
		e := drafted(target, draft, 0)
		defer e.Close()
		if err := e.Load(t.Context(), "m", 0); err != nil {
			t.Fatal(err)
		}
		e.residents["m"].sched.always = 4
		e.residents["m"].sched.lookup.proposer = nobody{}
		var talk sync.WaitGroup
		defer talk.Wait()
		last, longest, talking := time.Now(), time.Duration(0), false
		_, res, err := hear(t.Context(), e, ask("an answer", 500), func(length int) bool {
			longest, last = max(longest, time.Since(last)), time.Now()
			if length > 50 && !talking {
				talking = true
				talk.Go(func() {
					r := ask("a long talk", 900)
					r.Model = "draft"
					if _, _, err := hear(t.Context(), e, r, nil); err != nil {
						t.Error(err)
					}
				})
			}
			return false
		})
		if err != nil || res.Guesses.Accepted == 0 {
			t.Fatalf("%d guesses accepted, %v", res.Guesses.Accepted, err)
		}
		if longest > 2*longestGuess {
			t.Errorf("the answer stood still for %v while somebody talked with its draft, want at most %v", longest, 2*longestGuess)
		}
	})
}

func TestADraftIsUsedWhereItPays(t *testing.T) {
	for name, c := range map[string]struct {
		answers     int
		draft       time.Duration // of a step; the target's take 50 ms
		wrong       uint32
		least, most float64 // how much faster
	}{
		"fast and right":             {1, 3 * time.Millisecond, 0, 3, 20},
		"fast and right for several": {3, 3 * time.Millisecond, 0, 3, 20},
		"fast and wrong":             {1, 3 * time.Millisecond, 100, 0.97, 1},
		"slow and right":             {1, 60 * time.Millisecond, 0, 0.97, 1},
		"slow and wrong for several": {3, 60 * time.Millisecond, 100, 0.97, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			target, draft := newOracle(4, 1000), newOracle(4, 1000)
			target.endless, draft.endless = true, true
			target.delay, draft.delay, draft.wrong = 50*time.Millisecond, c.draft, c.wrong
			e := drafted(target, draft, 0)
			defer e.Close()
			speed := func(plain bool) float64 {
				began := time.Now()
				var wg sync.WaitGroup
				for i := range c.answers {
					wg.Go(func() {
						r := ask(fmt.Sprint("answer ", i), 300)
						r.NoSpeculation = plain
						if _, _, err := hear(t.Context(), e, r, nil); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				return 1 / time.Since(began).Seconds()
			}
			plain := speed(true)
			e.residents["m"].sched.lookup.proposer = nobody{}
			got := speed(false) / plain
			t.Logf("%s: %.2f, %+v, draft %d steps", name, got, e.Resident(), draft.steps)
			if got < c.least || got > c.most {
				t.Errorf("%s: %.2f times as fast as without, want %v to %v", name, got, c.least, c.most)
			}
		})
	}
}

func TestAnAnswerDoesWithoutADraftThatIsNotThere(t *testing.T) {
	other := newOracle(1, 100)
	other.info.VocabSize = 99
	for name, c := range map[string]struct {
		draft  *oracleModel
		budget uint64
		want   string
	}{
		"it cannot be loaded":      {nil, 0, "there is no draft"},
		"its vocabulary differs":   {other, 0, "its vocabulary has 99 tokens, not 257"},
		"there is no room for two": {newOracle(1, 100), 150, "no memory left"},
	} {
		t.Run(name, func(t *testing.T) {
			e := drafted(newOracle(1, 100), c.draft, c.budget)
			defer e.Close()
			for range 2 {
				got, _, err := hear(t.Context(), e, ask("hello", 20), nil)
				if want := oracle("hello", nil, 20, 100); err != nil || got.text != want {
					t.Fatalf("got %q, %v, want %q", got.text, err, want)
				}
			}
			i := slices.IndexFunc(e.Resident(), func(r Resident) bool { return r.Name == "m" })
			if r := e.Resident()[i]; r.Draft != "draft" || r.DraftError == nil || !strings.Contains(r.DraftError.Error(), c.want) {
				t.Errorf("got draft %q, %v, want an error with %q", r.Draft, r.DraftError, c.want)
			}
		})
	}
}

func TestADraftIsHeldWithItsModelAndLeavesAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target, draft := newOracle(1, 100), newOracle(1, 100)
		e := drafted(target, draft, 250)
		defer e.Close()
		r := ask("hello", 20)
		r.KeepAlive = time.Minute
		if _, _, err := hear(t.Context(), e, r, nil); err != nil {
			t.Fatal(err)
		}
		if n := len(e.Resident()); n != 2 {
			t.Errorf("%d models in memory, want the model and its draft", n)
		}
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if n := len(e.Resident()); n != 0 || !draft.shut {
			t.Errorf("after its time %d models in memory, the draft closed: %v", n, draft.shut)
		}
	})
}

func TestAModelDoesNotGuessForItselfOrInACircle(t *testing.T) {
	for name, drafts := range map[string]map[string]string{"itself": {"m": "m"}, "circle": {"m": "n", "n": "m"}} {
		e := New(Config{
			KeepAlive: -1,
			Open:      func(context.Context, string, func(float64)) (Model, error) { return newOracle(1, 100), nil },
			Speculate: func(name string) (string, bool) { return drafts[name], true },
		})
		defer e.Close()
		if _, err := e.Generate(t.Context(), ask("hello", 20), nil); err != nil {
			t.Fatal(err)
		}
		if r := e.Resident()[0]; centram.CodeOf(r.DraftError) != centram.Invalid {
			t.Errorf("%s: got %v, want %s", name, r.DraftError, centram.Invalid)
		}
	}
}
