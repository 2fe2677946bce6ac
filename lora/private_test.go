package lora

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/lora/dp"
)

// secret is a small private training.
func secret(dir string) Config {
	cfg := small(dir)
	cfg.Steps, cfg.Blocks = 12, 8
	cfg.Private = Private{Epsilon: 4, Ledger: filepath.Join(dir, "privacy.json")}
	return cfg
}

// documents is a folder with a toy model and texts that all differ.
func documents(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	generate(t, filepath.Join(dir, "model.gguf"), 1)
	words := []string{"ala ", "belo ", "cira ", "dumo ", "efta "}
	for i := range 60 {
		var text strings.Builder
		fmt.Fprintf(&text, "%d: ", i)
		for j := range 8 {
			text.WriteString(words[(i+j)%len(words)])
		}
		write(t, filepath.Join(dir, "data", fmt.Sprintf("%02d.txt", i)), text.String())
	}
	return dir
}

// opened is a private run that is about to begin, whose chance is repeatable.
func opened(t *testing.T, cfg Config) *run {
	t.Helper()
	r := &run{cfg: cfg.orDefaults()}
	if err := r.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.trainer.Close() })
	chance(t, r, 1)
	return r
}

// chance makes the run's randomness that of a seed.
func chance(t *testing.T, r *run, seed byte) {
	t.Helper()
	r.private.random = rand.NewChaCha8([32]byte{seed})
	if err := r.begin(); err != nil {
		t.Fatal(err)
	}
}

// released is the noisy sum of some documents' gradients, with the noise of a seed.
func released(t *testing.T, r *run, seed byte, documents ...int) []float64 {
	t.Helper()
	chance(t, r, seed)
	if err := r.privateGradient(t.Context(), documents); err != nil {
		t.Fatal(err)
	}
	if err := r.trainer.CopyGradient(r.private.gradient); err != nil {
		t.Fatal(err)
	}
	out := make([]float64, len(r.private.gradient))
	for i, g := range r.private.gradient {
		out[i] = float64(g) * float64(r.cfg.Blocks)
	}
	return out
}

func length(v []float64) float64 { return math.Sqrt(dot(v, v)) }

