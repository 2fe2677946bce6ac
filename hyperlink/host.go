package hyperlink

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/wire"
)

// HostConfig is what a Host stands on. Node and Open are needed.
type HostConfig struct {
	Node *p2p.Node
	Open Opener
	// OpenAdapter gets adapters. Nil means that chains with adapters are refused.
	OpenAdapter AdapterOpener
	// Admit decides about a plan before anything is fetched or loaded for it; its error goes to the asker. Nil takes all.
	Admit func(ctx context.Context, p *p2p.Peer, a Assignment) error
	Log   *slog.Logger
}

// Host serves layer ranges to the chains of other nodes. It is safe for concurrent use.
type Host struct {
	cfg HostConfig
	log *slog.Logger

	mu     sync.Mutex // guards the following
	seats  map[wire.ChainID]*seat
	chains map[wire.ChainID]*Chain // of which this node is the head

	leaving bool
}

// NewHost makes the host and registers what it answers. It is to be called before the node runs.
func NewHost(cfg HostConfig) *Host {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	h := &Host{cfg: cfg, log: cfg.Log, seats: map[wire.ChainID]*seat{}, chains: map[wire.ChainID]*Chain{}}
	p2p.Serve(cfg.Node.Mux(), h.plan)
	p2p.Serve(cfg.Node.Mux(), h.frames)
	p2p.On(cfg.Node.Mux(), h.reroute)
	return h
}

// Seat describes a stage that is being served.
type Seat struct {
	Chain  wire.ChainID
	Head   centram.PeerID
	Layers wire.LayerSpan
	Model  wire.Hash
	Memory uint64
	Tokens uint64 // that it has computed
	Since  time.Time
}

// Seats lists what is being served.
func (h *Host) Seats() []Seat {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []Seat
	for id, s := range h.seats {
		list = append(list, Seat{
			Chain: id, Head: s.head.ID(), Layers: s.plan.Stages[s.plan.Stage].Layers, Model: s.plan.Model, Memory: s.info.MemoryBytes,
			Tokens: s.tokensIn.Load(), Since: s.since,
		})
	}
	return list
}

// Leave tells the heads of all chains that this node is about to go, and waits until others have taken its place, or ctx
// ends.
func (h *Host) Leave(ctx context.Context) {
	h.mu.Lock()
	h.leaving = true
	var seats []*seat
	for _, s := range h.seats {
		seats = append(seats, s)
	}
	h.mu.Unlock()
	for _, s := range seats {
		_ = s.head.Tell(ctx, &wire.HLReroute{Chain: s.plan.Chain, Epoch: s.spoken.Load(), Stage: s.plan.Stage, Cause: wire.StageLeaving})
	}
	for _, s := range seats {
		select {
		case <-s.ctx.Done():
		case <-ctx.Done():
		}
	}
}

