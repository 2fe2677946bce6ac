package hyperlink

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/wire"
)

// seat is a stage in one chain. The goroutine that reads the stream of frames computes them, too: nothing waits for it but
// the frames, and those wait as well in the stream.
type seat struct {
	host  *Host
	head  *p2p.Peer
	plan  *wire.HLPlan
	stage engine.Stage
	info  engine.StageInfo
	since time.Time
	last  bool
	back  *p2p.Exchange // the head's plan
	part  Assignment

	tokensIn, takenBack, bytes atomic.Uint64
	spoken                     atomic.Uint32 // the epoch, for what is said of it without the lock
	active                     atomic.Bool   // false in a standby, whose work nobody sees
	orders                     chan *wire.HLReroute
	place                      *place

	computing gate // guards the following, and the use of stage
	epoch     uint32
	passed    chan struct{}    // closed and made anew when an epoch begins
	nodes     []centram.PeerID // of the stages, in this epoch
	seq       uint32           // of the frame that came last
	lanes     []laneState
	in        batch
	rets      []wire.ActRet
	ms        []wire.Message
	raw       []byte // rows of rets
	returns   *outlet
	next      *edge
	adapters  map[wire.Hash][]engine.AdapterScale // the sets that frames may ask for, as files of these layers
	windows   windows
	committed uint32

	ctx    context.Context // of the chain, for what the stage sends
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
}

// laneState is what a stage's cache holds of a lane.
type laneState struct {
	length   int
	adapters wire.Hash
}

