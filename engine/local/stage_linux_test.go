package local

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/gguf"
)

// Between two batches a stage takes no processor time: it may be one of several on a machine, or one that runs on a battery.
func TestAStagesThreadsSleepBetweenBatches(t *testing.T) {
	dir := t.TempDir()
	toy := gguf.Toy()
	toy.Type = gguf.F32
	g, err := gguf.OpenModel(generate(t, dir, "toy.gguf", toy))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	path := filepath.Join(dir, "slice.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := gguf.Slice(f, g, gguf.Share{Layers: centram.LayerRange{End: 2}}); err != nil {
		t.Fatal(err)
	}
	s, err := OpenStage(t.Context(), path, Config{Context: 512, Sequences: 1, Threads: 2, GPULayers: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	least := time.Hour
	for pos := range 5 {
		b := engine.StageBatch{Rows: []engine.Row{{Pos: pos}}, Hidden: make([]float32, s.Info().Width)}
		if _, err := s.Run(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		before := processorTime(t)
		time.Sleep(40 * time.Millisecond)
		least = min(least, processorTime(t)-before)
	}
	if least > 10*time.Millisecond {
		t.Errorf("in 40 ms without work it took %v of processor time", least)
	}
}

func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
