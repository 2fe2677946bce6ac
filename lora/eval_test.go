package lora

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/llama"
)

// taught trains an adapter in a folder, from a seed of its own.
func taught(t *testing.T, dir string, seed uint64, targets ...string) string {
	t.Helper()
	cfg := small(dir)
	cfg.Seed, cfg.Steps, cfg.Out = seed, 12, filepath.Join(dir, fmt.Sprintf("taught-%d.gguf", seed))
	if len(targets) > 0 {
		cfg.Targets, cfg.Rank = targets, 3
	}
	if _, err := Run(t.Context(), cfg, nil); err != nil {
		t.Fatal(err)
	}
	return cfg.Out
}

func evaluated(t *testing.T, dir string, list ...Scaled) *Evaluation {
	t.Helper()
	e, err := Evaluate(t.Context(), EvalConfig{
		Model: filepath.Join(dir, "model.gguf"), Data: []string{filepath.Join(dir, "data")}, Adapters: list, Context: 128, Threads: 1,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEvaluationShowsWhatAnAdapterGains(t *testing.T) {
	dir := folder(t)
	e := evaluated(t, dir, Scaled{taught(t, dir, 1), 1})
	if len(e.Documents) != 40 || e.Gain == nil || e.Gain.Low < 0.5 || e.Base.Value-e.Adapted.Value-e.Gain.Value > 1e-9 {
		t.Errorf("got %d documents, base %+v, adapted %+v, gain %+v; want 40 and a gain that is surely more than 0.5", len(e.Documents), e.Base, e.Adapted, e.Gain)
	}
	if want := math.Exp(e.Adapted.Value); e.Perplexity != want {
		t.Errorf("the perplexity is %v, want %v", e.Perplexity, want)
	}
	alone := evaluated(t, dir)
	if alone.Adapted != nil || alone.Base != e.Base {
		t.Errorf("without adapters: got %+v and %+v, want %+v alone", alone.Base, alone.Adapted, e.Base)
	}
}

// llama.cpp adds adapters by itself, one after the other.
func TestAMixtureOfAdaptersIsWhatLlamaCppMakesOfThem(t *testing.T) {
	dir := folder(t)
	first, second := taught(t, dir, 1), taught(t, dir, 2, "attn_q", "ffn_down")
	const text = "cira dumo efta ala belo cira dumo efta ala belo "
	write(t, filepath.Join(dir, "one", "text.txt"), text)
	m, err := llama.LoadModel(t.Context(), []string{filepath.Join(dir, "model.gguf")}, llama.ModelConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var adapters []*llama.Adapter
	for _, path := range []string{first, second} {
		a, err := m.LoadAdapter(path)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		adapters = append(adapters, a)
	}
	for _, scales := range [][]float32{{1, 1}, {0.5, -0.25}, {2, 0}} {
		want := losses(t, m, text, adapters, scales)
		e, err := Evaluate(t.Context(), EvalConfig{
			Model: filepath.Join(dir, "model.gguf"), Data: []string{filepath.Join(dir, "one")}, Context: 128, Threads: 1,
			Adapters: []Scaled{{first, float64(scales[0])}, {second, float64(scales[1])}},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Adapted.Value * float64(e.Tokens); math.Abs(got-want) > 1e-3*want {
			t.Errorf("scales %v: the loss is %v, llama.cpp's %v", scales, got, want)
		}
	}
}

// losses are llama.cpp's of a text and the token that ends it.
func losses(t *testing.T, m *llama.Model, text string, adapters []*llama.Adapter, scales []float32) float64 {
	t.Helper()
	c, err := m.NewContext(llama.ContextConfig{Size: 256, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if len(adapters) > 0 {
		if err := c.SetAdapters(adapters, scales); err != nil {
			t.Fatal(err)
		}
	}
	tokens, err := m.Tokenize(text, true, false)
	if err != nil {
		t.Fatal(err)
	}
	tokens = append(tokens, m.End())
	var b llama.Batch
	for i, tok := range tokens[:len(tokens)-1] {
		b.Add(tok, i, 0, true)
	}
	if err := c.Decode(&b); err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for i, next := range tokens[1:] {
		logits, err := c.Logits(i)
		if err != nil {
			t.Fatal(err)
		}
		all := 0.0
		for _, l := range logits {
			all += math.Exp(float64(l))
		}
		sum += math.Log(all) - float64(logits[next])
	}
	return sum
}

// Of a hundred samples about ninety-five intervals hold the mean of what they are samples of.
func TestAnIntervalHoldsTheMeanAsOftenAsItSays(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	held := 0
	const samples = 300
	for range samples {
		e := &Evaluation{}
		for range 40 {
			e.Documents = append(e.Documents, DocumentLoss{Tokens: 100, Base: 2 + random.NormFloat64()})
		}
		if i := e.interval(func(d DocumentLoss) float64 { return d.Base }); i.Low <= 2 && 2 <= i.High {
			held++
		}
	}
	if share := float64(held) / samples; share < 0.90 || share > 0.99 {
		t.Errorf("%.3f of the intervals hold the mean, want about 0.95", share)
	}
}

func TestEvaluationRefusesWhatItCannotLookAt(t *testing.T) {
	dir := folder(t)
	cfg := EvalConfig{Model: filepath.Join(dir, "model.gguf"), Data: []string{filepath.Join(dir, "data")}}
	for name, c := range map[string]struct {
		change func(*EvalConfig)
		code   centram.Code
		says   string
	}{
		"no adapter":             {func(c *EvalConfig) { c.Adapters = []Scaled{{filepath.Join(dir, "none.gguf"), 1}} }, centram.NotFound, "none.gguf"},
		"a model for an adapter": {func(c *EvalConfig) { c.Adapters = []Scaled{{c.Model, 1}} }, centram.Invalid, "adapter"},
		"no data":                {func(c *EvalConfig) { c.Data = []string{filepath.Join(dir, "none")} }, centram.NotFound, "none"},
	} {
		cfg := cfg
		c.change(&cfg)
		if _, err := Evaluate(t.Context(), cfg, nil); centram.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v (%s), want %s with %q", name, err, centram.CodeOf(err), c.code, c.says)
		}
	}
}
