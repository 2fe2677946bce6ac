package lora

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/llama"
	"github.com/centram/centram/lora/dp"
)

// tell makes Privacy say what is paid for.
func (r *run) tell(steps int, all dp.Curve) {
	now := *r.now.Privacy // events that were sent keep theirs
	now.Steps = steps
	now.Epsilon, _ = r.private.curve.Times(steps).Epsilon(now.Delta)
	now.Spent, _ = all.Epsilon(now.Delta)
	r.now.Privacy = &now
}

// errSpent says that there is no budget for another step.
var errSpent = errors.New("the privacy budget is spent")

// book pays for a step. Only when that is on the disk the step's documents are picked and its noise is drawn, so whatever
// happens, and whoever looks at whatever is left of the process, has seen nothing that was not paid for.
//
// A step is never made again with other noise for the same price: two such would have a mean with less noise than either.
// The state is saved after each step, before the next is booked. After a crash the steps are made again from there on, with
// fresh noise, and each of them is booked again as another step of the run. In the accountant's eyes the run then has a step
// more, whose outcome nobody may ever have seen, and its composition covers both releases, whether the mean is taken or not.
// It is paid for by ending the run a step earlier: with the noise as it is, the run's own epsilon allows so many steps in
// all. So the count can be too high by a step for each crash, and never too low. The other way, to keep what the
// noise is made of and to draw the same again, would have the secret lie on the disk.
//
// The run ends earlier, too, if another on the same documents has spent what they may reveal. It fails with errSpent then,
// or with Forbidden if there was no step yet.
func (r *run) book() error {
	p := r.private
	err := change(p.Ledger, func(l *ledger) error {
		paid, known := l.Runs[p.name]
		if !known {
			paid = booked{Set: p.set, Run: dp.Run{Q: p.step.Q, Sigma: p.step.Sigma}}
		}
		paid.Steps++
		all := l.spent(p.set, p.documents).Add(p.curve)
		run, _ := p.curve.Times(paid.Steps).Epsilon(p.Delta)
		if with, _ := all.Epsilon(p.Delta); run > p.Epsilon || with > p.allowed() {
			return errSpent
		}
		if _, err := l.Spent.Charge(dp.Account{Dataset: p.set}, p.step, dp.Budget{Epsilon: p.allowed(), Delta: p.Delta}); err != nil {
			return err
		}
		l.Runs[p.name], l.Documents[p.set] = paid, p.documents
		r.tell(paid.Steps, all)
		return nil
	})
	if errors.Is(err, errSpent) && r.now.Step == 0 {
		return centram.Errorf(centram.Forbidden, "another training has spent the privacy budget of these documents").
			WithHint("Allow a larger budget (--dp-budget), or use documents that were not trained on yet.")
	}
	return err
}

// privateStep pays for one step of the optimiser, and makes it.
func (r *run) privateStep(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := r.book(); err != nil {
		return err
	}
	picked, err := dp.Sample(r.private.random, len(r.private.blocks), r.private.step.Q)
	if err != nil {
		return err
	}
	if err := r.privateGradient(ctx, picked); err != nil {
		return err
	}
	// From here on everything follows from what was released. It is not clipped again: Adam takes any length.
	r.now.GradientNorm = r.trainer.GradNorm()
	r.now.Rate = r.cfg.rate(r.now.Step)
	if err := r.trainer.Step(llama.AdamW{LR: float32(r.now.Rate)}); err != nil {
		return fmt.Errorf("step %d: %w", r.now.Step+1, err)
	}
	r.now.Step++
	r.now.Losses = append(r.now.Losses, r.now.Loss)
	return nil
}

// privateGradient makes the trainer's gradient the noisy sum of these documents' clipped ones, divided by how many
// documents there are in a step on average: how many there were is secret.
func (r *run) privateGradient(ctx context.Context, picked []int) error {
	p, sum, n := r.private, 0.0, 0
	for _, i := range picked {
		nll, labels, err := r.documentGradient(ctx, i)
		if err != nil {
			return err
		}
		sum, n = sum+nll, n+labels
		if err := p.sum.Add(p.gradient); err != nil {
			return err
		}
	}
	if n > 0 {
		r.now.Loss = sum / float64(n)
	}
	if err := p.sum.Release(p.gradient); err != nil {
		return err
	}
	if err := r.trainer.PutGradient(p.gradient); err != nil {
		return err
	}
	r.trainer.Scale(1 / float32(r.cfg.Blocks))
	return nil
}

// documentGradient computes the gradient of the mean loss of one document, all of its blocks together.
func (r *run) documentGradient(ctx context.Context, i int) (nll float64, labels int, err error) {
	r.trainer.Zero()
	for _, b := range r.private.blocks[i] {
		losses, err := r.trainer.Backward(ctx, block(b))
		if err != nil {
			return 0, 0, err
		}
		nll, labels = nll+total(losses), labels+b.Supervised()
		r.rows += len(b.Tokens)
	}
	r.trainer.Scale(1 / float32(max(labels, 1)))
	return nll, labels, r.trainer.CopyGradient(r.private.gradient)
}

// noiseSeconds is about how long the noise of a step takes.
func (p *private) noiseSeconds() (float64, error) {
	const size = 4096
	a, err := dp.NewAccumulator(dp.AccumulatorConfig{Size: size, Clip: p.Clip, Sigma: p.step.Sigma})
	if err != nil {
		return 0, err
	}
	began := time.Now()
	err = a.Release(make([]float32, size))
	return time.Since(began).Seconds() * float64(len(p.gradient)) / size, err
}
