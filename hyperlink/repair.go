package hyperlink

import (
	"context"
	"slices"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

const (
	refillLeast   = 5 * time.Second
	spareAttempts = 4
)

// trouble is what somebody has noticed of a stage.
type trouble struct {
	stage uint16
	node  centram.PeerID
	cause wire.RerouteCause
	err   error
	// What was noticed of the chain as it was then says nothing of it as it is now. Either may be zero.
	of    *remote // that was seen to be in trouble
	epoch uint32  // in which somebody said so, or it was concluded
}

// accusations are what a node has said of others.
type accusations struct {
	count int
	epoch uint32 // of the last one. In one epoch a node may notice the same thing twice
	at    time.Time
}

const forgiven = 10 * time.Minute // after which an accusation is taken for the first

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
	}
	// The first time a stage is believed. If it goes on to say so of others, or says so of this node, it is what is wrong.
	if m.Epoch != c.epoch || speaker <= 0 || speaker >= len(c.stages) || int(about) >= len(c.stages) || c.stages[speaker].Node != from {
		return
	}
	if m.Cause != wire.StageLeaving && c.accuses(from) || about == 0 {
		about = uint16(speaker)
	}
	t := trouble{stage: about, node: c.stages[about].Node, cause: m.Cause, err: centram.Errorf(centram.Unavailable, "%s says so", from.Short())}
	if m.Cause != wire.StageLeaving { // which it does in the next epoch, too
		t.epoch = c.epoch
	}
	c.report(t)
}

// accuses counts what a node says of others, and says whether it has done so before. c.mu is held.
func (c *Chain) accuses(from centram.PeerID) (again bool) {
	a := c.accusers[from]
	if a.epoch == c.epoch {
		return a.count > 1
	}
	if time.Since(a.at) > forgiven {
		a.count = 0
	}
	a.count, a.epoch, a.at = a.count+1, c.epoch, time.Now()
	c.accusers[from] = a
	return a.count > 1
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
	if !c.concerns(t) {
		return
	}
	defer c.mended()
	c.log.Info("A machine of the chain is replaced", "peer", t.node.Short(), "stage", t.stage, "cause", t.cause, "err", t.err)
	var r *remote
	var shadowed bool
	var err error
	if t.cause == wire.StageLeaving { // it goes on until another is ready
		if r, shadowed, err = c.replacement(t); err != nil {
			c.log.Warn("There is nobody for the place of a machine that is about to leave", "peer", t.node.Short(), "err", err)
			return // it may stay a little longer; and should it not, that will show
		}
	}
	if c.enter(c.ctx) != nil {
		return
	}
	defer c.leave()
	began := time.Now()
	if t.cause != wire.StageLeaving {
		r, shadowed, err = c.replacement(t)
	} else if err = c.adaptLate(r); err != nil {
		c.log.Warn("A machine does not take the place of one that is about to leave", "peer", r.id.Short(), "err", err)
		r.x.Abort()
		return
	}
	if err != nil && c.isBack(t) {
		if t.epoch == 0 {
			return
		}
		r, err = c.replace(t.stage, t.node) // it is there, but what its neighbour has sent is lost
	}
	if err != nil {
		c.log.Warn("A machine is lost, and there is nobody for its place", "peer", t.node.Short(), "cause", t.err, "err", err)
		c.end(centram.Errorf(centram.Unavailable, "%s, which computes a part of the model, is lost, and there is nobody for its place", t.node.Short()).
			WithHint("Ask again: the model will be put together from the machines that are there."))
		return
	}
	c.switchTo(r, t.cause, shadowed)
	c.log.Info("The chain goes on", "peer", r.id.Short(), "stage", t.stage, "after", time.Since(began))
}

// concerns says whether a trouble is one of the chain as it is now. It ends an audit, and the wait for a standby: those
// machines may be needed.
func (c *Chain) concerns(t trouble) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if standby := c.standbys[t.stage]; standby != nil && standby.id == t.node {
		delete(c.standbys, t.stage) // the standby is lost, not the stage
	}
	if c.stages[t.stage].Node != t.node || t.of != nil && c.remote[t.stage-1] != t.of || t.epoch != 0 && t.epoch != c.epoch {
		return false
	}
	c.mending = true
	if c.auditor != nil {
		c.auditor.x.Abort()
		c.auditor = nil
	}
	if c.hiring != nil {
		c.hiring()
	}
	return true
}

// mended is for when a trouble is over, or nothing is to be done about it.
func (c *Chain) mended() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mending = false
	c.mendedAt = time.Now()
}

// isBack waits for a machine whose place nobody takes, as long as the connection to it holds. It says whether it answers.
func (c *Chain) isBack(t trouble) bool {
	c.mu.Lock()
	r := c.remote[t.stage-1]
	c.mu.Unlock()
	if t.cause != wire.StageLost || r.id != t.node {
		return false
	}
	for {
		select {
		case <-r.gone: // it serves the chain no more
			return false
		case <-r.peer.Done():
			return false
		case <-c.ctx.Done():
			return false
		default:
		}
		if c.silent(r) == nil {
			c.log.Info("The machine is back", "peer", t.node.Short())
			return true
		}
	}
}

