package gguf

import (
	"fmt"
	"io"
	"math/rand/v2"
)

// GenerateAdapter writes a LoRA adapter of rank 4 for the model that Generate makes of the shape: random, the same for the
// same seed, and large enough that the model says something else with it.
func GenerateAdapter(w io.Writer, s Shape, seed uint64) error {
	s, err := s.orDefaults()
	if err != nil {
		return err
	}
	const rank = 4
	random := rand.New(rand.NewPCG(seed, 1))
	fill := func(n uint64) func(io.Writer) error {
		values := make([]float32, n)
		for i := range values {
			values[i] = (random.Float32() - 0.5) / 2
		}
		return Floats(values)
	}
	var tensors []TensorData
	for _, e := range architectures["qwen2"].tensors(s.summary()) {
		if name, _, _ := splitLayer(e.Name); name != "attn_q.weight" && name != "attn_v.weight" && name != "ffn_down.weight" {
			continue
		}
		in, out := e.Dims[0], e.Dims[1]
		tensors = append(tensors,
			TensorData{Name: e.Name + halfA, Type: F32, Dims: []uint64{in, rank}, Write: fill(in * rank)},
			TensorData{Name: e.Name + halfB, Type: F32, Dims: []uint64{rank, out}, Write: fill(rank * out)})
	}
	return WriteAdapter(w, "qwen2", fmt.Sprintf("random %d", seed), rank, tensors)
}
