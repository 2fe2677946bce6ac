package local

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama"
)

// spare is the memory of a GPU that stays free beside what a model is reckoned to take: the driver and the desktop want some, and
// what is computed on the way is not known to the byte before.
const spare = 512 << 20

// placed is how many layers are put on the GPUs, counted from the last, with the output matrix as one more: as many as fit, with
// their part of the cache, into what is free of their memory now.
func (cfg Config) placed(path string, s gguf.Summary) (int, error) {
	var free uint64
	var names []string
	for _, d := range llama.Devices() {
		if d.Kind == llama.GPU || d.Kind == llama.IntegratedGPU {
			free += d.Free - min(d.Free, spare)
			names = append(names, d.Description)
		}
	}
	need, err := cfg.needs(path, s)
	if err != nil {
		return 0, err
	}
	n := need.fit(free)
	if n <= s.Layers {
		slog.Info("The model does not fit into the memory of the GPU as a whole", "layers", n, "of", s.Layers+1, "gpu", strings.Join(names, ", "), "free_mib", free>>20)
	}
	return n, nil
}

// need is what the parts of a model take, in bytes.
type need struct {
	layers  []uint64 // each with its part of the cache
	output  uint64
	scratch uint64 // for what is computed on the way, if anything is on the GPU
}

// needs reckons what the parts of a model take.
func (cfg Config) needs(path string, s gguf.Summary) (need, error) {
	m, err := gguf.OpenModel(path)
	if err != nil {
		return need{}, err
	}
	defer m.Close()
	n := need{layers: make([]uint64, s.Layers)}
	for _, t := range m.Tensors {
		var layer int
		switch _, err := fmt.Sscanf(t.Name, "blk.%d.", &layer); {
		case err == nil && layer >= 0 && layer < s.Layers:
			n.layers[layer] += uint64(t.Size)
		case strings.HasPrefix(t.Name, "output"), s.Tied && strings.HasPrefix(t.Name, "token_embd"):
			n.output += uint64(t.Size)
		}
	}
	if s.Layers > 0 {
		cache := uint64(s.KVBytesPerToken) * uint64(cfg.Context*cfg.Sequences) / uint64(s.Layers)
		for i := range n.layers {
			n.layers[i] += cache
		}
	}
	rows := uint64(512) // of a micro batch
	if cfg.MicroBatch > 0 {
		rows = uint64(cfg.MicroBatch)
	}
	n.scratch = 4 * rows * uint64(s.VocabSize+3*s.FeedForward+8*s.Embedding)
	return n, nil
}

// fit is how many layers, counted from the last, and the output matrix before them, fit into so many bytes.
func (n need) fit(free uint64) int {
	used := n.scratch + n.output
	if used > free {
		return 0
	}
	fitting := 1
	for i := len(n.layers) - 1; i >= 0; i-- {
		if used += n.layers[i]; used > free {
			break
		}
		fitting++
	}
	return fitting
}