// replacement is the standby, or another node that has loaded the layers: the same one if only the connection to it has
// changed, else another, and if nobody else is there, one that has failed before and is back. shadowed says that its caches
// are what they should be.
func (c *Chain) replacement(t trouble) (r *remote, shadowed bool, err error) {
	c.mu.Lock()
	standby := c.standbys[t.stage]
	delete(c.standbys, t.stage)
	old := c.remote[t.stage-1]
	for _, id := range c.distrusted {
		if !slices.Contains(c.failed, id) {
			c.failed = append(c.failed, id)
		}
	}
	distrusted := slices.Clone(c.distrusted)
	if standby != nil && standby.lost() {
		standby = nil
	}
	if standby != nil {
		standby.mu.Lock()
		shadowed = standby.along && standby.seq >= c.landedTo && c.refill == 0
		standby.mu.Unlock()
	}
	c.mu.Unlock()
	if standby != nil {
		return standby, shadowed, nil
	}
	if p := c.cfg.Node.Peer(t.node); p != nil && p != old.peer && t.cause == wire.StageLost {
		if r, err := c.replace(t.stage, t.node); err == nil {
			return r, false, nil
		}
	}
	again := c.gone() // they may be back
	c.fail(t.node)
	if r, err = c.another(t.stage); err == nil {
		return r, false, nil
	}
	for _, id := range again {
		if p := c.cfg.Node.Peer(id); p != nil && p != old.peer && !slices.Contains(distrusted, id) {
			if r, err := c.replace(t.stage, id); err == nil {
				return r, false, nil
			}
		}
	}
	return nil, false, err
}

// fail notes that a node has failed.
func (c *Chain) fail(id centram.PeerID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.failed, id) {
		c.failed = append(c.failed, id)
	}
}

// gone are the nodes that have failed.
func (c *Chain) gone() []centram.PeerID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.failed)
}

// another looks for a node that has not failed yet.
func (c *Chain) another(number uint16) (*remote, error) {
	if c.cfg.Spare == nil {
		return nil, centram.Errorf(centram.Unavailable, "no other machine is known")
	}
	for range spareAttempts {
		id, err := c.cfg.Spare(c.ctx, c.Stages(), number, c.gone())
		if err != nil {
			return nil, err
		}
		r, err := c.replace(number, id)
		if err == nil {
			return r, nil
		}
		c.log.Info("A machine does not take the place", "peer", id.Short(), "err", err)
		c.fail(id)
	}
	return nil, centram.Errorf(centram.Unavailable, "%d other machines were asked", spareAttempts)
}

// replace has a node load the layers of a stage, for the next epoch.
func (c *Chain) replace(stage uint16, id centram.PeerID) (*remote, error) {
	c.standDown(id)
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
	c.expectAnew()
	old := c.remote[r.stage-1]
	c.remote[r.stage-1] = r
	c.stages = slices.Clone(c.stages)
	c.stages[r.stage].Node, c.stages[r.stage].Standby = r.id, centram.PeerID{}
	clear(c.frames)
	flight, epoch := slices.Clone(c.flight), c.epoch
	for _, p := range flight {
		p.anew(c.cfg.Output != nil) // what has come of it came from a machine that is not believed any more, or is gone
	}
	if !shadowed && (c.refill == 0 || r.stage < c.refill) {
		c.refill = r.stage
	}
	refill, next := c.refill, c.stages[1].Node
	if refill != 0 {
		c.allow = time.Now().Add(c.refillTime())
	}
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
		if o.epoch == epoch {
			continue // it was given the plan of this epoch
		}
		telling, cancel := context.WithTimeout(c.ctx, time.Second)
		_ = o.peer.Tell(telling, m) // one that is lost as well comes next
		cancel()
	}
	if err := c.next.reroute(c.ctx, next, epoch, m.Lanes, refill == 1, shadowed && r.stage == 1); err != nil {
		c.report(trouble{stage: 1, node: next, cause: wire.StageLost, err: err, epoch: epoch})
	}
	c.sendAgain(flight, m.Lanes)
}

// sendAgain sends what is under way. A guess that was taken back may be behind what it followed: then its frame begins beyond
// its lane's end, and nobody waits for it. A lane of which not all is kept cannot go on.
func (c *Chain) sendAgain(flight []*pending, lanes []wire.LanePos) {
	length := map[uint16]int{}
	for _, l := range lanes {
		length[l.Lane] = int(l.Pos)
	}
	for _, p := range flight {
		lost := false
		c.mu.Lock()
		p.keep(func(f *wire.ActFwd) bool {
			if int(f.Pos) > length[f.Lane] {
				l := c.next.history.lanes[f.Lane]
				lost = lost || l != nil && l.lost
				return false
			}
			length[f.Lane] = int(f.Pos) + int(f.Tokens)
			return true
		}, c.cfg.Info.Embedding)
		c.mu.Unlock()
		switch {
		case lost:
			c.drop(p, centram.Errorf(centram.Unavailable, "a machine was lost, and the text is too long to be given to another").
				WithHint("Ask again."))
		case len(p.batch) == 0:
			c.drop(p, nil)
		default:
			c.send(p)
		}
	}
}

// drop ends a step that is not sent again.
func (c *Chain) drop(p *pending, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.flight, p); i >= 0 {
		c.flight = slices.Delete(c.flight, i, i+1)
	}
	p.end(err)
}

// refillTime is how long it may take to fill caches with what was sent. c.mu and the gate are held.
func (c *Chain) refillTime() time.Duration {
	sum := refillLeast
	for _, pieces := range c.next.history.replay() {
		rows := 0
		for _, p := range pieces {
			rows += len(p.rows) / p.width
		}
		sum += c.pace.expect(rows)
	}
	return sum
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
