package llama

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/centram/centram/gguf"
)

// Whether a guess is checked alone or beside others, and whatever chats there are beside one: its logits are the same.
func TestARowOfAQuantisedModelIsTheSameWhateverRowsAreBesideIt(t *testing.T) {
	narrow := gguf.Shape{Layers: 2, Embedding: 128, Heads: 4, KVHeads: 2, FeedForward: 384, Context: 256, Tied: true, Type: gguf.F16}
	large := narrow
	large.Embedding, large.FeedForward = 256, 512
	few, many := 7, 63 // from 64 on llama.cpp has another attention
	for _, c := range []struct {
		name  string
		shape gguf.Shape
		to    Quantization
		rows  int
		own   bool // needs kernels of our own
	}{
		{"Q8_0", narrow, Q8_0, few, false},
		{"Q8_0", narrow, Q8_0, many, true},
		{"Q4_0", narrow, Q4_0, few, false},
		{"Q4_K_M of narrow rows, which are in Q5_0 and Q8_0", narrow, Q4KM, few, false},
		{"Q4_K_M of narrow rows", narrow, Q4KM, many, true},
		{"Q4_K_M, which is Q4_K and Q6_K", large, Q4KM, many, true},
		{"Q6_K", large, Q6K, few, false},
		{"Q6_K", large, Q6K, many, true},
	} {
		t.Run(fmt.Sprintf("%s/%d rows", c.name, c.rows), func(t *testing.T) {
			if c.own && !OwnKernels() {
				t.Skip("this processor has no kernels of ours")
			}
			whole, path := filepath.Join(t.TempDir(), "f16.gguf"), filepath.Join(t.TempDir(), "quantised.gguf")
			f, err := os.Create(whole)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(gguf.Generate(f, c.shape, 1), f.Close()); err != nil {
				t.Fatal(err)
			}
			if err := Quantize(whole, path, c.to, 1); err != nil {
				t.Fatal(err)
			}
			m, err := LoadModel(t.Context(), []string{path}, ModelConfig{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { m.Close() })
			rowsAreAsAlone(t, newContext(t, m, ContextConfig{Size: 256, Sequences: 4, Threads: 1, Batch: c.rows}), c.rows)
		})
	}
}

// rowsAreAsAlone decodes a text row by row, and then in batches of up to so many.
func rowsAreAsAlone(t *testing.T, c *Context, rows int) {
	t.Helper()
	alone := make([][]float32, rows)
	for i := range alone {
		alone[i] = logitsAfter(t, c, string(rune('a'+i%26)), i, 0)
	}
	for n := 2; n <= rows; n++ {
		if err := c.Trim(0, 0, -1); err != nil {
			t.Fatal(err)
		}
		var b Batch
		for i := range n {
			b.Add(Token('a'+i%26), i, 0, true)
		}
		if err := c.Decode(&b); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if got, err := c.Logits(i); err != nil || !slices.Equal(got, alone[i]) {
				t.Fatalf("row %d of %d is %v..., %v; alone it is %v...", i, n, got[:3], err, alone[i][:3])
			}
		}
	}
}
