package pool

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/engine/local"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hyperlink"
	"github.com/centram/centram/hyperlink/plan"
	"github.com/centram/centram/hyperlink/weights"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/blob"
	"github.com/centram/centram/p2p/gossip"
	"github.com/centram/centram/p2p/p2ptest"
	"github.com/centram/centram/p2p/transfer"
	"github.com/centram/centram/p2p/wire"
)

// machine is a node with a pool on the loopback interface.
type machine struct {
	*p2p.Node
	*Pool
	memory atomic.Int64
}

var run = local.Config{Context: 128, Sequences: 1, BatchSize: 128, Threads: 1}

// start runs a machine that knows those before it, with so much memory for layers and such rates.
func start(t *testing.T, all []*machine, memory int64, r rates) *machine {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(len(all) + 1)}, ed25519.SeedSize))
	cfg := p2p.Config{Key: key, Listen: "127.0.0.1:0", Quiet: true, Policy: p2p.PolicyOpen, Log: log, Caps: []string{hyperlink.Ability, transfer.Ability}}
	for _, m := range all {
		cfg.Peers = append(cfg.Peers, fmt.Sprint("127.0.0.1:", m.Port()))
	}
	node, err := p2p.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	blobs, err := blob.New(blob.Config{Dir: filepath.Join(dir, "blobs")})
	if err != nil {
		t.Fatal(err)
	}
	records := gossip.New(gossip.Config{Node: node, Key: key, Network: wire.NetworkOf(""), Log: log})
	files := transfer.New(transfer.Config{Node: node, Store: blobs, Log: log})
	layers, err := weights.New(weights.Config{Blobs: blobs, Dir: filepath.Join(dir, "layers"), Fetch: func(ctx context.Context, b wire.Hash) error {
		return files.Fetch(ctx, b, transfer.Options{Wait: 5 * time.Second})
	}})
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{Node: node}
	m.memory.Store(memory)
	m.Pool = New(Config{
		Node: node, Records: records, Layers: layers, Privacy: AnyPeer, Log: log, Backend: "cpu", Build: "test",
		Share: func() int64 { return m.memory.Load() }, Spare: func() int64 { return m.memory.Load() },
		OpenStage: func(ctx context.Context, path string, context, lanes, batch int) (engine.Stage, error) {
			cfg := run
			cfg.Context, cfg.Sequences, cfg.BatchSize = context, lanes, batch
			return local.OpenStage(ctx, path, cfg)
		},
		OpenText: func(ctx context.Context, path string) (hyperlink.Text, engine.Info, error) {
			return local.OpenText(ctx, path, run)
		},
		OpenTable: func(path string) (hyperlink.Table, error) { return local.OpenTable(path) },
	})
	m.Pool.rates = r // and not what the machine that tests run on can do
	m.standbyEvery = 200 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, part := range []func(context.Context) error{node.Run, records.Run, files.Run} {
		wg.Go(func() { _ = part(ctx) })
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
	m.offer(t.Context(), memory, time.Now().Add(time.Hour))
	for _, o := range all {
		p2ptest.Eventually(t, 10*time.Second, "each other's offer", func() bool {
			return len(m.Offers()) == len(all) && o.Offers()[m.ID()] != nil && o.link(o.ID(), m.ID()).Measured
		})
	}
	return m
}

func model(t *testing.T) (path string, size int64) {
	t.Helper()
	shape := gguf.Toy()
	shape.Layers = 8
	return generate(t, shape)
}

func generate(t *testing.T, shape gguf.Shape) (path string, size int64) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "model.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := gguf.Generate(f, shape, 1); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return path, info.Size()
}

