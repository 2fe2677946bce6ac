package hyperlink

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
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

// ChainConfig is what a Chain is made of. All but Output, Adapter, Spare, StandbyEvery, AuditEvery and Log is needed. The chain
// closes Text, Table, Own and Output.
type ChainConfig struct {
	Node  *p2p.Node
	Host  *Host // of the same node: it hears what stages say of each other
	Text  Text
	Table Table
	Own   engine.Stage // the first layers
	// Output has the last rows of the output matrix; the last stage has the ones before. Nil means that it has all.
	Output engine.Stage
	Info   engine.Info // of the whole model. Context, Sequences and BatchSize are the chain's
	Model  wire.Hash
	// Stages are all of the chain, the first one being this node's.
	Stages []wire.PlanStage
	// Adapter publishes an adapter for the stages. Nil means that there are none.
	Adapter func(ctx context.Context, a engine.AdapterScale) (Adapter, error)
	// Spare finds another node for one of the stages, which is none of those that have failed. Nil means that there is none:
	// then the chain ends with the first stage that is lost.
	Spare func(ctx context.Context, stages []wire.PlanStage, number uint16, failed []centram.PeerID) (centram.PeerID, error)
	// StandbyEvery is how often machines are looked for that load a stage's layers as well, to take its place should it be lost.
	// They are asked when the chain rests. 0 means never.
	StandbyEvery time.Duration
	// AuditEvery is how often, about, another machine is asked to compute along with one of the chain, to see that both
	// come to the same. 0 means never. If it is not 0 or Stages names standbys, machines have to commit themselves to their
	// work.
	AuditEvery time.Duration
	Log        *slog.Logger
}

// Chain is a model whose layers are on several machines. It implements engine.Model and engine.Pipeline.
type Chain struct {
	Text
	cfg ChainConfig
	id  wire.ChainID
	log *slog.Logger

	ctx      context.Context
	cancel   context.CancelCauseFunc
	wg       sync.WaitGroup
	deaf     func()
	troubles chan trouble
	since    time.Time
	closing  atomic.Bool // machines that end now are no trouble

	audits bool // commitments are held against others

	// computing is held by who computes here, the first layers or the output matrix: their threads would take each other the
	// processors.
	computing gate
	toDo      chan struct{} // has something in it when there are jobs

	gate    gate // guards the following: while a machine is being replaced, no batch is begun
	out     batch
	next    *edge
	seq     uint32
	memory  memory
	widths  widths
	sets    adapterSets
	sending windows // of what goes into the first of the others

	mu         sync.Mutex // guards the following
	epoch      uint32
	stages     []wire.PlanStage
	remote     []*remote // stages 1 and on
	standbys   map[uint16]*remote
	flight     []*pending // steps under way, in order
	jobs       []job      // of which the head's part of the output matrix is to be computed
	frames     map[uint32]unanswered
	refill     uint16 // the first stage whose cache may not be what it should be; 0: all are
	pace       pace
	took       recent                            // by the first stage
	accusers   map[centram.PeerID]accusations    // of nodes that have said that others are lost, or send what cannot be right
	mending    bool                              // a machine is being replaced, and late is what waits for that
	mendedAt   time.Time                         // when that was over
	compared   int                               // commitments, against others
	failed     []centram.PeerID                  // in the order in which they did
	auditor    *remote                           // who computes along for a while
	hiring     context.CancelFunc                // ends the wait for a machine that loads a stage to stand by
	tainted    map[uint16]bool                   // lanes whose text may have been computed wrongly
	trims      []wire.Step                       // that wait for the gate
	sent       uint32                            // number of the last frame that was sent
	landedTo   uint32                            // and of the last one that was answered
	lateness   int                               // repairs for lateness since a step has ended
	allow      time.Time                         // until when caches are being filled, and nobody is blamed
	distrusted []centram.PeerID                  // nodes whose work did not stand up to another's
	hearing    windows                           // of what the last stage answers
	due        []*dueWindow                      // in the order in which they were sent
	doubted    map[centram.PeerID]centram.PeerID // whose output was another input by the word of the next; and which one that was
}

