package hyperlink

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

const (
	watchEvery = 25 * time.Millisecond
	// A step is late when it takes so much longer than those before it. Garbage collection, a busy machine and a retransmitted
	// packet stay below; and being late is not being lost: the machines are asked first.
	lateLeast    = 300 * time.Millisecond
	lateStandby  = 100 * time.Millisecond
	lateFirst    = 40 * time.Second // before a step has ended, nobody is blamed: weights come from the disk
	settleFor    = 5 * time.Second
	probeFor     = 150 * time.Millisecond
	probeStandby = 50 * time.Millisecond // a mistake costs little then
	probes       = 2
	silentFor    = 8 // times late, after which a machine that answers pings and does no work is replaced
	blames       = 4 // of machines that do no work, without a step that ends
)

// pace is how long steps take, so that one which takes too long shows. Times are those of small batches, as answers under
// way make, and those of a row of large ones, as prompts do.
type pace struct {
	small, row moving
	last       time.Time // when a step ended
}

const smallBatch = 4 // rows

// moving is an average and its deviation over the last dozen values or so (RFC 6298).
type moving struct{ mean, deviation float64 }

func (m *moving) add(x float64) {
	if m.mean == 0 {
		m.mean, m.deviation = x, x/2
		return
	}
	m.deviation += (math.Abs(x-m.mean) - m.deviation) / 4
	m.mean += (x - m.mean) / 8
}

// landed ends a step. c.mu is held.
func (c *Chain) landed(p *pending) {
	now := time.Now()
	took := float64(now.Sub(later(p.sent, c.pace.last)))
	if rows := tokensOf(p.batch); rows <= smallBatch {
		c.pace.small.add(took)
	} else {
		c.pace.row.add(took / float64(rows))
	}
	c.pace.last = now
	if i := slices.Index(c.flight, p); i >= 0 {
		c.flight = slices.Delete(c.flight, i, i+1)
	}
	p.end(nil)
	c.refill, c.lateness, c.allow = 0, 0, time.Time{} // the answer came after whatever fills caches
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// limit is how long the oldest step may take.
func (c *Chain) limit(p *pending) time.Duration {
	least := lateLeast
	if !slices.ContainsFunc(c.remote, func(r *remote) bool { return !c.accompanied(r.stage) }) {
		least = lateStandby
	}
	rows := tokensOf(p.batch)
	expected := c.pace.expect(rows)
	if expected == 0 { // nothing was measured but a token at each machine when it was ready
		for _, r := range c.remote {
			expected += 2 * time.Duration(rows) * time.Duration(r.ready.StepUs) * time.Microsecond
		}
		expected = min(expected, lateFirst) // it is what they say themselves
	}
	return max(least, expected)
}

// expect is how long a batch takes at most, by what was measured.
func (p *pace) expect(rows int) time.Duration {
	small, row := p.small.mean+4*p.small.deviation, p.row.mean+4*p.row.deviation
	switch {
	case rows <= smallBatch:
		return time.Duration(small)
	case row > 0:
		return time.Duration(max(small, row*float64(rows)))
	}
	return time.Duration(small * float64(rows)) // as if they were computed one by one
}

// watch notices steps that are late, and asks the machines then.
func (c *Chain) watch() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if p, late := c.late(1); late {
				c.probe(p)
			}
			c.overdue()
		case <-c.ctx.Done():
			return
		}
	}
}

// late returns the oldest step, and whether it takes more than so many times its limit.
func (c *Chain) late(times time.Duration) (*pending, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.flight) == 0 {
		return nil, false
	}
	p := c.flight[0]
	if p.sent.IsZero() {
		return p, false // it waits for the chain to be mended
	}
	return p, time.Since(later(later(p.sent, c.pace.last), c.mendedAt)) > times*c.limit(p)
}

// probe pings all stages. One that is silent is lost. If none is and the step does not end, a machine that has not computed
// it is taken for broken.
func (c *Chain) probe(p *pending) {
	c.mu.Lock()
	remote := slices.Clone(c.remote)
	c.mu.Unlock()
	lost := make(chan *remoteSilence, len(remote))
	for _, r := range remote {
		c.wg.Go(func() { lost <- &remoteSilence{r, c.silent(r)} })
	}
	anyLost := false
	for range remote {
		if s := <-lost; s.err != nil && c.ctx.Err() == nil {
			anyLost = true
			c.report(trouble{stage: s.stage, node: s.id, cause: wire.StageLost, err: s.err, of: s.remote})
		}
	}
	if !anyLost {
		anyLost = c.blame(p)
	}
	if anyLost {
		c.settle(p)
	}
}

// blame finds the machine that does no work: the first that has not computed the oldest step. If replacing it has not
// helped, it was not that one; then the one before has said that it has done what it has not. Each time there is twice as
// much patience, and in the end the chain is given up.
func (c *Chain) blame(p *pending) bool {
	c.mu.Lock()
	times := c.lateness
	waits := c.mending || time.Now().Before(c.allow) || time.Since(p.sent) < lateFirst && c.pace.small.mean+c.pace.row.mean == 0
	c.mu.Unlock()
	if now, late := c.late(silentFor << times); waits || !late || now != p {
		return false
	}
	if times == blames {
		c.end(centram.Errorf(centram.Unavailable, "the machines of this model answer, and compute nothing").WithHint("Ask again: the model will be put together anew."))
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	first := len(c.remote) - 1
	for i, r := range c.remote {
		r.mu.Lock()
		done := len(p.batch) > 0 && r.seq >= p.batch[len(p.batch)-1].Seq
		r.mu.Unlock()
		if !done {
			first = i
			break
		}
	}
	r := c.remote[max(0, first-times)]
	c.lateness++
	err := centram.Errorf(centram.Unavailable, "it does no work")
	c.report(trouble{stage: r.stage, node: r.id, cause: wire.StageLate, err: err, epoch: c.epoch})
	return true
}

// remoteSilence is the outcome of a probe.
type remoteSilence struct {
	*remote
	err error
}

// settle waits until the chain was mended, or the step has ended all the same, and not for ever.
func (c *Chain) settle(p *pending) {
	patience := time.After(settleFor)
	c.mu.Lock()
	epoch := c.epoch
	c.mu.Unlock()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		c.mu.Lock()
		over := c.epoch != epoch || !slices.Contains(c.flight, p)
		c.mu.Unlock()
		if over {
			return
		}
		select {
		case <-tick.C:
		case <-patience:
			return
		case <-c.ctx.Done():
			return
		}
	}
}

// silent pings a stage and says why it is taken for lost, if it is. A machine whose processors are busy may be slow to
// answer; but whatever comes from it shows that it is there.
func (c *Chain) silent(r *remote) error {
	patience := probeFor
	c.mu.Lock()
	if c.accompanied(r.stage) {
		patience = probeStandby
	}
	c.mu.Unlock()
	link := r.peer.Link()
	patience += 4*link.RTT + link.RTT99
	heard := r.peer.Traffic().Received
	var err error
	for range probes {
		ctx, cancel := context.WithTimeout(c.ctx, patience)
		_, err = r.peer.Ping(ctx)
		cancel()
		if err == nil || r.peer.Traffic().Received > heard {
			return nil
		}
	}
	return err
}
