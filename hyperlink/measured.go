package hyperlink

import (
	"slices"
	"time"
)

// Measured is what a chain has taken lately. A time of zero means that nothing was measured yet.
type Measured struct {
	Stages []time.Duration // for a batch, the median of the last ones; this node's is the first
	Step   time.Duration   // for a small batch, such as answers under way make, through all stages and back
	Epoch  uint32          // 1, and 1 more for each machine that was replaced
}

// Measured says what the chain has taken lately. After a machine was replaced its stage begins anew.
func (c *Chain) Measured() Measured {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := Measured{Stages: []time.Duration{c.took.median()}, Epoch: c.epoch}
	for _, r := range c.remote {
		r.mu.Lock()
		m.Stages = append(m.Stages, r.took.median())
		r.mu.Unlock()
	}
	if mean := time.Duration(c.pace.small.mean); mean > 0 {
		m.Step = m.Stages[0] + mean // the pace begins when the first stage has computed
	}
	return m
}

// recent are the last times that something took.
type recent struct {
	times [15]time.Duration
	n     int
}

func (r *recent) add(t time.Duration) {
	r.times[r.n%len(r.times)] = t
	r.n++
}

func (r *recent) median() time.Duration {
	sorted := slices.Clone(r.times[:min(r.n, len(r.times))])
	if len(sorted) == 0 {
		return 0
	}
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}