func open(t *testing.T, m *machine, path string) engine.Model {
	t.Helper()
	c, err := m.Open(t.Context(), path, func(float64) {})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func step(t *testing.T, r engine.Runner) {
	t.Helper()
	if _, err := r.Step(t.Context(), engine.Batch{Rows: []engine.Row{{Token: 65, Logits: true}}}); err != nil {
		t.Fatal(err)
	}
}

func TestAModelIsPutTogetherFromOffersAndTheirMemoryIsCounted(t *testing.T) {
	path, size := model(t)
	ordinary := rates{5e9, 5e10}
	a := start(t, nil, size, ordinary)
	b := start(t, []*machine{a}, size, ordinary)
	c := open(t, a, path)
	step(t, c)
	running := a.Running()
	if len(running) != 1 || running[0].Choice.Kind != plan.Split || len(running[0].Choice.Stages) != 2 {
		t.Fatalf("got %+v, want one split over two machines", running)
	}
	taken := b.Sharing().Taken
	if planned := running[0].Choice.Stages[1].MemoryBytes; taken < planned/2 || taken > planned*2 {
		t.Errorf("the second machine gives %d bytes, the plan foresaw %d", taken, planned)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	p2ptest.Eventually(t, 5*time.Second, "the memory to be free again", func() bool { return b.Sharing().Taken == 0 })
	// A machine that has too little for its part refuses, and is not the reason for a hang.
	b.memory.Store(1000)
	began := time.Now()
	if _, err := a.Open(t.Context(), path, func(float64) {}); centram.CodeOf(err) != centram.Unavailable {
		t.Errorf("got %v (%v), want that the machine has not the memory", err, centram.CodeOf(err))
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the refusal took %v", took)
	}
}

// TestTheHeadAndTheLastMachineShareTheOutputMatrix has a model whose output matrix is most of it.
func TestTheHeadAndTheLastMachineShareTheOutputMatrix(t *testing.T) {
	shape := gguf.Toy()
	shape.VocabSize, shape.Layers = 256*gguf.TokenStep, 8
	path, size := generate(t, shape)
	slow := rates{2e8, 5e10} // so that the matrix takes longer than the way
	a := start(t, nil, size, slow)
	b := start(t, []*machine{a}, 2*size, slow)
	a.Force(path, true)
	c := open(t, a, path)
	defer c.Close()
	r := a.Running()[0]
	if r.Choice.Kind != plan.Split || r.Choice.Shared < 0.2 || r.Choice.Shared > 0.8 {
		t.Fatalf("got a %s with %.2f of the output here, want a split with about half", r.Choice.Kind, r.Choice.Shared)
	}
	whole := int64(shape.VocabSize * shape.Embedding * 4)
	if taken := b.Sharing().Taken; taken > size-whole/5 {
		t.Errorf("the second machine has loaded %d bytes of a model of %d with an output of %d, want a part of that", taken, size, whole)
	}
	solo, err := local.Open(t.Context(), path, run)
	if err != nil {
		t.Fatal(err)
	}
	defer solo.Close()
	batch := engine.Batch{Rows: []engine.Row{{Token: 65}, {Token: 66, Pos: 1, Logits: true}}}
	want, err := solo.Step(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Step(t.Context(), batch)
	if err != nil || !slices.Equal(got.Logits[0], want.Logits[0]) {
		t.Errorf("got logits %v..., %v, want %v...", got.Logits[0][:3], err, want.Logits[0][:3])
	}
}

func TestAFasterMachineIsUsedOnceTheChainRests(t *testing.T) {
	path, size := model(t)
	a := start(t, nil, size, rates{5e9, 5e10})
	slow := start(t, []*machine{a}, size, rates{1e7, 1e9}) // and the loopback interface hides a lot
	c := open(t, a, path)
	defer c.Close()
	step(t, c)
	r := a.Running()[0]
	now := time.Now()
	if a.reconsider(r, now.Add(time.Hour)) {
		t.Fatal("the chain was taken apart though there is no better one")
	}
	fast := start(t, []*machine{a, slow}, size, rates{5e9, 5e10})
	// It has to be better for a while, and the chain has to rest.
	for _, at := range []time.Duration{0, plan.MoveAfter / 2} {
		if a.reconsider(r, now.Add(at)) {
			t.Fatalf("the chain was taken apart after %v", at)
		}
	}
	if a.reconsider(r, now.Add(2*plan.MoveAfter)) {
		t.Fatal("the chain was taken apart right after an answer")
	}
	time.Sleep(restFor)
	if !a.reconsider(r, now.Add(3*plan.MoveAfter)) {
		t.Fatal("the chain was not taken apart for a better one")
	}
	select {
	case <-r.Chain.Ended():
	default:
		t.Error("the chain goes on")
	}
	again := open(t, a, path)
	defer again.Close()
	step(t, again)
	for _, running := range a.Running() {
		if running.Chain != r.Chain && running.Choice.Stages[1].Device != fast.ID() {
			t.Errorf("the new chain has %v, want the fast machine %s", running.Choice.Stages, fast.ID().Short())
		}
	}
}

func TestMemoryThatNoNumberHoldsIsRefused(t *testing.T) {
	for _, c := range []struct {
		size, perToken int64
		context, lanes int
		want           int64 // 0: refused
	}{
		{1000, 24, 128, 2, 1000 + 24*128*2},
		{1000, 0, math.MaxInt32, 1024, 1000},
		{1000, 3 << 22, 1 << 30, 1024, 0}, // comes to -2^62
		{1000, 1 << 33, math.MaxInt32, 1024, 0},
		{math.MaxInt64 - 10, 1, 11, 1, 0},
		{math.MaxInt64 - 10, 1, 10, 1, math.MaxInt64},
	} {
		got, err := memoryOf(gguf.Summary{SizeBytes: c.size, KVBytesPerToken: c.perToken}, c.context, c.lanes)
		if got != c.want || (err == nil) != (c.want != 0) {
			t.Errorf("%+v: got %d, %v", c, got, err)
		}
	}
}

func TestAMachineWithNothingToDoStandsByAndGivesWayToOthersChains(t *testing.T) {
	path, size := model(t)
	ordinary := rates{5e9, 5e10}
	a := start(t, nil, size, ordinary)
	b := start(t, []*machine{a}, size, ordinary)
	idle := start(t, []*machine{a, b}, size, ordinary)
	chain := open(t, a, path)
	defer chain.Close()
	step(t, chain)
	r := a.Running()[0]
	used := b
	if r.Choice.Stages[1].Device == idle.ID() {
		used, idle = idle, used
	}
	p2ptest.Eventually(t, 20*time.Second, "a standby", func() bool { return r.Chain.Stages()[1].Standby == idle.ID() })
	taken := idle.Sharing().Taken
	if free := idle.free(); taken == 0 || free != size {
		t.Fatalf("a machine that stands by with %d bytes offers %d, want all of its %d", taken, free, size)
	}

	// Another asker finds room on no other machine, and on that one only where it stands by.
	idle.memory.Store(taken * 3 / 2)
	d := start(t, []*machine{a, used, idle}, size, ordinary)
	for _, m := range []*machine{a, used, d} {
		m.offer(t.Context(), 1, time.Now().Add(time.Hour))
	}
	idle.offer(t.Context(), idle.free(), time.Now().Add(time.Hour))
	p2ptest.Eventually(t, 5*time.Second, "the offers", func() bool {
		now := d.Offers()
		return a.Offers()[d.ID()].Memory == 1 && now[a.ID()].Memory == 1 && now[used.ID()].Memory == 1 && now[idle.ID()].Memory == uint64(idle.memory.Load())
	})
	other := open(t, d, path)
	defer other.Close()
	step(t, other)
	seats := idle.Host().Seats()
	if len(seats) != 1 || seats[0].Head != d.ID() || seats[0].Standby {
		t.Errorf("the machine serves %+v, want a stage of %s alone", seats, d.ID().Short())
	}
	if got := idle.Sharing().Taken; got > idle.memory.Load() {
		t.Errorf("it gives %d bytes, want at most its %d", got, idle.memory.Load())
	}
	step(t, chain)

	// What a standby has is its owner's, too.
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	p2ptest.Eventually(t, 20*time.Second, "a standby again", func() bool { return r.Chain.Stages()[1].Standby == idle.ID() })
	idle.memory.Store(1)
	idle.makeRoom(t.Context(), 0)
	if got := idle.Sharing().Taken; got != 0 {
		t.Errorf("the owner took the memory, and layers that stand by still have %d bytes", got)
	}
}
