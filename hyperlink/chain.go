package hyperlink

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/wire"
)

// Text is what a model knows of text. It stays with the asker, whatever machine computes.
type Text interface {
	engine.Vocabulary
	NewSampler(engine.SamplerConfig) (engine.Sampler, error)
	RenderChat(engine.Chat) (engine.RenderedChat, error)
	Close() error
}

// Table looks up the embeddings of tokens, and appends them to out.
type Table interface {
	Lookup(out []float32, tokens ...engine.Token) ([]float32, error)
	Close() error
}

// ChainConfig is what a Chain is made of. All but Adapters and Log is needed. The chain closes Text, Table and Own.
type ChainConfig struct {
	Node  *p2p.Node
	Text  Text
	Table Table
	Own   engine.Stage // the first layers
	Info  engine.Info  // of the whole model. Context, Sequences and BatchSize are the chain's
	Model wire.Hash
	// Stages are all of the chain, the first one being this node's.
	Stages []wire.PlanStage
	// Adapters finds the name of an adapter's file among peers. Nil means that there are none.
	Adapters func(engine.AdapterScale) (wire.AdapterScale, error)
	Log      *slog.Logger
}

// Chain is a model whose layers are on several machines. It implements engine.Model.
type Chain struct {
	Text
	cfg ChainConfig
	id  wire.ChainID
	log *slog.Logger

	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	remote []*remote // stages 1 and on
	next   *outlet

	start  sync.Mutex // held while a batch is computed here and sent
	out    batch
	ms     []wire.Message
	seq    uint32
	logits map[int]*row // of each lane

	mu    sync.Mutex          // guards the following
	steps map[uint32]*pending // by the frame that is not answered yet
}

// remote is a stage on another machine.
type remote struct {
	stage uint16
	peer  *p2p.Peer
	x     *p2p.Exchange
	ready *wire.HLReady

	mu   sync.Mutex // guards the following
	took time.Duration
}

// row is the memory of the logits of a lane.
type row struct {
	logits []float32
	used   []uint32 // the ids in it, if only some are
	some   bool
}

// pending is a step that is under way.
type pending struct {
	frames int // not answered yet
	wanted map[uint32][]*row
	hidden []float32 // instead of logits, for embeddings
	rows   [][]float32
	ended  bool
	result chan engine.StepResult
}

