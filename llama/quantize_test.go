package llama

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/centram/centram/gguf"
)

// wide is a model that every type fits.
func wide(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wide.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := gguf.Generate(f, gguf.Shape{Layers: 2, Embedding: 256, Heads: 4, FeedForward: 512, Context: 64, Type: gguf.F16}, 1); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHowMuchIsInMemoryAndHowManyThreadsDoesNotChangeWhatIsQuantised(t *testing.T) {
	in, dir := wide(t), t.TempDir()
	read := func(q Quantizer) []byte {
		out := filepath.Join(dir, "out.gguf")
		if err := q.Run(in, out); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, to := range []Quantization{Q4KM, Q8_0, Q2K, BF16} {
		want := read(Quantizer{To: to})
		for _, q := range []Quantizer{{Buffer: 1}, {Buffer: 100_000}, {Buffer: 64 << 20, Threads: 1}, {Buffer: 30_000, Threads: 5}} {
			q.To = to
			if got := read(q); !bytes.Equal(got, want) {
				t.Errorf("%+v: got %d bytes that differ from the %d with all in memory", q, len(got), len(want))
			}
		}
	}
}

func TestAPlanNamesTheTypesThatTheFileThenHas(t *testing.T) {
	in, out := wide(t), filepath.Join(t.TempDir(), "out.gguf")
	var steps []QuantizeStep
	q := Quantizer{To: Q4KM, Began: func(s QuantizeStep) { steps = append(steps, s) }}
	plan, err := q.Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(out); err == nil || len(steps) != 0 {
		t.Errorf("planning has written something, or told of %v", steps)
	}
	if err := q.Run(in, out); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if len(plan.Types) != len(f.Tensors) || len(steps) != len(f.Tensors) {
		t.Errorf("got %d types and %d steps of %d tensors", len(plan.Types), len(steps), len(f.Tensors))
	}
	for _, x := range f.Tensors {
		want := map[gguf.Type]string{gguf.F32: "f32", gguf.F16: "f16", gguf.Q8_0: "q8_0", 12: "q4_K", 14: "q6_K"}[x.Type]
		if got := plan.Types[x.Name]; got != want || want == "" {
			t.Errorf("%s was planned as %q and is %v", x.Name, got, x.Type)
		}
	}
	for i, s := range steps {
		if s.Number != i+1 || s.Of != len(f.Tensors) || plan.Types[s.Name] == "" {
			t.Errorf("step %d is %+v", i, s)
		}
	}
}
