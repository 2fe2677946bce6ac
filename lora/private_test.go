package lora

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama"
	"github.com/centram/centram/lora/dataset"
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

func TestABudgetHoldsForAllRunsOnADocument(t *testing.T) {
	dir := documents(t)
	cfg := secret(dir)
	cfg.Private.Budget = 5
	first, err := Run(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(cfg Config, why string) {
		t.Helper()
		before, err := os.ReadFile(cfg.Private.Ledger)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Run(t.Context(), cfg, nil)
		if centram.CodeOf(err) != centram.Forbidden || !strings.Contains(err.Error(), "are spent") || !strings.Contains(centram.HintOf(err), "--dp-budget") {
			t.Errorf("%s: got %v (hint %q), want that the budget is spent", why, err, centram.HintOf(err))
		}
		after, err := os.ReadFile(cfg.Private.Ledger)
		if err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: a refusal has changed the ledger, or %v", why, err)
		}
	}
	refused(cfg, "the same again")
	cfg.Out = filepath.Join(dir, "other.gguf")
	refused(cfg, "to another file")
	// A new document makes it another set of documents, but of the old ones nothing is forgotten.
	write(t, filepath.Join(dir, "data", "new.txt"), "efta efta efta ala belo")
	write(t, filepath.Join(dir, "data", "new2.txt"), "efta efta efta belo ala")
	refused(cfg, "with documents more")
	cfg.Private.Budget = 8
	second, err := Run(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := dp.Run{Q: first.Privacy.Rate, Sigma: first.Privacy.Sigma, Steps: first.Step}.Curve()
	b, _ := dp.Run{Q: second.Privacy.Rate, Sigma: second.Privacy.Sigma, Steps: second.Step}.Curve()
	if want, _ := a.Add(b).Epsilon(second.Privacy.Delta); math.Abs(second.Privacy.Spent-want) > 1e-9 || second.Privacy.Epsilon >= want {
		t.Errorf("after two runs %v are spent, want %v", second.Privacy.Spent, want)
	}
	// Other documents have their own.
	for i := range 30 {
		write(t, filepath.Join(dir, "others", fmt.Sprint(i, ".txt")), fmt.Sprint("dumo ", i, strings.Repeat(" cira", i)))
	}
	cfg.Data, cfg.Private.Budget, cfg.Steps, cfg.Out = []string{filepath.Join(dir, "others")}, 5, 2, filepath.Join(dir, "third.gguf")
	if third, err := Run(t.Context(), cfg, nil); err != nil || third.Privacy.Spent != third.Privacy.Epsilon {
		t.Errorf("other documents: %+v, %v, want that theirs alone is spent", third.Privacy, err)
	}
}

// A run that another has left no budget ends with the steps that it could pay for, and with an adapter that says so.
func TestARunEndsWhereAnotherHasSpentTheBudget(t *testing.T) {
	dir := documents(t)
	cfg := secret(dir)
	cfg.Private.Budget = 4.3
	e, err := Run(t.Context(), cfg, func(e Event) {
		if e.Stage != Train || e.Step != 6 {
			return
		}
		other := cfg
		other.Private.Epsilon, other.Out = 3, filepath.Join(dir, "other.gguf")
		if o, err := Run(t.Context(), other, nil); err != nil || o.Step != cfg.Steps {
			t.Errorf("the other run made %d steps, %v, want all %d", o.Step, err, cfg.Steps)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if p := e.Privacy; e.Step <= 6 || e.Step >= cfg.Steps || e.Steps != e.Step || p.Steps != e.Step || p.Spent > p.Budget || p.Epsilon >= p.Planned {
		t.Errorf("the run ended with step %d of %d and %+v, want fewer steps than %d and no more than the budget", e.Step, e.Steps, *p, cfg.Steps)
	}
	if got := paid(t, cfg); got != e.Step+cfg.Steps {
		t.Errorf("%d steps are paid for, want %d and %d", got, e.Step, cfg.Steps)
	}
	f, err := gguf.Open(cfg.Out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, _ := f.Value("centram.dp.steps"); got.Any() != uint32(e.Step) {
		t.Errorf("the adapter says %v steps, want %d", got.Any(), e.Step)
	}
}

func TestADocumentThatIsThereTwiceCountsOnce(t *testing.T) {
	items := []dataset.Item{{Text: "one"}, {Text: "two"}, {Text: " one\n"}}
	if got := distinct(items); len(got) != 2 {
		t.Errorf("got %v, want two documents", got)
	}
	a, _ := identify(items[:2])
	b, _ := identify([]dataset.Item{items[1], items[2]})
	if c, _ := identify(items[:1]); a != b || a == c {
		t.Errorf("the sets of documents are called %s, %s and %s, want the first two alike", a, b, c)
	}
}

// steps of the run that a process makes, as it says, and of what the ledger says.
func paid(t *testing.T, cfg Config) int {
	t.Helper()
	l, err := readLedger(cfg.Private.Ledger)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for set := range l.Documents {
		for _, r := range l.Spent.Runs(dp.Account{Dataset: set}) {
			n += r.Steps
		}
	}
	sum := 0
	for _, r := range l.Runs {
		sum += r.Steps
	}
	if sum != n {
		t.Fatalf("the runs have %d steps, and the documents were charged for %d", sum, n)
	}
	return n
}

func TestAKilledPrivateTrainingHasPaidForWhatAnybodySaw(t *testing.T) {
	dir := documents(t)
	cfg := secret(dir)
	cfg.Private.Budget = 1000
	rng := rand.New(rand.NewPCG(7, 8))
	made, kills, done := 0, 0, false
	for lives := 0; !done && lives < 40; lives++ {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "CENTRAM_TRAIN_IN="+dir, "CENTRAM_TRAIN_PRIVATE=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		steps := 0
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "done ") {
				done = true
			}
			if !strings.HasPrefix(lines.Text(), "train ") {
				continue
			}
			made++
			if steps++; steps == 1 && kills < 6 {
				time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond)
				_ = cmd.Process.Kill()
				kills++
			}
		}
		_ = cmd.Wait()
		if got := paid(t, cfg); got < made || got > made+kills {
			t.Fatalf("after %d kills %d steps were seen, and %d are paid for; want as many, and at most one more for each kill", kills, made, got)
		}
	}
	if !done || kills < 3 {
		t.Fatalf("the training was done: %v, after %d kills, want at least 3", done, kills)
	}
	f, err := gguf.Open(cfg.Out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	steps, _ := f.Value("centram.dp.steps")
	epsilon, _ := f.Value("centram.dp.epsilon")
	if steps.Any() != uint32(paid(t, cfg)) || !(epsilon.Any().(float64) <= cfg.Private.Epsilon) {
		t.Errorf("the adapter says %v steps and epsilon %v, want the %d that are paid for and at most %v", steps.Any(), epsilon.Any(), paid(t, cfg), cfg.Private.Epsilon)
	}
	t.Logf("%d kills: %d steps seen, %d paid for, epsilon %v", kills, made, paid(t, cfg), epsilon.Any())
}

func TestAPrivateTrainingGoesOnWithItsLedgerOnly(t *testing.T) {
	dir := documents(t)
	cfg := secret(dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := Run(ctx, cfg, func(e Event) {
		if e.Step == 3 {
			cancel()
		}
	}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want that it was cancelled", err)
	}
	if got := paid(t, cfg); got != 3 {
		t.Errorf("after 3 steps %d are paid for", got)
	}
	if err := os.Rename(cfg.Private.Ledger, cfg.Private.Ledger+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), cfg, nil); centram.CodeOf(err) != centram.Conflict || !strings.Contains(err.Error(), "does not know") {
		t.Errorf("without its ledger the run ended with %v, want a conflict", err)
	}
	if err := os.Rename(cfg.Private.Ledger+".away", cfg.Private.Ledger); err != nil {
		t.Fatal(err)
	}
	e, err := Run(t.Context(), cfg, nil)
	if err != nil || !e.Resumed || e.Step != 12 || e.Privacy.Steps != 12 {
		t.Errorf("with it: %+v, %+v, %v, want all 12 steps", e.Event, e.Privacy, err)
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

// canaries are words that cannot be guessed.
func canaries(rng *rand.Rand, n int) (out []string) {
	for range n {
		var word strings.Builder
		for range 8 {
			word.WriteByte(byte('a' + rng.IntN(26)))
		}
		out = append(out, "the password is "+word.String())
	}
	return out
}

// exposure says how far up the planted secrets are among others that were not planted, by how likely the model finds them
// (Carlini et al. 2019, The Secret Sharer): log2 of how many there are, less log2 of the place. Of secrets that are as
// likely as any others it is 1.4 on average.
func exposure(t *testing.T, cfg Config, planted, others []string) float64 {
	t.Helper()
	m, err := llama.LoadModel(t.Context(), []string{cfg.Model}, llama.ModelConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	a, err := m.LoadAdapter(cfg.Out)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	loss := func(text string) float64 { return losses(t, m, text, []*llama.Adapter{a}, []float32{1}) }
	var all []float64
	for _, o := range others {
		all = append(all, loss(o))
	}
	slices.Sort(all)
	sum := 0.0
	for _, p := range planted {
		place, _ := slices.BinarySearch(all, loss(p))
		sum += math.Log2(float64(len(all)+1)) - math.Log2(float64(place+1))
	}
	return sum / float64(len(planted))
}

func TestNoiseHidesPlantedSecrets(t *testing.T) {
	dir := documents(t)
	rng := rand.New(rand.NewPCG(9, 10))
	planted, others := canaries(rng, 12), canaries(rng, 127)
	for i, c := range planted {
		write(t, filepath.Join(dir, "data", fmt.Sprintf("canary%02d.txt", i)), c)
	}
	cfg := secret(dir)
	cfg.Held, cfg.Steps, cfg.Blocks, cfg.Context = 0.05, 150, 4, 32
	open := cfg
	open.Private, open.Out = Private{}, filepath.Join(dir, "open.gguf")
	if _, err := Run(t.Context(), open, nil); err != nil {
		t.Fatal(err)
	}
	e, err := Run(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	without, with := exposure(t, open, planted, others), exposure(t, cfg, planted, others)
	t.Logf("exposure %.2f bits without privacy, %.2f with epsilon %.2f (noise %.2f); by chance 1.44, at most 7; held out loss %.2f to %.2f",
		without, with, e.Privacy.Epsilon, e.Privacy.Sigma, e.HeldBefore, e.HeldAfter)
	if without < 4 || with > without-2 {
		t.Errorf("the secrets' exposure is %.2f bits without privacy and %.2f with it, want at least 4, and at least 2 less", without, with)
	}
}
