package quantize

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/centram/centram/gguf"
)

// eightBillion is a file of the shape of Llama 3 8B that is all holes: only its header is ever read.
func eightBillion(t *testing.T) string {
	t.Helper()
	small := generate(t, gguf.Shape{Layers: 32, Embedding: 64, Heads: 2, KVHeads: 1, FeedForward: 96, Context: 8192, VocabSize: 128256})
	m, err := gguf.OpenModel(small)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	metadata := m.Parts[0].Metadata
	large := map[string]uint32{
		"qwen2.embedding_length": 4096, "qwen2.feed_forward_length": 14336, "qwen2.attention.head_count": 32, "qwen2.attention.head_count_kv": 8,
	}
	for i, kv := range metadata {
		if n, ok := large[kv.Key]; ok {
			metadata[i].Value = gguf.Of(n)
		}
	}
	var tensors []gguf.TensorData
	for _, x := range m.Tensors {
		typ, dims := gguf.F16, []uint64{}
		for _, d := range x.Dims {
			if n, ok := map[uint64]uint64{64: 4096, 96: 14336, 32: 1024}[d]; ok {
				d = n
			}
			dims = append(dims, d)
		}
		if len(dims) == 1 {
			typ = gguf.F32
		}
		tensors = append(tensors, gguf.TensorData{Name: x.Name, Type: typ, Dims: dims})
	}
	path := filepath.Join(t.TempDir(), "8b.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := gguf.Write(f, metadata, tensors); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheBitsOfTypesAreThoseOfAModelOfEightBillionParameters(t *testing.T) {
	m, err := gguf.OpenModel(eightBillion(t))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if n := float64(m.Summary.Parameters) / 1e9; n < 7.9 || n > 8.2 {
		t.Fatalf("got %.2f billion parameters", n)
	}
	for _, typ := range Types {
		p := Plan{Config: Config{Type: typ}, first: m.Path()}
		if err := p.measure(m); err != nil {
			t.Fatal(err)
		}
		if math.Abs(p.Bits-typ.Bits) > 0.06 {
			t.Errorf("%s: a weight has %.2f bits, and the table says %.1f", typ.Name, p.Bits, typ.Bits)
		}
	}
}
