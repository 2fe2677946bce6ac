// Package pool knows the machines that offer to compute layers, and puts models together from them.
//
// A node that shares says so in a record that all nodes come to have (HL_OFFER): how much memory it can spare, and how fast
// it reads weights and multiplies, as measured. Who wants a model that is too big for his machine plans with these offers
// (package plan), publishes the weights (package weights), and opens a hyperlink.Chain.
package pool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hyperlink"
	"github.com/centram/centram/hyperlink/plan"
	"github.com/centram/centram/hyperlink/weights"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/gossip"
	"github.com/centram/centram/p2p/wire"
)

const (
	offerEvery = time.Minute
	offerFor   = 3 * time.Minute
	offerLast  = 2 * time.Second // for an offer that is taken back: one that has expired already would not be passed on
	// A change that others should know of soon, such as a chain that has taken memory, is looked for so often.
	lookEvery = 2 * time.Second
	// lanRate is what a link is taken for that nothing was sent over yet: a hundred megabits a second.
	lanRate = 12.5e6
	lanRTT  = 10 * time.Millisecond // up to which it is taken for one
	// standbyEvery is how often a machine is looked for that could take another's place in a chain.
	standbyEvery = 15 * time.Second
	// answerFor is how long a machine may take to answer before it is planned with.
	answerFor = time.Second
)

// Privacy says which machines may compute a part of what this node asks. Whoever computes a part can read it.
type Privacy string

const (
	LocalOnly    Privacy = "local"   // none but this one
	TrustedPeers Privacy = "trusted" // those that were paired with
	AnyPeer      Privacy = "any"
)

// auditEvery is how often a machine's work is held against another's: never if it is trusted, since an audit costs another
// machine as much.
var auditEvery = map[Privacy]time.Duration{AnyPeer: time.Minute}

// Config is what a Pool stands on. All but Log is needed.
type Config struct {
	Node    *p2p.Node
	Records *gossip.Catalogue
	Layers  *weights.Store
	Privacy Privacy // empty means TrustedPeers
	// Share is the most memory that layers of others' chains may take together, given what is free now. 0 means that this
	// node computes for nobody.
	Share func() int64
	// Spare is the memory that a model of this node's own may take.
	Spare func() int64

	OpenStage func(ctx context.Context, path string, context, lanes, batch int) (engine.Stage, error)
	OpenText  func(ctx context.Context, path string) (hyperlink.Text, engine.Info, error)
	OpenTable func(path string) (hyperlink.Table, error)
	Backend   string // such as "cpu"
	Build     string // of the engine
	Log       *slog.Logger
}

// Pool is this node among those that share layers. It is safe for concurrent use.
type Pool struct {
	cfg  Config
	log  *slog.Logger
	host *hyperlink.Host

	standbyEvery time.Duration

	measuring sync.Mutex // held while this machine is measured

	mu     sync.Mutex // guards the following
	rates  rates
	offers map[centram.PeerID]*wire.HLOffer
	taken  int64 // bytes of layers that are served
	chains map[*hyperlink.Chain]*Running
	forced map[string]bool                // files that are split though they fit
	ahead  map[*hyperlink.Chain]time.Time // since when another plan would be faster
	mute   map[centram.PeerID]*p2p.Peer   // who did not answer when asked last, in that session
}

// Running is a model that is put together from several machines.
type Running struct {
	Path   string
	Choice plan.Choice
	Chain  *hyperlink.Chain
	Since  time.Time
}

// New makes the pool and registers what it answers. It is to be called before the node runs.
func New(cfg Config) *Pool {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Privacy == "" {
		cfg.Privacy = TrustedPeers
	}
	p := &Pool{
		cfg: cfg, log: cfg.Log, offers: map[centram.PeerID]*wire.HLOffer{}, chains: map[*hyperlink.Chain]*Running{}, forced: map[string]bool{}, ahead: map[*hyperlink.Chain]time.Time{},
		mute: map[centram.PeerID]*p2p.Peer{}, standbyEvery: standbyEvery,
	}
	p.host = hyperlink.NewHost(hyperlink.HostConfig{Node: cfg.Node, Open: p.serve, OpenAdapter: p.serveAdapter, Admit: p.admit, Log: cfg.Log})
	gossip.Keep(cfg.Records, p.offered)
	return p
}

// Host serves layers to others.
func (p *Pool) Host() *hyperlink.Host { return p.host }

// Run offers what this node can spare until ctx ends, and then takes the offer back. It also looks after the models that are
// put together.
func (p *Pool) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { p.replan(ctx) })
	p.share(ctx)
	return nil
}

