package lora

import (
	"context"
	"time"

	"github.com/centram/centram/llama"
	"github.com/centram/centram/lora/dataset"
)

// costs are what a row takes, in seconds.
type costs struct{ back, forward float64 }

// estimate says about how long the run will take. It measures the gradient of a block, which is thrown away, and a loss,
// before the first look at what is held out, since for a large model that takes minutes by itself.
func (r *run) estimate(ctx context.Context) (err error) {
	defer r.trainer.Zero()
	if r.costs.back, err = measure(ctx, r.train, r.trainer.Backward); err != nil {
		return err
	}
	if r.costs.forward, err = measure(ctx, r.held, r.trainer.Forward); err != nil {
		return err
	}
	rows := 0
	for _, b := range r.train {
		rows += len(b.Tokens)
	}
	step := float64(r.cfg.Blocks) * float64(rows) / float64(len(r.train)) * r.costs.back
	if r.private != nil { // of which a step has documents
		step *= float64(len(r.train)) / float64(len(r.private.blocks))
		noise, err := r.private.noiseSeconds()
		if err != nil {
			return err
		}
		step += noise
	}
	r.now.SecondsEstimated = step*float64(r.cfg.Steps-r.now.Step) + r.lookSeconds()
	if !r.now.Resumed {
		r.now.SecondsEstimated += r.lookSeconds()
	}
	r.now.SecondsLeft = r.now.SecondsEstimated
	return nil
}

// measure says how long a row takes. The first time the file may have to be read from the disk, so it does not count if
// there is time for others.
func measure(ctx context.Context, blocks []dataset.Block, compute func(context.Context, llama.Block) ([]float32, error)) (float64, error) {
	seconds, rows := 0.0, 0
	for began, i := time.Now(), 0; i == 0 || i < 8 && time.Since(began) < time.Second; i++ {
		b, now := block(blocks[i%len(blocks)]), time.Now()
		if _, err := compute(ctx, b); err != nil {
			return 0, err
		}
		if i == 1 {
			seconds, rows = 0, 0
		}
		seconds, rows = seconds+time.Since(now).Seconds(), rows+len(b.Tokens)
	}
	return seconds / float64(rows), nil
}

// lookSeconds is how long a look at what is held out takes.
func (r *run) lookSeconds() float64 {
	rows := 0
	for _, b := range r.held {
		rows += len(b.Tokens)
	}
	return float64(rows) * r.costs.forward
}
