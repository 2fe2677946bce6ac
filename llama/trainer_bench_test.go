package llama

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/centram/centram/gguf"
)

// BenchmarkTraining is a step's gradient, of a block of 512 rows with a label each, for pairs of rank 8 of all matrices.
// MODEL names the file; without it, it is the random model in the shape of Qwen 2.5 0.5B that build/bench makes.
func BenchmarkTraining(b *testing.B) {
	path := os.Getenv("MODEL")
	if path == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			b.Skip(err)
		}
		path = filepath.Join(cache, "centram", "bench", "qwen2-0.5b-shape-q8_0.gguf")
	}
	if _, err := os.Stat(path); err != nil {
		b.Skip("no model to measure with; build/bench makes one")
	}
	measure(b, path, TrainerConfig{Rank: 8, Targets: Targets(), Threads: 2})
}

// BenchmarkTrainingOfAll is the same of all tensors of the toy model.
func BenchmarkTrainingOfAll(b *testing.B) {
	measure(b, modelPath(b, gguf.Toy()), TrainerConfig{Full: true, Threads: 2})
}

func measure(b *testing.B, path string, cfg TrainerConfig) {
	tr := trainer(b, path, cfg)
	need, err := tr.MemoryNeeded()
	if err != nil {
		b.Fatal(err)
	}
	var block Block
	block.Add(document(1, 512, every(1000)))
	for b.Loop() {
		if _, err := tr.Backward(b.Context(), block); err != nil {
			b.Fatal(err)
		}
		if err := tr.Step(AdamW{LR: 1e-4}); err != nil {
			b.Fatal(err)
		}
		tr.Zero()
	}
	b.ReportMetric(512*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
	b.ReportMetric(float64(need)/(1<<20), "MiB-estimated")
	b.ReportMetric(peak(b), "MiB-peak")
}

// peak is the most memory that the process had, in MiB; 0 where the system does not tell.
func peak(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			var kib float64
			for _, c := range strings.TrimSpace(rest) {
				if c < '0' || c > '9' {
					break
				}
				kib = 10*kib + float64(c-'0')
			}
			return kib / 1024
		}
	}
	return 0
}