// share offers what this machine can spare, once it was measured.
func (p *Pool) share(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var said int64
	var at time.Time
	for {
		p.makeRoom(ctx, 0) // a model of this node's own may have taken it
		now := p.free()
		if now > 0 && !p.known(ctx) {
			<-ctx.Done()
			return
		}
		if now != said || said > 0 && time.Since(at) >= offerEvery {
			p.offer(ctx, now, time.Now().Add(offerFor))
			said, at = now, time.Now()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if said > 0 {
				p.offer(context.WithoutCancel(ctx), said, time.Now().Add(offerLast))
			}
			return
		}
	}
}

// known measures this machine if it was not, and says whether it has its rates.
func (p *Pool) known(ctx context.Context) bool {
	p.measuring.Lock()
	defer p.measuring.Unlock()
	p.mu.Lock()
	done := p.rates != rates{}
	p.mu.Unlock()
	if done {
		return true
	}
	err := p.measure(ctx)
	if err != nil && ctx.Err() == nil {
		p.log.WarnContext(ctx, "This machine was not measured, so it computes for nobody", "err", err)
	}
	return err == nil
}

// free is the memory for layers of others that is not taken. What only stands by for others gives way.
func (p *Pool) free() int64 {
	n := p.cfg.Share()
	for _, s := range p.host.Standing() {
		n += s.(*served).need
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(0, n-p.taken)
}

func (p *Pool) offer(ctx context.Context, memory int64, until time.Time) {
	p.mu.Lock()
	r := p.rates
	p.mu.Unlock()
	_, err := p.cfg.Records.Publish(ctx, &wire.HLOffer{
		Seq: uint64(time.Now().UnixMilli()), Resident: []wire.LayerSpan{}, Memory: uint64(max(1, memory)),
		ReadRate: uint64(r.read), MulRate: uint64(r.mul), Context: 1 << 17, Lanes: 64, Backend: p.cfg.Backend, Build: p.cfg.Build,
		Expires: until.UnixMilli(),
	})
	if err != nil {
		p.log.WarnContext(ctx, "The offer to compute layers was not published", "err", err)
	}
}

// offered takes the offer of another node.
func (p *Pool) offered(_ context.Context, e gossip.Entry, o *wire.HLOffer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offers[e.Author] = o
	return nil
}

// admit refuses a chain that cannot fit before anything is fetched for it.
func (p *Pool) admit(_ context.Context, _ *p2p.Peer, a hyperlink.Assignment) error {
	if p.cfg.Share() == 0 {
		return &wire.Status{Code: wire.Denied, Detail: "this node computes for nobody"}
	}
	if p.free() == 0 {
		return &wire.Status{Code: wire.Busy, RetryMs: 1000, Detail: "all of the memory for layers is taken"}
	}
	return nil
}

// serve loads layers for the chain of another node. Before anything is fetched for it, it has its memory.
func (p *Pool) serve(ctx context.Context, a hyperlink.Assignment) (_ engine.Stage, err error) {
	s, err := p.cfg.Layers.Describe(ctx, a.Weights)
	if err != nil {
		return nil, err
	}
	if s.Slice != (centram.LayerRange{First: int(a.Layers.First), End: int(a.Layers.End)}) || s.WholeLayers != a.Whole {
		return nil, &wire.Status{Code: wire.Malformed, Detail: "the weights are those of other layers"}
	}
	need, err := memoryOf(s, a.Context, a.Lanes)
	if err != nil {
		return nil, err
	}
	if !a.Head.Standby {
		p.makeRoom(ctx, need)
	}
	if err := p.reserve(need); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.giveBack(need)
		}
	}()
	path, err := p.cfg.Layers.Slice(ctx, a.Weights, nil)
	if err != nil {
		return nil, err
	}
	stage, err := p.cfg.OpenStage(ctx, path, a.Context, a.Lanes, a.BatchSize)
	if err != nil {
		return nil, err
	}
	return &served{stage, p, need}, nil
}

// memoryOf is what layers take with their caches, in bytes. All of it is what another node says.
func memoryOf(s gguf.Summary, context, lanes int) (int64, error) {
	rows := int64(context) * int64(lanes) // of 31 and 10 bits
	if s.KVBytesPerToken > 0 && rows > (math.MaxInt64-s.SizeBytes)/s.KVBytesPerToken {
		return 0, &wire.Status{Code: wire.Malformed, Detail: "the caches are larger than any memory"}
	}
	return s.SizeBytes + s.KVBytesPerToken*rows, nil
}

