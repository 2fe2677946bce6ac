package p2p_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/p2ptest"
	"github.com/centram/centram/p2p/wire"
)

var (
	simRuns = flag.Int("sim.runs", 0, "seeded runs of the simulation; 0 means 500, or 60 with -short")
	simSeed = flag.Int64("sim.seed", -1, "run this seed alone, and log what the nodes say")
)

const (
	simFaults  = 25 * time.Second // in which the faults happen
	simOutage  = 10 * time.Second // of a blackhole
	simHealing = 90 * time.Second // after which all nodes are connected again
	simQuiet   = 15 * time.Second // in which no session may be replaced then
)

// TestSim runs real nodes through faults that are drawn from a seed, and holds what they deliver against what they were
// given: nothing that was acknowledged is lost, nothing is handled twice, notices arrive in order, no honest node is blamed,
// all find each other again, and no goroutine stays. Time, loss and order are the simulation's; what the nodes draw
// themselves, such as keys of connections and jitter, is not, so that a seed repeats the plan and not every packet.
func TestSim(t *testing.T) {
	if *simSeed >= 0 {
		synctest.Test(t, func(t *testing.T) { simulate(t, draw(uint64(*simSeed)), &tally{}) })
		return
	}
	runs := *simRuns
	switch {
	case runs == 0 && testing.Short():
		runs = 60
	case runs == 0:
		runs = 500
	}
	var all tally
	t.Cleanup(func() { t.Log(&all) })
	for seed := range uint64(runs) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { simulate(t, draw(seed), &all) })
		})
	}
}

// tally counts over all runs.
type tally struct {
	runs, asked, answered, told, heard, sessions atomic.Int64

	mu      sync.Mutex    // guards the following
	longest time.Duration // until all were connected again
	drawn   map[string]int
}

func (a *tally) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return fmt.Sprintf("%d runs, %d sessions, %d of %d requests answered, %d of %d notices heard, connected again after %v at most, drawn: %v",
		a.runs.Load(), a.sessions.Load(), a.answered.Load(), a.asked.Load(), a.heard.Load(), a.told.Load(), a.longest, a.drawn)
}

// plan is what happens in one run.
type plan struct {
	seed    uint64
	nodes   int
	dials   [][2]int // who was told whose address
	faults  p2ptest.Faults
	askers  int           // of each node to each other, at the same time
	gap     time.Duration // between two requests of an asker, about
	largest int           // bytes of a request's load
	steps   []step
}

// step happens to one node.
type step struct {
	at   time.Duration
	what string // cut, heal, rebind, kill, stop or start
	node int
}

func (p plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d nodes, dials %v, loss %g, duplicated %g, reordered %g, latency %v, %d askers every %v with up to %d bytes;",
		p.seed, p.nodes, p.dials, p.faults.Loss, p.faults.Duplicate, p.faults.Reorder, p.faults.Latency, p.askers, p.gap, p.largest)
	for _, s := range p.steps {
		fmt.Fprintf(&b, " %v %s %d;", s.at.Round(time.Millisecond), s.what, s.node)
	}
	return b.String() + fmt.Sprintf(" again with: go test ./p2p -run TestSim -v -sim.seed %d", p.seed)
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// draw makes the plan of a seed.
func draw(seed uint64) plan {
	r := rand.New(rand.NewPCG(seed, 1))
	p := plan{
		seed: seed, nodes: 2 + r.IntN(2), askers: 1 + r.IntN(2),
		faults: p2ptest.Faults{
			Loss: pick(r, 0, 0.01, 0.05, 0.2), Duplicate: pick(r, 0, 0.05, 0.2), Reorder: pick(r, 0, 0.05, 0.3),
			Latency: pick(r, time.Millisecond, 5*time.Millisecond, 20*time.Millisecond, 80*time.Millisecond),
		},
		gap: pick(r, 300*time.Millisecond, time.Second), largest: pick(r, 0, 2000, 20_000),
	}
	for a := range p.nodes {
		for b := range a {
			dials := [][2]int{{a, b}, {b, a}}
			p.dials = append(p.dials, pick(r, dials, dials[:1], dials[1:])...)
		}
	}
	maybe := func(whats ...string) {
		if r.IntN(5) < 2 {
			at, node := time.Duration(r.Int64N(int64(simFaults-simOutage))), r.IntN(p.nodes)
			p.steps = append(p.steps, step{at, whats[0], node})
			if whats[1] == "" {
				return
			}
			down := simOutage
			if whats[1] == "start" {
				down = time.Duration(r.Int64N(int64(simOutage)))
			}
			p.steps = append(p.steps, step{at + down, whats[1], node})
		}
	}
	maybe("cut", "heal")
	maybe("rebind", "")
	maybe("kill", "start")
	maybe("stop", "start")
	slices.SortStableFunc(p.steps, func(a, b step) int { return int(a.at - b.at) })
	return p
}