func newSeat(ctx context.Context, h *Host, head *p2p.Peer, x *p2p.Exchange, plan *wire.HLPlan, stage engine.Stage) *seat {
	s := &seat{
		host: h, head: head, back: x, plan: plan, stage: stage, info: stage.Info(), since: time.Now(),
		last: int(plan.Stage) == len(plan.Stages)-1, epoch: plan.Epoch, lanes: make([]laneState, plan.Lanes), passed: make(chan struct{}), computing: newGate(),
		adapters: map[wire.Hash][]engine.AdapterScale{{}: nil}, windows: windows{},
	}
	for _, p := range plan.Stages {
		s.nodes = append(s.nodes, p.Node)
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.returns = newOutlet(s.ctx, x, &s.wg)
	s.spoken.Store(plan.Epoch)
	s.active.Store(!plan.Standby)
	s.orders = make(chan *wire.HLReroute, maxOrders)
	s.wg.Go(s.obey)
	if !s.last {
		s.next = &edge{history: history{most: int(plan.Tokens)}, ctx: s.ctx, node: h.cfg.Node, wg: &s.wg, chain: plan.Chain, width: s.info.Width, broken: s.neighbourLost}
	}
	return s
}

func sum(b []byte) wire.Hash { return sha256.Sum256(b) }

// try holds the stage against the plan and measures a token.
func (s *seat) try(ctx context.Context) (time.Duration, error) {
	span := s.plan.Stages[s.plan.Stage].Layers
	switch i := s.info; {
	case i.Layers != int(span.End-span.First) || i.Width != int(s.plan.Width) || i.Last != s.last:
		return 0, &wire.Status{Code: wire.Failed, Detail: "the weights are not those of the plan's layers"}
	case s.last && s.plan.TailTokens > 0 && (i.FirstToken != 0 || i.VocabSize != int(s.plan.TailTokens)):
		return 0, &wire.Status{Code: wire.Failed, Detail: "the weights are not those of the plan's tokens"}
	case i.Context < int(s.plan.Context) || i.Sequences < int(s.plan.Lanes) || i.BatchSize < int(s.plan.Tokens):
		return 0, &wire.Status{Code: wire.Busy, Detail: "there is not so much room for the chain"}
	}
	least := time.Duration(math.MaxInt64)
	for range 3 {
		began := time.Now()
		b := engine.StageBatch{Rows: []engine.Row{{Logits: s.last}}, Hidden: make([]float32, s.info.Width), Normed: s.last && s.plan.TailTokens > 0}
		out, err := s.stage.Run(ctx, b)
		if err == nil && b.Normed {
			b.Hidden = out.Hidden
			_, err = s.stage.Unembed(ctx, b)
		}
		if err != nil {
			return 0, err
		}
		least = min(least, time.Since(began))
		if err := s.stage.Trim(0, 0); err != nil {
			return 0, err
		}
	}
	return least, nil
}

// run keeps the stage until the head ends the chain or is gone.
func (s *seat) run(ctx context.Context) error {
	m, err := s.headEnds()
	if cause := context.Cause(s.ctx); cause != nil && ctx.Err() == nil {
		// Whoever is to blame for it, the head is told and not blamed.
		err = &wire.Status{Code: wire.Failed, Detail: cause.Error()}
	}
	s.close()
	switch {
	case err != nil:
		return err
	case m != nil:
		return &wire.Status{Code: wire.Malformed, Detail: wire.RowFor(m).Name + " does not belong here"}
	}
	return s.back.Send(ctx, &wire.HLClose{
		Chain: s.plan.Chain, Epoch: s.epoch, Stage: s.plan.Stage, Head: s.head.ID(), Node: s.host.cfg.Node.ID(),
		TokensIn: s.tokensIn.Load(), TokensOut: s.tokensIn.Load() - min(s.tokensIn.Load(), s.takenBack.Load()), Bytes: s.bytes.Load(), TimeMs: time.Now().UnixMilli(),
	})
}

// headEnds waits until the head ends its side of the plan, or the stage cannot go on.
func (s *seat) headEnds() (wire.Message, error) {
	type heard struct {
		m   wire.Message
		err error
	}
	ears := make(chan heard, 1)
	go func() { // ends with the stream, which the plan's handler leaves behind
		for {
			m, err := receive(s.ctx, s.back)
			if q, ok := m.(*wire.HLPlan); ok && err == nil {
				if err = s.extend(q); err == nil {
					continue
				}
			}
			ears <- heard{m, err}
			return
		}
	}()
	select {
	case h := <-ears:
		return h.m, h.err
	case <-s.ctx.Done():
		return nil, context.Cause(s.ctx)
	}
}

// extend takes the plan again, with further adapters, and answers that they are here, or why not.
func (s *seat) extend(q *wire.HLPlan) error {
	if q.Chain != s.plan.Chain || q.Stage != s.plan.Stage {
		return &wire.Status{Code: wire.Malformed, Detail: "the plan of another chain"}
	}
	ready := &wire.HLReady{Chain: q.Chain, Epoch: q.Epoch, Stage: q.Stage, Weights: s.part.Weights, Adapters: setsOf(q.Adapters)}
	if err := s.adapt(s.ctx, q); err != nil {
		s.host.log.Warn("The adapters of a chain are not ready", "peer", s.head.ID().Short(), "err", err)
		ready.Adapters = wire.Hash{}
	}
	if !s.returns.offer([]wire.Message{ready}) {
		return &wire.Status{Code: wire.RateLimited, Detail: "too many plans of one chain"}
	}
	return nil
}

// adapt gets the adapters of a plan that are not here.
func (s *seat) adapt(ctx context.Context, q *wire.HLPlan) error {
	at := 0
	for _, set := range q.Adapters {
		parts := q.Parts[at : at+len(set)]
		at += len(set)
		s.computing.Lock()
		_, known := s.adapters[set.ID()]
		s.computing.Unlock()
		if known {
			continue
		}
		files, err := s.files(ctx, set, parts)
		if err != nil {
			return err
		}
		s.computing.Lock()
		s.adapters[set.ID()] = files
		s.computing.Unlock()
	}
	s.computing.Lock()
	defer s.computing.Unlock()
	maps.DeleteFunc(s.adapters, func(id wire.Hash, _ []engine.AdapterScale) bool {
		return !id.IsZero() && !slices.ContainsFunc(q.Adapters, func(set wire.AdapterSet) bool { return set.ID() == id })
	})
	return nil
}

func (s *seat) files(ctx context.Context, set wire.AdapterSet, parts []wire.Hash) ([]engine.AdapterScale, error) {
	var files []engine.AdapterScale
	for i, a := range set {
		if parts[i].IsZero() {
			continue
		}
		if s.host.cfg.OpenAdapter == nil {
			return nil, &wire.Status{Code: wire.Unsupported, Detail: "this node takes no adapters"}
		}
		path, err := s.host.cfg.OpenAdapter(ctx, s.part, parts[i])
		if err != nil {
			return nil, err
		}
		files = append(files, engine.AdapterScale{Path: path, Scale: scaleOf(a)})
	}
	return files, nil
}

// scaleOf is the scale that all machines compute with.
func scaleOf(a wire.AdapterScale) float32 { return float32(float64(a.Scale) / 1e6) }

// setsOf is what a stage says that has all adapters of a plan.
func setsOf(sets []wire.AdapterSet) wire.Hash {
	var b []byte
	for _, set := range sets {
		id := set.ID()
		b = append(b, id[:]...)
	}
	return sum(b)
}

// close returns when the batch under way is over and nothing is sent any more.
func (s *seat) close() {
	s.cancel(nil)
	s.computing.Pass() // whoever comes after the batch under way sees that the chain has ended,
	s.wg.Wait()        // but obey has to come to see it
}

// feed computes the frames of a stream until it ends.
func (s *seat) feed(ctx context.Context, from centram.PeerID, open *wire.KVTrim, x *p2p.Exchange) error {
	defer context.AfterFunc(s.ctx, x.Abort)()
	if err := s.reach(ctx, open.Epoch); err != nil {
		return err
	}
	for {
		m, err := receive(ctx, x)
		if m == nil || err != nil {
			return err
		}
		switch m := m.(type) {
		case *wire.ActFwd:
			err = s.take(ctx, from, m.Epoch, func() error { return s.frame(m) })
		case *wire.KVTrim:
			err = s.take(ctx, from, m.Epoch, func() error { return s.trim(m) })
		default:
			err = fault("%s is no frame", wire.RowFor(m).Name)
		}
		if err == errReplaced {
			return err
		}
		if wrong, ok := errors.AsType[*wrongInput](err); ok {
			s.accuse(wrong)
			return &wire.Status{Code: wire.Malformed, Detail: wrong.Error()}
		}
		if err != nil {
			s.cancel(err)
			return err
		}
	}
}

// wrongInput is what only the stage before can be the cause of.
type wrongInput struct{ reason string }

func (w *wrongInput) Error() string { return w.reason }

func fault(format string, args ...any) error { return &wrongInput{fmt.Sprintf(format, args...)} }

// accuse tells the head that the stage before sends what cannot be right, and waits for another one.
func (s *seat) accuse(wrong *wrongInput) {
	s.host.log.Info("The stage before sends what cannot be right", "err", wrong)
	_ = s.head.Tell(s.ctx, &wire.HLReroute{Chain: s.plan.Chain, Epoch: s.spoken.Load(), Stage: s.plan.Stage - 1, Cause: wire.StageWrong})
}

// take runs f for a frame of an epoch. One of an older epoch is for nobody; for a newer one the head's word is on its way,
// in another stream.
func (s *seat) take(ctx context.Context, from centram.PeerID, epoch uint32, f func() error) error {
	if err := s.reach(ctx, epoch); err != nil {
		return err
	}
	s.computing.Lock()
	defer s.computing.Unlock()
	if s.nodes[s.plan.Stage-1] != from {
		return errReplaced
	}
	if epoch < s.epoch || s.ctx.Err() != nil {
		return nil
	}
	return f()
}

// errReplaced is what a node hears that is not the stage before any more.
var errReplaced = &wire.Status{Code: wire.Denied, Detail: "another node is to send the frames of this chain"}

// reach waits until the chain is in an epoch, or in a later one.
func (s *seat) reach(ctx context.Context, epoch uint32) error {
	var late <-chan time.Time
	for {
		s.computing.Lock()
		now, passed := s.epoch, s.passed
		s.computing.Unlock()
		if now >= epoch {
			return nil
		}
		if late == nil {
			late = time.After(meetFor)
		}
		select {
		case <-passed:
		case <-late:
			return &wire.Status{Code: wire.Stale, Detail: fmt.Sprintf("the chain is in epoch %d, not in %d", now, epoch)}
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

const maxOrders = 64

// obey carries out what the head orders, in its order: a replay takes a while, and nothing else of the head would be read
// meanwhile.
func (s *seat) obey() {
	for {
		select {
		case m := <-s.orders:
			s.reroute(m)
		case <-s.ctx.Done():
			return
		}
	}
}

// reroute begins a new epoch, in which another node is a stage.
func (s *seat) reroute(m *wire.HLReroute) {
	s.computing.Lock()
	defer s.computing.Unlock()
	if m.Cause == wire.StageWatched {
		if m.Epoch == s.epoch && m.Stage == s.plan.Stage+1 && s.next != nil && s.ctx.Err() == nil {
			if err := s.next.watch(s.ctx, m.Node, s.epoch); err != nil {
				s.host.log.Info("A machine cannot compute along with the next stage", "peer", m.Node.Short(), "err", err)
			}
		}
		return
	}
	if m.Epoch <= s.epoch || int(m.Stage) >= len(s.nodes) || s.ctx.Err() != nil {
		return
	}
	s.epoch, s.seq = m.Epoch, 0
	s.spoken.Store(m.Epoch)
	s.nodes[m.Stage] = m.Node
	s.in.reset()
	if m.Stage == s.plan.Stage && m.Node == s.host.cfg.Node.ID() {
		s.active.Store(true)
	}
	if s.next != nil && s.active.Load() {
		to := s.nodes[s.plan.Stage+1]
		if err := s.next.reroute(s.ctx, to, s.epoch, m.Lanes, m.Replay == s.plan.Stage+1, m.Cache == wire.CacheShadow); err != nil {
			s.neighbourLost(to, err)
		}
	}
	close(s.passed)
	s.passed = make(chan struct{})
}

// neighbourLost tells the head that the next stage takes no frames. The head decides what is to be done.
func (s *seat) neighbourLost(to centram.PeerID, err error) {
	s.host.log.Info("The next stage takes no frames", "peer", to.Short(), "err", err)
	_ = s.head.Tell(s.ctx, &wire.HLReroute{Chain: s.plan.Chain, Epoch: s.spoken.Load(), Stage: s.plan.Stage + 1, Cause: wire.StageLost})
}

// frame takes a frame, and computes the batch that it ends.
func (s *seat) frame(f *wire.ActFwd) error {
	if fresh, err := s.check(&f.Step, f.Flags&wire.FwdReplay != 0); err != nil || !fresh {
		return err
	}
	switch {
	case int(f.Width) != s.info.Width || f.DType != wire.F32:
		return fault("rows of %d %s, want %d f32", f.Width, f.DType, s.info.Width)
	case int(f.Pos)+int(f.Tokens) > int(s.plan.Context):
		return fault("position %d of a lane of %d", int(f.Pos)+int(f.Tokens), s.plan.Context)
	case len(s.in.Rows)+int(f.Tokens) > int(s.plan.Tokens):
		return fault("a batch of more than %d tokens", s.plan.Tokens)
	case len(s.in.frames) > 0 && s.in.adapters != f.Adapters:
		return fault("a batch with two sets of adapters")
	case !s.in.goesOn(f):
		return fault("a batch in which lane %d does not go on", f.Lane)
	case s.in.wants() != wire.NoRows && f.Want != wire.NoRows && (s.in.wants() == wire.HiddenRows) != (f.Want == wire.HiddenRows):
		return fault("a batch that wants logits and hidden states")
	}
	s.in.add(f)
	if most := cmp.Or(s.info.Outputs, s.info.BatchSize); s.last && s.in.yields() > most {
		return fault("%d rows are wanted of a batch, at most %d can be", s.in.yields(), most)
	}
	if f.Flags&wire.FwdJoin != 0 {
		return nil
	}
	defer s.in.reset()
	return s.compute()
}

// check holds a frame against the chain. It is false for one that came before. What is replayed has no number: it says again
// what came before.
func (s *seat) check(f *wire.Step, replayed bool) (fresh bool, err error) {
	switch {
	case f.Chain != s.plan.Chain:
		return false, fault("a frame of another chain")
	case int(f.Lane) >= len(s.lanes):
		return false, fault("lane %d of %d", f.Lane, len(s.lanes))
	case !replayed && f.Seq <= s.seq:
		return false, nil
	case int(f.Pos) > s.in.end(f.Lane, s.lanes[f.Lane].length):
		return false, fault("a frame for position %d of lane %d, which has %d", f.Pos, f.Lane, s.lanes[f.Lane].length)
	}
	if !replayed {
		s.seq = f.Seq
	}
	return true, nil
}

func (s *seat) trim(t *wire.KVTrim) error {
	if len(s.in.frames) > 0 {
		return fault("a lane is cut in the middle of a batch")
	}
	if fresh, err := s.check(&t.Step, false); err != nil || !fresh {
		return err
	}
	if err := s.cutLane(&s.lanes[t.Lane], int(t.Lane), int(t.Pos)); err != nil {
		return err
	}
	if s.next == nil || !s.active.Load() {
		return nil
	}
	s.open()
	s.next.trim(t)
	return nil
}

// cutLane forgets the lane from pos on.
func (s *seat) cutLane(l *laneState, lane, pos int) error {
	if pos >= l.length {
		return nil
	}
	l.length = pos
	return s.stage.Trim(lane, pos)
}

// compute runs the batch and sends on what comes out.
func (s *seat) compute() error {
	b := &s.in
	if !finite(b.Hidden) {
		return fault("what came from stage %d is not finite", s.plan.Stage-1)
	}
	for i := range b.frames {
		f := &b.frames[i]
		l := &s.lanes[f.Lane]
		if l.adapters != f.Adapters && f.Pos != 0 {
			return fault("the adapters of lane %d changed at position %d", f.Lane, f.Pos)
		}
		if f.Flags&wire.FwdReplay == 0 && f.Pos > 0 { // from 0 on is another text, and no change of mind
			s.takenBack.Add(uint64(max(0, l.length-int(f.Pos))))
		}
		if err := s.cutLane(l, int(f.Lane), int(f.Pos)); err != nil {
			return err
		}
		l.length, l.adapters = int(f.Pos)+int(f.Tokens), f.Adapters
	}
	files, ok := s.adapters[b.adapters]
	if !ok {
		return fault("adapters that are not in the plan")
	}
	b.Adapters, b.Normed = files, s.shares(b)
	began := time.Now()
	out, err := s.stage.Run(s.ctx, b.StageBatch)
	if err != nil {
		return err
	}
	took := time.Since(began)
	replayed := b.frames[0].Flags&wire.FwdReplay != 0
	if s.last && replayed {
		return nil // of the logits, which are all that it gives, nobody wants any
	}
	hidden := out.Hidden
	if s.shares(b) && len(hidden) > 0 {
		if out, err = s.finish(b, hidden); err != nil {
			return err
		}
		took = time.Since(began)
	}
	if s.last {
		s.results(out, took)
	}
	if err := s.give(b, out, took, replayed); err != nil {
		return err
	}
	for _, commitment := range s.note(b, hidden) { // now that nobody waits for it
		if err := s.returns.send(s.ctx, []wire.Message{commitment}); err != nil {
			return err
		}
	}
	return nil
}

// give sends on what a batch has come to.
func (s *seat) give(b *batch, out engine.StageOutput, took time.Duration, replayed bool) error {
	if !s.active.Load() { // it fills its cache and nothing else; but should it come to be the stage, the next may need it again
		if s.next != nil {
			s.next.history.add(b.frames, out.Hidden, s.info.Width)
		}
		return s.progress(b, took)
	}
	if !replayed {
		s.tokensIn.Add(uint64(len(b.Rows)))
		s.bytes.Add(uint64(4 * len(b.Hidden)))
	}
	if s.last {
		return s.returns.send(s.ctx, s.ms)
	}
	s.open()
	s.next.send(b.frames, out.Hidden)
	if replayed {
		return nil
	}
	return s.progress(b, took)
}

// progress tells the head how long a batch took here, and how far the stage has come.
func (s *seat) progress(b *batch, took time.Duration) error {
	r := s.ret(&b.frames[len(b.frames)-1], took)
	return s.returns.send(s.ctx, []wire.Message{&r})
}

// open opens the stream to the next stage with the first frame, and the one to its standby.
func (s *seat) open() {
	if s.next.to != (centram.PeerID{}) {
		return
	}
	to := s.nodes[s.plan.Stage+1]
	if err := s.next.connect(s.ctx, to, s.epoch); err != nil {
		s.neighbourLost(to, err)
	}
	if standby := s.plan.Stages[s.plan.Stage+1].Standby; standby != (centram.PeerID{}) && standby != to {
		_ = s.next.accompany(s.ctx, standby, s.epoch) // then it is a standby that knows nothing, and is not taken
	}
}

// follows says whether a node is the stage before.
func (s *seat) follows(id centram.PeerID) bool {
	s.computing.Lock()
	defer s.computing.Unlock()
	return s.nodes[s.plan.Stage-1] == id
}
