package llama

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama/autodifftest"
)

// tinyShape is small enough for thousands of forward passes, and has all that can go wrong: grouped heads, and rows that
// are no multiple of anything.
func tinyShape() gguf.Shape {
	return gguf.Shape{Layers: 2, Embedding: 32, Heads: 4, KVHeads: 2, FeedForward: 48, Context: 64, Tied: true, RopeBase: 100}
}

// trainable are the kinds of models that a Trainer takes.
var trainable = map[string]func(testing.TB, gguf.Shape) string{
	"qwen2 tied": func(t testing.TB, s gguf.Shape) string { return modelPath(t, s) },
	"qwen2 untied": func(t testing.TB, s gguf.Shape) string {
		s.Tied = false
		return modelPath(t, s)
	},
	"llama":              func(t testing.TB, s gguf.Shape) string { return llamaPath(t, modelPath(t, s), false) },
	"llama with options": func(t testing.TB, s gguf.Shape) string { return llamaPath(t, modelPath(t, s), true) },
}

func modelPath(t testing.TB, s gguf.Shape) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.gguf")
	write(t, path, func(w io.Writer) error { return gguf.Generate(w, s, 3) })
	return path
}

func write(t testing.TB, path string, fill func(io.Writer) error) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := fill(f); err != nil {
		t.Fatal(err)
	}
}

