package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/centram/centram"
)

// Run trains what is queued, one after the other, until ctx ends. A training that is under way then saves and ends, and
// goes on with the next Run on the same folder.
func (q *Queue) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if r := q.next(); r != nil {
			q.finish(ctx, r, r.train(ctx))
			continue
		}
		select {
		case <-ctx.Done():
		case <-q.wake:
		}
	}
	return nil
}

// run is a training under way.
type run struct {
	q     *Queue
	e     *entry
	job   Job        // as it was when it began
	asked chan State // has one element once somebody wants it to end

	began int // the step from which it goes on
	told  time.Time
	saved time.Time
}

// next takes the training that has waited longest, or nil if none waits.
func (q *Queue) next() *run {
	q.mu.Lock()
	defer q.mu.Unlock()
	var first *entry
	for _, e := range q.jobs {
		if e.job.State == Queued && (first == nil || e.job.Queued.Before(first.job.Queued)) {
			first = e
		}
	}
	if first == nil {
		return nil
	}
	r := &run{q: q, e: first, asked: make(chan State, 1), began: -1}
	first.ended = make(chan struct{})
	first.stop = func(s State) {
		select {
		case r.asked <- s:
		default: // who asked first is heard
		}
	}
	first.job.Progress.TokensPerSecond, first.job.Progress.SecondsLeft = 0, 0
	first.job.Progress.Resumed = false // until it says so
	if err := q.become(first, Running, nil); err != nil {
		q.cfg.Log.Warn("Training not saved", "id", first.job.ID, "err", err)
	}
	r.job = first.job.clone()
	return r
}

// outcome is how the process of a training ended.
type outcome struct {
	done    bool
	asked   State    // what somebody wanted it to become meanwhile, or empty
	problem *Problem // what it said of why it failed
	err     error    // that it ended with, if it said nothing
}

// args are what follows the command.
func (r *run) args() []string {
	j := r.job
	args := []string{"train", "--json", "--until-eof", "--model=" + j.File, "--out=" + j.Adapter()}
	for _, path := range j.sources() {
		args = append(args, "--data="+quoted(path))
	}
	for _, flag := range []struct {
		name  string
		value any
		given bool
	}{
		{"rank", j.Rank, j.Rank != 0},
		{"target", j.Targets, j.Targets != ""},
		{"ctx", j.Context, j.Context != 0},
		{"steps", j.Steps, j.Steps != 0},
		{"lr", j.Rate, j.Rate != 0},
		{"seed", j.Seed, j.Seed != 0},
		{"threads", r.q.cfg.Threads, r.q.cfg.Threads != 0},
	} {
		if flag.given {
			args = append(args, fmt.Sprintf("--%s=%v", flag.name, flag.value))
		}
	}
	return args
}

// line takes a line of what the process writes.
func (r *run) line(b []byte, o *outcome) {
	var said struct {
		Progress
		Problem *Problem `json:"error"`
	}
	if err := json.Unmarshal(b, &said); err != nil {
		r.q.cfg.Log.Warn("Training said something else", "id", r.job.ID, "line", string(b), "err", err)
		return
	}
	if said.Problem != nil {
		o.problem = said.Problem
		return
	}
	o.done = said.Stage == "done"
	r.progress(said.Progress)
}

// progress keeps what a line says, and tells of it and saves it now and then.
func (r *run) progress(p Progress) {
	q := r.q
	q.mu.Lock()
	defer q.mu.Unlock()
	j := &r.e.job
	stage := j.Progress.Stage
	if p.Steps == 0 { // it does not know yet
		p.Step, p.Steps, p.Loss, p.HeldBefore = j.Progress.Step, j.Progress.Steps, j.Progress.Loss, j.Progress.HeldBefore
	}
	j.Progress = p
	if p.Stage == "train" {
		if r.began < 0 {
			r.began = p.Step - 1
		}
		j.Curve = j.Curve.add(p)
	}
	now := q.cfg.Now()
	if now.Sub(r.saved) > time.Second {
		r.saved = now
		if err := j.write(false); err != nil {
			q.cfg.Log.Warn("Training not saved", "id", j.ID, "err", err)
		}
	}
	if p.Stage == stage && now.Sub(r.told) < q.cfg.Every {
		return
	}
	r.told = now
	q.tell(*j)
}

// finish says what has become of a training.
func (q *Queue) finish(ctx context.Context, r *run, o outcome) {
	var why *Problem
	if o.done {
		if err := q.cfg.Done(r.snapshot()); err != nil {
			q.cfg.Log.WarnContext(ctx, "Adapter not put to use", "id", r.job.ID, "err", err)
			why = problemOf(err)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	e := r.e
	defer close(e.ended)
	e.stop = nil
	var err error
	switch {
	case o.asked == Cancelled:
		err = q.forget(e)
	case o.done:
		err = q.become(e, Done, why)
	case o.asked == Paused:
		err = q.become(e, Paused, nil)
	case ctx.Err() != nil: // it keeps its place, and goes on with the next Run
		err = q.become(e, Queued, nil)
	case o.problem != nil:
		err = q.become(e, Failed, o.problem)
	case r.began > e.from: // it has come further than when it last died, so it may come further again
		q.cfg.Log.WarnContext(ctx, "Training goes on after its process has died", "id", e.job.ID, "err", o.err)
		e.from = r.began
		err = q.become(e, Queued, nil)
	default:
		q.cfg.Log.WarnContext(ctx, "Training has died", "id", e.job.ID, "err", o.err)
		err = q.become(e, Failed, problemOf(centram.Errorf(centram.Unavailable, "The training was ended from outside, or broke: %w.", o.err).
			WithHint("Perhaps the memory ran out: try it with fewer matrices, a smaller rank or shorter blocks. It goes on from what was saved when you resume it.")))
	}
	if err != nil {
		q.cfg.Log.ErrorContext(ctx, "Training not saved", "id", e.job.ID, "err", err)
	}
}

func (r *run) snapshot() Job {
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	return r.e.job.clone()
}

func problemOf(err error) *Problem {
	if e, ok := errors.AsType[*centram.Error](err); ok {
		return &Problem{e.Code, e.Message, e.Hint}
	}
	return &Problem{centram.Internal, err.Error(), ""}
}
