package llama

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/centram/centram/gguf"
)

// Whether a guess is checked alone or beside others, and whatever chats there are beside one: its logits are the same.
func TestARowOfAQuantisedModelIsTheSameWhateverFewRowsAreBesideIt(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "f16.gguf")
	f, err := os.Create(whole)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	shape := gguf.Shape{Layers: 2, Embedding: 128, Heads: 4, KVHeads: 2, FeedForward: 384, Context: 256, Tied: true, Type: gguf.F16}
	if err := gguf.Generate(f, shape, 1); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]Quantization{"Q8_0": Q8_0, "Q4_0": Q4_0, "Q4_K_M, of which Q5_0 is a part": Q4KM} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "quantised.gguf")
			if err := Quantize(whole, path, to, 1); err != nil {
				t.Fatal(err)
			}
			m, err := LoadModel(t.Context(), []string{path}, ModelConfig{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { m.Close() })
			c := newContext(t, m, ContextConfig{Size: 64, Sequences: 7, Threads: 1})
			var alone [7][]float32
			for i := range alone {
				alone[i] = logitsAfter(t, c, string(rune('a'+i)), 0, i)
			}
			for n := 2; n <= len(alone); n++ {
				var b Batch
				for i := range n {
					if err := c.Trim(i, 0, -1); err != nil {
						t.Fatal(err)
					}
					b.Add(Token('a'+i), 0, i, true)
				}
				if err := c.Decode(&b); err != nil {
					t.Fatal(err)
				}
				for i := range n {
					if got, err := c.Logits(i); err != nil || !slices.Equal(got, alone[i]) {
						t.Errorf("row %d of %d is %v..., %v; alone it is %v...", i, n, got[:3], err, alone[i][:3])
					}
				}
			}
		})
	}
}
