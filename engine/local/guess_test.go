package local

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/gguf"
)

// slow is a model whose steps take so long that guesses pay.
type slow struct {
	*Model
	pause time.Duration // before each
	// single computes row by row. In a batch other kernels are used, and the last bits differ.
	single bool
}

func (s slow) Step(ctx context.Context, b engine.Batch) (engine.Output, error) {
	time.Sleep(s.pause)
	if !s.single {
		return s.Model.Step(ctx, b)
	}
	var all engine.Output
	for _, r := range b.Rows {
		out, err := s.Model.Step(ctx, engine.Batch{Rows: []engine.Row{r}, Adapters: b.Adapters})
		if err != nil {
			return all, err
		}
		for _, logits := range out.Logits {
			all.Logits = append(all.Logits, slices.Clone(logits))
		}
	}
	return all, nil
}

// drafted serves the toy model with itself as its draft.
func drafted(t *testing.T, pause time.Duration, single bool) *engine.Engine {
	t.Helper()
	path := generate(t, t.TempDir(), "toy.gguf", gguf.Toy())
	e := engine.New(engine.Config{
		Open: func(ctx context.Context, name string, _ func(float64)) (engine.Model, error) {
			m, err := Open(ctx, path, Config{Context: 512, Sequences: 2, Threads: 1})
			if err != nil || name == "draft" {
				return m, err
			}
			return slow{m, pause, single}, nil
		},
		Speculate: func(name string) (string, bool) {
			if name == "draft" {
				return "", false
			}
			return "draft", true
		},
	})
	t.Cleanup(func() { e.Close() })
	return e
}

// untilGuessed calls try with ever slower models until enough guesses are made: on a machine that has other things to do, a
// guess may cost more than the step that it saves.
func untilGuessed(t *testing.T, single bool, enough int, try func(*engine.Engine) (guesses int)) {
	t.Helper()
	for pause := 10 * time.Millisecond; ; pause *= 2 {
		n := try(drafted(t, pause, single))
		if n >= enough {
			return
		}
		if pause > 200*time.Millisecond {
			t.Fatalf("%d guesses are made where a step takes %v, want at least %d", n, pause, enough)
		}
	}
}

func TestWhatADraftGuessesDoesNotChangeTheAnswer(t *testing.T) {
	seed := uint32(7)
	for name, r := range map[string]engine.Request{
		"greedy":    {},
		"seeded":    {Sampling: engine.Sampling{Temperature: 0.7, TopK: 20, Seed: &seed}},
		"penalties": {Sampling: engine.Sampling{Temperature: 0.3, TopP: 0.9, RepeatPenalty: 1.2, FrequencyPenalty: 0.5, Seed: &seed}},
		"grammar":   {Grammar: engine.Grammar{GBNF: `root ::= ("yes " | "no " | "may" "be "? )+`}},
		"stop":      {Stop: []string{"t", "U("}},
	} {
		t.Run(name, func(t *testing.T) {
			r.Text, r.MaxTokens = "once upon a time "+name, 60
			enough := 0
			if name == "greedy" {
				enough = 25
			}
			var guessed, plain engine.Result
			untilGuessed(t, true, enough, func(e *engine.Engine) int {
				r.NoSpeculation = false
				guessed = answer(t, e, r)
				r.NoSpeculation = true
				plain = answer(t, e, r)
				return guessed.Guessed
			})
			if got, want := guessed.Message.Content, plain.Message.Content; got != want || guessed.GeneratedTokens != plain.GeneratedTokens || guessed.Reason != plain.Reason {
				t.Errorf("got %q (%d, %s), want %q (%d, %s)", got, guessed.GeneratedTokens, guessed.Reason, want, plain.GeneratedTokens, plain.Reason)
			}
			g := guessed.Guesses
			t.Logf("%d of %d guesses for %d tokens accepted, %v instead of %v", g.Accepted, g.Guessed, guessed.GeneratedTokens, guessed.GenerateTime, plain.GenerateTime)
			if name == "greedy" && g.Accepted < g.Guessed*9/10 || plain.Guessed > 0 {
				t.Errorf("%d of %d guesses of the same model accepted, and %d made where none were wanted", g.Accepted, g.Guessed, plain.Guessed)
			}
		})
	}
}

// Rows of a window are computed together, so now and then the other of two tokens that are all but equally likely is the
// likeliest.
func TestAWindowsLogitsAreThoseOfItsRowsAlone(t *testing.T) {
	r := engine.Request{Model: "toy", Text: "once upon a time", MaxTokens: 80, TopLogprobs: 2}
	hear := func(e *engine.Engine) (tokens []engine.TokenInfo, guesses engine.Guesses) {
		res, err := e.Generate(t.Context(), r, func(ev engine.Event) error {
			tokens = append(tokens, ev.Tokens...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return tokens, res.Guesses
	}
	var guessed, plain []engine.TokenInfo
	untilGuessed(t, false, 30, func(e *engine.Engine) int {
		r.NoSpeculation = false
		var g engine.Guesses
		guessed, g = hear(e)
		r.NoSpeculation = true
		plain, _ = hear(e)
		return g.Accepted
	})
	for i := range min(len(plain), len(guessed)) {
		got, want := guessed[i], plain[i]
		if d := got.Top[0].Logprob - want.Top[0].Logprob; d < -near || d > near {
			t.Fatalf("token %d: got log probability %v, want %v", i, got.Top[0].Logprob, want.Top[0].Logprob)
		}
		if got.Token != want.Token {
			if d := want.Top[0].Logprob - want.Top[1].Logprob; d > near {
				t.Errorf("token %d: got %d, want %d, which is likelier than any other by %v", i, got.Token, want.Token, d)
			}
			return
		}
	}
}