// world is a run: the nodes, and what went in and out of them.
type world struct {
	t    *testing.T
	plan plan
	net  *p2ptest.Net
	ids  []centram.PeerID

	mu      sync.Mutex // guards the following
	random  *rand.Rand
	nodes   []*p2ptest.Node // nil: does not run
	last    uint64          // request
	asked   map[uint64]bool // whether it was answered
	handled map[uint64]int
	told    map[way]uint64 // notices that were queued
	heard   map[way]uint64 // the last that came
}

// way is one direction of a session.
type way struct {
	session wire.Hash
	from    int
}

func simulate(t *testing.T, p plan, all *tally) {
	t.Log(p)
	w := &world{
		t: t, plan: p, net: p2ptest.New(t, p.seed, p.faults), random: rand.New(rand.NewPCG(p.seed, 2)),
		nodes: make([]*p2ptest.Node, p.nodes),
		asked: map[uint64]bool{}, handled: map[uint64]int{}, told: map[way]uint64{}, heard: map[way]uint64{},
	}
	for i := range p.nodes {
		w.ids = append(w.ids, p2ptest.ID(i))
	}
	for i := range p.nodes {
		w.start(i)
	}
	ctx, stop := context.WithTimeout(t.Context(), simFaults)
	defer stop()
	var busy sync.WaitGroup
	w.pairs(func(from, to int) {
		for range p.askers {
			busy.Go(func() { w.keepAsking(ctx, from, to) })
		}
		busy.Go(func() { w.keepTelling(ctx, from, to) })
	})
	w.faults(ctx)
	busy.Wait()
	w.heal()
	took := w.reunion()
	for i := range w.nodes {
		w.stop(i)
	}
	w.settle()
	w.sum(all, took)
}

// pairs calls f for every two nodes, in both orders.
func (w *world) pairs(f func(from, to int)) {
	for from := range w.plan.nodes {
		for to := range w.plan.nodes {
			if from != to {
				f(from, to)
			}
		}
	}
}

