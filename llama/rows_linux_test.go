package llama

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
			m := quantised(t, c.shape, c.to)
			rowsAreAsAlone(t, newContext(t, m, ContextConfig{Size: 256, Sequences: 4, Threads: 1, Batch: c.rows}), c.rows)
		})
	}
}

// quantised makes a model and loads it.
func quantised(t *testing.T, shape gguf.Shape, to Quantization) *Model {
	t.Helper()
	whole, path := filepath.Join(t.TempDir(), "f16.gguf"), filepath.Join(t.TempDir(), "quantised.gguf")
	f, err := os.Create(whole)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(gguf.Generate(f, shape, 1), f.Close()); err != nil {
		t.Fatal(err)
	}
	if err := Quantize(whole, path, to, 1); err != nil {
		t.Fatal(err)
	}
	m, err := LoadModel(t.Context(), []string{path}, ModelConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// Far into a text, too, and with any number of threads: one row alone has 512 tokens and more before it.
func TestARowFarIntoATextIsTheSameAloneAndBesideAnother(t *testing.T) {
	m := quantised(t, gguf.Shape{Layers: 2, Embedding: 128, Heads: 4, KVHeads: 2, FeedForward: 384, Context: 1024, Tied: true, Type: gguf.F16}, Q8_0)
	text := strings.Repeat("what was before ", 40)
	var first []float32
	for _, threads := range []int{1, 2, 3} {
		c := newContext(t, m, ContextConfig{Size: 1024, Sequences: 2, Threads: threads, Batch: 1024})
		logitsAfter(t, c, text, 0, 0)
		alone := logitsAfter(t, c, "a", len(text), 0)
		if err := c.Trim(0, len(text), -1); err != nil {
			t.Fatal(err)
		}
		var b Batch
		b.Add('a', len(text), 0, true)
		b.Add('b', len(text)+1, 0, true)
		if err := c.Decode(&b); err != nil {
			t.Fatal(err)
		}
		beside, err := c.Logits(0)
		if err != nil || !slices.Equal(beside, alone) {
			t.Errorf("%d threads: beside another row it is %v..., %v; alone it is %v...", threads, beside[:3], err, alone[:3])
		}
		if first == nil {
			first = alone
		}
		if !slices.Equal(alone, first) {
			t.Errorf("with %d threads it is %v..., with one %v...", threads, alone[:3], first[:3])
		}
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
