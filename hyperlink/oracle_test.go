package hyperlink_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/hyperlink"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/p2ptest"
	"github.com/centram/centram/p2p/wire"
)

const (
	oracleLayers = 12
	oracleVocab  = 200
	oracleWidth  = 2
)

// oracle is a stage without weights. Each of its layers mixes what comes in with all that came before in its sequence, as
// attention does, and refuses a row that does not follow: a slip in positions, trims or replays shows as an error or as other
// numbers in all that comes after.
type oracle struct {
	first, end int
	info       engine.StageInfo
	delay      time.Duration // of a batch
	perRow     time.Duration // and of each of its rows
	fail       func(*engine.StageBatch, *engine.StageOutput) error
	digests    [][][]uint32 // by layer and sequence: after each position
	out        []float32
	busy       atomic.Bool
	closed     atomic.Bool
}

func newOracle(first, end, lanes int) *oracle {
	o := &oracle{first: first, end: end, info: engine.StageInfo{
		Width: oracleWidth, Layers: end - first, Last: end == oracleLayers, VocabSize: oracleVocab, Context: 1000, Sequences: lanes, BatchSize: 128,
	}}
	o.digests = make([][][]uint32, end-first)
	for i := range o.digests {
		o.digests[i] = make([][]uint32, lanes)
	}
	return o
}

func mix(a, b, c uint32) uint32 {
	h := a*2654435761 + b*40503 + c*2246822519 + 374761393
	h ^= h >> 15
	h *= 2246822519
	h ^= h >> 13
	return h
}

func (o *oracle) Run(ctx context.Context, b engine.StageBatch) (engine.StageOutput, error) {
	if !o.busy.CompareAndSwap(false, true) || o.closed.Load() {
		return engine.StageOutput{}, errors.New("a stage is used twice at once, or after its end")
	}
	defer o.busy.Store(false)
	if delay := o.delay + o.perRow*time.Duration(len(b.Rows)); delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return engine.StageOutput{}, ctx.Err()
		}
	}
	o.out = append(o.out[:0], b.Hidden...)
	var out engine.StageOutput
	for i, r := range b.Rows {
		v := uint32(o.out[i*oracleWidth])
		for l := range o.digests {
			seq := o.digests[l][r.Seq]
			if len(seq) != r.Pos {
				return out, fmt.Errorf("layer %d has %d positions of sequence %d, a row comes for %d", o.first+l, len(seq), r.Seq, r.Pos)
			}
			before := uint32(0)
			if r.Pos > 0 {
				before = seq[r.Pos-1]
			}
			v = mix(v, before, uint32(o.first+l)) & 0xffffff // what a float32 holds
			o.digests[l][r.Seq] = append(seq, mix(before, v, 7))
		}
		o.out[i*oracleWidth] = float32(v)
		switch {
		case !o.info.Last || !r.Logits:
		case b.Normed:
			out.Hidden = append(out.Hidden, o.out[i*oracleWidth:(i+1)*oracleWidth]...)
		default:
			out.Logits = append(out.Logits, o.logits(v))
		}
	}
	if !o.info.Last {
		out.Hidden = o.out
	}
	if o.fail != nil {
		if err := o.fail(&b, &out); err != nil {
			return engine.StageOutput{}, err
		}
	}
	return out, nil
}

// logits are those of the tokens that the stage has.
func (o *oracle) logits(v uint32) []float32 {
	all := make([]float32, o.info.VocabSize)
	for i := range all {
		all[i] = float32(mix(v, uint32(o.info.FirstToken+i), 3)&0xffff) / 65536
	}
	return all
}

func (o *oracle) Unembed(ctx context.Context, b engine.StageBatch) (out engine.StageOutput, err error) {
	if !o.info.Last {
		return out, errors.New("a stage without the output")
	}
	if !o.busy.CompareAndSwap(false, true) || o.closed.Load() {
		return out, errors.New("a stage is used twice at once, or after its end")
	}
	defer o.busy.Store(false)
	if o.delay > 0 {
		select {
		case <-time.After(o.delay / 4):
		case <-ctx.Done():
			return out, ctx.Err()
		}
	}
	for i := range len(b.Hidden) / oracleWidth {
		out.Logits = append(out.Logits, o.logits(uint32(b.Hidden[i*oracleWidth])))
	}
	if o.fail != nil {
		err = o.fail(&b, &out)
	}
	return out, err
}