func (w *world) start(i int) {
	if w.node(i) != nil {
		return
	}
	cfg := p2p.Config{Log: slog.New(strict{w.t, w.logger(i)})}
	for _, d := range w.plan.dials {
		if d[0] == i {
			cfg.Peers = append(cfg.Peers, p2ptest.Addr(d[1]).String())
		}
	}
	n := w.net.Node(i, cfg, func(n *p2p.Node) {
		p2p.Answer(n.Mux(), func(ctx context.Context, p *p2p.Peer, q *wire.LedgerRecon) (*wire.LedgerRecon, error) {
			return w.handle(ctx, i, p, q)
		})
		p2p.On(n.Mux(), func(_ context.Context, p *p2p.Peer, m *wire.RoundHeartbeat) error {
			w.hear(i, p, m)
			return nil
		})
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[i] = n
}

func (w *world) node(i int) *p2ptest.Node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[i]
}

func (w *world) stop(i int) { w.end(i, (*p2ptest.Node).Stop) }

func (w *world) end(i int, how func(*p2ptest.Node)) {
	n := w.node(i)
	if n == nil {
		return
	}
	how(n)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[i] = nil
}

// faults lets happen what the plan says, until ctx ends.
func (w *world) faults(ctx context.Context) {
	began := time.Now()
	for _, s := range w.plan.steps {
		time.Sleep(time.Until(began.Add(s.at)))
		switch s.what {
		case "cut", "heal":
			w.net.Cut(s.node, s.what == "cut")
		case "rebind":
			w.net.Rebind(s.node)
		case "kill":
			w.end(s.node, (*p2ptest.Node).Kill)
		case "stop":
			w.stop(s.node)
		case "start":
			w.start(s.node)
		}
	}
	<-ctx.Done()
}

// heal ends all faults.
func (w *world) heal() {
	w.net.SetFaults(p2ptest.Faults{Latency: w.plan.faults.Latency})
	for i := range w.nodes {
		w.net.Cut(i, false)
		w.start(i)
	}
}

// reunion wants all nodes to be connected again, to stay so, and to answer. It returns how long the first took.
func (w *world) reunion() time.Duration {
	sessions := func() (list []wire.Hash) {
		w.pairs(func(from, to int) {
			if p := w.peer(from, to); p != nil {
				list = append(list, p.Secret())
			}
		})
		return list
	}
	whole := func() bool {
		whole := true
		w.pairs(func(from, to int) {
			p, q := w.peer(from, to), w.peer(to, from)
			whole = whole && p != nil && q != nil && p.Secret() == q.Secret()
		})
		return whole
	}
	began := time.Now()
	p2ptest.Eventually(w.t, simHealing, "all nodes are connected", whole)
	took := time.Since(began)
	time.Sleep(simQuiet)
	before := sessions()
	time.Sleep(simQuiet)
	if after := sessions(); !whole() || !slices.Equal(before, after) {
		w.t.Errorf("sessions after all faults have ended: got %v, want %v still", after, before)
	}
	w.pairs(func(from, to int) {
		if err := w.ask(w.t.Context(), from, to); err != nil {
			w.t.Errorf("the last request of %d to %d: %v", from, to, err)
		}
		w.tell(w.t.Context(), from, to)
	})
	time.Sleep(time.Second)
	w.pairs(func(from, to int) {
		p := w.peer(from, to)
		if p == nil {
			w.t.Errorf("%d has lost %d", from, to)
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if k := (way{p.Secret(), from}); w.told[k] != w.heard[k] {
			w.t.Errorf("notices of %d to %d: got %d, want %d", from, to, w.heard[k], w.told[k])
		}
	})
	return took
}

func (w *world) peer(from, to int) *p2p.Peer {
	n := w.node(from)
	if n == nil {
		return nil
	}
	return n.Peer(w.ids[to])
}

// keepAsking sends requests until ctx ends. Now and then it loses patience.
func (w *world) keepAsking(ctx context.Context, from, to int) {
	for w.rest(ctx, w.plan.gap) {
		patience := 10 * time.Second
		if w.dice(8) == 0 {
			patience = w.upTo(8 * w.plan.faults.Latency)
		}
		ctx, cancel := context.WithTimeout(ctx, patience)
		_ = w.ask(ctx, from, to) // it may fail, but not lie
		cancel()
	}
}

var errAway = errors.New("not connected")

// ask sends one request with a number of its own and checks that the answer is the answer to it.
func (w *world) ask(ctx context.Context, from, to int) error {
	p := w.peer(from, to)
	if p == nil {
		return errAway
	}
	w.mu.Lock()
	w.last++
	id := uint64(from)<<56 | uint64(to)<<48 | w.last
	w.asked[id] = false
	w.mu.Unlock()
	q := &wire.LedgerRecon{Session: id, Ranges: bytes.Repeat([]byte{byte(id)}, w.dice(w.plan.largest+1))}
	a, err := p2p.Ask[wire.LedgerRecon](ctx, p, q)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[id] = true
	if a.Session != id || !bytes.Equal(a.Ranges, q.Ranges) {
		w.t.Errorf("request %x of %d bytes: got the answer to %x with %d bytes", id, len(q.Ranges), a.Session, len(a.Ranges))
	}
	return nil
}

// handle is what a node does with a request: it notes it, thinks for a while, and answers.
func (w *world) handle(ctx context.Context, node int, p *p2p.Peer, q *wire.LedgerRecon) (*wire.LedgerRecon, error) {
	from, to := slices.Index(w.ids, p.ID()), int(q.Session>>48&0xff)
	if to != node || from != int(q.Session>>56) || p2p.Author(ctx) != p.ID() {
		w.t.Errorf("node %d got the request %x of %s", node, q.Session, p.ID().Short())
	}
	w.mu.Lock()
	w.handled[q.Session]++
	w.mu.Unlock()
	if w.dice(2) == 0 && !w.rest(ctx, 4*w.plan.faults.Latency) {
		return nil, context.Cause(ctx)
	}
	return q, nil
}

func (w *world) keepTelling(ctx context.Context, from, to int) {
	for w.rest(ctx, w.plan.gap/2) {
		w.tell(ctx, from, to)
	}
}

// tell sends a notice with its number in the session. One goroutine at a time tells for each two nodes.
func (w *world) tell(ctx context.Context, from, to int) {
	p := w.peer(from, to)
	if p == nil {
		return
	}
	k := way{p.Secret(), from}
	w.mu.Lock()
	n := w.told[k] + 1
	w.told[k] = n
	w.mu.Unlock()
	if err := p.Tell(ctx, &wire.RoundHeartbeat{Round: k.session, Job: n}); err != nil {
		w.mu.Lock()
		w.told[k]--
		w.mu.Unlock()
	}
}

// hear takes a notice: the control stream is one, so that the next number is the only one that may come.
func (w *world) hear(node int, p *p2p.Peer, m *wire.RoundHeartbeat) {
	from := slices.Index(w.ids, p.ID())
	k := way{p.Secret(), from}
	w.mu.Lock()
	defer w.mu.Unlock()
	if m.Round != k.session || m.Job != w.heard[k]+1 || m.Job > w.told[k] {
		w.t.Errorf("node %d heard notice %d of %d, want %d of at most %d", node, m.Job, from, w.heard[k]+1, w.told[k])
	}
	w.heard[k] = m.Job
}

// settle holds what was handled against what was asked, when all is over.
func (w *world) settle() {
	for id, answered := range w.asked {
		if n := w.handled[id]; n > 1 || answered && n != 1 {
			w.t.Errorf("request %x: answered is %t, handled %d times", id, answered, n)
		}
	}
	for id := range w.handled {
		if _, ok := w.asked[id]; !ok {
			w.t.Errorf("request %x was handled and never asked", id)
		}
	}
}

func (w *world) sum(all *tally, took time.Duration) {
	all.runs.Add(1)
	all.asked.Add(int64(len(w.asked)))
	for _, answered := range w.asked {
		if answered {
			all.answered.Add(1)
		}
	}
	for k, n := range w.told {
		all.told.Add(int64(n))
		all.heard.Add(int64(w.heard[k]))
	}
	all.sessions.Add(int64(len(w.told) / 2))
	all.mu.Lock()
	defer all.mu.Unlock()
	all.longest = max(all.longest, took)
	if all.drawn == nil {
		all.drawn = map[string]int{}
	}
	all.drawn[fmt.Sprintf("loss %g", w.plan.faults.Loss)]++
	for _, s := range w.plan.steps {
		all.drawn[s.what]++
	}
}

// rest waits for a while around d. It says whether ctx has not ended.
func (w *world) rest(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d/2 + w.upTo(d)):
		return true
	case <-ctx.Done():
		return false
	}
}

func (w *world) upTo(d time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Duration(w.random.Int64N(int64(d)))
}

func (w *world) dice(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.random.IntN(n)
}

// logger is where a node's log goes: into the test's if one seed is run alone.
func (w *world) logger(i int) slog.Handler {
	if *simSeed < 0 {
		return slog.DiscardHandler
	}
	return slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}).WithAttrs([]slog.Attr{slog.Int("node", i)})
}

// strict fails the test if a node warns, or blames one of the others: all are honest, and the network is to be expected.
type strict struct {
	t *testing.T
	slog.Handler
}

func (s strict) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || s.Handler.Enabled(ctx, l)
}

func (s strict) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn || r.Message == "Peer misbehaved" {
		var b strings.Builder
		r.Attrs(func(a slog.Attr) bool { fmt.Fprintf(&b, " %v", a); return true })
		s.t.Errorf("%s:%s", r.Message, b.String())
	}
	if !s.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return s.Handler.Handle(ctx, r)
}

func (s strict) WithAttrs(attrs []slog.Attr) slog.Handler {
	return strict{s.t, s.Handler.WithAttrs(attrs)}
}

func (s strict) WithGroup(name string) slog.Handler { return strict{s.t, s.Handler.WithGroup(name)} }
