package hyperlink

import (
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

// What goes over a boundary is committed to at both of its ends: as what goes out of one stage, and as what comes into the
// next. The head is at both ends of the chain and knows what it has sent and what it was answered; so no stage can commit
// itself to honest work on another input, or to another answer than it gave. That two neighbours lie to each other's liking
// does not show here.
//
// Since a stage says that it has done a batch before it commits itself to the windows that the batch has completed, and says
// both in one stream, the head knows which commitment is to which work, and which is missing.

// commitFor is how long after the answer a commitment may come. It is small and follows at once; a machine whose line is so
// bad is no loss.
const commitFor = 10 * time.Second

// dueWindow is a window that the head has sent, and that all stages have to commit themselves to.
type dueWindow struct {
	lane     uint16
	first    uint32
	adapters wire.Hash
	by       uint32                             // the last frame of the batch that completes it
	sent     wire.Hash                          // what went into stage 1
	answered wire.Hash                          // what came from the last stage; zero while it has not
	landed   time.Time                          // when the answer was seen to be there; zero while it is not
	commits  map[centram.PeerID]*wire.WinCommit // of stages, and of who computes along
}

// expect hashes what a batch sends, and returns the windows that it completes. The gate is held.
func (c *Chain) expect(p *pending) []*dueWindow {
	if !c.audits {
		return nil
	}
	var list []*dueWindow
	rest, width := p.hidden, c.cfg.Info.Embedding
	for i := range p.batch {
		f := &p.batch[i]
		for pos := f.Pos; pos < f.Pos+uint32(f.Tokens); pos++ {
			row := rawBytes(rest[:width])
			rest = rest[width:]
			w := c.sending.at(int(f.Lane), int(pos), f.Adapters)
			if w == nil {
				continue
			}
			w.out.Write(row)
			if c.sending.pass(int(f.Lane)) {
				list = append(list, &dueWindow{
					lane: f.Lane, first: uint32(w.first), adapters: f.Adapters, sent: wire.Hash(w.out.Sum(nil)),
					commits: map[centram.PeerID]*wire.WinCommit{},
				})
			}
		}
	}
	return list
}

// answered hashes what the last stage answers to a frame. c.mu is held.
func (c *Chain) answered(u unanswered, m *wire.ActRet) {
	if !c.audits {
		return
	}
	f := &u.step.batch[u.frame]
	rest, size := m.Rows, len(m.Rows)/max(1, int(m.Tokens))
	normed, width := u.step.ahead.rows[u.frame], c.cfg.Info.Embedding // sent ahead, if the output matrix is shared
	for i := range int(f.Tokens) {
		w := c.hearing.at(int(f.Lane), int(f.Pos)+i, f.Adapters)
		if rowWanted(f, i) {
			if w != nil {
				w.in.Write(rawBytes(normed[:min(width, len(normed))]))
				w.in.Write(rest[:size])
			}
			normed = normed[min(width, len(normed)):]
			rest = rest[size:]
		}
		if w == nil || !c.hearing.pass(int(f.Lane)) {
			continue
		}
		if d := c.dueFor(f.Lane, uint32(w.first), u.step.batch[len(u.step.batch)-1].Seq); d != nil {
			d.answered = wire.Hash(w.in.Sum(nil))
		}
	}
}

// dueFor finds a window by its place and by the batch that completes it, since a lane may hold many texts after each other.
func (c *Chain) dueFor(lane uint16, first, by uint32) *dueWindow {
	for _, d := range c.due {
		if d.lane == lane && d.first == first && d.by == by {
			return d
		}
	}
	return nil
}

// fits holds a commitment against those to the other ends of the same boundaries. It is false if it cannot be true: then the
// machine is dealt with. c.mu is held.
func (c *Chain) fits(r *remote, m *wire.WinCommit) bool {
	d := c.dueFor(m.Lane, m.First, r.done())
	if d == nil || m.Adapters != d.adapters {
		return true // to other work: begun in another epoch, filled into a cache, or made up. If it is made up, this is missing
	}
	d.commits[r.id] = m
	if in, known := c.given(d, r.stage); known && m.In != in {
		c.contradicted(r.stage, r.id)
		return false
	}
	if c.remote[r.stage-1] != r {
		return true // nobody was given what it has computed
	}
	for id, theirs := range d.commits {
		if theirs.Stage == r.stage+1 && theirs.In != m.Out {
			c.contradicted(theirs.Stage, id)
			return false
		}
	}
	if last := int(r.stage) == len(c.stages)-1; last && !d.answered.IsZero() && m.Out != d.answered {
		c.wrong(r.stage, centram.Errorf(centram.Unavailable, "it commits itself to another answer than it gave"))
		return false
	}
	return true
}

// given is what a stage was given, by the word of who gave it.
func (c *Chain) given(d *dueWindow, stage uint16) (in wire.Hash, known bool) {
	if stage == 1 {
		return d.sent, true
	}
	if before := d.commits[c.stages[stage-1].Node]; before != nil {
		return before.Out, true
	}
	return wire.Hash{}, false
}

// contradicted deals with a machine that says it was given something else than the stage before says that it has given.
// Which of the two lies is known only if the head is the stage before. Else the one behind is replaced first, and the one
// before if whoever comes then says the same. c.mu is held.
func (c *Chain) contradicted(stage uint16, id centram.PeerID) {
	err := centram.Errorf(centram.Unavailable, "it commits itself to another input than it was given")
	if c.stages[stage].Node != id { // it only computes along
		c.failed = append(c.failed, id)
		c.log.Info("A machine that computes along is not believed", "peer", id.Short(), "stage", stage, "err", err)
		for _, r := range []*remote{c.standbys[stage], c.auditor} {
			if r != nil && r.id == id {
				r.x.Abort()
			}
		}
		return
	}
	if stage > 1 {
		before := c.stages[stage-1].Node
		switch first, doubted := c.doubted[before]; {
		case !doubted:
			c.doubted[before] = id
		case first != id:
			stage--
			err = centram.Errorf(centram.Unavailable, "it commits itself to something else than it gave, two machines say")
		}
	}
	c.wrong(stage, err)
}

// overdue replaces stages that have not committed themselves to work that was answered a while ago. It is not known to be
// wrong, so the answers go on.
func (c *Chain) overdue() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.due {
		if d.by > c.landedTo {
			break
		}
		if d.landed.IsZero() {
			d.landed = time.Now()
		}
	}
	for len(c.due) > 0 && !c.due[0].landed.IsZero() && time.Since(c.due[0].landed) >= commitFor {
		for _, r := range c.remote {
			if c.due[0].commits[r.id] == nil {
				c.distrusted = append(c.distrusted, r.id)
				err := centram.Errorf(centram.Unavailable, "it does not commit itself to what it has computed")
				c.report(trouble{stage: r.stage, node: r.id, cause: wire.StageWrong, err: err})
			}
		}
		c.due = c.due[1:]
	}
}

// expectAnew is for a new epoch: frames come again then, and some machines have seen them before and others have not. The
// gate and c.mu are held.
func (c *Chain) expectAnew() { c.due, c.sending, c.hearing = nil, windows{}, windows{} }
