package hyperlink

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

// What a stage commits itself to is held against what another machine makes of the same input: a standby, if there is one,
// all the time; else a machine that is asked now and then to compute along for a while. That the input is the same is seen
// to in boundary.go.

const auditFor = 30 * time.Second // in which a machine that computes along has to have something to compare

// has says whether a machine is part of the chain, or computes along with a part. c.mu is held.
func (c *Chain) has(r *remote) bool {
	return r == c.remote[r.stage-1] || r == c.standbys[r.stage] || r == c.auditor
}

// committed takes a commitment, and holds it against what others say of the same window.
func (c *Chain) committed(r *remote, m *wire.WinCommit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Chain != c.id || m.Stage != r.stage || m.End-m.First != wire.CommitTokens || !c.has(r) || !c.fits(r, m) {
		return
	}
	d := c.dueFor(m.Lane, m.First, r.done())
	if d == nil {
		return
	}
	// Only what came of the same frames is compared. The same text at another time may come to something else: in another
	// batch it is rounded otherwise, and of a prompt that was read in two parts two rows were wanted.
	for id, theirs := range d.commits {
		if theirs.Stage != r.stage || id == r.id || theirs.In != m.In || theirs.Adapters != m.Adapters {
			continue
		}
		c.compared++
		if !agree(theirs, m) {
			c.disagree(r.stage, r.id, id)
			return
		}
	}
}

// disagree replaces a stage whose work is not what another machine makes of the same input. Which of the two is wrong
// nobody knows, so neither is used again. c.mu is held.
func (c *Chain) disagree(stage uint16, a, b centram.PeerID) {
	err := centram.Errorf(centram.Unavailable, "it computes other numbers than %s does of the same input", b.Short())
	if c.stages[stage].Node == b {
		a, b = b, a
	}
	c.distrusted = append(c.distrusted, b)
	if s := c.standbys[stage]; s != nil && s.id == b {
		delete(c.standbys, stage)
		s.x.Abort()
	}
	c.wrong(stage, err)
}

// wrong replaces a stage whose work is not to be believed. c.mu is held.
func (c *Chain) wrong(stage uint16, err error) {
	node := c.stages[stage].Node
	c.distrusted = append(c.distrusted, node)
	c.report(trouble{stage: stage, node: node, cause: wire.StageWrong, err: err})
	// What was answered so far may be wrong as well. The answers under way are given up rather than gone on with.
	for _, p := range c.flight {
		p.end(errWrong)
	}
	c.flight = nil
	clear(c.frames)
	for lane := range c.cfg.Info.Sequences {
		c.tainted[uint16(lane)] = true
	}
}

var errWrong = centram.Errorf(centram.Unavailable, "a machine that computes a part of the model was found to compute wrongly").
	WithHint("Ask again: another machine takes its place.")

// taints says whether a batch goes on with a text whose beginning may have been computed wrongly. One that begins anew does
// not.
func (c *Chain) taints(frames []wire.ActFwd) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range frames {
		f := &frames[i]
		if f.Pos == 0 {
			delete(c.tainted, f.Lane)
		}
		if c.tainted[f.Lane] {
			return errWrong
		}
	}
	return nil
}

// audit has machines compute along now and then, until the chain ends.
func (c *Chain) audit() {
	for {
		wait := time.Duration(float64(c.cfg.AuditEvery) * (0.5 + rand.Float64())) // nobody is to know when
		select {
		case <-time.After(wait):
			if err := c.auditOne(); err != nil {
				c.log.Debug("No audit", "err", err)
			}
		case <-c.ctx.Done():
			return
		}
	}
}

// auditOne has another machine compute what a stage computes, for a while.
func (c *Chain) auditOne() error {
	if c.cfg.Spare == nil {
		return centram.Errorf(centram.Unavailable, "no other machine is known")
	}
	c.mu.Lock()
	number := uint16(1 + rand.IntN(len(c.remote)))
	epoch, before := c.epoch, c.compared
	busy := c.accompanied(number) || len(c.flight) == 0
	c.mu.Unlock()
	if busy {
		return nil // the standby is compared all the time; and where nothing is computed there is nothing to compare
	}
	id, err := c.cfg.Spare(c.ctx, c.Stages(), number, c.unwanted())
	if err != nil {
		return err
	}
	r, err := c.propose(c.ctx, number, id, epoch, true)
	if err != nil {
		return err
	}
	c.wg.Go(func() { c.listen(r) })
	c.mu.Lock()
	c.auditor = r
	c.mu.Unlock()
	defer func() {
		r.x.Abort()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.auditor == r {
			c.auditor = nil
		}
	}()
	if err := c.accompany(r, epoch); err != nil {
		return err
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for until := time.Now().Add(auditFor); time.Now().Before(until); {
		c.mu.Lock()
		over := c.compared > before || c.epoch != epoch
		c.mu.Unlock()
		if over {
			return nil
		}
		select {
		case <-tick.C:
		case <-c.ctx.Done():
			return nil
		}
	}
	return nil
}

// accompany has the stage before give a machine what it gives the stage, from the beginning.
func (c *Chain) accompany(r *remote, epoch uint32) error {
	if r.stage > 1 {
		telling, cancel := context.WithTimeout(c.ctx, time.Second)
		defer cancel()
		c.mu.Lock()
		before := c.remote[r.stage-2]
		c.mu.Unlock()
		return before.peer.Tell(telling, &wire.HLReroute{
			Chain: c.id, Epoch: epoch, Stage: r.stage, Cause: wire.StageWatched, Node: r.id, Lanes: []wire.LanePos{},
		})
	}
	if err := c.enter(c.ctx); err != nil {
		return err
	}
	defer c.leave()
	return c.next.watch(c.ctx, r.id, epoch)
}

// Audited is how many windows were held against what another machine had made of them.
func (c *Chain) Audited() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.compared
}
