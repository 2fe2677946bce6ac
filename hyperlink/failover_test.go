package hyperlink_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/engine/local"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hyperlink"
	"github.com/centram/centram/p2p/wire"
)

var failovers = flag.Int("failover.runs", 0, "machines of a real model that die; 0 means 200, or 12 with -short")

// TestARealModelComputesTheSameToTheBitAfterMachinesDie has machines of a real model end in the middle of a batch, at a
// frame drawn from a seed: by an error, or by cutting all of their connections.
func TestARealModelComputesTheSameToTheBitAfterMachinesDie(t *testing.T) {
	runs := *failovers
	if runs == 0 {
		if runs = 200; testing.Short() {
			runs = 12
		}
	}
	shape := gguf.Toy()
	shape.Layers = 4
	m := generate(t, shape)
	solo := m.solo(t, runConfig)
	f := &fatal{open: m.opener(t, runConfig)}
	nodes := network(t, 6, f.stage, m.openAdapter)
	f.nodes = nodes
	var stalls []time.Duration
	for seed := range uint64(runs) {
		rng := rand.New(rand.NewPCG(seed, 5))
		stages, chats := 2+rng.IntN(3), 1+rng.IntN(3)
		q := question{prompts: prompts(chats, 4), tokens: 16}
		wantTokens, wantLogits := q.greedy(t, solo)
		cuts := [][]int{{2}, {1, 3}, {1, 2, 3}}[stages-2]
		c := m.chainWith(t, nodes, runConfig, cuts...)
		f.arm(nodes[1+rng.IntN(stages-1)].ID(), 1+rng.IntN(16), rng.IntN(2) == 0)
		watched := &stopwatch{Runner: c}
		tokens, logits := q.greedy(t, watched)
		if !f.disarm() {
			t.Fatalf("seed %d: no machine died", seed)
		}
		stalls = append(stalls, watched.longest)
		if fmt.Sprint(tokens) != fmt.Sprint(wantTokens) || !slices.EqualFunc(logits, wantLogits, slices.Equal) {
			t.Errorf("seed %d, %d machines, %d chats: got tokens %v, want %v", seed, stages, chats, tokens, wantTokens)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	report(t, "deaths that show at once, of a real model", stalls, 0)
}

// fatal opens stages that may be told to die.
type fatal struct {
	open  hyperlink.Opener
	nodes []*node

	mu     sync.Mutex // guards the following
	victim centram.PeerID
	left   int // batches until it dies; 0: never
	cut    bool
	died   bool
}

func (f *fatal) arm(victim centram.PeerID, batches int, cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.victim, f.left, f.cut, f.died = victim, batches, cut, false
}

func (f *fatal) disarm() (died bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = 0
	return f.died
}

func (f *fatal) stage(ctx context.Context, a hyperlink.Assignment) (engine.Stage, error) {
	s, err := f.open(ctx, a)
	return &mortal{s, f, a.Head.Stages[a.Head.Stage].Node}, err
}

type mortal struct {
	engine.Stage
	f  *fatal
	on centram.PeerID
}

func (m *mortal) Run(ctx context.Context, b engine.StageBatch) (engine.StageOutput, error) {
	m.f.mu.Lock()
	now, cut := false, m.f.cut
	if m.f.left > 0 && m.f.victim == m.on {
		m.f.left--
		now = m.f.left == 0
		m.f.died = m.f.died || now
	}
	m.f.mu.Unlock()
	if !now {
		return m.Stage.Run(ctx, b)
	}
	if cut {
		for _, n := range m.f.nodes {
			if n.ID() == m.on {
				for _, p := range n.Peers() {
					p.End(wire.ShuttingDown)
				}
			}
		}
	}
	return engine.StageOutput{}, errors.New("the machine dies")
}

// chainWith is a chain that may replace machines by any that are not in it.
func (m *model) chainWith(t testing.TB, nodes []*node, cfg local.Config, cuts ...int) *hyperlink.Chain {
	t.Helper()
	cc := m.chainConfig(t, nodes, cfg, cuts...)
	cc.Spare = spareOf(nodes)
	c, err := hyperlink.Open(t.Context(), cc)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func spareOf(nodes []*node) func(context.Context, []wire.PlanStage, uint16, []centram.PeerID) (centram.PeerID, error) {
	return func(_ context.Context, stages []wire.PlanStage, _ uint16, failed []centram.PeerID) (centram.PeerID, error) {
		for _, n := range nodes[1:] {
			used := slices.ContainsFunc(stages, func(s wire.PlanStage) bool { return s.Node == n.ID() })
			if !used && !slices.Contains(failed, n.ID()) && nodes[0].Peer(n.ID()) != nil {
				return n.ID(), nil
			}
		}
		return centram.PeerID{}, centram.Errorf(centram.Unavailable, "no machine is left")
	}
}
