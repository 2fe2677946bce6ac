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
	lateLeast     = 300 * time.Millisecond
	lateStandby   = 100 * time.Millisecond
	lateFirst     = 5 * time.Second // before anything was measured
	lateMost      = 30 * time.Second
	probeFor      = 150 * time.Millisecond
	probeStandby  = 50 * time.Millisecond // a mistake costs little then
	probes        = 2
	silentFor     = 8 // times late, after which a machine that answers pings and does no work is replaced
	spareAttempts = 4
)

// trouble is what somebody has noticed of a stage.
type trouble struct {
	stage uint16
	node  centram.PeerID
	cause wire.RerouteCause
	err   error
}

// report notes a trouble. If there are so many that it does not fit, those before it will do.
func (c *Chain) report(t trouble) {
	if c.ctx.Err() != nil || c.closing.Load() {
		return
	}
	select {
	case c.troubles <- t:
	default:
	}
}

// told takes the word of a stage: that it cannot reach the next one, that the one before sends what cannot be right, or that
// it is about to leave.
func (c *Chain) told(from centram.PeerID, m *wire.HLReroute) {
	c.mu.Lock()
	defer c.mu.Unlock()
	speaker, about := int(m.Stage), m.Stage
	switch m.Cause {
	case wire.StageLost:
		speaker--
	case wire.StageWrong:
		speaker++
		// The first time a stage is believed. If it goes on to say so of others, or says so of this node, it is what is wrong.
		if c.accusers[from]++; c.accusers[from] > 1 || about == 0 {
			about = uint16(speaker)
		}
	}
	if m.Epoch == c.epoch && speaker > 0 && speaker < len(c.stages) && about > 0 && c.stages[speaker].Node == from {
		c.report(trouble{about, c.stages[about].Node, m.Cause, centram.Errorf(centram.Unavailable, "%s says so", from.Short())})
	}
}

// mend replaces stages that are in trouble, one after the other, until the chain ends.
func (c *Chain) mend() {
	for {
		select {
		case t := <-c.troubles:
			c.repair(t)
		case <-c.ctx.Done():
			return
		}
	}
}

// repair puts another node in a stage's place. Until it is there, no batch is begun; those under way are sent again.
func (c *Chain) repair(t trouble) {
	c.mu.Lock()
	current := c.stages[t.stage].Node == t.node
	standby := c.standbys[t.stage]
	if standby != nil && standby.id == t.node {
		delete(c.standbys, t.stage) // the standby is lost, not the stage
	}
	c.mu.Unlock()
	if !current {
		return
	}
	c.log.Info("A machine of the chain is replaced", "peer", t.node.Short(), "stage", t.stage, "cause", t.cause, "err", t.err)
	var r *remote
	var shadowed bool
	var err error
	if t.cause == wire.StageLeaving { // it goes on until another is ready
		r, shadowed, err = c.replacement(t)
	}
	if c.enter(c.ctx) != nil {
		return
	}
	defer c.leave()
	began := time.Now()
	if t.cause != wire.StageLeaving {
		r, shadowed, err = c.replacement(t)
	}
	if err != nil && t.cause == wire.StageLeaving {
		c.log.Warn("There is nobody for the place of a machine that is about to leave", "peer", t.node.Short(), "err", err)
		return // it may stay a little longer; and should it not, that will show
	}
	if err != nil {
		c.end(centram.Errorf(centram.Unavailable, "%s, which computes a part of the model, is lost, and there is nobody for its place: %w", t.node.Short(), errorsOf(err, t.err)).
			WithHint("Ask again: the model will be put together from the machines that are there."))
		return
	}
	c.switchTo(r, t.cause, shadowed)
	c.log.Info("The chain goes on", "peer", r.id.Short(), "stage", t.stage, "after", time.Since(began))
}

func errorsOf(err, because error) error {
	if because == nil {
		return err
	}
	return centram.Errorf(centram.CodeOf(err), "%w (%w)", err, because)
}

// replacement is the standby, or a node that has loaded the layers: the same one if only the connection to it has changed,
// else another, and if nobody else is there, one that has failed before and is back.
func (c *Chain) replacement(t trouble) (r *remote, shadowed bool, err error) {
	c.mu.Lock()
	standby, stage := c.standbys[t.stage], c.stages[t.stage]
	delete(c.standbys, t.stage)
	old := c.remote[t.stage-1]
	c.failed, c.distrusted = append(c.failed, c.distrusted...), nil
	c.mu.Unlock()
	if standby != nil {
		return standby, true, nil
	}
	if p := c.cfg.Node.Peer(t.node); p != nil && p != old.peer && t.cause == wire.StageLost {
		if r, err := c.replace(t.stage, t.node); err == nil {
			return r, false, nil
		}
	}
	c.failed = append(c.failed, t.node)
	if r, err = c.another(stage, t.stage); err == nil {
		return r, false, nil
	}
	for _, id := range c.failed {
		if p := c.cfg.Node.Peer(id); p != nil && p != old.peer {
			if r, err := c.replace(t.stage, id); err == nil {
				return r, false, nil
			}
		}
	}
	return nil, false, err
}

// another looks for a node that has not failed yet.
func (c *Chain) another(stage wire.PlanStage, number uint16) (*remote, error) {
	if c.cfg.Spare == nil {
		return nil, centram.Errorf(centram.Unavailable, "no other machine is known")
	}
	for range spareAttempts {
		id, err := c.cfg.Spare(c.ctx, stage, c.failed)
		if err != nil {
			return nil, err
		}
		r, err := c.replace(number, id)
		if err == nil {
			return r, nil
		}
		c.log.Info("A machine does not take the place", "peer", id.Short(), "err", err)
		c.failed = append(c.failed, id)
	}
	return nil, centram.Errorf(centram.Unavailable, "%d other machines were asked", spareAttempts)
}

