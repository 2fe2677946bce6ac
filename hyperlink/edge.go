package hyperlink

import (
	"context"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/wire"
)

// edge is the boundary behind a stage: the stream to the next one, perhaps another to its standby, and what went over it.
// One goroutine uses it at a time.
type edge struct {
	ctx   context.Context
	node  *p2p.Node
	wg    *sync.WaitGroup
	chain wire.ChainID
	width int
	// broken is told when the stream to the next stage has ended by itself, and why. It must not use the edge.
	broken func(to centram.PeerID, err error)

	history history
	out     *outlet // nil while there is no next stage
	to      centram.PeerID
	shadow  *outlet // to the standby, if there is one
	standby centram.PeerID
	ms      []wire.Message
}

// connect opens the stream to the next stage.
func (e *edge) connect(ctx context.Context, to centram.PeerID, epoch uint32) error {
	e.to = to
	out, err := e.stream(ctx, to, epoch)
	if err != nil {
		return err
	}
	out.main.Store(true)
	e.out = out
	return nil
}

// accompany opens a stream to the next stage's standby, which gets the same frames.
func (e *edge) accompany(ctx context.Context, to centram.PeerID, epoch uint32) error {
	out, err := e.stream(ctx, to, epoch)
	if err != nil {
		return err
	}
	e.shadow, e.standby = out, to
	return nil
}

// watch has a machine compute along with the next stage: it gets what that has got so far, and then the same frames.
func (e *edge) watch(ctx context.Context, to centram.PeerID, epoch uint32) error {
	if e.shadow != nil {
		return centram.Errorf(centram.Conflict, "another machine computes along")
	}
	if err := e.accompany(ctx, to, epoch); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, watchFor)
	defer cancel()
	if err := e.replay(ctx, epoch, e.shadow); err != nil {
		e.shadow.stop()
		e.shadow = nil
		return err
	}
	return nil
}

// watchFor is how long answers wait at most for a machine that is to compute along to take what there is already.
const watchFor = 100 * time.Millisecond

func (e *edge) stream(ctx context.Context, to centram.PeerID, epoch uint32) (*outlet, error) {
	p, err := session(ctx, e.node, to, reachFor)
	if err != nil {
		return nil, err
	}
	living, cancel := context.WithCancel(e.ctx)
	opening := time.AfterFunc(meetFor, cancel)
	x, err := p.Open(living, &wire.KVTrim{Step: wire.Step{Chain: e.chain, Epoch: epoch}})
	if err == nil && !opening.Stop() {
		x.Abort()
		err = context.DeadlineExceeded
	}
	if err != nil {
		opening.Stop()
		cancel()
		return nil, centram.Errorf(centram.Unavailable, "no stream to %s can be opened: %w", to.Short(), err)
	}
	out := newOutlet(living, x, e.wg)
	out.stop = cancel
	e.wg.Go(func() {
		defer cancel()
		defer x.Close()
		_, err := receive(living, x) // nothing comes but the reason why it ends
		out.fail(errEnded)
		if living.Err() == nil && out.main.Load() {
			e.broken(to, err)
		}
	})
	return out, nil
}

// send sends a batch on: the frames of b with the rows that were computed. What cannot be sent is kept: whoever takes the
// next stage's place gets it.
func (e *edge) send(frames []wire.ActFwd, hidden []float32) {
	defer e.history.add(frames, hidden, e.width) // when it is on its way
	e.ms = withRows(e.ms[:0], frames, hidden, e.width)
	if e.shadow != nil && !e.shadow.offer(e.ms) { // an answer does not wait for who only computes along
		e.shadow.stop()
		e.shadow = nil
	}
	if e.out != nil {
		if err := e.out.send(e.ctx, e.ms); err != nil {
			e.close()
			e.broken(e.to, err)
		}
	}
}

// trim has what is behind the boundary forget positions.
func (e *edge) trim(t *wire.KVTrim) {
	e.history.trim(t.Lane, int(t.Pos))
	if e.shadow != nil {
		e.shadow.offer([]wire.Message{t})
	}
	if e.out != nil {
		_ = e.out.send(e.ctx, []wire.Message{t}) // the next frame says so as well
	}
}

func (e *edge) close() {
	if e.out != nil {
		e.out.stop()
		e.out = nil
	}
}

// reroute begins an epoch, in which the next stage may be another node. A standby has what it needs, and its stream goes on.
// With again, what is behind the boundary is given anew what its caches hold up to the positions of the lanes.
func (e *edge) reroute(ctx context.Context, to centram.PeerID, epoch uint32, lanes []wire.LanePos, again, shadowed bool) error {
	e.history.cut(lanes)
	if e.shadow != nil && to == e.standby && !shadowed { // it has missed something, and gets all anew
		e.shadow.stop()
		e.shadow = nil
	}
	switch {
	case e.shadow != nil && to == e.standby:
		e.close()
		e.out, e.to, e.shadow = e.shadow, to, nil
		e.out.main.Store(true)
	case to != e.to || e.out == nil:
		e.close()
		if err := e.connect(ctx, to, epoch); err != nil {
			return err
		}
	}
	if again {
		return e.replay(e.ctx, epoch, e.out)
	}
	return nil
}

// replay fills the caches behind the boundary, or those of who computes along.
func (e *edge) replay(ctx context.Context, epoch uint32, out *outlet) error {
	for _, pieces := range e.history.replay() {
		ms := make([]wire.Message, len(pieces))
		for i, p := range pieces {
			f := &wire.ActFwd{
				Step:   wire.Step{Chain: e.chain, Epoch: epoch, Pos: uint32(p.pos), Lane: p.lane},
				Tokens: uint16(len(p.rows) / p.width), Width: uint32(p.width), Flags: wire.FwdReplay | wire.FwdJoin, Adapters: p.adapters,
				Rows: rawBytes(p.rows),
			}
			if i == len(pieces)-1 {
				f.Flags &^= wire.FwdJoin
			}
			ms[i] = f
		}
		if err := out.send(ctx, ms); err != nil {
			return err
		}
	}
	return nil
}

// withRows appends the frames with their rows, which point into hidden.
func withRows(out []wire.Message, frames []wire.ActFwd, hidden []float32, width int) []wire.Message {
	at := 0
	for i := range frames {
		f := &frames[i]
		n := int(f.Tokens) * width
		f.Rows = rawBytes(hidden[at : at+n])
		at += n
		out = append(out, f)
	}
	return out
}

const (
	meetFor  = 5 * time.Second        // for two nodes of a new chain to find each other
	reachFor = 500 * time.Millisecond // for a connection that was there a moment ago
)

// session waits a while for the connection to a node, which discovery makes.
func session(ctx context.Context, n *p2p.Node, id centram.PeerID, patience time.Duration) (*p2p.Peer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if p := n.Peer(id); p != nil {
			return p, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, centram.Errorf(centram.Unavailable, "there is no connection to %s", id.Short())
		}
	}
}