func (o *oracle) Trim(seq, pos int) error {
	for l := range o.digests {
		o.digests[l][seq] = o.digests[l][seq][:min(pos, len(o.digests[l][seq]))]
	}
	return nil
}

func (o *oracle) Info() engine.StageInfo { return o.info }

func (o *oracle) Close() error {
	o.closed.Store(true)
	return nil
}

// oracleText is what the chain needs besides layers.
type oracleText struct{ hyperlink.Text }

func (oracleText) Close() error { return nil }
func (oracleText) Lookup(out []float32, tokens ...engine.Token) ([]float32, error) {
	for _, t := range tokens {
		out = append(out, float32(t), float32(math.Pi))
	}
	return out, nil
}

// alone is the oracle as one machine has it.
type alone struct{ *oracle }

func (a alone) Step(ctx context.Context, b engine.Batch) (engine.Output, error) {
	var hidden []float32
	for _, r := range b.Rows {
		if err := a.Trim(r.Seq, r.Pos); err != nil {
			return engine.Output{}, err
		}
		hidden, _ = oracleText{}.Lookup(hidden, r.Token)
	}
	out, err := a.Run(ctx, engine.StageBatch{Rows: b.Rows, Hidden: hidden})
	return engine.Output{Logits: out.Logits}, err
}

func (a alone) Info() engine.Info { return engine.Info{VocabSize: oracleVocab} }

// park is a network of machines that host stages of the oracle.
type park struct {
	t     testing.TB
	net   *p2ptest.Net
	nodes []*p2ptest.Node
	hosts []*hyperlink.Host

	mu    sync.Mutex
	dead  map[centram.PeerID]bool
	shape func(node int, o *oracle)                 // changes a machine's stages as they are made
	own   func(o *oracle)                           // and that of the head
	load  func(ctx context.Context, node int) error // before a machine has a stage

	tail int // tokens that the last machine gives logits of, and the head of the others. 0: of all

	auditEvery, standbyEvery time.Duration
	reports                  reports
}

// reports notes what is logged of machines that are replaced.
type reports struct {
	mu   sync.Mutex
	list []string // "peer cause: error"
}

func (r *reports) Enabled(context.Context, slog.Level) bool { return true }
func (r *reports) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *reports) WithGroup(string) slog.Handler            { return r }