// Open puts the chain together: every machine loads its layers, and the chain is there when all are ready. ctx is for that
// alone.
func Open(ctx context.Context, cfg ChainConfig) (*Chain, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	c := &Chain{Text: cfg.Text, cfg: cfg, log: cfg.Log, logits: map[int]*row{}, steps: map[uint32]*pending{}}
	_, _ = rand.Read(c.id[:]) // never fails
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	if err := c.open(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Chain) open(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, len(c.cfg.Stages))
	c.remote = make([]*remote, len(c.cfg.Stages)-1)
	for i := range c.remote {
		wg.Go(func() { c.remote[i], errs[i] = c.propose(ctx, uint16(i+1)) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, r := range c.remote {
		c.wg.Go(func() { c.listen(r) })
	}
	first := c.remote[0]
	x, err := first.peer.Open(c.ctx, &wire.KVTrim{Step: wire.Step{Chain: c.id, Epoch: 1}})
	if err != nil {
		return err
	}
	c.next = newOutlet(c.ctx, x, &c.wg)
	c.wg.Go(func() {
		defer x.Close()
		_, err := receive(c.ctx, x) // nothing comes but the reason why it ends
		c.lost(first, err)
	})
	return nil
}

// propose has a machine load its layers.
func (c *Chain) propose(ctx context.Context, stage uint16) (*remote, error) {
	id := c.cfg.Stages[stage].Node
	failed := func(err error) (*remote, error) {
		return nil, centram.Errorf(centram.CodeOf(err), "the layers for %s are not ready: %w", id.Short(), err)
	}
	p, err := session(ctx, c.cfg.Node, id)
	if err != nil {
		return failed(err)
	}
	info := c.cfg.Info
	x, err := p.Open(c.ctx, &wire.HLPlan{
		Chain: c.id, Epoch: 1, Model: c.cfg.Model, Layers: uint16(info.Layers), Width: uint32(info.Embedding), Stages: c.cfg.Stages, Stage: stage,
		Rows: wire.F32, PromptRows: wire.F32, Keys: wire.F16, Values: wire.F16, Context: uint32(info.Context), Lanes: uint16(info.Sequences),
		Tokens: uint16(info.BatchSize), Frames: 2 * uint16(len(c.cfg.Stages)), Privacy: wire.Friend, ReadyMs: uint32(readyFor.Milliseconds()),
	})
	if err != nil {
		return failed(err)
	}
	stop := context.AfterFunc(ctx, x.Abort)
	r := &remote{stage: stage, peer: p, x: x}
	for r.ready == nil {
		m, err := x.Receive(c.ctx)
		if err == nil {
			err = r.takes(m, c.cfg.Stages[stage].Weights)
		}
		if err != nil {
			x.Close()
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return failed(err)
		}
	}
	if !stop() {
		x.Close()
		return failed(context.Cause(ctx))
	}
	return r, nil
}

// takes reads a machine's answer to the plan.
func (r *remote) takes(m wire.Message, weights wire.Hash) error {
	switch m := m.(type) {
	case *wire.HLAccept:
	case *wire.HLReady:
		if m.Weights != weights {
			return centram.Errorf(centram.Unavailable, "it has loaded other weights")
		}
		r.ready = m
	default:
		return centram.Errorf(centram.Unavailable, "it answered the plan with %s", wire.RowFor(m).Name)
	}
	return nil
}

// listen takes what a stage sends until the chain ends.
func (c *Chain) listen(r *remote) {
	defer r.x.Close()
	for {
		m, err := r.x.Receive(c.ctx)
		if err != nil {
			c.lost(r, err)
			return
		}
		ret, ok := m.(*wire.ActRet)
		if !ok {
			continue
		}
		if err := c.returned(r, ret); err != nil {
			c.lost(r, err)
			return
		}
	}
}

// lost ends the chain.
func (c *Chain) lost(r *remote, err error) {
	if err == nil {
		err = errors.New("it has ended the chain")
	}
	c.cancel(centram.Errorf(centram.Unavailable, "%s, which computes a part of the model, is lost: %w", r.peer.ID().Short(), err).
		WithHint("Ask again: the model will be put together from the machines that are there."))
	c.mu.Lock()
	defer c.mu.Unlock()
	for seq, p := range c.steps {
		delete(c.steps, seq)
		p.end(context.Cause(c.ctx))
	}
}

// end says how the step went. Only the first time counts.
func (p *pending) end(err error) {
	if !p.ended {
		p.ended = true
		p.result <- engine.StepResult{Output: engine.Output{Logits: p.rows}, Err: err}
	}
}

// returned takes a stage's answer to a frame.
func (c *Chain) returned(r *remote, m *wire.ActRet) error {
	if m.Chain != c.id || m.Stage != r.stage {
		return &wire.Status{Code: wire.Malformed, Detail: "an answer to another chain's frame"}
	}
	r.mu.Lock()
	r.took = time.Duration(m.ComputeUs) * time.Microsecond
	r.mu.Unlock()
	if int(r.stage) != len(c.cfg.Stages)-1 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.steps[m.Seq]
	if p == nil {
		return nil // of a step that was given up
	}
	delete(c.steps, m.Seq)
	if err := p.take(m, c.cfg.Info); err != nil {
		p.end(err)
		return err
	}
	if p.frames--; p.frames == 0 {
		p.end(nil)
	}
	return nil
}

// take puts the rows of an answer where they are wanted.
func (p *pending) take(m *wire.ActRet, info engine.Info) error {
	want := p.wanted[m.Seq]
	wrong := func() error {
		return &wire.Status{Code: wire.Malformed, Detail: fmt.Sprintf("an answer of %d rows of %d %s, want %d", m.Tokens, m.Width, m.Kind, len(want))}
	}
	if m.Kind == wire.HiddenRows {
		f, err := floats(m.Rows)
		if err != nil || p.hidden == nil || int(m.Width) != info.Embedding || !finite(f) {
			return wrong()
		}
		p.hidden = append(p.hidden, f...)
		return nil
	}
	if int(m.Tokens) != len(want) {
		return wrong()
	}
	for i, w := range want {
		switch {
		case m.Kind == wire.TopRows && w.some && m.DType == wire.F32:
			n := 8 * int(m.Width)
			var ok bool
			if w.used, ok = spread(w.logits, w.used, m.Rows[i*n:(i+1)*n]); !ok {
				return wrong()
			}
		case m.Kind == wire.LogitRows && !w.some && int(m.Width) == len(w.logits) && m.DType == wire.F32:
			n := 4 * len(w.logits)
			copy(rawBytes(w.logits), m.Rows[i*n:])
			if !finite(w.logits) {
				return wrong()
			}
		default:
			return wrong()
		}
	}
	return nil
}

// Info implements engine.Runner.
func (c *Chain) Info() engine.Info { return c.cfg.Info }

// Step implements engine.Runner.
func (c *Chain) Step(ctx context.Context, b engine.Batch) (engine.Output, error) {
	result, err := c.Start(ctx, b)
	if err != nil {
		return engine.Output{}, err
	}
	select {
	case r := <-result:
		return r.Output, r.Err
	case <-ctx.Done():
		return engine.Output{}, context.Cause(ctx)
	}
}

// Depth implements engine.Pipeline.
func (c *Chain) Depth() (groups, steps int) { return len(c.cfg.Stages), 2 * len(c.cfg.Stages) }

// Start implements engine.Pipeline: it computes the batch here and sends it on.
func (c *Chain) Start(ctx context.Context, b engine.Batch) (<-chan engine.StepResult, error) {
	if err := context.Cause(c.ctx); err != nil {
		return nil, err
	}
	adapters, err := c.adapters(b.Adapters)
	if err != nil {
		return nil, err
	}
	c.start.Lock()
	defer c.start.Unlock()
	c.out.cut(b.Rows, adapters)
	p := &pending{frames: len(c.out.frames), wanted: map[uint32][]*row{}, result: make(chan engine.StepResult, 1)}
	return p.result, c.send(ctx, b.Adapters, p)
}

// send computes what is in c.out here and sends it to the next stage.
func (c *Chain) send(ctx context.Context, adapters []engine.AdapterScale, p *pending) error {
	b := &c.out
	b.Hidden = b.Hidden[:0]
	var err error
	for _, r := range b.Rows {
		if b.Hidden, err = c.cfg.Table.Lookup(b.Hidden, r.Token); err != nil {
			return err
		}
	}
	own := b.StageBatch
	own.Adapters = adapters
	out, err := c.cfg.Own.Run(ctx, own)
	if err != nil {
		return err
	}
	for i := range b.frames {
		f := &b.frames[i]
		c.seq++
		f.Chain, f.Epoch, f.Seq = c.id, 1, c.seq
		f.Width = uint32(c.cfg.Info.Embedding)
		c.expect(p, f)
	}
	c.mu.Lock()
	for i := range b.frames {
		c.steps[b.frames[i].Seq] = p
	}
	c.mu.Unlock()
	c.ms = b.forward(c.ms[:0], out.Hidden, c.cfg.Info.Embedding)
	if err := c.next.send(c.ctx, c.ms); err != nil {
		c.lost(c.remote[0], err)
		return context.Cause(c.ctx)
	}
	return nil
}

// expect makes room for the logits that a frame asks for.
func (c *Chain) expect(p *pending, f *wire.ActFwd) {
	if f.Want != wire.LogitRows && f.Want != wire.TopRows {
		return
	}
	n := 1
	if f.Flags&wire.FwdEvery != 0 {
		n = int(f.Tokens)
	}
	for i := range n {
		r := c.room(int(f.Lane), i, f.Want == wire.TopRows)
		p.wanted[f.Seq] = append(p.wanted[f.Seq], r)
		p.rows = append(p.rows, r.logits)
	}
}

// room is the memory for the i-th row of a lane's step.
func (c *Chain) room(lane, i int, some bool) *row {
	key := lane + i*c.cfg.Info.Sequences
	r := c.logits[key]
	if r == nil {
		r = &row{logits: make([]float32, c.cfg.Info.VocabSize)}
		c.logits[key] = r
	}
	if some && !r.some {
		for j := range r.logits {
			r.logits[j] = impossible
		}
		r.used = r.used[:0]
	}
	r.some = some
	return r
}

func (c *Chain) adapters(list []engine.AdapterScale) (wire.Hash, error) {
	if len(list) == 0 {
		return wire.Hash{}, nil
	}
	return wire.Hash{}, centram.Errorf(centram.Unsupported, "a model on several machines takes no adapters yet")
}

// Trim implements engine.Runner. The other stages are told when a lane is given up; else the next frame tells them.
func (c *Chain) Trim(seq, pos int) error {
	c.start.Lock()
	defer c.start.Unlock()
	if err := c.cfg.Own.Trim(seq, pos); err != nil || pos > 0 {
		return err
	}
	if err := context.Cause(c.ctx); err != nil {
		return err
	}
	c.seq++
	trim := &wire.KVTrim{Step: wire.Step{Chain: c.id, Epoch: 1, Seq: c.seq, Lane: uint16(seq)}}
	return c.next.send(c.ctx, []wire.Message{trim})
}

// Embed implements engine.Model.
func (c *Chain) Embed(ctx context.Context, inputs [][]engine.Token) ([][]float32, error) {
	return nil, centram.Errorf(centram.Unsupported, "a model on several machines gives no embeddings yet")
}

// Close ends the chain and frees what is here.
func (c *Chain) Close() error {
	c.cancel(centram.Errorf(centram.Unavailable, "the model was unloaded"))
	c.wg.Wait()
	for _, r := range c.remote {
		if r != nil {
			r.x.Close()
		}
	}
	return errors.Join(c.cfg.Own.Close(), c.cfg.Table.Close(), c.cfg.Text.Close())
}