func dot(a, b []float64) (sum float64) {
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

// The same noise with and without a document: the difference is what the document has to say.
func TestADocumentSaysNoMoreThanTheClippingAllows(t *testing.T) {
	dir := documents(t)
	long := strings.Repeat("ala belo cira dumo efta ", 60)
	write(t, filepath.Join(dir, "data", "long.txt"), long) // of many blocks
	cfg := secret(dir)
	r := opened(t, cfg)
	var most int
	for i, blocks := range r.private.blocks {
		if len(blocks) > len(r.private.blocks[most]) {
			most = i
		}
	}
	if len(r.private.blocks[most]) < 10 {
		t.Fatalf("the longest document has %d blocks, want more", len(r.private.blocks[most]))
	}
	for _, clip := range []float64{0.01, 1e4} { // shorter than all gradients, and longer
		r.private.Clip = clip
		without := released(t, r, 2, 3, 4)
		for _, i := range []int{0, 1, most} {
			with := released(t, r, 2, 3, 4, i)
			said := make([]float64, len(with))
			for j := range said {
				said[j] = with[j] - without[j]
			}
			if _, _, err := r.documentGradient(t.Context(), i); err != nil {
				t.Fatal(err)
			}
			own := make([]float64, len(said))
			for j, g := range r.private.gradient {
				own[j] = float64(g)
			}
			// The released numbers are F32 with the noise on top, so their difference is a little off.
			rounding := 1e-6 * length(with)
			if want := min(clip, length(own)); length(said) > clip+rounding || math.Abs(length(said)-want) > 1e-3*want+rounding {
				t.Errorf("document %d, whose gradient has length %v, says %v with the clipping length %v", i, length(own), length(said), clip)
			}
			if cosine := dot(said, own) / length(said) / length(own); cosine < 0.99 {
				t.Errorf("what document %d says points %v along its gradient, want nearly 1", i, cosine)
			}
		}
	}
}

func TestNoiseIsAsLargeAsTheAccountantThinks(t *testing.T) {
	r := opened(t, secret(documents(t)))
	noise := released(t, r, 5)
	n := float64(len(noise))
	got, want := length(noise)/math.Sqrt(n), r.private.step.Sigma*r.private.Clip
	if off := math.Abs(got/want - 1); off > 4/math.Sqrt(2*n) {
		t.Errorf("the noise of %v numbers has the deviation %v, want %v", n, got, want)
	}
	sum := 0.0
	for _, x := range noise {
		sum += x
	}
	if math.Abs(sum/n) > 4*want/math.Sqrt(n) {
		t.Errorf("the noise has the mean %v, want 0", sum/n)
	}
	if other := released(t, r, 6); dot(noise, other)/length(noise)/length(other) > 4/math.Sqrt(n) {
		t.Error("the noise of two steps is alike")
	}
}

func TestDocumentsTakePartByChance(t *testing.T) {
	r := opened(t, secret(documents(t)))
	n, q := len(r.private.blocks), r.private.step.Q
	if want := float64(r.cfg.Blocks) / float64(n); q != want {
		t.Errorf("%d of %d documents take part with probability %v, want %v", r.cfg.Blocks, n, q, want)
	}
	const times = 4000
	each, sizes, squares := make([]int, n), 0.0, 0.0
	for range times {
		picked, err := dp.Sample(r.private.random, n, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range picked {
			each[i]++
		}
		sizes, squares = sizes+float64(len(picked)), squares+float64(len(picked)*len(picked))
	}
	mean := sizes / times
	variance, want := squares/times-mean*mean, float64(n)*q*(1-q)
	if math.Abs(mean-float64(r.cfg.Blocks)) > 4*math.Sqrt(want/times) || math.Abs(variance/want-1) > 0.15 {
		t.Errorf("batches have %v documents with variance %v, want %d with %v", mean, variance, r.cfg.Blocks, want)
	}
	for i, k := range each {
		if math.Abs(float64(k)/times-q) > 5*math.Sqrt(q*(1-q)/times) {
			t.Errorf("document %d took part in %d of %d batches, want %v of them", i, k, times, q)
		}
	}
}

func TestAPrivateRunSaysWhatTheAccountantSays(t *testing.T) {
	dir := documents(t)
	cfg := secret(dir)
	seen := 0
	e, err := Run(t.Context(), cfg, func(e Event) {
		if e.Stage != Train {
			return
		}
		p := e.Privacy
		seen++
		c, err := dp.Run{Q: p.Rate, Sigma: p.Sigma, Steps: e.Step}.Curve()
		if err != nil {
			t.Fatal(err)
		}
		if want, _ := c.Epsilon(p.Delta); math.Abs(p.Epsilon-want) > 1e-9 || math.Abs(p.Spent-want) > 1e-9 || p.Steps != e.Step {
			t.Errorf("after step %d, %d steps have an epsilon of %v, and %v are spent; want %v", e.Step, p.Steps, p.Epsilon, p.Spent, want)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	p := e.Privacy
	if seen != cfg.Steps || p.Epsilon > cfg.Private.Epsilon || p.Epsilon < 0.99*cfg.Private.Epsilon {
		t.Errorf("after %d steps the epsilon is %v, want nearly the %v that were allowed after %d", seen, p.Epsilon, cfg.Private.Epsilon, cfg.Steps)
	}
	if p.Delta != 1e-5 || p.Clip != privateClip || p.Uncovered == "" || p.Documents < 20 {
		t.Errorf("the run says %+v", *p)
	}
	f, err := gguf.Open(cfg.Out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for key, want := range map[string]any{
		"centram.dp.epsilon": p.Epsilon, "centram.dp.delta": p.Delta, "centram.dp.q": p.Rate, "centram.dp.sigma": p.Sigma,
		"centram.dp.steps": uint32(p.Steps), "centram.dp.clip": p.Clip,
	} {
		if got, ok := f.Value(key); !ok || got.Any() != want {
			t.Errorf("the adapter has %v for %s, want %v", got.Any(), key, want)
		}
	}
	if info, err := os.Stat(cfg.Private.Ledger); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the ledger: %v, %v, want that it is its owner's alone", info, err)
	}
}

func TestPrivateSettingsThatMakeNoSense(t *testing.T) {
	dir := documents(t)
	for name, change := range map[string]func(*Private){
		"no epsilon":      func(p *Private) { p.Epsilon, p.Delta = 0, 1e-5 },
		"less than none":  func(p *Private) { p.Epsilon = -1 },
		"not a number":    func(p *Private) { p.Epsilon = math.NaN() },
		"a delta of 1":    func(p *Private) { p.Delta = 1 },
		"a delta of 0.05": func(p *Private) { p.Delta = 0.05 },
		"a negative clip": func(p *Private) { p.Clip = -1 },
		"no ledger":       func(p *Private) { p.Ledger = "" },
	} {
		cfg := secret(dir)
		change(&cfg.Private)
		if _, err := Run(t.Context(), cfg, nil); centram.CodeOf(err) != centram.Invalid {
			t.Errorf("%s: got %v (%s), want %s", name, err, centram.CodeOf(err), centram.Invalid)
		}
	}
	cfg := secret(dir)
	cfg.Blocks = 100
	if _, err := Run(t.Context(), cfg, nil); centram.CodeOf(err) != centram.Invalid || !strings.Contains(centram.HintOf(err), "JSONL") {
		t.Errorf("a batch of 100 of fewer documents: got %v (hint %q)", err, centram.HintOf(err))
	}
}