func (r *reports) Handle(_ context.Context, rec slog.Record) error {
	if rec.Message != "A machine of the chain is replaced" {
		return nil
	}
	said := map[string]string{}
	rec.Attrs(func(a slog.Attr) bool {
		said[a.Key] = a.Value.String()
		return true
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, fmt.Sprintf("%s %s: %s", said["peer"], said["cause"], said["err"]))
	return nil
}

// wantNone wants no machine to have been replaced for such a reason.
func (r *reports) wantNone(t testing.TB, reason string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, report := range r.list {
		if strings.Contains(report, reason) {
			t.Errorf("replaced: %q, want no machine to be taken for a liar", report)
		}
	}
}

// wantReplaced wants these machines to have been replaced, as the log says, and no others.
func (p *park) wantReplaced(want ...string) {
	p.t.Helper()
	p.reports.mu.Lock()
	defer p.reports.mu.Unlock()
	if !slices.Equal(p.reports.list, want) {
		p.t.Errorf("replaced: %q, want %q", p.reports.list, want)
	}
}

// log is where the machines' words go: to the test if it runs one seed.
func (p *park) log(who string) *slog.Logger {
	if *killSeed < 0 {
		return slog.New(&p.reports)
	}
	return slog.New(slog.NewTextHandler(p.t.Output(), nil)).With("on", who)
}

func newPark(t testing.TB, seed uint64, n int, faults p2ptest.Faults) *park {
	p := &park{t: t, net: p2ptest.New(t, seed, faults), dead: map[centram.PeerID]bool{}}
	// In fake time, machines that wait for something for ever would beat on until the whole test run is out of time.
	hung := time.AfterFunc(2*time.Hour, func() {
		debug.SetTraceback("all")
		panic(fmt.Sprintf("%s: seed %d has not ended after two hours", t.Name(), seed))
	})
	t.Cleanup(func() { hung.Stop() })
	for i := range n {
		p.start(i, n)
	}
	for i, a := range p.nodes {
		for _, b := range p.nodes[:i] {
			p2ptest.Eventually(t, 20*time.Second, "a session", func() bool { return a.Peer(b.ID()) != nil })
		}
	}
	time.Sleep(2 * time.Second) // of two sessions of the same nodes one ends
	return p
}

func (p *park) start(i, n int) {
	cfg := p2p.Config{Policy: p2p.PolicyOpen}
	for j := range n {
		if j != i {
			cfg.Peers = append(cfg.Peers, p2ptest.Addr(j).String())
		}
	}
	var host *hyperlink.Host
	node := p.net.Node(i, cfg, func(n *p2p.Node) {
		host = hyperlink.NewHost(hyperlink.HostConfig{Node: n, Open: func(ctx context.Context, a hyperlink.Assignment) (engine.Stage, error) {
			if p.load != nil {
				if err := p.load(ctx, i); err != nil {
					return nil, err
				}
			}
			o := newOracle(int(a.Layers.First), int(a.Layers.End), a.Lanes)
			if tail := int(a.Head.TailTokens); tail > 0 && o.info.Last {
				o.info.VocabSize = tail
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.shape != nil {
				p.shape(i, o)
			}
			return o, nil
		}, Log: p.log(n.ID().Short())})
	})
	p.nodes, p.hosts = append(p.nodes, node), append(p.hosts, host)
}

// kill ends a machine without a word.
func (p *park) kill(id centram.PeerID) {
	p.mu.Lock()
	if p.dead[id] {
		p.mu.Unlock()
		return
	}
	p.dead[id] = true
	p.log("test").Info("Killed", "node", id.Short())
	p.mu.Unlock()
	for _, n := range p.nodes {
		if n.ID() == id {
			n.Kill()
		}
	}
}

func (p *park) spare(_ context.Context, stages []wire.PlanStage, _ uint16, failed []centram.PeerID) (centram.PeerID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	standby := centram.PeerID{} // of another stage: better than nobody
	for _, n := range p.nodes[1:] {
		id := n.ID()
		busy := slices.ContainsFunc(stages, func(s wire.PlanStage) bool { return s.Node == id })
		waits := slices.ContainsFunc(stages, func(s wire.PlanStage) bool { return s.Standby == id })
		switch {
		case p.dead[id] || busy || slices.Contains(failed, id):
		case waits:
			standby = id
		default:
			return id, nil
		}
	}
	if standby != (centram.PeerID{}) {
		return standby, nil
	}
	return centram.PeerID{}, centram.Errorf(centram.Unavailable, "no machine is left")
}

// chain spreads the oracle over the first stages machines; those after them are spare, or standbys.
func (p *park) chain(stages, lanes int, standbys bool) (*hyperlink.Chain, error) {
	var ids []centram.PeerID
	for _, n := range p.nodes[:stages] {
		ids = append(ids, n.ID())
	}
	list := spread(ids)
	for i := 1; standbys && i < stages; i++ {
		list[i].Standby = p.nodes[stages+i-1].ID()
	}
	return p.open(lanes, list)
}

// spread is the oracle's layers over machines.
func spread(on []centram.PeerID) []wire.PlanStage {
	var list []wire.PlanStage
	for i, id := range on {
		list = append(list, wire.PlanStage{
			Node:    id,
			Layers:  wire.LayerSpan{First: uint16(i * oracleLayers / len(on)), End: uint16((i + 1) * oracleLayers / len(on))},
			Weights: wire.Hash{1, byte(i)},
		})
	}
	return list
}

func (p *park) open(lanes int, list []wire.PlanStage) (*hyperlink.Chain, error) {
	own := newOracle(0, int(list[0].Layers.End), lanes)
	if p.own != nil {
		p.own(own)
	}
	cfg := hyperlink.ChainConfig{
		Node: p.nodes[0].Node, Host: p.hosts[0], Text: oracleText{}, Table: oracleText{},
		Own:   own,
		Info:  engine.Info{Layers: oracleLayers, Embedding: oracleWidth, VocabSize: oracleVocab, Context: 1000, Sequences: lanes, BatchSize: 128},
		Model: wire.Hash{1}, Stages: list, Log: p.log("head"),
		AuditEvery: p.auditEvery, StandbyEvery: p.standbyEvery,
		Spare: p.spare,
	}
	if p.tail > 0 {
		output := newOracle(oracleLayers-1, oracleLayers, lanes)
		output.info.FirstToken, output.info.VocabSize = p.tail, oracleVocab-p.tail
		cfg.Output = output
	}
	return hyperlink.Open(context.Background(), cfg)
}
