package hyperlink_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hyperlink"
	"github.com/centram/centram/p2p/p2ptest"
)

// loadFor has machines take so long to load a stage.
func loadFor(d *atomic.Int64) func(context.Context, int) error {
	return func(ctx context.Context, _ int) error {
		select {
		case <-time.After(time.Duration(d.Load())):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// stoodBy waits until somebody stands by for each of these stages.
func stoodBy(t *testing.T, c *hyperlink.Chain, stages ...int) {
	t.Helper()
	for _, i := range stages {
		p2ptest.Eventually(t, 5*time.Minute, fmt.Sprint("a standby of stage ", i), func() bool { return c.Stages()[i].Standby != centram.PeerID{} })
	}
}

// wantSame wants n greedy tokens of two lanes to be those of the oracle alone.
func wantSame(t *testing.T, r engine.Runner, n int) {
	t.Helper()
	want, _ := greedy(t, alone{newOracle(0, oracleLayers, 2)}, prompts(2, 5), n, 0)
	if got, _ := greedy(t, r, prompts(2, 5), n, 0); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAMachineThatStandsByTakesThePlaceWithoutLoading(t *testing.T) {
	var stalls []time.Duration
	for seed := range uint64(20) {
		if *killSeed >= 0 && seed != uint64(*killSeed) {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 5))
			stages := 2 + rng.IntN(2)
			p := newPark(t, seed, 2*stages-1, p2ptest.Faults{Latency: time.Millisecond})
			var runs [5]atomic.Int32
			p.shape = func(node int, o *oracle) {
				o.delay = 5 * time.Millisecond
				o.fail = func(*engine.StageBatch, *engine.StageOutput) error { runs[node].Add(1); return nil }
			}
			var loading atomic.Int64
			loading.Store(int64(time.Minute))
			p.load, p.tail, p.standbyEvery = loadFor(&loading), sharedBy(seed), time.Second
			c, err := p.chain(stages, 2, false)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			wantSame(t, c, 20)
			for i := range stages - 1 {
				stoodBy(t, c, i+1)
			}
			wantSame(t, c, 20)
			for node := stages; node < 2*stages-1; node++ {
				if n := runs[node].Load(); n > 6 { // three of which are the host's own, to measure it, and as many of the output matrix
					t.Errorf("seed %d: machine %d has computed %d batches while it stood by, want none", seed, node, n)
				}
			}
			loading.Store(int64(time.Hour)) // who is asked now comes too late
			victim, at := 1+rng.IntN(stages-1), time.Duration(50+rng.IntN(400))*time.Millisecond
			standby := c.Stages()[victim].Standby
			time.AfterFunc(at, func() { p.kill(c.Stages()[victim].Node) })
			watched := &stopwatch{Runner: c}
			wantSame(t, watched, 120)
			if node := c.Stages()[victim].Node; node != standby {
				t.Errorf("seed %d: %s took over, want %s, which stood by", seed, node.Short(), standby.Short())
			}
			stalls = append(stalls, watched.stalls...)
		})
	}
	report(t, "one death, with a machine that had loaded the layers", stalls, 1500*time.Millisecond)
}

func TestAMachineThatStandsByForOneStageIsTakenForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPark(t, 1, 4, p2ptest.Faults{Latency: time.Millisecond})
		p.shape = func(_ int, o *oracle) { o.delay = 5 * time.Millisecond }
		p.standbyEvery = time.Second
		c, err := p.chain(3, 2, false)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		stoodBy(t, c, 1)
		time.AfterFunc(200*time.Millisecond, func() { p.kill(c.Stages()[2].Node) })
		wantSame(t, c, 60)
		if now := c.Stages(); now[2].Node != p.nodes[3].ID() || now[1].Standby != (centram.PeerID{}) {
			t.Errorf("the stages are %v, want %s, the only machine left, as the third and nobody standing by", now, p.nodes[3].ID().Short())
		}
	})
}

