package hyperlink

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/p2p/wire"
)

// adapterFor is how long a machine may take to get its part of an adapter.
const adapterFor = time.Minute

// adapterSets are the adapters that a chain's machines have. It is changed by who holds the chain's gate and its mu.
type adapterSets struct {
	sets  []wire.AdapterSet
	parts [][]wire.Hash // by stage, of all adapters of all sets
	// What of a set is for this machine: for its layers, and for its rows of the output matrix.
	own, output map[wire.Hash][]engine.AdapterScale
	known       map[string]wire.Hash // by the list that the engine gives
	wanted      []wire.Hash          // the one that was wanted last at the end
}

// want notes that a set is wanted now.
func (s *adapterSets) want(id wire.Hash) {
	s.wanted = append(slices.DeleteFunc(s.wanted, func(other wire.Hash) bool { return other == id }), id)
}

// without leaves a set out.
func (s adapterSets) without(id wire.Hash) adapterSets {
	left := s
	left.sets, left.parts = nil, make([][]wire.Hash, len(s.parts))
	at := 0
	for _, set := range s.sets {
		if set.ID() != id {
			left.sets = append(left.sets, set)
			for stage, parts := range s.parts {
				left.parts[stage] = append(left.parts[stage], parts[at:at+len(set)]...)
			}
		}
		at += len(set)
	}
	return left
}

// forget is for a set that no machine has any more.
func (s *adapterSets) forget(id wire.Hash) {
	maps.DeleteFunc(s.known, func(_ string, of wire.Hash) bool { return of == id })
	delete(s.own, id)
	delete(s.output, id)
	s.wanted = slices.DeleteFunc(s.wanted, func(other wire.Hash) bool { return other == id })
}

// adapters has all machines get the adapters of a list, if they have not, and returns the set's name and what of it is for
// the layers here.
func (c *Chain) adapters(ctx context.Context, list []engine.AdapterScale) (wire.Hash, []engine.AdapterScale, error) {
	if len(list) == 0 {
		return wire.Hash{}, nil, nil
	}
	key := fmt.Sprint(list)
	if id, ok := c.sets.known[key]; ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sets.want(id)
		return id, c.sets.own[id], nil
	}
	if c.cfg.Adapter == nil {
		return wire.Hash{}, nil, centram.Errorf(centram.Unsupported, "this chain takes no adapters")
	}
	var set wire.AdapterSet
	var own, output []engine.AdapterScale
	parts := make([][]wire.Hash, len(c.cfg.Stages))
	for _, a := range list {
		pub, err := c.cfg.Adapter(ctx, a)
		if err != nil {
			return wire.Hash{}, nil, err
		}
		in := wire.AdapterScale{Genome: pub.ID, Scale: int64(math.Round(float64(a.Scale) * 1e6))}
		set = append(set, in)
		for stage := range parts {
			parts[stage] = append(parts[stage], pub.Parts[stage])
		}
		if pub.Own != "" {
			own = append(own, engine.AdapterScale{Path: pub.Own, Scale: scaleOf(in)})
		}
		if pub.Output != "" {
			output = append(output, engine.AdapterScale{Path: pub.Output, Scale: scaleOf(in)})
		}
	}
	if err := c.spread(ctx, set, parts); err != nil {
		return wire.Hash{}, nil, err
	}
	id := set.ID()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sets.known[key], c.sets.own[id], c.sets.output[id] = id, own, output
	c.sets.want(id)
	return id, own, nil
}

// spread gives all machines the plan again, with one more set, and waits until each has its part.
func (c *Chain) spread(ctx context.Context, set wire.AdapterSet, parts [][]wire.Hash) error {
	before, after := c.sets, c.sets
	var gone wire.Hash
	if len(before.sets) == wire.MaxAdapterSets {
		if gone = c.unused(); gone.IsZero() {
			return centram.Errorf(centram.Unavailable, "%d other choices of adapters are in use, and a model over several machines takes no more", len(before.sets)).
				WithHint("Ask again when one of those conversations has ended.")
		}
		after = before.without(gone)
	}
	after.sets = append(slices.Clone(after.sets), set)
	left := after.parts
	after.parts = make([][]wire.Hash, len(parts))
	for stage := range parts {
		if left != nil {
			after.parts[stage] = append(after.parts[stage], left[stage]...)
		}
		after.parts[stage] = append(after.parts[stage], parts[stage]...)
	}
	c.mu.Lock()
	c.sets = after
	machines := slices.Clone(c.remote)
	standbys := slices.Collect(maps.Values(c.standbys))
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, adapterFor)
	defer cancel()
	all := setsOf(after.sets)
	err := c.adaptAll(ctx, machines, all)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sets = before
		if !gone.IsZero() { // some machines have forgotten it
			c.sets = before.without(gone)
			c.sets.forget(gone)
		}
		return err
	}
	if !gone.IsZero() {
		c.mu.Lock()
		c.sets.forget(gone)
		c.mu.Unlock()
	}
	for _, s := range standbys {
		if err := c.adaptAll(ctx, []*remote{s}, all); err != nil {
			c.log.Info("A machine does not stand by any more", "peer", s.id.Short(), "stage", s.stage, "err", err)
			c.standDown(s.id)
		}
	}
	return nil
}

// unused is the set that was wanted longest ago of those that no text has, under way or in a cache. The gate is held.
func (c *Chain) unused() wire.Hash {
	has := map[wire.Hash]bool{}
	for _, l := range c.next.history.lanes {
		for _, p := range l.pieces {
			has[p.adapters] = true
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.flight {
		for i := range p.batch {
			has[p.batch[i].Adapters] = true
		}
	}
	for _, id := range c.sets.wanted {
		if !has[id] {
			return id
		}
	}
	return wire.Hash{}
}

// adaptAll gives machines the plan again and waits until each has what is in it.
func (c *Chain) adaptAll(ctx context.Context, machines []*remote, all wire.Hash) error {
	for _, r := range machines {
		if err := r.x.Send(ctx, c.plan(r.stage, r.id, c.epoch, false)); err != nil {
			return err
		}
	}
	for _, r := range machines {
		if err := r.adapted(ctx, all); err != nil {
			return centram.Errorf(centram.Unavailable, "%s has not got the adapter for its layers: %w", r.id.Short(), err)
		}
	}
	return nil
}

// adaptLate has a machine that was given its plan before the gate was held get the adapters that have come since. The gate is
// held.
func (c *Chain) adaptLate(r *remote) error {
	all := setsOf(c.sets.sets)
	if r.sets == all {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, adapterFor)
	defer cancel()
	if err := r.x.Send(ctx, c.plan(r.stage, r.id, max(r.epoch, c.epoch), false)); err != nil {
		return err
	}
	return r.adapted(ctx, all)
}

// adapted waits for a machine to say that it has all adapters.
func (r *remote) adapted(ctx context.Context, all wire.Hash) error {
	for {
		select {
		case m := <-r.readies:
			switch m.Adapters {
			case all:
				r.sets = all
				return nil
			case wire.Hash{}:
				return centram.Errorf(centram.Unavailable, "it could not")
			}
		case <-r.gone:
			return centram.Errorf(centram.Unavailable, "it has left")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
