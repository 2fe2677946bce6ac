package hyperlink

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
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

	tokensIn, tokensOut, bytes atomic.Uint64

	computing sync.Mutex // held by who reads frames, of which there is one
	epoch     uint32
	seq       uint32 // of the frame that came last
	lanes     []laneState
	in        batch
	ms        []wire.Message
	rets      []wire.ActRet
	raw       []byte // rows of rets
	best      []candidate
	back      *p2p.Exchange
	returns   *outlet
	next      *outlet // nil before the first frame, and in the last stage
	reported  time.Time

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
		last: int(plan.Stage) == len(plan.Stages)-1, epoch: plan.Epoch, lanes: make([]laneState, plan.Lanes),
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.returns = newOutlet(s.ctx, x, &s.wg)
	return s
}

func sum(b []byte) wire.Hash { return sha256.Sum256(b) }

// try holds the stage against the plan and measures a token.
func (s *seat) try(ctx context.Context) (time.Duration, error) {
	span := s.plan.Stages[s.plan.Stage].Layers
	switch i := s.info; {
	case i.Layers != int(span.End-span.First) || i.Width != int(s.plan.Width) || i.Last != s.last:
		return 0, &wire.Status{Code: wire.Failed, Detail: "the weights are not those of the plan's layers"}
	case i.Context < int(s.plan.Context) || i.Sequences < int(s.plan.Lanes) || i.BatchSize < int(s.plan.Tokens):
		return 0, &wire.Status{Code: wire.Busy, Detail: "there is not so much room for the chain"}
	}
	least := time.Duration(math.MaxInt64)
	for range 3 {
		began := time.Now()
		_, err := s.stage.Run(ctx, engine.StageBatch{Rows: []engine.Row{{Logits: s.last}}, Hidden: make([]float32, s.info.Width)})
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
	m, err := receive(s.ctx, s.back)
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
		TokensIn: s.tokensIn.Load(), TokensOut: s.tokensOut.Load(), Bytes: s.bytes.Load(), TimeMs: time.Now().UnixMilli(),
	})
}

// close returns when the batch under way is over and nothing is sent any more.
func (s *seat) close() {
	s.cancel(nil)
	s.computing.Lock()
	defer s.computing.Unlock()
	s.wg.Wait()
}

// feed computes the frames of a stream until it ends.
func (s *seat) feed(ctx context.Context, open *wire.KVTrim, x *p2p.Exchange) error {
	s.computing.Lock()
	defer s.computing.Unlock()
	if s.ctx.Err() != nil || open.Epoch != s.epoch {
		return &wire.Status{Code: wire.Stale, Detail: fmt.Sprintf("the chain is in epoch %d", s.epoch)}
	}
	defer context.AfterFunc(s.ctx, x.Abort)()
	for {
		m, err := receive(ctx, x)
		if m == nil || err != nil {
			return err
		}
		switch m := m.(type) {
		case *wire.ActFwd:
			err = s.frame(ctx, m)
		case *wire.KVTrim:
			err = s.trim(ctx, m)
		default:
			err = &wire.Status{Code: wire.Malformed, Detail: wire.RowFor(m).Name + " is no frame"}
		}
		if err != nil {
			s.cancel(err)
			return err
		}
	}
}

// frame takes a frame, and computes the batch that it ends.
func (s *seat) frame(ctx context.Context, f *wire.ActFwd) error {
	if fresh, err := s.check(&f.Step); err != nil || !fresh {
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
	}
	s.in.add(f)
	if f.Flags&wire.FwdJoin != 0 {
		return nil
	}
	defer s.in.reset()
	return s.compute(ctx)
}

// check holds a frame against the chain. It is false for one that came before.
func (s *seat) check(f *wire.Step) (fresh bool, err error) {
	switch {
	case f.Chain != s.plan.Chain || f.Epoch != s.epoch:
		return false, fault("a frame of another chain or epoch")
	case int(f.Lane) >= len(s.lanes):
		return false, fault("lane %d of %d", f.Lane, len(s.lanes))
	case int(f.Pos) > s.lanes[f.Lane].length && f.Seq > s.seq:
		return false, fault("a frame for position %d of lane %d, which has %d", f.Pos, f.Lane, s.lanes[f.Lane].length)
	case f.Seq <= s.seq && s.seq != 0:
		return false, nil
	}
	s.seq = f.Seq
	return true, nil
}

func fault(format string, args ...any) error {
	return &wire.Status{Code: wire.Malformed, Detail: fmt.Sprintf(format, args...)}
}

