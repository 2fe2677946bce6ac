package llama

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
)

// stages cuts a model at the layers given and opens the parts, each with a context like cfg.
func stages(t testing.TB, whole *gguf.Model, cfg ContextConfig, cuts ...int) []*Context {
	t.Helper()
	var out []*Context
	first := 0
	for _, end := range append(cuts, whole.Summary.Layers) {
		path := filepath.Join(t.TempDir(), "slice.gguf")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := gguf.Slice(f, whole, centram.LayerRange{First: first, End: end}); err != nil {
			t.Fatal(err)
		}
		f.Close()
		m, err := LoadModel(context.Background(), []string{path}, ModelConfig{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		cfg.Stage = true
		out = append(out, newContext(t, m, cfg))
		first = end
	}
	return out
}

// embeddings looks up the rows that a batch's tokens begin as.
func embeddings(t testing.TB, m *gguf.Model, tokens []Token) []float32 {
	t.Helper()
	table, _ := m.Tensor("token_embd.weight")
	width := m.Summary.Embedding
	size := table.Size / int64(m.Summary.VocabSize)
	out := make([]float32, len(tokens)*width)
	raw := make([]byte, size)
	for i, tok := range tokens {
		if _, err := m.Data(table).ReadAt(raw, int64(tok)*size); err != nil {
			t.Fatal(err)
		}
		if err := Dequantize(uint32(table.Type), raw, out[i*width:(i+1)*width]); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// runStages runs a batch of tokens through all stages.
func runStages(t testing.TB, m *gguf.Model, chain []*Context, b Batch) {
	t.Helper()
	hidden := embeddings(t, m, b.Tokens)
	for i, c := range chain {
		part := Batch{Hidden: hidden, Positions: b.Positions, Seqs: b.Seqs, Logits: b.Logits, Yield: Hidden}
		if i == len(chain)-1 {
			part.Yield = b.Yield
		}
		if err := c.Decode(&part); err != nil {
			t.Fatal(err)
		}
		hidden = slices.Clone(c.Hidden())
	}
}

func TestStagesComputeToTheBitWhatTheWholeDoes(t *testing.T) {
	path := toyPath(t)
	g, err := gguf.OpenModel(path)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	whole, err := LoadModel(context.Background(), []string{path}, ModelConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { whole.Close() })
	const sequences = 5
	cfg := ContextConfig{Size: 256, Sequences: sequences, Batch: 64, MicroBatch: 16, Threads: 1}
	solo := newContext(t, whole, cfg)
	for _, cuts := range [][]int{{}, {1}, {2}, {1, 2, 3}} {
		chain := stages(t, g, cfg, cuts...)
		rng := rand.New(rand.NewPCG(1, 2))
		if err := solo.Trim(-1, 0, -1); err != nil {
			t.Fatal(err)
		}
		var length [sequences]int
		for step := range 12 {
			// Any sequences in any order, each with any number of rows: llama.cpp computes them in an order of its own.
			var b Batch
			for _, seq := range rng.Perm(sequences)[:1+rng.IntN(sequences)] {
				n := 1 + rng.IntN(12)
				for i := range n {
					b.Add(Token(rng.IntN(256)), length[seq], seq, i == n-1)
					length[seq]++
				}
			}
			if err := solo.Decode(&b); err != nil {
				t.Fatal(err)
			}
			runStages(t, g, chain, b)
			for i, wanted := range b.Logits {
				if wanted == 0 {
					continue
				}
				want, err := solo.Logits(i)
				if err != nil {
					t.Fatal(err)
				}
				got, err := chain[len(chain)-1].Logits(i)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, want) {
					t.Fatalf("cut at %v, step %d, row %d of sequence %d: got logits %v..., want %v...", cuts, step, i, b.Seqs[i], got[:3], want[:3])
				}
			}
		}
	}
}