func TestAMachineThatStillLoadsToStandByIsTakenForAStageThatIsLost(t *testing.T) {
	for lost := 1; lost <= 2; lost++ {
		synctest.Test(t, func(t *testing.T) {
			p := newPark(t, 1, 4, p2ptest.Faults{Latency: time.Millisecond})
			p.shape = func(_ int, o *oracle) { o.delay = 5 * time.Millisecond }
			var loading atomic.Int64
			p.load, p.standbyEvery = loadFor(&loading), time.Second
			c, err := p.chain(3, 2, false)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			loading.Store(int64(5 * time.Minute))
			time.Sleep(20 * time.Second) // it is at it
			loading.Store(int64(time.Second))
			time.AfterFunc(200*time.Millisecond, func() { p.kill(c.Stages()[lost].Node) })
			wantSame(t, c, 60)
			if node := c.Stages()[lost].Node; node != p.nodes[3].ID() {
				t.Errorf("stage %d is on %s, want %s, the only machine left", lost, node.Short(), p.nodes[3].ID().Short())
			}
		})
	}
}

func TestAStandbyThatIsLostIsReplacedAndNoAnswerNotices(t *testing.T) {
	for name, lose := range map[string]func(p *park, node int){
		"it dies":   func(p *park, node int) { p.kill(p.nodes[node].ID()) },
		"it leaves": func(p *park, node int) { p.hosts[node].Leave(context.Background()) },
		"its memory is needed": func(p *park, node int) {
			for _, stage := range p.hosts[node].Standing() {
				p.hosts[node].Dismiss(context.Background(), stage)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPark(t, 1, 4, p2ptest.Faults{Latency: time.Millisecond})
				p.shape = func(_ int, o *oracle) { o.delay = 5 * time.Millisecond }
				p.standbyEvery = 5 * time.Second
				c, err := p.chain(2, 2, false)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				stoodBy(t, c, 1)
				first, other := 2, 3
				if c.Stages()[1].Standby != p.nodes[first].ID() {
					first, other = other, first
				}
				if seats := p.hosts[first].Seats(); len(seats) != 1 || !seats[0].Standby {
					t.Errorf("the machine serves %+v, want one stage that stands by", seats)
				}
				began := time.Now()
				time.AfterFunc(200*time.Millisecond, func() { lose(p, first) })
				watched := &stopwatch{Runner: c}
				wantSame(t, watched, 60)
				if len(watched.stalls) > 0 {
					t.Errorf("the answer paused for %v, want no pause", watched.stalls)
				}
				p2ptest.Eventually(t, time.Minute, "another standby", func() bool {
					now := c.Stages()[1].Standby
					return len(p.hosts[first].Standing()) == 0 && now == p.nodes[other].ID() || now == p.nodes[first].ID() && name == "its memory is needed" && time.Since(began) > 10*time.Second
				})
				p.wantReplaced()
			})
		})
	}
}

// The adapter comes when machines stand by already, and the machine that dies has read a part of the text.
func TestAMachineThatStoodByComputesToTheBitWhatTheLostOneDid(t *testing.T) {
	shape := gguf.Toy()
	shape.Layers = 4
	m := generate(t, shape)
	solo := m.solo(t, runConfig)
	f := &fatal{open: m.opener(t, runConfig)}
	nodes := network(t, 5, f.stage, m.openAdapter)
	f.nodes = nodes
	q := question{
		prompts: prompts(2, 4), tokens: 16,
		adapters: []engine.AdapterScale{{Path: writeAdapter(t, m.file, 1), Scale: 0.7}},
	}
	wantTokens, wantLogits := q.greedy(t, solo)
	for victim := 1; victim <= 2; victim++ {
		cc := m.chainConfig(t, nodes, runConfig, 1, 3)
		cc.Spare, cc.StandbyEvery = spareOf(nodes), 50*time.Millisecond
		c, err := hyperlink.Open(t.Context(), cc)
		if err != nil {
			t.Fatal(err)
		}
		stoodBy(t, c, 1, 2)
		standby := c.Stages()[victim].Standby
		f.arm(nodes[victim].ID(), 8, victim == 1)
		tokens, logits := q.greedy(t, c)
		if !f.disarm() {
			t.Fatalf("machine %d did not die", victim)
		}
		if fmt.Sprint(tokens) != fmt.Sprint(wantTokens) || !slices.EqualFunc(logits, wantLogits, slices.Equal) {
			t.Errorf("machine %d died: got tokens %v, want %v, and the same logits", victim, tokens, wantTokens)
		}
		if node := c.Stages()[victim].Node; node != standby {
			t.Errorf("machine %d died: %s took its place, want %s, which stood by", victim, node.Short(), standby.Short())
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
