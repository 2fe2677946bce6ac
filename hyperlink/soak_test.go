package hyperlink_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/engine/local"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hyperlink"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/wire"
)

var soakFor = flag.Duration("soak", 0, "how long to soak; 0 means 8 s")

const (
	soakSessions = 16
	soakMachines = 6
	// growth is how much more memory may be used after machines have come back than before: about what the garbage
	// collector and malloc leave to chance. Without malloc_trim, twenty machines that come back take 33 MiB and more.
	growth = 24 << 20
	// most is twice what the sessions and the machines need. More is what tests before this one have left behind.
	most = 160 << 20
)

// TestSoak has sixteen sessions chat over a chain whose machines leave and come back, at random.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	duration := *soakFor
	if duration == 0 {
		duration = 8 * time.Second
	}
	shape := gguf.Toy()
	shape.Layers = 6
	m := generate(t, shape)
	cfg := runConfig
	cfg.Context, cfg.Sequences, cfg.BatchSize = 256, soakSessions, 512
	b := newBarracks(t, m, cfg, soakMachines)
	c := b.chain(t, m, cfg)
	e := engine.New(engine.Config{KeepAlive: -1, Open: func(context.Context, string, func(float64)) (engine.Model, error) { return c, nil }})
	ctx, stop := context.WithTimeout(t.Context(), duration)
	defer stop()
	var wg sync.WaitGroup
	var answers, failed atomic.Int64
	for i := range soakSessions {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for ctx.Err() == nil {
				r := engine.Request{Model: "m", Text: strings.Repeat(fmt.Sprint("hello ", i, " "), 1+rng.IntN(6)), MaxTokens: 1 + rng.IntN(40), TopLogprobs: -1}
				asking, cancel := context.WithCancel(ctx)
				if rng.IntN(5) == 0 { // somebody who leaves
					time.AfterFunc(time.Duration(rng.IntN(100))*time.Millisecond, cancel)
				}
				_, err := e.Generate(asking, r, nil)
				cancel()
				switch {
				case err == nil:
					answers.Add(1)
				case ctx.Err() == nil && asking.Err() == nil:
					failed.Add(1)
					t.Logf("an answer failed: %v", err)
				}
			}
		})
	}
	// Memory is compared from before the first machine leaves: what one that has left keeps is taken soon, and no more then.
	time.Sleep(min(duration/4, 10*time.Second))
	before, goBefore := residentSet()
	goroutines := runtime.NumGoroutine()
	wg.Go(func() { b.march(ctx, c) })
	for tenth := time.NewTicker(duration / 10); ctx.Err() == nil; {
		select {
		case <-tenth.C:
			all, gos := residentSet()
			t.Logf("resident %d MiB, %d of them Go's", all>>20, gos>>20)
		case <-ctx.Done():
			tenth.Stop()
		}
	}
	wg.Wait()
	after, goAfter := residentSet()
	now := runtime.NumGoroutine()
	t.Logf("%d answers, %d failed, %d machines left and came back; resident %d MiB, %d of them Go's, then %d and %d; %d goroutines, then %d",
		answers.Load(), failed.Load(), b.marched, before>>20, goBefore>>20, after>>20, goAfter>>20, goroutines, now)
	if answers.Load() == 0 || b.marched == 0 {
		t.Errorf("%d answers and %d machines that left: nothing was soaked", answers.Load(), b.marched)
	}
	if failed.Load() > 0 {
		t.Errorf("%d answers failed, want none: there was always another machine", failed.Load())
	}
	if after > before+growth {
		t.Errorf("the resident set grew from %d to %d MiB while %d machines came back, want at most %d more", before>>20, after>>20, b.marched, growth>>20)
	}
	if after > most {
		t.Errorf("the resident set is %d MiB, want at most %d", after>>20, most>>20)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	for i, n := range b.nodes[1:] {
		deadline := time.Now().Add(5 * time.Second)
		for len(n.host.Seats()) > 0 && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
		if seats := n.host.Seats(); len(seats) > 0 {
			t.Errorf("machine %d still holds layers and caches of %d chains", i+1, len(seats))
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.loaded != 0 {
		t.Errorf("%d stages were opened and not closed", b.loaded)
	}
}

// residentSet is the memory of the process, less what the garbage collector could give back, and how much of it Go has: the
// rest is llama.cpp's.
func residentSet() (all, gos int64) {
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return pages * int64(os.Getpagesize()), int64(m.Sys - m.HeapReleased)
}

// barracks is machines that leave and come back.
type barracks struct {
	t       *testing.T
	open    hyperlink.Opener
	addrs   []string
	stops   []func()
	marched int

	mu     sync.Mutex // guards the following
	nodes  []*node
	loaded int
}

func newBarracks(t *testing.T, m *model, cfg local.Config, n int) *barracks {
	b := &barracks{t: t, nodes: make([]*node, n), addrs: make([]string, n), stops: make([]func(), n)}
	open := m.opener(t, cfg)
	b.open = func(ctx context.Context, a hyperlink.Assignment) (engine.Stage, error) {
		s, err := open(ctx, a)
		if err != nil {
			return nil, err
		}
		b.count(+1)
		return &counted{s, b}, nil
	}
	for i := range n {
		b.start(i)
	}
	t.Cleanup(func() {
		for _, stop := range b.stops {
			stop()
		}
	})
	b.settle()
	return b
}

func (b *barracks) count(by int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.loaded += by
}

// counted is a stage whose end is noticed.
type counted struct {
	engine.Stage
	b *barracks
}

func (c *counted) Close() error {
	c.b.count(-1)
	return c.Stage.Close()
}

// start runs the i-th machine, at the address that it had before.
func (b *barracks) start(i int) {
	listen := b.addrs[i]
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	var peers []string
	for j, a := range b.addrs {
		if j != i && a != "" {
			peers = append(peers, a)
		}
	}
	log := slog.New(slog.DiscardHandler)
	p, err := p2p.New(context.Background(), p2p.Config{Key: key(i), Listen: listen, Quiet: true, Policy: p2p.PolicyOpen, Peers: peers, Log: log})
	if err != nil {
		b.t.Error(err)
		return
	}
	b.addrs[i] = fmt.Sprint("127.0.0.1:", p.Port())
	n := &node{p, hyperlink.NewHost(hyperlink.HostConfig{Node: p, Open: b.open, Log: log})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.Run(ctx) }()
	b.mu.Lock()
	b.nodes[i] = n
	b.mu.Unlock()
	b.stops[i] = sync.OnceFunc(func() { cancel(); <-done })
}

func (b *barracks) node(i int) *node {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.nodes[i]
}

// settle waits until all machines are connected.
func (b *barracks) settle() {
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		all := true
		for i := range b.addrs {
			all = all && len(b.node(i).Peers()) == len(b.addrs)-1
		}
		if all {
			return
		}
	}
}

// march has machines leave, on purpose or without a word, and come back.
func (b *barracks) march(ctx context.Context, c *hyperlink.Chain) {
	rng := rand.New(rand.NewPCG(1, 2))
	for {
		select {
		case <-time.After(time.Duration(100+rng.IntN(200)) * time.Millisecond):
		case <-ctx.Done():
			return
		}
		i := 1 + rng.IntN(len(b.addrs)-1)
		if rng.IntN(2) == 0 {
			leaving, cancel := context.WithTimeout(ctx, 3*time.Second)
			b.node(i).host.Leave(leaving)
			cancel()
		}
		b.stops[i]()
		b.start(i)
		b.marched++
		b.settle()
	}
}

func (b *barracks) chain(t *testing.T, m *model, cfg local.Config) *hyperlink.Chain {
	t.Helper()
	cc := m.chainConfig(t, b.nodes, cfg, 2, 4)
	cc.Spare = func(_ context.Context, stages []wire.PlanStage, _ uint16, failed []centram.PeerID) (centram.PeerID, error) {
		for i := range b.addrs[1:] {
			id := b.node(i + 1).ID()
			used := slices.ContainsFunc(stages, func(s wire.PlanStage) bool { return s.Node == id })
			if !used && b.node(0).Peer(id) != nil && (len(failed) == 0 || failed[len(failed)-1] != id) {
				return id, nil
			}
		}
		return centram.PeerID{}, centram.Errorf(centram.Unavailable, "no machine is left")
	}
	c, err := hyperlink.Open(t.Context(), cc)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