// Open puts the chain together: every machine loads its layers, and the chain is there when all are ready. ctx is for that
// alone.
func Open(ctx context.Context, cfg ChainConfig) (*Chain, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	c := &Chain{
		Text: cfg.Text, cfg: cfg, log: cfg.Log, frames: map[uint32]unanswered{}, epoch: 1, stages: cfg.Stages,
		gate: newGate(), computing: newGate(), toDo: make(chan struct{}, 1), troubles: make(chan trouble, 64), standbys: map[uint16]*remote{},
		tainted: map[uint16]bool{}, sending: windows{}, hearing: windows{}, doubted: map[centram.PeerID]centram.PeerID{},
		accusers: map[centram.PeerID]accusations{}, sets: adapterSets{own: map[wire.Hash][]engine.AdapterScale{}, output: map[wire.Hash][]engine.AdapterScale{}, known: map[string]wire.Hash{}},
	}
	c.audits = cfg.AuditEvery > 0 || slices.ContainsFunc(cfg.Stages, func(s wire.PlanStage) bool { return s.Standby != centram.PeerID{} })
	_, _ = rand.Read(c.id[:]) // never fails
	c.memory = memory{vocab: cfg.Info.VocabSize, keep: c.Overlap() + 1, lanes: map[uint16][][]*row{}, spare: map[wire.Result][]*row{}}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.deaf = cfg.Host.watch(c)
	if err := c.open(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.since = time.Now()
	c.wg.Go(c.mend)
	c.wg.Go(c.watch)
	if cfg.Output != nil {
		c.wg.Go(c.unembed)
	}
	if cfg.AuditEvery > 0 {
		c.wg.Go(c.audit)
	}
	if cfg.StandbyEvery > 0 && cfg.Spare != nil {
		c.wg.Go(c.keepStandbys)
	}
	return c, nil
}

func (c *Chain) open(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, len(c.stages))
	c.remote = make([]*remote, len(c.stages)-1)
	for i := range c.remote {
		stage := uint16(i + 1)
		wg.Go(func() { c.remote[i], errs[i] = c.propose(ctx, stage, c.stages[stage].Node, 1, false) })
		if standby := c.stages[stage].Standby; standby != (centram.PeerID{}) {
			wg.Go(func() {
				r, err := c.propose(ctx, stage, standby, 1, true)
				if err != nil {
					c.log.WarnContext(ctx, "There is no standby", "stage", stage, "err", err)
					return
				}
				r.along = true
				c.mu.Lock()
				defer c.mu.Unlock()
				c.standbys[stage] = r
			})
		}
	}
	wg.Wait()
	for _, r := range c.remote {
		if r != nil {
			c.wg.Go(func() { c.listen(r) })
		}
	}
	for _, r := range c.standbys {
		c.wg.Go(func() { c.listen(r) })
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	c.next = &edge{
		history: history{most: c.cfg.Info.BatchSize},
		ctx:     c.ctx, node: c.cfg.Node, wg: &c.wg, chain: c.id, width: c.cfg.Info.Embedding,
		broken: func(to centram.PeerID, err error) {
			c.mu.Lock()
			epoch := c.epoch
			c.mu.Unlock()
			c.report(trouble{stage: 1, node: to, cause: wire.StageLost, err: err, epoch: epoch})
		},
	}
	if err := c.next.connect(ctx, c.stages[1].Node, 1); err != nil {
		return err
	}
	if r := c.standbys[1]; r != nil {
		_ = c.next.accompany(ctx, r.id, 1) // then it is none
	}
	return nil
}

// propose has a machine load the layers of a stage. If the connection ends meanwhile, as one of two does when both sides
// have dialled, it is asked again over the other.
func (c *Chain) propose(ctx context.Context, stage uint16, id centram.PeerID, epoch uint32, standby bool) (r *remote, err error) {
	patience := readyFor
	if epoch > 1 && !standby {
		patience = repairFor
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, centram.Errorf(centram.Unavailable, "it was not ready within %v", patience))
	defer cancel()
	for range proposals {
		var p *p2p.Peer
		if p, err = session(ctx, c.cfg.Node, id, meetFor); err != nil {
			break
		}
		if r, err = c.ask(ctx, p, stage, epoch, standby); err == nil || c.cfg.Node.Peer(id) == p {
			break
		}
	}
	if err != nil {
		return nil, centram.Errorf(centram.CodeOf(err), "the layers for %s are not ready: %w", id.Short(), err)
	}
	return r, nil
}

const proposals = 3

// ask sends the plan and waits for the machine to be ready.
func (c *Chain) ask(ctx context.Context, p *p2p.Peer, stage uint16, epoch uint32, standby bool) (*remote, error) {
	id := p.ID()
	living, release := context.WithCancel(c.ctx)
	opening := context.AfterFunc(ctx, release)
	plan := c.plan(stage, id, epoch, standby)
	x, err := p.Open(living, plan)
	opening()
	if err != nil {
		release()
		return nil, err
	}
	stop := context.AfterFunc(ctx, x.Abort)
	r := &remote{stage: stage, epoch: epoch, id: id, peer: p, x: x, release: release, sets: setsOf(plan.Adapters), readies: make(chan *wire.HLReady, 4), gone: make(chan struct{})}
	for r.ready == nil {
		m, err := x.Receive(c.ctx)
		if err == nil {
			err = r.takes(m, c.cfg.Stages[stage].Weights)
		}
		if err != nil {
			x.Close()
			release()
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return nil, err
		}
	}
	if !stop() {
		x.Close()
		release()
		return nil, context.Cause(ctx)
	}
	return r, nil
}

// plan is what a machine is asked to do.
func (c *Chain) plan(stage uint16, id centram.PeerID, epoch uint32, standby bool) *wire.HLPlan {
	c.mu.Lock()
	stages, sets := slices.Clone(c.stages), c.sets
	c.mu.Unlock()
	if !standby {
		stages[stage].Node = id
		if stages[stage].Standby == id {
			stages[stage].Standby = centram.PeerID{}
		}
	} else {
		stages[stage].Standby = id
	}
	info := c.cfg.Info
	q := &wire.HLPlan{
		Chain: c.id, Epoch: epoch, Model: c.cfg.Model, Layers: uint16(info.Layers), Width: uint32(info.Embedding),
		Stages: stages, Stage: stage, Standby: standby,
		Rows: wire.F32, PromptRows: wire.F32, Keys: wire.F16, Values: wire.F16, Context: uint32(info.Context), Lanes: uint16(info.Sequences),
		Tokens: uint16(info.BatchSize), Frames: 2 * uint16(len(stages)), Privacy: wire.Friend, ReadyMs: uint32(readyFor.Milliseconds()),
		Adapters: sets.sets, TailTokens: uint32(c.tailTokens()),
	}
	if sets.parts != nil {
		q.Parts = sets.parts[stage]
	}
	return q
}

// listen takes what a stage sends until its part in the chain ends.
func (c *Chain) listen(r *remote) {
	defer r.release()
	defer r.x.Close()
	defer close(r.gone)
	for {
		m, err := r.x.Receive(c.ctx)
		if err != nil && r.over() {
			return // it has said goodbye
		}
		if err != nil {
			c.report(trouble{stage: r.stage, node: r.id, cause: wire.StageLost, err: err, of: r})
			return
		}
		switch m := m.(type) {
		case *wire.ActRet:
			if err := c.returned(r, m); err != nil {
				c.report(trouble{stage: r.stage, node: r.id, cause: wire.StageWrong, err: err, of: r})
				return
			}
		case *wire.HLClose:
			r.mu.Lock()
			r.closed = m
			r.mu.Unlock()
		case *wire.WinCommit:
			c.committed(r, m)
		case *wire.HLReady:
			select {
			case r.readies <- m:
			default: // nobody has asked for so many
			}
		}
	}
}

// returned takes a stage's answer to a frame.
func (c *Chain) returned(r *remote, m *wire.ActRet) error {
	if m.Chain != c.id || m.Stage != r.stage {
		return &wire.Status{Code: wire.Malformed, Detail: "an answer to another chain's frame"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	u, ok := c.frames[m.Seq]
	ok = ok && int(r.stage) == len(c.stages)-1 && m.Epoch == c.epoch && c.remote[r.stage-1] == r
	if ok && c.isAhead(u, m) {
		return c.takeAhead(u, m)
	}
	r.mu.Lock()
	r.took.add(time.Duration(m.ComputeUs) * time.Microsecond)
	if m.Seq <= c.sent { // nobody has done what was not sent
		r.seq = max(r.seq, m.Seq)
	}
	r.mu.Unlock()
	if !ok {
		return nil
	}
	if err := u.step.take(u.frame, m, cmp.Or(c.tailTokens(), c.cfg.Info.VocabSize), c.cfg.Output != nil); err != nil {
		return err // it stays under way: another machine will do it
	}
	c.answered(u, m)
	delete(c.frames, m.Seq)
	c.landedTo = max(c.landedTo, m.Seq)
	u.step.left--
	c.land()
	return nil
}

// Rest ends the chain if nothing was computed for a while. It says whether it has.
func (c *Chain) Rest(idle time.Duration, why error) bool {
	if c.enter(c.ctx) != nil {
		return false
	}
	defer c.leave()
	c.mu.Lock()
	resting := len(c.flight) == 0 && time.Since(later(c.pace.last, c.since)) >= idle
	c.mu.Unlock()
	if resting {
		c.end(why)
	}
	return resting
}

// Ended implements engine.Mortal.
func (c *Chain) Ended() <-chan struct{} { return c.ctx.Done() }

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

// Overlap implements engine.Overlapper.
func (c *Chain) Overlap() int { return 2 * len(c.cfg.Stages) }

// Start implements engine.Pipeline: it computes the batch here and sends it on. While a lost machine is being replaced it
// waits.
func (c *Chain) Start(ctx context.Context, b engine.Batch) (<-chan engine.StepResult, error) {
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	defer c.leave()
	if err := c.trimNow(); err != nil {
		return nil, err
	}
	adapters, own, err := c.adapters(ctx, b.Adapters)
	if err != nil {
		return nil, err
	}
	batches := c.widths.batches(b.Rows, len(c.cfg.Stages))
	s, size := newStep(batches), len(b.Rows)/batches
	for rows := range slices.Chunk(b.Rows, size) {
		if err := c.begin(ctx, s, rows, adapters, own); err != nil {
			return nil, err // what was sent is answered to nobody
		}
	}
	return s.result, nil
}

// begin computes a batch of a step here and sends it on.
func (c *Chain) begin(ctx context.Context, s *step, rows []engine.Row, adapters wire.Hash, own []engine.AdapterScale) error {
	c.out.cut(rows, adapters)
	if err := c.taints(c.out.frames); err != nil {
		return err
	}
	hidden, err := c.first(ctx, own)
	if err != nil {
		return err
	}
	p := newPending(s, c.out.frames, hidden)
	c.memory.begin(p, len(s.rows) > 0)
	c.mu.Lock()
	if err := context.Cause(c.ctx); err != nil { // it has ended meanwhile, and all that was under way
		c.mu.Unlock()
		return err
	}
	c.flight = append(c.flight, p)
	c.mu.Unlock()
	c.send(p)
	p.keepHidden() // now that nobody waits for it
	return nil
}

// enter waits for the chain to be free for a batch.
func (c *Chain) enter(ctx context.Context) error {
	select {
	case <-c.gate:
		if err := context.Cause(c.ctx); err != nil {
			c.leave()
			return err
		}
		return nil
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *Chain) leave() { c.gate.Unlock() }

// first computes the layers that are here.
func (c *Chain) first(ctx context.Context, adapters []engine.AdapterScale) ([]float32, error) {
	b := &c.out
	b.Hidden = b.Hidden[:0]
	var err error
	for _, r := range b.Rows {
		if b.Hidden, err = c.cfg.Table.Lookup(b.Hidden, r.Token); err != nil {
			return nil, err
		}
	}
	own := b.StageBatch
	own.Adapters = adapters
	for _, f := range b.frames {
		if err := c.cfg.Own.Trim(int(f.Lane), int(f.Pos)); err != nil {
			return nil, err
		}
	}
	c.computing.Lock()
	began := time.Now()
	out, err := c.cfg.Own.Run(ctx, own)
	took := time.Since(began)
	c.computing.Unlock()
	c.widths.add(len(own.Rows), took)
	c.mu.Lock()
	c.took.add(took)
	c.mu.Unlock()
	return out.Hidden, err
}

// send sends a step's frames, with numbers of their own, to the next stage.
func (c *Chain) send(p *pending) {
	due := c.expect(p)
	c.mu.Lock()
	p.anew(c.cfg.Output != nil)
	for i := range p.batch {
		f := &p.batch[i]
		c.seq++
		f.Chain, f.Epoch, f.Seq = c.id, c.epoch, c.seq
		c.frames[f.Seq] = unanswered{p, i}
		c.sent = f.Seq
	}
	for _, d := range due {
		d.by = c.seq
	}
	c.due = append(c.due, due...)
	p.sent = time.Now()
	c.mu.Unlock()
	c.next.send(p.batch, p.hidden)
}

// Trim implements engine.Runner. The other stages are told when a lane is given up; else the next frame tells them.
//
// While a machine is being replaced it does not wait: what is to be forgotten is noted, and forgotten before the next batch.
func (c *Chain) Trim(seq, pos int) error {
	if err := context.Cause(c.ctx); err != nil {
		return err
	}
	c.mu.Lock()
	if pos == 0 {
		delete(c.tainted, uint16(seq))
	}
	c.trims = append(c.trims, wire.Step{Lane: uint16(seq), Pos: uint32(pos)})
	c.mu.Unlock()
	select {
	case <-c.gate:
		defer c.leave()
		return c.trimNow()
	default:
		return nil
	}
}

// trimNow forgets what was noted. The gate is held.
func (c *Chain) trimNow() error {
	c.mu.Lock()
	trims, epoch := c.trims, c.epoch
	c.trims = nil
	c.mu.Unlock()
	for _, t := range trims {
		if err := c.cfg.Own.Trim(int(t.Lane), int(t.Pos)); err != nil {
			return err
		}
		if t.Pos > 0 {
			continue
		}
		c.seq++
		c.next.trim(&wire.KVTrim{Step: wire.Step{Chain: c.id, Epoch: epoch, Seq: c.seq, Lane: t.Lane}})
	}
	return nil
}

// Stages is what the chain is made of now, with who stands by.
func (c *Chain) Stages() []wire.PlanStage {
	c.mu.Lock()
	defer c.mu.Unlock()
	stages := slices.Clone(c.stages)
	for i := range stages {
		stages[i].Standby = centram.PeerID{} // one that the plan names may be lost
		if r := c.standbys[uint16(i)]; r != nil {
			stages[i].Standby = r.id
		}
	}
	return stages
}
