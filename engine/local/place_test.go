package local

import (
	"testing"

	"github.com/centram/centram/gguf"
)

func TestAsManyLayersGoToTheGPUAsFit(t *testing.T) {
	n := need{layers: []uint64{10, 10, 10, 20}, output: 30, scratch: 5}
	for free, want := range map[uint64]int{0: 0, 34: 0, 35: 1, 54: 1, 55: 2, 64: 2, 65: 3, 75: 4, 84: 4, 85: 5, 1 << 40: 5} {
		if got := n.fit(free); got != want {
			t.Errorf("into %d bytes: got %d, want %d", free, got, want)
		}
	}
}

// What a model is reckoned to take on a GPU is its weights, but for the table of tokens unless that is the output too, the whole
// cache, and something to compute with.
func TestWhatTheLayersTakeIsTheModel(t *testing.T) {
	for _, tied := range []bool{true, false} {
		shape := gguf.Toy()
		shape.Tied = tied
		path := generate(t, t.TempDir(), "model.gguf", shape)
		s, _, err := open(path)
		if err != nil {
			t.Fatal(err)
		}
		cfg := Config{}.withDefaults(s)
		n, err := cfg.needs(path, s)
		if err != nil {
			t.Fatal(err)
		}
		m, err := gguf.OpenModel(path)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		weights, table := uint64(0), uint64(0)
		for _, tensor := range m.Tensors {
			if weights += uint64(tensor.Size); tensor.Name == "token_embd.weight" {
				table = uint64(tensor.Size)
			}
		}
		if tied {
			table = 0
		}
		want := weights - table + uint64(s.KVBytesPerToken)*uint64(cfg.Context*cfg.Sequences)
		got := n.output
		for _, l := range n.layers {
			got += l
		}
		if got != want || n.scratch == 0 {
			t.Errorf("tied %v: got %d bytes and %d to compute with, want %d", tied, got, n.scratch, want)
		}
	}
}
