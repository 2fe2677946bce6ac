package lora

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/llama"
	"github.com/centram/centram/lora/dataset"
)

// run is one training under way.
type run struct {
	cfg     Config
	base    base
	trainer *llama.Trainer
	train   []dataset.Block
	held    []dataset.Block
	order   []int // of the blocks, in an epoch
	epoch   int
	id      [32]byte // of what makes the outcome what it is
	on      func(Event)
	private *private // nil if it is not

	now   Outcome
	saved time.Time
	kept  int // the step that is saved
	began time.Time
	rows  int // trained on since it began
	costs costs
}

// Run trains an adapter and writes it. It calls on, if that is not nil, as it goes. A cancelled ctx stops it within a layer
// and saves what there is; the next Run of the same Config goes on from there.
//
// Errors are Invalid for data and settings that cannot be, TooLarge if it would need more than cfg.Memory, Conflict if
// another run writes to cfg.Out or was saved beside it, Unavailable if there was no room to save (what was saved before is kept
// then), and Forbidden if it is to be private and would tell more of its documents than they have left.
func Run(ctx context.Context, cfg Config, on func(Event)) (_ Outcome, err error) {
	cfg = cfg.orDefaults()
	if err := cfg.check(); err != nil {
		return Outcome{}, err
	}
	out, err := lockOut(ctx, cfg.Out, cfg.Wait)
	if err != nil {
		return Outcome{}, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	r := &run{cfg: cfg, on: on, now: Outcome{Event: Event{Stage: Reading}}}
	r.say()
	if err := r.read(ctx); err != nil {
		return Outcome{}, err
	}
	if err := r.open(ctx); err != nil {
		return Outcome{}, err
	}
	defer func() { err = errors.Join(err, r.trainer.Close()) }()
	if err := r.resume(); err != nil {
		return Outcome{}, err
	}
	if r.private != nil {
		if err := r.begin(); err != nil {
			return Outcome{}, err
		}
	}
	r.now.Stage, r.now.SecondsEstimated = Before, 0
	r.say()
	if err := r.estimate(ctx); err != nil {
		return Outcome{}, err
	}
	r.say()
	if !r.now.Resumed {
		began := time.Now()
		if r.now.HeldBefore, err = r.look(ctx); err != nil {
			return Outcome{}, err
		}
		r.costs.forward *= time.Since(began).Seconds() / r.lookSeconds()
	}
	if err := r.steps(ctx); err != nil {
		return Outcome{}, err
	}
	r.now.Stage, r.now.SecondsLeft = After, r.lookSeconds()
	r.say()
	if r.now.HeldAfter, err = r.look(ctx); err != nil {
		return Outcome{}, err
	}
	if err := r.export(); err != nil {
		return Outcome{}, err
	}
	r.now.Stage, r.now.SecondsLeft = Done, 0
	r.say()
	return r.now, r.forget()
}

func (r *run) say() {
	if r.on != nil {
		r.on(r.now.Event)
	}
}

// read makes blocks of the data.
func (r *run) read(ctx context.Context) (err error) {
	if r.base, err = openBase(r.cfg.Model); err != nil {
		return err
	}
	if err := r.writable(); err != nil {
		return err
	}
	r.cfg.Context = min(r.cfg.Context, r.base.summary.Context)
	sets, err := r.sets()
	if err != nil {
		return err
	}
	if r.cfg.Private.Epsilon > 0 {
		sets.Train = distinct(sets.Train)
	}
	documents, err := r.base.documents(ctx, sets.Train, sets.Held)
	if err != nil {
		return err
	}
	if r.train, err = dataset.Pack(documents[0], r.cfg.Context); err != nil {
		return err
	}
	if r.held, err = dataset.Pack(documents[1], r.cfg.Context); err != nil {
		return err
	}
	r.held = r.held[:min(len(r.held), heldBlocks)]
	if len(r.train) == 0 || len(r.held) == 0 {
		return centram.Errorf(centram.Invalid, "in the data there is nothing to predict").WithHint("Conversations need answers of the assistant, and texts more than one token.")
	}
	if r.cfg.Private.Epsilon > 0 {
		if err := r.plan(sets.Train, documents[0]); err != nil {
			return err
		}
	}
	if r.cfg.Steps == 0 {
		r.cfg.Steps = (len(r.train) + r.cfg.Blocks - 1) / r.cfg.Blocks
	}
	r.now.Steps = r.cfg.Steps
	r.id = r.digest()
	return nil
}

// open makes the trainer, unless that takes too much memory.
func (r *run) open(ctx context.Context) (err error) {
	r.trainer, err = llama.NewTrainer(ctx, r.base.paths, llama.TrainerConfig{
		Full: r.cfg.Full, Rank: r.cfg.Rank, Targets: r.cfg.Targets, Seed: r.cfg.Seed, Context: r.cfg.Context, Threads: r.cfg.Threads,
		StateBits: r.cfg.StateBits,
	})
	if err != nil {
		return err
	}
	for _, p := range r.trainer.Params() {
		n := 1
		for _, d := range p.Dims {
			n *= d
		}
		r.now.Parameters += n
	}
	if r.now.MemoryBytes, err = r.trainer.MemoryNeeded(); err == nil {
		r.now.MemoryBytes += program + uint64(r.now.Parameters)*saving
		if r.private != nil {
			r.now.MemoryBytes += r.private.memory(r.now.Parameters)
		}
	}
	if err == nil && r.cfg.Memory > 0 && r.now.MemoryBytes > r.cfg.Memory {
		err = centram.Errorf(centram.TooLarge, "the training needs %d MiB of memory, and there are %d", r.now.MemoryBytes>>20, r.cfg.Memory>>20).
			WithHint("Use shorter blocks, a smaller rank or fewer matrices, or a smaller model.")
	}
	if err != nil {
		return errors.Join(err, r.trainer.Close())
	}
	return nil
}

// look is the loss on what is held out.
func (r *run) look(ctx context.Context) (float64, error) {
	sum, n := 0.0, 0
	for _, b := range r.held {
		losses, err := r.trainer.Forward(ctx, block(b))
		if err != nil {
			return 0, err
		}
		sum, n = sum+total(losses), n+b.Supervised()
	}
	return sum / float64(n), nil
}

// steps trains until all steps are done.
func (r *run) steps(ctx context.Context) error {
	r.now.Stage = Train
	r.began, r.saved = time.Now(), time.Now()
	first := r.now.Step
	step := r.step
	if r.private != nil {
		step = r.privateStep
	}
	for r.now.Step < r.cfg.Steps {
		if err := step(ctx); errors.Is(err, errSpent) {
			r.now.Steps = r.now.Step
			return nil
		} else if err != nil {
			if ctx.Err() != nil && r.now.Step > 0 { // the parameters are those of the last whole step
				if bad := r.save(); bad != nil {
					return bad // not that it was stopped: that would be to say that it can go on
				}
			}
			return err
		}
		took := time.Since(r.began).Seconds()
		r.now.TokensPerSecond = float64(r.rows) / took
		r.now.SecondsLeft = took/float64(r.now.Step-first)*float64(r.cfg.Steps-r.now.Step) + r.lookSeconds()
		if time.Since(r.saved) >= r.cfg.SaveEvery || r.now.Step == r.cfg.Steps || r.private != nil {
			if err := r.save(); err != nil {
				return err
			}
			r.saved = time.Now()
		}
		r.say()
	}
	return nil
}

// step is one step of the optimiser. Which blocks it sees depends on its number alone.
func (r *run) step(ctx context.Context) error {
	sum, n := 0.0, 0
	r.trainer.Zero()
	for i := range r.cfg.Blocks {
		b := r.block(r.now.Step*r.cfg.Blocks + i)
		losses, err := r.trainer.Backward(ctx, block(b))
		if err != nil {
			return err
		}
		sum, n = sum+total(losses), n+b.Supervised()
		r.rows += len(b.Tokens)
	}
	r.trainer.Scale(1 / float32(n))
	r.now.GradientNorm = r.trainer.GradNorm()
	if !(r.now.GradientNorm < 1e30) { // not a number, too
		return centram.Errorf(centram.Invalid, "at step %d the gradient is no number any more", r.now.Step+1).WithHint("Use a lower learning rate.")
	}
	if r.now.GradientNorm > r.cfg.Clip {
		r.trainer.Scale(float32(r.cfg.Clip / r.now.GradientNorm))
	}
	r.now.Rate = r.cfg.rate(r.now.Step)
	if err := r.trainer.Step(llama.AdamW{LR: float32(r.now.Rate), WeightDecay: float32(r.cfg.Decay)}); err != nil {
		return fmt.Errorf("step %d: %w", r.now.Step+1, err)
	}
	r.now.Step++
	r.now.Loss = sum / float64(n)
	r.now.Losses = append(r.now.Losses, r.now.Loss)
	return nil
}

// block is the n-th block that is trained on.
func (r *run) block(n int) dataset.Block {
	epoch := n / len(r.train)
	if r.order == nil || r.epoch != epoch {
		r.order, r.epoch = dataset.Order(len(r.train), r.cfg.Seed, uint64(epoch)), epoch
	}
	return r.train[r.order[n%len(r.train)]]
}

// block is a block as the trainer takes it.
func block(b dataset.Block) llama.Block {
	return llama.Block{Tokens: b.Tokens, Positions: b.Positions, Docs: b.Docs, Labels: b.Labels}
}

func total(losses []float32) float64 {
	sum := 0.0
	for _, l := range losses {
		sum += float64(l)
	}
	return sum
}
