package lora

import (
	"context"
	"time"
)

// backOverForward is how many times as long Backward takes as Forward: up, up again on the way down, and the way down.
const backOverForward = 3

// costs are what a row takes, in seconds.
type costs struct{ back, forward float64 }

// estimate says about how long the run will take. It measures the gradient of a block, which is thrown away, before the
// first look at what is held out, since for a large model that takes minutes by itself.
func (r *run) estimate(ctx context.Context) error {
	defer r.trainer.Zero()
	// The first time the file may have to be read from the disk, so it does not count if there is time for others.
	seconds, rows := 0.0, 0
	for began, i := time.Now(), 0; i == 0 || i < 8 && time.Since(began) < time.Second; i++ {
		b, now := block(r.train[i%len(r.train)]), time.Now()
		if _, err := r.trainer.Backward(ctx, b); err != nil {
			return err
		}
		if i == 1 {
			seconds, rows = 0, 0
		}
		seconds, rows = seconds+time.Since(now).Seconds(), rows+len(b.Tokens)
	}
	r.costs.back = seconds / float64(rows)
	r.costs.forward = r.costs.back / backOverForward
	rows = 0
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

// lookSeconds is how long a look at what is held out takes.
func (r *run) lookSeconds() float64 {
	rows := 0
	for _, b := range r.held {
		rows += len(b.Tokens)
	}
	return float64(rows) * r.costs.forward
}
