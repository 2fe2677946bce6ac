package hyperlink

import (
	"context"
	"maps"
	"time"

	"github.com/centram/centram"
)

// A standby has loaded the layers of a stage, and takes its place when it is lost. One that the first plan names computes along
// with the stage, and goes on at once. One that was asked later costs its machine memory and nothing else: its cache is filled
// when it takes the place, as that of any machine. What it spares the answer is the weights' way and their loading, which are
// minutes where a line is slow.

// restsFor is for how long nothing has to be computed before a machine is asked: the weights take the line from an answer.
const restsFor = 2 * time.Second

// keepStandbys sees to it that somebody stands by for each stage, as far as there are machines, until the chain ends.
func (c *Chain) keepStandbys() {
	tick := time.NewTicker(c.cfg.StandbyEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for i := range c.remote {
				if err := c.hire(uint16(i + 1)); err != nil {
					c.log.Debug("No standby", "stage", i+1, "err", err)
				}
			}
		case <-c.ctx.Done():
			return
		}
	}
}

// hire has a machine stand by for a stage, unless one does, or the chain does not rest.
func (c *Chain) hire(stage uint16) error {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	c.mu.Lock()
	resting := len(c.flight) == 0 && time.Since(later(c.pace.last, c.since)) >= restsFor
	settled := c.standbys[stage] != nil || !resting
	epoch, sets := c.epoch, setsOf(c.sets.sets)
	if !settled {
		c.hiring = cancel
	}
	c.mu.Unlock()
	if settled {
		return nil
	}
	r, err := c.engage(ctx, stage, epoch)
	c.mu.Lock()
	c.hiring = nil
	changed := c.epoch != epoch || setsOf(c.sets.sets) != sets || ctx.Err() != nil
	if err == nil && !changed {
		c.standbys[stage] = r
	}
	c.mu.Unlock()
	switch {
	case err != nil:
		return err
	case changed:
		r.x.Close()
		r.release()
		return centram.Errorf(centram.Conflict, "the chain has changed meanwhile")
	}
	c.wg.Go(func() { c.listen(r) })
	c.log.Info("A machine stands by", "peer", r.id.Short(), "stage", stage)
	return nil
}

// engage asks one machine after the other to load a stage.
func (c *Chain) engage(ctx context.Context, stage uint16, epoch uint32) (*remote, error) {
	unwanted := c.unwanted()
	for {
		id, err := c.cfg.Spare(ctx, c.Stages(), stage, unwanted)
		if err != nil {
			return nil, err
		}
		r, err := c.propose(ctx, stage, id, epoch, true)
		if err == nil || ctx.Err() != nil {
			return r, err
		}
		c.log.Debug("A machine does not stand by", "peer", id.Short(), "stage", stage, "err", err)
		unwanted = append(unwanted, id)
	}
}

// unwanted are the nodes that have failed, and those that stand by already.
func (c *Chain) unwanted() []centram.PeerID {
	list := c.gone()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.standbys {
		list = append(list, r.id)
	}
	return list
}

// standDown is for a node that is needed elsewhere.
func (c *Chain) standDown(id centram.PeerID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.standbys, func(_ uint16, r *remote) bool {
		if r.id == id {
			r.x.Abort()
		}
		return r.id == id
	})
}

// accompanied says whether a standby computes along with a stage. c.mu is held.
func (c *Chain) accompanied(stage uint16) bool {
	r := c.standbys[stage]
	return r != nil && r.along
}
