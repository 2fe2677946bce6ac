package hyperlink_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/engine/local"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hyperlink"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestAnswersOverAChainAreThoseOfOneMachine runs the whole engine over a chain: chats, prompts with a common beginning,
// seeds, grammars, stops, penalties and guesses.
func TestAnswersOverAChainAreThoseOfOneMachine(t *testing.T) {
	shape := gguf.Toy()
	shape.Layers = 6
	m := generate(t, shape)
	cfg := runConfig
	cfg.Context, cfg.BatchSize, cfg.MicroBatch = 512, 512, 512
	nodes := network(t, 3, m.opener(t, cfg), m.openAdapter)
	over := func(model engine.Model) *engine.Engine {
		e := engine.New(engine.Config{KeepAlive: -1, Open: func(context.Context, string, func(float64)) (engine.Model, error) { return model, nil }})
		t.Cleanup(func() { e.Close() })
		return e
	}
	solo := over(must(local.Open(t.Context(), m.path, cfg)))
	chain := over(must(hyperlink.Open(t.Context(), m.chainConfig(t, nodes, cfg, 2, 4))))
	seed := uint32(7)
	story := strings.Repeat("the cat sat on the mat and the dog ", 9)
	requests := map[string]engine.Request{
		"greedy":        {Text: "once upon a time"},
		"long prompt":   {Text: story},
		"seeded":        {Text: "once upon a time", Sampling: engine.Sampling{Temperature: 0.9, TopK: 40, TopP: 0.95, Seed: &seed}},
		"whole softmax": {Text: "once upon a time", Sampling: engine.Sampling{Temperature: 0.9, Seed: &seed}},
		"penalties":     {Text: story, Sampling: engine.Sampling{RepeatPenalty: 1.3, PresencePenalty: 0.5}},
		"grammar":       {Text: "list:", Grammar: engine.Grammar{GBNF: `root ::= ("a" | "b") ("," ("a" | "b")){8}`}},
		"stop":          {Text: "once upon a time", Stop: []string{"e"}},
		"adapter":       {Text: "once upon a time", Adapters: []engine.AdapterScale{{Path: writeAdapter(t, m.file, 3), Scale: 1}}},
		"copies":        {Text: "abcabcabcabcabcabcabcabcabcabc"},
	}
	answer := func(e *engine.Engine, r engine.Request) string {
		r.Model, r.MaxTokens, r.TopLogprobs = "m", 40, -1
		res, err := e.Generate(t.Context(), r, nil)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%q %s %d", res.Message.Content, res.Reason, res.GeneratedTokens)
	}
	for name, r := range requests {
		if got, want := answer(chain, r), answer(solo, r); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	texts := engine.EmbedRequest{Model: "m", Texts: []string{"once upon a time", story}}
	want, err := solo.Embed(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	got, err := chain.Embed(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want.Vectors {
		cosine := 0.0
		for j, x := range want.Vectors[i] {
			cosine += float64(x) * float64(got.Vectors[i][j])
		}
		if cosine < 0.99999 {
			t.Errorf("embedding %d: its cosine with the right one is %v, want 1", i, cosine)
		}
	}
	// All at once, the batches are others and so may be the last bits; what must hold is that nothing mixes.
	var wg sync.WaitGroup
	for name, r := range requests {
		wg.Go(func() {
			r.NoSpeculation = true
			if got := answer(chain, r); strings.Contains(got, "error") {
				t.Errorf("%s beside the others: %s", name, got)
			}
		})
	}
	wg.Wait()
}
