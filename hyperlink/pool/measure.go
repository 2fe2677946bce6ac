package pool

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/gguf"
)

// rates are how fast this machine computes, as measured.
type rates struct {
	read float64 // bytes of weights a second, at one token a step
	mul  float64 // multiply-adds a second, in a batch
}

// trial is the model that a machine is measured with: layers of the 0.5B shape, and enough of them not to fit into a cache.
func trial() gguf.Shape {
	s := gguf.Qwen05B()
	s.Name, s.Layers, s.Type, s.VocabSize = "trial", 5, gguf.Q8_0, 0
	return s
}

const (
	trialRows  = 128
	trialSteps = 8
)

// measure computes layers of random weights, one token at a time and many at once. It takes a second or two.
func (p *Pool) measure(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "centram-trial")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "trial.gguf")
	if err := makeTrial(path); err != nil {
		return err
	}
	stage, err := p.cfg.OpenStage(ctx, path, 1024, 1, trialRows)
	if err != nil {
		return err
	}
	defer stage.Close()
	g, err := gguf.OpenModel(path)
	if err != nil {
		return err
	}
	defer g.Close()
	one, err := timeStage(ctx, stage, 1)
	if err != nil {
		return err
	}
	many, err := timeStage(ctx, stage, trialRows)
	if err != nil {
		return err
	}
	var bytes, mul float64
	for _, t := range g.Tensors {
		if layerOf(t.Name) >= 0 && len(t.Dims) > 1 {
			bytes, mul = bytes+float64(t.Size), mul+float64(t.Elements())
		}
	}
	r := rates{read: bytes / one.Seconds(), mul: trialRows * mul / many.Seconds()}
	p.log.InfoContext(ctx, "This machine was measured", "weights", int64(r.read)>>20, "unit", "MiB/s", "multiply-adds", int64(r.mul/1e9), "per", "ns")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rates = r
	return nil
}

// makeTrial writes all layers but the last of the trial model, which is a slice without an output matrix.
func makeTrial(path string) error {
	whole := path + ".whole"
	defer os.Remove(whole)
	f, err := os.Create(whole)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := gguf.Generate(f, trial(), 1); err != nil {
		return err
	}
	m, err := gguf.OpenModel(whole)
	if err != nil {
		return err
	}
	defer m.Close()
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	return gguf.Slice(out, m, gguf.Share{Layers: centram.LayerRange{End: trial().Layers - 1}})
}

// timeStage is the least time that a batch of so many rows takes.
func timeStage(ctx context.Context, stage engine.Stage, rows int) (time.Duration, error) {
	b := engine.StageBatch{Hidden: make([]float32, rows*stage.Info().Width)}
	for i := range rows {
		b.Rows = append(b.Rows, engine.Row{Pos: i})
	}
	for i := range b.Hidden {
		b.Hidden[i] = float32(i%7) / 7
	}
	least := time.Duration(0)
	for range trialSteps {
		if err := stage.Trim(0, 0); err != nil {
			return 0, err
		}
		began := time.Now()
		if _, err := stage.Run(ctx, b); err != nil {
			return 0, err
		}
		if took := time.Since(began); least == 0 || took < least {
			least = took
		}
	}
	return least, nil
}