func openModel(t testing.TB, path string) *gguf.Model {
	t.Helper()
	m, err := gguf.OpenModel(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// llamaPath writes a qwen2 model as one of the llama architecture; with options, with every tensor that such a model may
// have.
func llamaPath(t testing.TB, qwen string, options bool) string {
	t.Helper()
	m := openModel(t, qwen)
	var metadata []gguf.KV
	for _, kv := range m.Parts[0].Metadata {
		if rest, ok := strings.CutPrefix(kv.Key, "qwen2."); ok {
			kv.Key = "llama." + rest
		}
		if kv.Key == "general.architecture" {
			kv.Value = gguf.Of("llama")
		}
		metadata = append(metadata, kv)
	}
	var tensors []gguf.TensorData
	for _, tensor := range m.Tensors {
		if options || !strings.HasSuffix(tensor.Name, ".bias") {
			tensors = append(tensors, gguf.TensorData{Name: tensor.Name, Type: tensor.Type, Dims: tensor.Dims, Write: gguf.Copy(m.Data(tensor))})
		}
	}
	if options {
		vector := func(name string, n int, mean float64) {
			tensors = append(tensors, gguf.TensorData{Name: name, Type: gguf.F32, Dims: []uint64{uint64(n)}, Write: gguf.Floats(randoms(name, n, mean))})
		}
		s := m.Summary
		vector("rope_freqs.weight", s.HeadDim/2, 1.5)
		for l := range s.Layers {
			for name, n := range map[string]int{"attn_output": s.Embedding, "ffn_gate": s.FeedForward, "ffn_up": s.FeedForward, "ffn_down": s.Embedding} {
				vector(fmt.Sprintf("blk.%d.%s.bias", l, name), n, 0)
			}
		}
	}
	path := filepath.Join(t.TempDir(), "llama.gguf")
	write(t, path, func(w io.Writer) error { return gguf.Write(w, metadata, tensors) })
	return path
}

// randoms are numbers around mean, the same for the same name.
func randoms(name string, n int, mean float64) []float32 {
	random := rand.New(rand.NewPCG(uint64(len(name)), uint64(name[len(name)/2])))
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(mean + 0.1*random.NormFloat64())
	}
	return out
}

func trainer(t testing.TB, path string, cfg TrainerConfig) *Trainer {
	t.Helper()
	if cfg.Threads == 0 {
		cfg.Threads = 1
	}
	tr, err := NewTrainer(t.Context(), []string{path}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr
}

// shake moves what is trained away from where it begins: as long as B is zero, A has no gradient.
func shake(t testing.TB, tr *Trainer) {
	t.Helper()
	for _, p := range tr.Params() {
		values, err := tr.Values(p.Name)
		if err != nil {
			t.Fatal(err)
		}
		for i, x := range randoms(p.Name, len(values), 0) {
			values[i] += x
		}
		if err := tr.SetValues(p.Name, values); err != nil {
			t.Fatal(err)
		}
	}
}

// document makes n tokens, and labels for those of them that keep says.
func document(seed uint64, n int, keep func(int) bool) (tokens, labels []Token) {
	random := rand.New(rand.NewPCG(seed, 1))
	for range n + 1 {
		tokens = append(tokens, Token(random.IntN(289)))
	}
	for i := range n {
		label := tokens[i+1]
		if !keep(i) {
			label = -1
		}
		labels = append(labels, label)
	}
	return tokens[:n], labels
}

func every(n int) func(int) bool { return func(i int) bool { return i%n != n-1 } }

// twoDocuments is a block of two, of which some rows have no label.
func twoDocuments() (b Block) {
	b.Add(document(1, 11, every(3)))
	b.Add(document(2, 9, every(4)))
	return b
}

func loss(t testing.TB, tr *Trainer, b Block) float64 {
	t.Helper()
	nll, err := tr.Forward(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return total(nll)
}

func total(nll []float32) (sum float64) {
	for _, x := range nll {
		sum += float64(x)
	}
	return sum
}

// gradients are those of b alone, by name.
func gradients(t testing.TB, tr *Trainer, blocks ...Block) map[string][]float32 {
	t.Helper()
	tr.Zero()
	for _, b := range blocks {
		if _, err := tr.Backward(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	out := map[string][]float32{}
	for _, p := range tr.Params() {
		g, err := tr.Gradient(p.Name)
		if err != nil {
			t.Fatal(err)
		}
		out[p.Name] = g
	}
	return out
}

func length(v []float32) float64 {
	sum := 0.0
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	return math.Sqrt(sum)
}

// apart is the length of the difference beside that of the larger.
func apart(a, b []float32) float64 {
	diff := make([]float32, len(a))
	for i := range a {
		diff[i] = a[i] - b[i]
	}
	return length(diff) / max(length(a), length(b), 1e-30)
}

// farthest is the parameter whose gradients differ most.
func farthest(a, b map[string][]float32) (name string, distance float64) {
	for n := range a {
		if d := apart(a[n], b[n]); d >= distance {
			name, distance = n, d
		}
	}
	return name, distance
}

// TestGradientsAreThoseOfFiniteDifferences moves each tensor that is trained along its gradient, and along a random line.
func TestGradientsAreThoseOfFiniteDifferences(t *testing.T) {
	for name, path := range trainable {
		for way, cfg := range map[string]TrainerConfig{"pairs": {Rank: 3, Targets: Targets()}, "full": {Full: true}} {
			t.Run(name+" "+way, func(t *testing.T) {
				tr := trainer(t, path(t, tinyShape()), cfg)
				if !cfg.Full {
					shake(t, tr)
				}
				b := twoDocuments()
				worst, where := 0.0, ""
				for name, g := range gradients(t, tr, b) {
					size := length(g)
					if size < 1e-3 {
						t.Errorf("the gradient of %s is %v long, want more", name, size)
						continue
					}
					for _, line := range [][]float32{g, randoms(name, len(g), 0)} {
						got, want := along(t, tr, b, name, line, min(0.02, 0.1/size)), dot(g, line)/length(line)
						off := math.Abs(got-want) / size
						if off > worst {
							worst, where = off, name
						}
						if off > 3e-3 {
							t.Errorf("%s: the loss changes by %v, its gradient says %v; it is %v long", name, got, want, size)
						}
					}
				}
				t.Logf("%d tensors; the worst is off by %.1e of its gradient (%s)", len(tr.Params()), worst, where)
			})
		}
	}
}

func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

// along is the slope of the loss along a line through the values of a parameter, from four points of it. They are so near
// that the loss changes by about a tenth.
func along(t testing.TB, tr *Trainer, b Block, name string, line []float32, step float64) float64 {
	t.Helper()
	at, err := tr.Values(name)
	if err != nil {
		t.Fatal(err)
	}
	unit := length(line)
	lossAt := func(x float64) float64 {
		moved := slices.Clone(at)
		for i := range moved {
			moved[i] += float32(x / unit * float64(line[i]))
		}
		if err := tr.SetValues(name, moved); err != nil {
			t.Fatal(err)
		}
		return loss(t, tr, b)
	}
	slope := (8*(lossAt(step)-lossAt(-step)) - (lossAt(2*step) - lossAt(-2*step))) / (12 * step)
	if err := tr.SetValues(name, at); err != nil {
		t.Fatal(err)
	}
	return slope
}

// TestGradientsAreThoseOfGgmlsOwnDifferentiation, which knows nothing of how the trainer goes back. The two round in
// different orders, which F32 shows in the seventh digit, and again in each layer.
func TestGradientsAreThoseOfGgmlsOwnDifferentiation(t *testing.T) {
	for name, path := range trainable {
		for way, cfg := range map[string]TrainerConfig{"pairs": {Rank: 3, Targets: Targets()}, "full": {Full: true}} {
			for layers := 1; layers <= 2; layers++ {
				t.Run(fmt.Sprintf("%s %s, %d layers", name, way, layers), func(t *testing.T) {
					shape := tinyShape()
					shape.Layers = layers
					compareGradients(t, path(t, shape), cfg, 1e-6*float64(layers))
				})
			}
		}
	}
}

func compareGradients(t *testing.T, path string, cfg TrainerConfig, most float64) {
	t.Helper()
	tr := trainer(t, path, cfg)
	if !cfg.Full {
		shake(t, tr)
	}
	b := twoDocuments()
	got, values := gradients(t, tr, b), map[string][]float32{}
	for _, p := range tr.Params() {
		values[p.Name], _ = tr.Values(p.Name)
	}
	wantLoss, want, err := autodifftest.Gradients(path, values, b.Tokens, b.Positions, b.Docs, b.Labels)
	if err != nil {
		t.Fatal(err)
	}
	if gotLoss := loss(t, tr, b); math.Abs(gotLoss-wantLoss) > 1e-6*wantLoss {
		t.Errorf("got the loss %v, want %v", gotLoss, wantLoss)
	}
	where, d := farthest(got, want)
	if d > 2*most { // that of a small tensor, such as a bias, is rounded more
		t.Errorf("the gradient of %s differs by %v, want less than %v", where, d, 2*most)
	}
	var all, wantAll []float32
	for _, p := range tr.Params() {
		all, wantAll = append(all, got[p.Name]...), append(wantAll, want[p.Name]...)
	}
	if whole := apart(all, wantAll); whole > most {
		t.Errorf("the whole gradient differs by %v, want less than %v", whole, most)
	} else {
		t.Logf("the whole gradient differs by %.1e, that of one tensor by at most %.1e (%s)", whole, d, where)
	}
}

func TestKeysAndValuesLearn(t *testing.T) {
	tr := trainer(t, modelPath(t, tinyShape()), TrainerConfig{})
	shake(t, tr)
	g := gradients(t, tr, twoDocuments())
	for layer := range 2 {
		for _, matrix := range []string{"attn_q", "attn_k", "attn_v", "attn_output"} {
			for _, half := range []string{"lora_a", "lora_b"} {
				name := fmt.Sprintf("blk.%d.%s.weight.%s", layer, matrix, half)
				if got := length(g[name]); got < 1e-3 {
					t.Errorf("the gradient of %s is %v long, want more", name, got)
				}
			}
		}
	}
	if got, want := len(g), 2*4*2; got != want {
		t.Errorf("%d tensors are trained, want %d", got, want)
	}
}

func TestDocumentsInOneBlockAreAsIfAlone(t *testing.T) {
	for name, path := range trainable {
		t.Run(name, func(t *testing.T) {
			tr := trainer(t, path(t, tinyShape()), TrainerConfig{Full: true})
			var one, two Block
			one.Add(document(1, 11, every(3)))
			two.Add(document(2, 9, every(4)))
			together, err := tr.Forward(t.Context(), twoDocuments())
			if err != nil {
				t.Fatal(err)
			}
			first, _ := tr.Forward(t.Context(), one)
			second, _ := tr.Forward(t.Context(), two)
			if d := apart(together, append(first, second...)); d > 1e-6 {
				t.Errorf("losses differ by %v", d)
			}
			where, d := farthest(gradients(t, tr, twoDocuments()), gradients(t, tr, one, two))
			if d > 1e-5 {
				t.Errorf("the gradient of %s differs by %v", where, d)
			}
			t.Logf("gradients differ by %.1e", d)
		})
	}
}

// TestRowsWithoutALabelTeachNothing has the rows that have one taught one by one.
func TestRowsWithoutALabelTeachNothing(t *testing.T) {
	tr := trainer(t, modelPath(t, tinyShape()), TrainerConfig{Targets: Targets()})
	shake(t, tr)
	whole := twoDocuments()
	var single []Block
	for i, label := range whole.Labels {
		if label < 0 {
			continue
		}
		b := whole
		b.Labels = slices.Repeat([]Token{-1}, len(whole.Labels))
		b.Labels[i] = label
		single = append(single, b)
	}
	where, d := farthest(gradients(t, tr, whole), gradients(t, tr, single...))
	if d > 1e-5 {
		t.Errorf("the gradient of %s differs by %v from the sum over its %d rows", where, d, len(single))
	}
	t.Logf("gradients differ by %.1e from the sum over %d rows", d, len(single))

	none := whole
	none.Labels = slices.Repeat([]Token{-1}, len(whole.Labels))
	gradients(t, tr, none)
	if got := tr.GradNorm(); got != 0 {
		t.Errorf("without labels the gradient is %v long, want 0", got)
	}
}

// oracle is the loss that llama.cpp's own logits give.
func oracle(t testing.TB, path, adapter string, tokens, labels []Token) []float32 {
	t.Helper()
	m, err := LoadModel(t.Context(), []string{path}, ModelConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	c, err := m.NewContext(ContextConfig{Size: 64, Threads: 1, KeyType: KVF32, ValueType: KVF32, Flash: FlashOff})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if adapter != "" {
		a, err := m.LoadAdapter(adapter)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		if err := c.SetAdapters([]*Adapter{a}, []float32{1}); err != nil {
			t.Fatal(err)
		}
		defer c.SetAdapters(nil, nil)
	}
	var b Batch
	for i, tok := range tokens {
		b.Add(tok, i, 0, true)
	}
	if err := c.Decode(&b); err != nil {
		t.Fatal(err)
	}
	out := make([]float32, len(tokens))
	for i, label := range labels {
		if label < 0 {
			continue
		}
		logits, err := c.Logits(i)
		if err != nil {
			t.Fatal(err)
		}
		out[i] = float32(nllOf(logits, label))
	}
	return out
}

func nllOf(logits []float32, label Token) float64 {
	top, sum := float64(slices.Max(logits)), 0.0
	for _, x := range logits {
		sum += math.Exp(float64(x) - top)
	}
	return top + math.Log(sum) - float64(logits[label])
}

// TestLossesAreThoseOfLlamaCppsOwnLogits, of the model as it is and with an adapter that was trained here.
func TestLossesAreThoseOfLlamaCppsOwnLogits(t *testing.T) {
	for name, path := range trainable {
		t.Run(name, func(t *testing.T) {
			path := path(t, tinyShape())
			tr := trainer(t, path, TrainerConfig{Rank: 4, Targets: Targets()})
			tokens, labels := document(5, 21, every(5))
			compare := func(adapter string) []float32 {
				t.Helper()
				var b Block
				b.Add(tokens, labels)
				got, err := tr.Forward(t.Context(), b)
				if err != nil {
					t.Fatal(err)
				}
				want, worst := oracle(t, path, adapter, tokens, labels), 0.0
				for i := range want {
					worst = max(worst, math.Abs(float64(got[i]-want[i])))
				}
				if worst > 1e-3 {
					t.Errorf("adapter %q: got losses %v, want %v", adapter, got, want)
				}
				t.Logf("adapter %q: losses differ by at most %.1e", filepath.Base(adapter), worst)
				return got
			}
			before := compare("")
			overfit(t, tr, tokens, labels, 10)
			after := compare(exported(t, tr, path))
			if total(after) > 0.8*total(before) {
				t.Errorf("training brought the loss from %v to %v, want less", total(before), total(after))
			}
		})
	}
}

// TestAModelOfTheWorldIsTrained: stories260K has everything else than our random models have.
func TestAModelOfTheWorldIsTrained(t *testing.T) {
	path := filepath.Join("..", "..", "shared", "data", "stories260K.gguf")
	if _, err := os.Stat(path); err != nil {
		t.Skip("no model to try by hand")
	}
	m, err := LoadModel(t.Context(), []string{path}, ModelConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	tokens, err := m.Tokenize("The engineer wrote a test, ran it twice, and went home before the storm.", true, false)
	if err != nil {
		t.Fatal(err)
	}
	labels := append(slices.Clone(tokens[1:]), -1)
	var b Block
	b.Add(tokens, labels)
	tr := trainer(t, path, TrainerConfig{Rank: 8, Targets: Targets()})
	got, want := loss(t, tr, b), total(oracle(t, path, "", tokens, labels))
	if math.Abs(got-want) > 1e-3 {
		t.Errorf("got the loss %v, want %v", got, want)
	}
	overfit(t, tr, tokens, labels, 30)
	after, applied := loss(t, tr, b), total(oracle(t, path, exported(t, tr, path), tokens, labels))
	if after > got/4 || math.Abs(after-applied) > 1e-3 {
		t.Errorf("the loss went from %v to %v, and with the adapter llama.cpp has %v", got, after, applied)
	}
	t.Logf("%d tokens: loss %.4f, llama.cpp %.4f; after 30 steps %.4f, llama.cpp with the adapter %.4f", len(tokens), got, want, after, applied)
}

// exported writes what was trained as an adapter, checks it and returns its path.
func exported(t testing.TB, tr *Trainer, model string) string {
	t.Helper()
	m := openModel(t, model)
	var tensors []gguf.TensorData
	rank := 0
	for _, p := range tr.Params() {
		values, err := tr.Values(p.Name)
		if err != nil {
			t.Fatal(err)
		}
		tensors = append(tensors, gguf.TensorData{Name: p.Name, Type: gguf.F32, Dims: []uint64{uint64(p.Dims[0]), uint64(p.Dims[1])}, Write: gguf.Floats(values)})
		if strings.HasSuffix(p.Name, ".lora_b") {
			rank = p.Dims[0]
		}
	}
	path := filepath.Join(t.TempDir(), "adapter.gguf")
	write(t, path, func(w io.Writer) error {
		return gguf.WriteAdapter(w, m.Summary.Architecture, "trained here", float32(rank), tensors)
	})
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := gguf.CheckAdapter(f, m.Summary); err != nil {
		t.Fatal(err)
	}
	return path
}

// overfit takes steps on one document.
func overfit(t testing.TB, tr *Trainer, tokens, labels []Token, steps int) {
	t.Helper()
	var b Block
	b.Add(tokens, labels)
	for range steps {
		tr.Zero()
		nll, err := tr.Backward(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		tr.Scale(1 / float32(len(nll)))
		if err := tr.Step(AdamW{LR: 0.01}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOneBlockIsLearntByHeart(t *testing.T) {
	tokens, labels := document(7, 24, every(100))
	var b Block
	b.Add(tokens, labels)
	s := tinyShape()
	s.Embedding = 128 // or rows that are normalised could not make one token likely among 289
	path := modelPath(t, s)
	for way, cfg := range map[string]TrainerConfig{"pairs": {Rank: 8, Targets: Targets()}, "full": {Full: true}} {
		tr := trainer(t, path, cfg)
		before := loss(t, tr, b) / 24
		overfit(t, tr, tokens, labels, 100)
		after := loss(t, tr, b) / 24
		if before < 5 || after > 0.1 {
			t.Errorf("%s: the loss of a token went from %v to %v, want from more than 5 to less than 0.1", way, before, after)
		}
		t.Logf("%s: the loss of a token went from %.2f to %.4f in 100 steps", way, before, after)
	}
}

// TestAQuantisedBaseTeachesAsItsF32Twin: the same numbers, but of the twin no row is rounded before it is multiplied. Where
// the base is quantised, llama.cpp rounds to eight bits, which is what is left between the two.
func TestAQuantisedBaseTeachesAsItsF32Twin(t *testing.T) {
	s := tinyShape()
	s.Embedding, s.FeedForward, s.Heads = 256, 512, 8 // K-quants have blocks of 256
	source := modelPath(t, s)
	for name, c := range map[string]struct {
		to    Quantization
		limit float64
	}{"F16": {F16, 1e-2}, "Q8_0": {Q8_0, 0.1}, "Q4_K_M": {Q4KM, 0.2}} {
		path := filepath.Join(t.TempDir(), name+".gguf")
		if err := Quantize(source, path, c.to, 1); err != nil {
			t.Fatal(err)
		}
		cfg := TrainerConfig{Rank: 4, Targets: Targets()}
		got, want := trainer(t, path, cfg), trainer(t, twin(t, path), cfg)
		shake(t, got)
		shake(t, want)
		b := twoDocuments()
		where, d := farthest(gradients(t, got, b), gradients(t, want, b))
		x, y := loss(t, got, b), loss(t, want, b)
		if d > c.limit || math.Abs(x-y)/y > c.limit {
			t.Errorf("%s: losses %v and %v; the gradient of %s differs by %v, want less than %v", name, x, y, where, d, c.limit)
		}
		t.Logf("%s: losses %.4f and %.4f, gradients differ by at most %.1e (%s)", name, x, y, d, where)

		cfg.Exact = true
		exact := trainer(t, path, cfg)
		shake(t, exact)
		where, of := farthest(gradients(t, exact, b), gradients(t, want, b))
		if d > of*1.5+1e-6 {
			t.Errorf("%s: with BF16 gradients differ from the twin's by %v, want no more than half above the %v of %s in F32", name, d, of, where)
		}
		t.Logf("%s: gradients in F32 differ from the twin's by at most %.1e (%s)", name, of, where)
	}
}

// twin writes a model's numbers in F32.
func twin(t testing.TB, path string) string {
	t.Helper()
	m := openModel(t, path)
	var tensors []gguf.TensorData
	for _, tensor := range m.Tensors {
		raw, err := io.ReadAll(m.Data(tensor))
		if err != nil {
			t.Fatal(err)
		}
		values := make([]float32, tensor.Elements())
		if err := Dequantize(uint32(tensor.Type), raw, values); err != nil {
			t.Fatal(err)
		}
		tensors = append(tensors, gguf.TensorData{Name: tensor.Name, Type: gguf.F32, Dims: tensor.Dims, Write: gguf.Floats(values)})
	}
	out := filepath.Join(t.TempDir(), "twin.gguf")
	write(t, out, func(w io.Writer) error { return gguf.Write(w, m.Parts[0].Metadata, tensors) })
	return out
}

func TestPairsBeginAsTheirSeedSays(t *testing.T) {
	path := modelPath(t, tinyShape())
	const a, b = "blk.1.attn_q.weight.lora_a", "blk.1.attn_q.weight.lora_b"
	begin := func(seed uint64, name string) []float32 {
		values, err := trainer(t, path, TrainerConfig{Seed: seed}).Values(name)
		if err != nil {
			t.Fatal(err)
		}
		return values
	}
	one := begin(1, a)
	if got, want := one[:3], []float32{0.08794058, 0.028527685, 0.08772749}; !slices.Equal(got, want) {
		t.Errorf("A begins with %v, want %v on every machine", got, want)
	}
	if got, want := length(one)/math.Sqrt(float64(len(one))), 1/math.Sqrt(32); math.Abs(got/want-1) > 0.1 {
		t.Errorf("A deviates by %v, want about %v", got, want)
	}
	if slices.Equal(one, begin(2, a)) || slices.Equal(one[:512], begin(1, "blk.0.attn_q.weight.lora_a")) {
		t.Error("another seed, or another matrix, begins alike")
	}
	if got := length(begin(1, b)); got != 0 {
		t.Errorf("B begins %v long, want 0", got)
	}
}

func TestARunGoesOnFromItsStateToTheBit(t *testing.T) {
	path := modelPath(t, tinyShape())
	tokens, labels := document(9, 30, every(100))
	one := trainer(t, path, TrainerConfig{Seed: 1, Threads: 2})
	overfit(t, one, tokens, labels, 3)
	state := one.State()
	overfit(t, one, tokens, labels, 3)
	two := trainer(t, path, TrainerConfig{Seed: 2, Threads: 2})
	if err := two.SetState(state); err != nil {
		t.Fatal(err)
	}
	overfit(t, two, tokens, labels, 3)
	got, want := two.State(), one.State()
	if got.Step != 6 || got.Step != want.Step || !slices.Equal(got.Values, want.Values) || !slices.Equal(got.M, want.M) || !slices.Equal(got.V, want.V) {
		t.Errorf("after %d and %d steps the states differ", got.Step, want.Step)
	}
	if slices.Equal(got.Values, state.Values) {
		t.Error("three steps changed nothing")
	}
	state.Values = state.Values[1:]
	if err := two.SetState(state); err == nil {
		t.Error("a state of other parameters was taken")
	}
}

// TestABlockIsGivenUpInTheMiddle: a deep model's lowest layer is the last to be reached.
func TestABlockIsGivenUpInTheMiddle(t *testing.T) {
	s := tinyShape()
	s.Layers, s.Embedding, s.FeedForward, s.Context = 64, 64, 256, 512
	tr := trainer(t, modelPath(t, s), TrainerConfig{})
	shake(t, tr)
	var b Block
	b.Add(document(3, 500, every(100)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tr.Backward(ctx, b); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if g, err := tr.Gradient("blk.0.attn_q.weight.lora_a"); err != nil || length(g) != 0 {
		t.Errorf("the lowest layer was reached: its gradient is %v long, %v", length(g), err)
	}
	var small Block
	small.Add(document(3, 5, every(100)))
	if g := gradients(t, tr, small)["blk.0.attn_q.weight.lora_a"]; length(g) == 0 {
		t.Error("a trainer that was interrupted computes nothing any more")
	}
}

func TestBlocksThatCannotBeAreErrors(t *testing.T) {
	path := modelPath(t, tinyShape())
	tr := trainer(t, path, TrainerConfig{Context: 16})
	for name, change := range map[string]func(*Block){
		"empty":     func(b *Block) { *b = Block{} },
		"token":     func(b *Block) { b.Tokens[0] = 289 },
		"label":     func(b *Block) { b.Labels[0] = 289 },
		"position":  func(b *Block) { b.Positions[0] = -1 },
		"too long":  func(b *Block) { b.Add(document(1, 9, every(3))) },
		"not whole": func(b *Block) { b.Docs = b.Docs[1:] },
	} {
		var b Block
		b.Add(document(1, 8, every(3)))
		change(&b)
		if _, err := tr.Backward(t.Context(), b); err == nil {
			t.Errorf("%s: computed, want an error", name)
		}
	}
	for name, cfg := range map[string]TrainerConfig{"target": {Targets: []string{"x"}}, "rank": {Rank: -1}} {
		if _, err := NewTrainer(t.Context(), []string{path}, cfg); err == nil {
			t.Errorf("%s: a trainer was made, want an error", name)
		}
	}
	if _, err := NewTrainer(t.Context(), []string{path + "x"}, TrainerConfig{}); err == nil || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("got %v, want No such file", err)
	}
	need, err := tr.MemoryNeeded()
	if err != nil || need < 100_000 || need > 10_000_000 {
		t.Errorf("it needs %d bytes, %v", need, err)
	}
	tr.Close()
	tr.Close()
	if _, err := tr.Forward(t.Context(), twoDocuments()); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}