// makeRoom has what only stands by give way to so much, as far as it has to, and if that helps.
func (p *Pool) makeRoom(ctx context.Context, need int64) {
	if need > p.free() {
		return
	}
	for _, s := range p.host.Standing() {
		share := p.cfg.Share()
		p.mu.Lock()
		enough := need <= share-p.taken
		p.mu.Unlock()
		if enough {
			return
		}
		p.log.InfoContext(ctx, "Layers that only stand by give way to those of a chain", "bytes", s.(*served).need)
		p.host.Dismiss(ctx, s)
	}
}

// reserve takes memory for layers, or says that there is not so much.
func (p *Pool) reserve(need int64) error {
	share := p.cfg.Share()
	p.mu.Lock()
	defer p.mu.Unlock()
	if free := share - p.taken; need > free {
		return &wire.Status{Code: wire.Busy, RetryMs: 1000, Detail: fmt.Sprintf("the layers need %d MiB, and %d are free", need>>20, max(0, free)>>20)}
	}
	p.taken += need
	return nil
}

func (p *Pool) giveBack(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken -= n
}

// serveAdapter gets the part of an adapter for layers that are served.
func (p *Pool) serveAdapter(ctx context.Context, a hyperlink.Assignment, recipe wire.Hash) (string, error) {
	slice, err := p.cfg.Layers.Slice(ctx, a.Weights, nil)
	if err != nil {
		return "", err
	}
	return p.cfg.Layers.Adapter(ctx, recipe, slice)
}

// served gives the memory back when the stage is closed.
type served struct {
	engine.Stage
	pool *Pool
	need int64
}

func (s *served) Close() error {
	defer s.pool.giveBack(s.need)
	return s.Stage.Close()
}

// Plan says how a model would be put together now, without loading anything.
func (p *Pool) Plan(ctx context.Context, path string, info engine.Info) (plan.Choice, error) {
	p.known(ctx)
	p.sound(ctx)
	in, err := p.input(path, info)
	if err != nil {
		return plan.Choice{}, err
	}
	return plan.Make(in)
}

// Need is the memory of this machine that a model would take if it is put together from several. It fails if it cannot be.
func (p *Pool) Need(ctx context.Context, path string, info engine.Info) (uint64, error) {
	choice, err := p.split(ctx, path, info)
	if err != nil {
		return 0, err
	}
	return uint64(choice.Stages[0].MemoryBytes), nil
}

// Open puts a model together from several machines.
func (p *Pool) Open(ctx context.Context, path string, progress func(float64)) (engine.Model, error) {
	text, info, err := p.cfg.OpenText(ctx, path)
	if err != nil {
		return nil, err
	}
	table, err := p.cfg.OpenTable(path)
	if err != nil {
		return nil, errors.Join(err, text.Close())
	}
	chain, err := p.open(ctx, path, text, table, info, progress)
	if err != nil {
		return nil, err
	}
	return chain, nil
}

// open closes text and table if it fails.
func (p *Pool) open(ctx context.Context, path string, text hyperlink.Text, table hyperlink.Table, info engine.Info, progress func(float64)) (engine.Model, error) {
	fail := func(err error) (engine.Model, error) { return nil, errors.Join(err, text.Close(), table.Close()) }
	choice, err := p.split(ctx, path, info)
	if err != nil {
		return fail(err)
	}
	published, err := p.cfg.Layers.Publish(ctx, path, func(done, of int64) { progress(0.5 * float64(done) / float64(of)) })
	if err != nil {
		return fail(err)
	}
	var stages []wire.PlanStage
	d := dealOf(choice.Option, published.Summary)
	for i, s := range choice.Stages {
		recipe, err := published.Recipe(ctx, d.stages[i])
		if err != nil {
			return fail(err)
		}
		stages = append(stages, wire.PlanStage{
			Node: s.Device, Layers: wire.LayerSpan{First: uint16(s.Layers.First), End: uint16(s.Layers.End)}, Weights: recipe,
		})
	}
	var own, output engine.Stage
	if own, d.ownFile, err = p.load(ctx, published, d.stages[0], info.Context, info); err != nil {
		return fail(err)
	}
	info.MemoryBytes = own.Info().MemoryBytes
	if d.sharesOutput() {
		if output, d.outputFile, err = p.load(ctx, published, d.output, outputContext, info); err != nil {
			return nil, errors.Join(err, own.Close(), text.Close(), table.Close())
		}
		info.MemoryBytes += output.Info().MemoryBytes
	}
	progress(0.6)
	r := &Running{Path: path, Choice: choice, Since: time.Now()}
	chain, err := hyperlink.Open(ctx, hyperlink.ChainConfig{
		Node: p.cfg.Node, Host: p.host, Text: text, Table: table, Own: own, Output: output, Info: info, Model: published.ID, Stages: stages, Log: p.log,
		AuditEvery: auditEvery[p.cfg.Privacy],
		Adapter: func(ctx context.Context, a engine.AdapterScale) (hyperlink.Adapter, error) {
			return p.adapter(ctx, a.Path, published, d)
		},
		Spare: func(_ context.Context, stages []wire.PlanStage, number uint16, failed []centram.PeerID) (centram.PeerID, error) {
			return p.spare(path, info, stages, number, failed)
		},
		StandbyEvery: p.standbyEvery,
	})
	if err != nil {
		return nil, err // it has closed all
	}
	progress(1)
	p.mu.Lock()
	r.Chain = chain
	p.chains[chain] = r
	p.mu.Unlock()
	return &pooled{chain, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.chains, chain)
		delete(p.ahead, chain)
	}}, nil
}

