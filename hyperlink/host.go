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
	places map[wire.ChainID]*place
	chains map[wire.ChainID]*Chain // of which this node is the head

	leaving bool
}

// place is this node's in the chain of another one, from when it is asked.
type place struct {
	head   centram.PeerID
	seat   *seat // nil while the layers are being loaded
	cancel context.CancelCauseFunc
	left   chan struct{} // closed when all is freed
}

// NewHost makes the host and registers what it answers. It is to be called before the node runs.
func NewHost(cfg HostConfig) *Host {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	h := &Host{cfg: cfg, log: cfg.Log, places: map[wire.ChainID]*place{}, chains: map[wire.ChainID]*Chain{}}
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
	// Standby says that it is loaded to take another machine's place, should that be lost.
	Standby bool
}

// Seats lists what is being served.
func (h *Host) Seats() []Seat {
	var list []Seat
	for _, s := range h.all() {
		list = append(list, Seat{
			Chain: s.plan.Chain, Head: s.head.ID(), Layers: s.plan.Stages[s.plan.Stage].Layers, Model: s.plan.Model,
			Memory: s.info.MemoryBytes, Tokens: s.tokensIn.Load(), Since: s.since, Standby: !s.active.Load(),
		})
	}
	return list
}

func (h *Host) all() (list []*seat) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.places {
		if p.seat != nil {
			list = append(list, p.seat)
		}
	}
	return list
}

// Standing lists the stages that are loaded only to take another machine's place, should that be lost.
func (h *Host) Standing() (list []engine.Stage) {
	for _, s := range h.all() {
		if !s.active.Load() {
			list = append(list, s.stage)
		}
	}
	return list
}

// Dismiss frees a stage that only stands by. No answer depends on it.
func (h *Host) Dismiss(ctx context.Context, stage engine.Stage) {
	for _, s := range h.all() {
		if s.stage == stage && !s.active.Load() {
			s.cancel(centram.Errorf(centram.Unavailable, "its memory is needed for another chain"))
			select {
			case <-s.place.left:
			case <-ctx.Done():
			}
		}
	}
}

// Leave tells the heads of all chains that this node is about to go, and waits until others have taken its place, or ctx
// ends.
func (h *Host) Leave(ctx context.Context) {
	h.mu.Lock()
	h.leaving = true
	h.mu.Unlock()
	seats := h.all()
	for _, s := range seats {
		if !s.active.Load() {
			s.cancel(centram.Errorf(centram.Unavailable, "the machine is about to leave"))
			continue
		}
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
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	here := &place{head: p.ID(), cancel: cancel, left: make(chan struct{})}
	if err := h.take(ctx, q.Chain, here); err != nil {
		return err
	}
	defer h.leave(q.Chain, here)
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
	opening, opened := context.WithTimeout(ctx, ready)
	stage, err := h.cfg.Open(opening, a)
	opened()
	if err != nil {
		return err
	}
	defer stage.Close()
	s := newSeat(ctx, h, p, x, q, stage)
	s.part, s.place = a, here
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
	defer h.unseat(s)
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

// take makes a place this node's in a chain. If it has one, the head has lost the connection over which it asked, or wants a
// standby elsewhere: what it wants now counts.
func (h *Host) take(ctx context.Context, chain wire.ChainID, here *place) error {
	patience := time.After(meetFor)
	for {
		h.mu.Lock()
		old := h.places[chain]
		if old == nil {
			h.places[chain] = here
			h.mu.Unlock()
			return nil
		}
		end := old.cancel
		h.mu.Unlock()
		if old.head != here.head {
			return &wire.Status{Code: wire.Denied, Detail: "the chain is another node's"}
		}
		end(centram.Errorf(centram.Unavailable, "the head has asked anew"))
		select {
		case <-old.left:
		case <-patience:
			return &wire.Status{Code: wire.Busy, RetryMs: 1000, Detail: "this node has a stage of the chain already"}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// leave is for when all is freed.
func (h *Host) leave(chain wire.ChainID, here *place) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.places, chain)
	close(here.left)
}

func (h *Host) seat(s *seat) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.leaving {
		return &wire.Status{Code: wire.Busy, Detail: "this node is about to leave"}
	}
	s.place.seat, s.place.cancel = s, s.cancel
	return nil
}

func (h *Host) unseat(s *seat) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.place.seat = nil
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
	if p := h.places[id]; p != nil {
		return p.seat
	}
	return nil
}

// reroute takes the head's word that another node is a stage now, or a stage's word that it cannot reach the next one.
func (h *Host) reroute(_ context.Context, p *p2p.Peer, m *wire.HLReroute) error {
	s := h.find(m.Chain)
	h.mu.Lock()
	c := h.chains[m.Chain]
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
