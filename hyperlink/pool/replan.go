package pool

import (
	"context"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/hyperlink/plan"
)

const (
	replanEvery = 10 * time.Second
	restFor     = 5 * time.Second // without an answer, before a chain is taken apart for a better one
)

// replan looks now and then whether running models would be faster on other machines, until ctx ends. One that would is taken
// apart when it rests, and put together anew by the next request.
func (p *Pool) replan(ctx context.Context) {
	tick := time.NewTicker(replanEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			for _, r := range p.Running() {
				p.reconsider(r, now)
			}
		case <-ctx.Done():
			return
		}
	}
}

// reconsider takes a chain apart that rests, if another would be so much faster, and has been for so long, that it pays.
func (p *Pool) reconsider(r Running, now time.Time) (moved bool) {
	if p.Forced(r.Path) {
		return false // it is as somebody wishes
	}
	in, err := p.input(r.Path, r.Chain.Info())
	if err != nil {
		return false
	}
	current := r.now()
	in = measured(in, current, r)
	fresh, err := plan.Make(in)
	if err != nil {
		return false // what runs is better than nothing
	}
	p.mu.Lock()
	since, ok := p.ahead[r.Chain]
	p.mu.Unlock()
	better := time.Duration(0)
	if ok {
		better = now.Sub(since)
	}
	keep, ahead := plan.Keep(in, current, fresh, better)
	p.mu.Lock()
	switch {
	case !ahead:
		delete(p.ahead, r.Chain)
	case !ok:
		p.ahead[r.Chain] = now
	}
	p.mu.Unlock()
	if keep || !r.Chain.Rest(restFor, centram.Errorf(centram.Unavailable, "the model is put together anew")) {
		return false
	}
	p.log.Info("A model is put together anew with the next request", "model", r.Path, "before", current.Throughput, "after", fresh.Throughput, "unit", "tokens/s")
	return true
}

// now is the plan that runs, with the machines that have taken others' places.
func (r Running) now() plan.Option {
	o := r.Choice.Option
	o.Stages = append([]plan.Stage(nil), o.Stages...)
	for i, s := range r.Chain.Stages() {
		o.Stages[i].Device = s.Node
	}
	return o
}

// measured puts into the input what the chain has measured.
func measured(in plan.Input, o plan.Option, r Running) plan.Input {
	took := r.Chain.Measured().Stages
	devices := []*plan.Device{&in.Head}
	for i := range in.Others {
		devices = append(devices, &in.Others[i])
	}
	for i, s := range o.Stages {
		for _, d := range devices {
			if d.ID != s.Device {
				continue
			}
			if i < len(took) && took[i] > 0 && i < len(o.Stages)-1 { // the last stage's has the output matrix in it
				d.LayerTime = took[i] / time.Duration(s.Layers.Len())
			}
		}
	}
	return in
}
