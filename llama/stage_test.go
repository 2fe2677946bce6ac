package llama

import (
	"context"
	"errors"
	"fmt"
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
		out = append(out, share(t, whole, cfg, gguf.Share{Layers: centram.LayerRange{First: first, End: end}}))
		first = end
	}
	return out
}

// share opens a part of a model.
func share(t testing.TB, whole *gguf.Model, cfg ContextConfig, s gguf.Share) *Context {
	t.Helper()
	path := filepath.Join(t.TempDir(), "slice.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := gguf.Slice(f, whole, s); err != nil {
		t.Fatal(err)
	}
	f.Close()
	m, err := LoadModel(context.Background(), []string{path}, ModelConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	cfg.Stage = true
	return newContext(t, m, cfg)
}

// opened is a model's file, and the model.
func opened(t testing.TB, path string) (*gguf.Model, *Model) {
	t.Helper()
	g, err := gguf.OpenModel(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	whole, err := LoadModel(context.Background(), []string{path}, ModelConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { whole.Close() })
	return g, whole
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

// anyBatch goes on with any of the sequences, in any order, each with any number of rows: llama.cpp computes them in an order of
// its own. The last row of each wants logits, and so many of the others.
func anyBatch(random *rand.Rand, length []int, others float64) (b Batch) {
	for _, seq := range random.Perm(len(length))[:1+random.IntN(len(length))] {
		n := 1 + random.IntN(12)
		for i := range n {
			b.Add(Token(random.IntN(256)), length[seq], seq, i == n-1 || random.Float64() < others)
			length[seq]++
		}
	}
	return b
}

func TestStagesComputeToTheBitWhatTheWholeDoes(t *testing.T) {
	g, whole := opened(t, toyPath(t))
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
			b := anyBatch(rng, length[:], 0)
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

// TestTheOutputMatrixInTwoPartsGivesTheLogitsToTheBit has the last stage end before the output matrix, of which it has some
// rows, and another context of another file the others.
func TestTheOutputMatrixInTwoPartsGivesTheLogitsToTheBit(t *testing.T) {
	for _, c := range []struct {
		typ  gguf.Type
		tied bool
	}{{gguf.F32, true}, {gguf.F32, false}, {gguf.BF16, true}, {gguf.Q8_0, true}, {gguf.Q8_0, false}} {
		t.Run(fmt.Sprintf("%v tied %t", c.typ, c.tied), func(t *testing.T) {
			shape := gguf.Toy()
			shape.Type, shape.Tied, shape.VocabSize = c.typ, c.tied, 5*gguf.TokenStep
			g, whole := opened(t, generated(t, shape))
			const sequences = 5
			cfg := ContextConfig{Size: 256, Sequences: sequences, Batch: 64, MicroBatch: 16, Threads: 1}
			layers, vocab := g.Summary.Layers, g.Summary.VocabSize
			solo, first := newContext(t, whole, cfg), share(t, g, cfg, gguf.Share{Layers: centram.LayerRange{End: 2}})
			for _, cut := range []int{gguf.TokenStep, 2 * gguf.TokenStep, 4 * gguf.TokenStep} {
				tail := share(t, g, cfg, gguf.Share{Layers: centram.LayerRange{First: 2, End: layers}, Tokens: gguf.TokenRange{End: cut}})
				other := share(t, g, cfg, gguf.Share{Layers: centram.LayerRange{First: layers - 1, End: layers}, Tokens: gguf.TokenRange{First: cut, End: vocab}})
				random := rand.New(rand.NewPCG(1, 2))
				if err := errors.Join(solo.Trim(-1, 0, -1), first.Trim(-1, 0, -1)); err != nil {
					t.Fatal(err)
				}
				var length [sequences]int
				for step := range 12 {
					b := anyBatch(random, length[:], 0.3)
					if err := solo.Decode(&b); err != nil {
						t.Fatal(err)
					}
					b.Yield = Normed
					runStages(t, g, []*Context{first, tail}, b)
					normed := slices.Clone(tail.Hidden())
					low, err := tail.Unembed(&b, normed)
					if err != nil {
						t.Fatal(err)
					}
					high, err := other.Unembed(&b, normed)
					if err != nil {
						t.Fatal(err)
					}
					at := 0
					for i, wanted := range b.Logits {
						if wanted == 0 {
							continue
						}
						want, err := solo.Logits(i)
						if err != nil {
							t.Fatal(err)
						}
						got := slices.Concat(low[at*cut:(at+1)*cut], high[at*(vocab-cut):(at+1)*(vocab-cut)])
						if !slices.Equal(got, want) {
							t.Fatalf("cut at token %d, step %d, row %d of sequence %d: got logits %v..., want %v...", cut, step, i, b.Seqs[i], got[:3], want[:3])
						}
						at++
					}
				}
			}
		})
	}
}

func TestUnembedRefusesWhatItCannotDo(t *testing.T) {
	path := toyPath(t)
	g, err := gguf.OpenModel(path)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	width := g.Summary.Embedding
	cfg := ContextConfig{Size: 64, Sequences: 2, Batch: 16, Threads: 1}
	stage := stages(t, g, cfg)[0]
	var two Batch
	two.Place(0, 0, true)
	two.Place(0, 1, true)
	for name, normed := range map[string][]float32{"nothing": nil, "a row too few": make([]float32, width), "part of a row": make([]float32, 2*width-1)} {
		if _, err := stage.Unembed(&two, normed); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := stage.Unembed(&Batch{}, nil); err == nil {
		t.Error("an empty batch: no error")
	}
	if _, err := stage.Unembed(&two, make([]float32, 2*width)); err != nil {
		t.Errorf("two rows: %v", err)
	}
	stage.Close()
	if _, err := stage.Unembed(&two, make([]float32, 2*width)); err != ErrClosed {
		t.Errorf("after Close: got %v, want %v", err, ErrClosed)
	}
}