// plan serves a stage from the asker's proposal until the asker ends the chain.
func (h *Host) plan(ctx context.Context, p *p2p.Peer, q *wire.HLPlan, x *p2p.Exchange) error {
	a, err := h.assignment(q)
	if err != nil {
		return err
	}
	if h.cfg.Admit != nil {
		if err := h.cfg.Admit(ctx, p, a); err != nil {
			return err
		}
	}
	if old := h.find(q.Chain); old != nil {
		// It has lost the connection over which it was asked, or computes along: what the head wants now counts.
		if old.head.ID() != p.ID() {
			return &wire.Status{Code: wire.Denied, Detail: "the chain is another node's"}
		}
		old.cancel(centram.Errorf(centram.Unavailable, "the head has asked anew"))
		select {
		case <-old.left:
		case <-time.After(meetFor):
			return &wire.Status{Code: wire.Busy, RetryMs: 1000, Detail: "this node has a stage of the chain already"}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	began := time.Now()
	body, err := wire.Encode(q)
	if err != nil {
		return err
	}
	ready := time.Duration(q.ReadyMs) * time.Millisecond
	accept := &wire.HLAccept{
		Chain: q.Chain, Epoch: q.Epoch, Stage: q.Stage, Head: p.ID(), Plan: sum(body), Lanes: q.Lanes, Expires: began.Add(ready).UnixMilli(),
	}
	if err := x.SendMore(ctx, accept); err != nil {
		return err
	}
	opening, cancel := context.WithTimeout(ctx, ready)
	stage, err := h.cfg.Open(opening, a)
	cancel()
	if err != nil {
		return err
	}
	defer stage.Close()
	s := newSeat(ctx, h, p, x, q, stage)
	s.part = a
	defer s.close()
	step, err := s.try(ctx)
	if err != nil {
		return err
	}
	if err := s.adapt(ctx, q); err != nil {
		return err
	}
	if err := h.seat(s); err != nil {
		return err
	}
	defer h.leave(s)
	if next := int(q.Stage) + 1; q.Epoch == 1 && next < len(q.Stages) {
		if _, err := session(ctx, h.cfg.Node, q.Stages[next].Node, meetFor); err != nil {
			return err
		}
	}
	h.log.InfoContext(ctx, "Layers of a model are served", "peer", p.ID().Short(), "first", a.Layers.First, "end", a.Layers.End, "of", a.Whole)
	err = x.SendMore(ctx, &wire.HLReady{
		Chain: q.Chain, Epoch: q.Epoch, Stage: q.Stage, Weights: a.Weights,
		WarmMs: uint32(time.Since(began).Milliseconds()), StepUs: uint32(step.Microseconds()),
	})
	if err != nil {
		return err
	}
	err = s.run(ctx)
	h.log.InfoContext(ctx, "Layers of a model are no longer served", "peer", p.ID().Short(), "err", err)
	return err
}

// assignment checks that a plan is one for this node, and one that it can do.
func (h *Host) assignment(q *wire.HLPlan) (Assignment, error) {
	s := q.Stages[q.Stage]
	me := s.Node
	if q.Standby {
		me = s.Standby
	}
	switch {
	case me != h.cfg.Node.ID() || q.Stage == 0:
		return Assignment{}, &wire.Status{Code: wire.Malformed, Detail: "the plan gives this node no stage"}
	case q.Rows != wire.F32 || q.PromptRows != wire.F32:
		return Assignment{}, &wire.Status{Code: wire.Unsupported, Detail: "hidden states other than f32"}
	case q.Keys != wire.F16 || q.Values != wire.F16:
		return Assignment{}, &wire.Status{Code: wire.Unsupported, Detail: "a cache other than f16"}
	}
	return Assignment{
		Model: q.Model, Layers: s.Layers, Whole: int(q.Layers), Weights: s.Weights, Context: int(q.Context), Lanes: int(q.Lanes),
		BatchSize: int(q.Tokens), Head: q,
	}, nil
}

func (h *Host) seat(s *seat) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.leaving {
		return &wire.Status{Code: wire.Busy, Detail: "this node is about to leave"}
	}
	if h.seats[s.plan.Chain] != nil {
		return &wire.Status{Code: wire.Busy, Detail: "this node has a stage of the chain already"}
	}
	h.seats[s.plan.Chain] = s
	return nil
}

func (h *Host) leave(s *seat) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.seats, s.plan.Chain)
	close(s.left)
}

// frames serves the stream of frames that the stage before has opened.
func (h *Host) frames(ctx context.Context, p *p2p.Peer, q *wire.KVTrim, x *p2p.Exchange) error {
	s := h.find(q.Chain)
	if s == nil {
		return &wire.Status{Code: wire.NotFound, Detail: "no stage of this chain is served here"}
	}
	if err := s.reach(ctx, q.Epoch); err != nil {
		return err
	}
	if !s.follows(p.ID()) {
		return errReplaced
	}
	return s.feed(ctx, p.ID(), q, x)
}

func (h *Host) find(id wire.ChainID) *seat {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seats[id]
}

// reroute takes the head's word that another node is a stage now, or a stage's word that it cannot reach the next one.
func (h *Host) reroute(_ context.Context, p *p2p.Peer, m *wire.HLReroute) error {
	h.mu.Lock()
	s, c := h.seats[m.Chain], h.chains[m.Chain]
	h.mu.Unlock()
	switch {
	case c != nil:
		c.told(p.ID(), m)
	case s != nil && s.head.ID() == p.ID() && m.Node != (centram.PeerID{}):
		select {
		case s.orders <- m:
		default:
			return &wire.Status{Code: wire.RateLimited, Detail: "too many orders for one chain"}
		}
	}
	return nil
}

// watch has a chain of this node hear what its stages say.
func (h *Host) watch(c *Chain) (stop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.chains[c.id] = c
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.chains, c.id)
	}
}

// receive reads the next message of an exchange whose other end may just be done.
func receive(ctx context.Context, x *p2p.Exchange) (wire.Message, error) {
	m, err := x.Receive(ctx)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	return m, err
}

var _ engine.Model = (*Chain)(nil)
