package local

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama"
)

// native is where make puts the built llama.cpp.
const native = "../../build/native"

// reference runs the pinned llama.cpp's own program, greedily, on the same threads.
func reference(t *testing.T, model, prompt string, n int) []byte {
	t.Helper()
	program := filepath.Join(native, "bin", "llama-completion")
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("CENTRAM_REFERENCE") != "" {
			t.Fatalf("%s is not built: %v", program, err)
		}
		t.Skip("llama-completion is not built; make test builds it")
	}
	args := []string{
		"-m", model, "-p", prompt, "-n", strconv.Itoa(n), "--temp", "0", "-no-cnv", "--no-display-prompt",
		"-t", strconv.Itoa(PhysicalCores()), "-c", "1024", "-fit", "off", "--no-perf", "-s", "1",
	}
	if llama.OwnKernels() && !reordered(t, model) {
		args = append(args, "--no-repack")
	}
	cmd := exec.Command(program, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("llama-completion: %v\n%s", err, stderr.String())
	}
	return bytes.TrimSuffix(bytes.TrimRight(out, "\n"), []byte(" [end of text]"))
}

// reordered says whether llama.cpp keeps matrices of a model in another order, for kernels that only it has.
func reordered(t *testing.T, path string) bool {
	g, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	return slices.ContainsFunc(g.Tensors, func(x gguf.Tensor) bool { return x.Type.String() == "Q4_0" })
}

// ours answers through the engine, as a request does.
func ours(t *testing.T, path, prompt string, n int) []byte {
	t.Helper()
	e := engine.New(engine.Config{Open: func(ctx context.Context, name string, p func(float64)) (engine.Model, error) {
		return Open(ctx, path, Config{Context: 1024, Sequences: 1, Progress: p})
	}})
	defer e.Close()
	var tokens []byte
	_, err := e.Generate(t.Context(), engine.Request{Model: "m", Text: prompt, MaxTokens: n, TopLogprobs: 0}, func(ev engine.Event) error {
		for _, tok := range ev.Tokens {
			tokens = append(tokens, tok.Text...)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimRight(tokens, "\n")
}

func compare(t *testing.T, path, prompt string, n int) {
	t.Helper()
	got, want := ours(t, path, prompt, n), reference(t, path, prompt, n)
	got = bytes.ReplaceAll(got, []byte{0}, nil) // llama-completion prints pieces as C has them, where a zero ends them
	// llama-completion writes by another thread, and on a busy machine it may end before that has written all.
	for again := 0; again < 5 && len(want) < len(got); again++ {
		want = reference(t, path, prompt, n)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s after %q:\n got %q\nwant %q", filepath.Base(path), prompt, got, want)
	}
	if len(want) == 0 {
		t.Errorf("%s after %q: the reference says nothing, so nothing was compared", filepath.Base(path), prompt)
	}
}

func generate(t *testing.T, dir, name string, shape gguf.Shape) string {
	t.Helper()
	path := filepath.Join(dir, name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := gguf.Generate(f, shape, 1); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestGreedyTokensAreThoseOfLlamaCompletion(t *testing.T) {
	dir := t.TempDir()
	toy := gguf.Toy()
	toy.Type = gguf.F32
	path := generate(t, dir, "toy.gguf", toy)
	compare(t, path, "the quick brown fox jumps ", 64)
	compare(t, path, "x", 64)
	// A trained model nobody here made, where it is at hand.
	if stories := "../../../shared/data/stories260K.gguf"; exists(stories) {
		compare(t, stories, "Once upon a time", 100)
		compare(t, stories, "Lily and Tom", 100)
	}
}

func TestGreedyTokensOfTheHalfBillionShapeAreThoseOfLlamaCompletion(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a gigabyte of weights")
	}
	dir := t.TempDir()
	shape := gguf.Qwen05B()
	shape.Type = gguf.F16
	vocab, err := gguf.Open(filepath.Join(native, "src", "models", "ggml-vocab-qwen2.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	defer vocab.Close()
	if shape.Vocab, err = gguf.VocabFrom(vocab); err != nil {
		t.Fatal(err)
	}
	f16 := generate(t, dir, "f16.gguf", shape)
	for name, q := range map[string]llama.Quantization{"q4_k_m.gguf": llama.Q4KM, "q8_0.gguf": llama.Q8_0} {
		path := filepath.Join(dir, name)
		if err := llama.Quantize(f16, path, q, 0); err != nil {
			t.Fatal(err)
		}
		compare(t, path, "The quick brown fox jumps over the lazy dog because", 24)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGreedyTokensOfWhatWasQuantisedAreThoseOfLlamaCompletion(t *testing.T) {
	dir := t.TempDir()
	for _, source := range []gguf.Type{gguf.F32, gguf.F16} {
		shape := gguf.Shape{Layers: 4, Embedding: 256, Heads: 4, KVHeads: 2, FeedForward: 768, Context: 1024, Tied: source == gguf.F16, Type: source}
		from := generate(t, dir, source.String()+".gguf", shape)
		for name, to := range map[string]llama.Quantization{"q8_0": llama.Q8_0, "q4_k_m": llama.Q4KM, "q6_k": llama.Q6K, "q4_0": llama.Q4_0} {
			path := filepath.Join(dir, source.String()+"-"+name+".gguf")
			if err := llama.Quantize(from, path, to, 2); err != nil {
				t.Fatal(err)
			}
			compare(t, path, "the quick brown fox jumps ", 64)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
