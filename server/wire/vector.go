package wire

import (
	"math"
)

// Shorten cuts each vector to its first dimensions and brings it back to length 1. Zero dimensions means all. Models that
// were trained for it lose little; no other way to shorten is known to a client.
func Shorten(vectors [][]float32, dimensions int) ([][]float32, error) {
	if dimensions == 0 {
		return vectors, nil
	}
	out := make([][]float32, len(vectors))
	for i, v := range vectors {
		if dimensions > len(v) {
			return nil, Invalid("dimensions", "\"dimensions\" is %d, but this model's embeddings have %d.", dimensions, len(v))
		}
		out[i] = unit(v[:dimensions])
	}
	return out, nil
}

func unit(v []float32) []float32 {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	out := make([]float32, len(v))
	if sum == 0 {
		return out
	}
	scale := 1 / math.Sqrt(sum)
	for i, x := range v {
		out[i] = float32(float64(x) * scale)
	}
	return out
}