func (s *seat) trim(ctx context.Context, t *wire.KVTrim) error {
	if fresh, err := s.check(&t.Step); err != nil || !fresh {
		return err
	}
	if err := s.cutLane(&s.lanes[t.Lane], int(t.Lane), int(t.Pos)); err != nil {
		return err
	}
	if s.last {
		return nil
	}
	next, err := s.toNext(ctx)
	if err != nil {
		return err
	}
	return next.send(s.ctx, []wire.Message{t})
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
func (s *seat) compute(ctx context.Context) error {
	b := &s.in
	if !finite(b.Hidden) {
		return &wire.Status{Code: wire.Failed, Detail: fmt.Sprintf("what came from stage %d is not finite", s.plan.Stage-1)}
	}
	for i := range b.frames {
		f := &b.frames[i]
		l := &s.lanes[f.Lane]
		if l.adapters != f.Adapters && f.Pos != 0 {
			return fault("the adapters of lane %d changed at position %d", f.Lane, f.Pos)
		}
		if err := s.cutLane(l, int(f.Lane), int(f.Pos)); err != nil {
			return err
		}
		l.length, l.adapters = int(f.Pos)+int(f.Tokens), f.Adapters
	}
	began := time.Now()
	out, err := s.stage.Run(s.ctx, b.StageBatch)
	if err != nil {
		return err
	}
	took := time.Since(began)
	s.tokensIn.Add(uint64(len(b.Rows)))
	s.bytes.Add(uint64(4 * len(b.Hidden)))
	if s.last {
		return s.answer(out, took)
	}
	next, err := s.toNext(ctx)
	if err != nil {
		return err
	}
	s.ms = b.forward(s.ms[:0], out.Hidden, s.info.Width)
	if err := next.send(s.ctx, s.ms); err != nil {
		return err
	}
	return s.report(b, took)
}

// report tells the head now and then how long a batch takes.
func (s *seat) report(b *batch, took time.Duration) error {
	if time.Since(s.reported) < reportEvery {
		return nil
	}
	s.reported = time.Now()
	r := s.ret(&b.frames[len(b.frames)-1], took)
	return s.returns.send(s.ctx, []wire.Message{&r})
}

// ret begins the answer to a frame.
func (s *seat) ret(f *wire.ActFwd, took time.Duration) wire.ActRet {
	r := wire.ActRet{Step: f.Step, Stage: s.plan.Stage, ComputeUs: uint32(took.Microseconds())}
	r.Pos = f.Pos + uint32(f.Tokens)
	return r
}

// answer sends the head what it wanted of each frame.
func (s *seat) answer(out engine.StageOutput, took time.Duration) error {
	s.rets, s.ms, s.raw = s.rets[:0], s.ms[:0], s.raw[:0]
	row, hidden := 0, 0
	for i := range s.in.frames {
		f := &s.in.frames[i]
		r := s.ret(f, took)
		from := len(s.raw)
		n := 1
		if f.Flags&wire.FwdEvery != 0 {
			n = int(f.Tokens)
		}
		r.Kind = f.Want
		switch f.Want {
		case wire.LogitRows, wire.TopRows:
			r.Width = uint32(s.info.VocabSize)
			if f.Want == wire.TopRows {
				r.Width = min(f.Top, uint32(s.info.VocabSize))
			}
			for _, logits := range out.Logits[row : row+n] {
				if f.Want == wire.LogitRows {
					s.raw = append(s.raw, rawBytes(logits)...)
				} else {
					s.best = top(s.best, logits, int(r.Width))
					s.raw = appendTop(s.raw, s.best)
				}
			}
			row += n
		case wire.HiddenRows:
			end := hidden + int(f.Tokens)*s.info.Width
			r.Width = uint32(s.info.Width)
			s.raw = append(s.raw, rawBytes(out.Hidden[end-n*s.info.Width:end])...)
		default:
			n = 0
		}
		hidden += int(f.Tokens) * s.info.Width
		if n > 0 {
			r.Tokens, r.Pos = uint16(n), f.Pos+uint32(f.Tokens)-uint32(n)
		}
		r.Rows = s.raw[from:len(s.raw):len(s.raw)]
		s.rets = append(s.rets, r)
	}
	at := 0
	for i := range s.rets { // raw has moved while it grew
		r := &s.rets[i]
		r.Rows = s.raw[at : at+len(r.Rows)]
		at += len(r.Rows)
		s.ms = append(s.ms, r)
	}
	return s.returns.send(s.ctx, s.ms)
}

// toNext is the way to the next stage. The stream to it is opened with the first frame.
func (s *seat) toNext(ctx context.Context) (*outlet, error) {
	if s.next != nil {
		return s.next, nil
	}
	p, err := session(ctx, s.host.cfg.Node, s.plan.Stages[s.plan.Stage+1].Node)
	if err != nil {
		return nil, err
	}
	open := &wire.KVTrim{Step: wire.Step{Chain: s.plan.Chain, Epoch: s.epoch}}
	x, err := p.Open(s.ctx, open)
	if err != nil {
		return nil, err
	}
	next := newOutlet(s.ctx, x, &s.wg)
	s.next = next
	s.wg.Go(func() {
		defer x.Close()
		_, err := receive(s.ctx, x) // nothing comes but the reason why it ends
		if err == nil {
			err = centram.Errorf(centram.Unavailable, "the next stage has ended its stream")
		}
		s.cancel(centram.Errorf(centram.Unavailable, "stage %d takes no frames: %w", s.plan.Stage+1, err))
	})
	return next, nil
}

const meetFor = 5 * time.Second

// session waits a moment for the connection to a node, which discovery makes.
func session(ctx context.Context, n *p2p.Node, id centram.PeerID) (*p2p.Peer, error) {
	ctx, cancel := context.WithTimeout(ctx, meetFor)
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
