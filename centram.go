// Package centram holds the words that the other packages share. It imports the standard library only, and nothing of
// ours, so every package may import it.
package centram

// LayerRange is the half-open range [First, End) of a model's transformer blocks.
type LayerRange struct {
	First int `json:"first"`
	End   int `json:"end"`
}

// Len is the number of layers in r.
func (r LayerRange) Len() int { return r.End - r.First }