// outputContext is the length of texts for a stage that has none: it is there for its rows of the output matrix.
const outputContext = 256

// load makes the file of a share of a model and loads it, for texts of so many tokens.
func (p *Pool) load(ctx context.Context, m *weights.Published, share gguf.Share, length int, info engine.Info) (stage engine.Stage, file string, err error) {
	recipe, err := m.Recipe(ctx, share)
	if err != nil {
		return nil, "", err
	}
	if file, err = p.cfg.Layers.Slice(ctx, recipe, nil); err != nil {
		return nil, "", err
	}
	stage, err = p.cfg.OpenStage(ctx, file, length, info.Sequences, info.BatchSize)
	return stage, file, err
}

// deal is who has what of a model, and in which files this machine has its own.
type deal struct {
	stages              []gguf.Share
	output              gguf.Share // what this machine has of the output matrix, if it has a part
	ownFile, outputFile string
}

func (d deal) sharesOutput() bool { return d.output.Tokens.Len() > 0 }

func dealOf(o plan.Option, m gguf.Summary) (d deal) {
	for _, s := range o.Stages {
		d.stages = append(d.stages, gguf.Share{Layers: s.Layers})
	}
	steps := m.VocabSize / gguf.TokenStep
	here := min(int(math.Round(o.Shared*float64(steps))), steps-1)
	if here > 0 {
		cut := (steps - here) * gguf.TokenStep
		d.stages[len(d.stages)-1].Tokens = gguf.TokenRange{End: cut}
		// The layer comes with it, since llama.cpp loads no model without one, and is not read.
		d.output = gguf.Share{Layers: centram.LayerRange{First: m.Layers - 1, End: m.Layers}, Tokens: gguf.TokenRange{First: cut, End: m.VocabSize}}
	}
	return d
}

// adapter publishes an adapter for the stages of a chain, and makes the files of what is for this machine.
func (p *Pool) adapter(ctx context.Context, path string, m *weights.Published, d deal) (hyperlink.Adapter, error) {
	a, err := p.cfg.Layers.PublishAdapter(ctx, path, m.Summary)
	if err != nil {
		return hyperlink.Adapter{}, err
	}
	out := hyperlink.Adapter{ID: a.ID}
	for _, s := range d.stages {
		part, err := a.Recipe(ctx, s)
		if err != nil {
			return out, err
		}
		out.Parts = append(out.Parts, part)
	}
	if !out.Parts[0].IsZero() {
		if out.Own, err = p.cfg.Layers.Adapter(ctx, out.Parts[0], d.ownFile); err != nil {
			return out, err
		}
	}
	if !d.sharesOutput() {
		return out, nil
	}
	part, err := a.Recipe(ctx, d.output)
	if err == nil && !part.IsZero() {
		out.Output, err = p.cfg.Layers.Adapter(ctx, part, d.outputFile)
	}
	return out, err
}

// pooled takes itself off the list when it is closed.
type pooled struct {
	*hyperlink.Chain
	gone func()
}

func (c *pooled) Close() error {
	defer c.gone()
	return c.Chain.Close()
}

// Running lists the models that are put together now.
func (p *Pool) Running() []Running {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []Running
	for _, r := range p.chains {
		list = append(list, *r)
	}
	slices.SortFunc(list, func(a, b Running) int { return a.Since.Compare(b.Since) })
	return list
}

// Force has a model split though it fits this machine, or no longer.
func (p *Pool) Force(path string, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if on {
		p.forced[path] = true
	} else {
		delete(p.forced, path)
	}
}

// Forced says whether a model is to be split though it fits.
func (p *Pool) Forced(path string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.forced[path]
}