// replace has a node load the layers of a stage, for the next epoch.
func (c *Chain) replace(stage uint16, id centram.PeerID) (*remote, error) {
	r, err := c.propose(c.ctx, stage, id, c.epoch+1, false)
	if err == nil {
		c.wg.Go(func() { c.listen(r) })
	}
	return r, err
}

// switchTo begins an epoch in which r is a stage, has the caches filled that need it, and sends again what is under way.
func (c *Chain) switchTo(r *remote, cause wire.RerouteCause, shadowed bool) {
	c.mu.Lock()
	c.epoch++
	old := c.remote[r.stage-1]
	c.remote[r.stage-1] = r
	c.stages = slices.Clone(c.stages)
	c.stages[r.stage].Node, c.stages[r.stage].Standby = r.id, centram.PeerID{}
	clear(c.frames)
	flight, epoch := slices.Clone(c.flight), c.epoch
	if !shadowed && (c.refill == 0 || r.stage < c.refill) {
		c.refill = r.stage
	}
	refill, next := c.refill, c.stages[1].Node
	others := slices.Clone(c.remote)
	for _, s := range c.standbys {
		others = append(others, s)
	}
	c.mu.Unlock()
	old.x.Abort()
	m := &wire.HLReroute{Chain: c.id, Epoch: epoch, Stage: r.stage, Cause: cause, Node: r.id, Lanes: c.positions(flight), Replay: refill}
	if m.Cache = wire.CacheReplay; shadowed {
		m.Cache = wire.CacheShadow
	}
	for _, o := range others {
		if o == r && !shadowed {
			continue // it was given the plan of this epoch
		}
		telling, cancel := context.WithTimeout(c.ctx, time.Second)
		_ = o.peer.Tell(telling, m) // one that is lost as well comes next
		cancel()
	}
	if err := c.next.reroute(c.ctx, next, epoch, m.Lanes, refill == 1); err != nil {
		c.report(trouble{1, next, wire.StageLost, err})
	}
	for _, p := range flight {
		c.send(p)
	}
}

// positions is how far each lane has come, without what is under way.
func (c *Chain) positions(flight []*pending) []wire.LanePos {
	at := map[uint16]int{}
	for lane, l := range c.next.history.lanes {
		if n := len(l.pieces); n > 0 {
			at[lane] = l.pieces[n-1].end()
		}
	}
	for _, p := range flight {
		for i := range p.batch {
			f := &p.batch[i]
			if pos, ok := at[f.Lane]; ok {
				at[f.Lane] = min(pos, int(f.Pos))
			}
		}
	}
	var out []wire.LanePos
	for lane, pos := range at {
		if pos > 0 {
			out = append(out, wire.LanePos{Lane: lane, Pos: uint32(pos)})
		}
	}
	slices.SortFunc(out, func(a, b wire.LanePos) int { return int(a.Lane) - int(b.Lane) })
	return out
}

// pace is how long steps take, so that one which takes too long shows. Times are those of small batches, as answers under
// way make, and those of a row of large ones, as prompts do.
type pace struct {
	small, row moving
	last       time.Time // when a step ended
}

const smallBatch = 32 // rows

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
	c.refill = 0 // the answer came after whatever fills caches
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
	if len(c.standbys) == len(c.remote) {
		least = lateStandby
	}
	m, n := c.pace.small, 1.0
	if rows := tokensOf(p.batch); rows > smallBatch {
		m, n = c.pace.row, float64(rows)
	}
	if m.mean == 0 {
		return lateFirst
	}
	return min(lateMost, max(least, time.Duration(n*(m.mean+4*m.deviation))))
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
	return p, time.Since(later(p.sent, c.pace.last)) > times*c.limit(p)
}

// probe pings all stages. One that does not answer is lost. If all do and the step does not end, the first one that has
// not computed it is taken for broken.
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
			c.report(trouble{s.stage, s.id, wire.StageLost, s.err})
		}
	}
	if anyLost {
		c.settle(p)
		return
	}
	if now, late := c.late(silentFor); late && now == p {
		for _, r := range remote {
			r.mu.Lock()
			done := r.seq >= p.batch[len(p.batch)-1].Seq
			r.mu.Unlock()
			if !done {
				c.report(trouble{r.stage, r.id, wire.StageLate, centram.Errorf(centram.Unavailable, "it does no work")})
				c.settle(p)
				return
			}
		}
	}
}

// remoteSilence is the outcome of a probe.
type remoteSilence struct {
	*remote
	err error
}

// settle waits until the chain was mended, or the step has ended all the same, and not for ever.
func (c *Chain) settle(p *pending) {
	patience := time.After(lateFirst)
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

// silent pings a stage and says why it is taken for lost, if it is.
func (c *Chain) silent(r *remote) error {
	patience := probeFor
	c.mu.Lock()
	if c.standbys[r.stage] != nil {
		patience = probeStandby
	}
	c.mu.Unlock()
	var err error
	for range probes {
		ctx, cancel := context.WithTimeout(c.ctx, patience+4*r.peer.Link().RTT)
		_, err = r.peer.Ping(ctx)
		cancel()
		if err == nil {
			return nil
		}
	}
	return err
}
