package p2p_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/p2ptest"
	"github.com/centram/centram/p2p/wire"
	"go.uber.org/goleak"
)

// A node in a process of its own, which is this test program once more: it obeys orders on its standard input and reports
// on its standard output, both as lines of JSON. It ends when its input does.

const nodeEnv = "CENTRAM_NETNS_NODE"

// setup is what a node's process is told at the start.
type setup struct {
	Key      int // of p2ptest
	Network  string
	Listen   string
	Peers    []string
	Policy   p2p.Policy
	Quiet    bool
	NoMDNS   bool
	NoBeacon bool
}

type order struct {
	Do   string
	Peer centram.PeerID
	Code string
}

type report struct {
	Event string // "running", "joined" and others of p2p.Change; empty in an answer to an order
	Peer  centram.PeerID
	At    time.Time

	Code string
	RTT  time.Duration
	Err  string
}

func init() {
	if told := os.Getenv(nodeEnv); told != "" {
		if err := live(told); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// live is the life of a node's process.
func live(told string) error {
	var s setup
	if err := json.Unmarshal([]byte(told), &s); err != nil {
		return err
	}
	var mu sync.Mutex // guards standard output
	out := json.NewEncoder(os.Stdout)
	say := func(r report) {
		mu.Lock()
		defer mu.Unlock()
		r.At = time.Now()
		_ = out.Encode(r) // who does not listen any more will end the process, too
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	node, err := p2p.New(ctx, p2p.Config{
		Key: p2ptest.Key(s.Key), Network: s.Network, Listen: s.Listen, Peers: s.Peers,
		Policy: s.Policy, Quiet: s.Quiet, NoMDNS: s.NoMDNS, NoBeacon: s.NoBeacon,
		Changed: func(c p2p.Change) { say(report{Event: c.Kind, Peer: c.Peer}) },
		Log:     slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		return err
	}
	p2p.Answer(node.Mux(), func(context.Context, *p2p.Peer, *wire.NodeStatusGet) (*wire.NodeStatus, error) {
		return &wire.NodeStatus{Version: fmt.Sprint("of node ", s.Key), Boot: 1, TimeMs: time.Now().UnixMilli()}, nil
	})
	done := make(chan error, 1)
	say(report{Event: "running", Peer: node.ID()})
	go func() { done <- node.Run(ctx) }()
	in := json.NewDecoder(os.Stdin)
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			break
		}
		answer := report{}
		if err := obey(ctx, node, o, &answer); err != nil {
			answer.Err = err.Error()
		}
		say(answer)
	}
	stop()
	if err := <-done; err != nil {
		return fmt.Errorf("the node: %w", err)
	}
	return goleak.Find()
}

// obey carries out one order.
func obey(ctx context.Context, node *p2p.Node, o order, answer *report) error {
	limit := 10 * time.Second
	if o.Do == "ping" {
		limit = 300 * time.Millisecond // who asks will ask again
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	switch peer := node.Peer(o.Peer); {
	case o.Do == "know":
		if _, ok := node.Book().Contact(o.Peer); !ok {
			return errors.New("never heard of it")
		}
	case o.Do == "code":
		answer.Code = node.ShowCode().Code
	case o.Do == "pair":
		return node.PairWithCode(ctx, o.Peer, o.Code)
	case peer == nil:
		return errors.New("no session")
	case o.Do == "ping":
		rtt, err := peer.Ping(ctx)
		answer.RTT = rtt
		return err
	case o.Do == "ask":
		status, err := p2p.Ask[wire.NodeStatus](ctx, peer, &wire.NodeStatusGet{Sections: []string{}})
		if err == nil {
			answer.Code = status.Version
		}
		return err
	}
	return nil
}

// node is the test's end of such a process.
type node struct {
	*machine
	id      centram.PeerID
	began   time.Time
	cmd     *exec.Cmd
	in      io.WriteCloser
	orders  *json.Encoder
	answers chan report
	log     bytes.Buffer
	over    chan struct{} // closed when the process has nothing more to say

	mu   sync.Mutex // guards the following
	with map[centram.PeerID]time.Time
	left map[centram.PeerID]time.Time
	ever map[centram.PeerID]bool
}

// start runs a node on the machine. It is stopped at the test's end, which it has to come to in good order.
func (m *machine) start(s setup) *node {
	t := m.t
	t.Helper()
	if s.Key == 0 {
		s.Key = m.number
	}
	told, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{
		machine: m, answers: make(chan report, 1), over: make(chan struct{}),
		with: map[centram.PeerID]time.Time{}, left: map[centram.PeerID]time.Time{}, ever: map[centram.PeerID]bool{},
	}
	n.cmd = exec.Command("/proc/self/exe")
	n.cmd.Env = append(os.Environ(), nodeEnv+"="+string(told))
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	n.cmd.Stderr = &n.log
	if n.in, err = n.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	n.orders = json.NewEncoder(n.in)
	m.do("start a node", n.cmd.Start)
	running := make(chan report, 1)
	go n.listen(out, running)
	t.Cleanup(func() {
		n.stop()
		if t.Failed() {
			t.Logf("node %d said:\n%s", m.number, n.log.String())
		}
	})
	select {
	case r := <-running:
		n.id, n.began = r.Peer, r.At
	case <-n.over:
		t.Fatalf("node %d did not start", m.number)
	}
	return n
}

// listen takes the process's reports until there are no more.
func (n *node) listen(out io.Reader, running chan<- report) {
	defer close(n.over)
	reports := json.NewDecoder(out)
	for {
		var r report
		if reports.Decode(&r) != nil {
			return
		}
		n.mu.Lock()
		switch r.Event {
		case "running":
			running <- r
		case "joined":
			n.with[r.Peer], n.ever[r.Peer] = r.At, true
		case "left":
			delete(n.with, r.Peer)
			n.left[r.Peer] = r.At
		case "":
			n.answers <- r
		}
		n.mu.Unlock()
	}
}

// stop ends the process as its owner would.
func (n *node) stop() {
	if n.cmd.ProcessState != nil {
		return
	}
	n.in.Close()
	late := time.AfterFunc(10*time.Second, func() { _ = n.cmd.Process.Kill() })
	defer late.Stop()
	<-n.over
	if err := n.cmd.Wait(); err != nil {
		n.t.Errorf("node %d: %v", n.number, err)
	}
}

// kill ends it without a word to anybody, and says when.
func (n *node) kill() time.Time {
	at := time.Now()
	_ = n.cmd.Process.Kill()
	<-n.over
	_ = n.cmd.Wait()
	return at
}

// order has the process do something.
func (n *node) order(o order) (report, error) {
	n.t.Helper()
	if err := n.orders.Encode(o); err != nil {
		n.t.Fatalf("node %d: %v", n.number, err)
	}
	select {
	case r := <-n.answers:
		if r.Err != "" {
			return r, errors.New(r.Err)
		}
		return r, nil
	case <-n.over:
		n.t.Fatalf("node %d has ended", n.number)
		return report{}, nil
	}
}

// joined says since when there is a session with another node.
func (n *node) joined(o *node) (time.Time, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	at, ok := n.with[o.id]
	return at, ok
}

// patience is how much longer than allowed something may take to be reported as late rather than missing.
const patience = 20 * time.Second

// met waits until each of the nodes has a session with each other, and returns how long after since the last of them began.
// It fails the test if that is later than within.
func met(t *testing.T, since time.Time, within time.Duration, nodes ...*node) time.Duration {
	t.Helper()
	var took time.Duration
	for _, n := range nodes {
		for _, o := range nodes {
			if n == o {
				continue
			}
			p2ptest.Eventually(t, within+patience, fmt.Sprintf("node %d sees node %d", n.number, o.number), func() bool {
				at, ok := n.joined(o)
				took = max(took, at.Sub(since))
				return ok
			})
		}
	}
	if took > within {
		t.Errorf("seen after %v, want %v at most", took.Round(time.Millisecond), within)
	}
	return took.Round(time.Millisecond)
}

// gone waits until none of the nodes has a session with the dead one any more.
func gone(t *testing.T, dead *node, since time.Time, within time.Duration, nodes ...*node) time.Duration {
	t.Helper()
	var took time.Duration
	for _, n := range nodes {
		p2ptest.Eventually(t, within+patience, fmt.Sprintf("node %d sees that node %d is gone", n.number, dead.number), func() bool {
			_, there := n.joined(dead)
			n.mu.Lock()
			defer n.mu.Unlock()
			if !there {
				took = max(took, n.left[dead.id].Sub(since))
			}
			return !there
		})
	}
	if took > within {
		t.Errorf("gone after %v, want %v at most", took.Round(time.Millisecond), within)
	}
	return took.Round(time.Millisecond)
}

// talk waits until two nodes answer each other, and returns how long after since that was.
func talk(t *testing.T, since time.Time, within time.Duration, a, b *node) time.Duration {
	t.Helper()
	p2ptest.Eventually(t, within+patience, "the nodes answer each other", func() bool {
		_, there := a.order(order{Do: "ping", Peer: b.id})
		_, back := b.order(order{Do: "ping", Peer: a.id})
		return there == nil && back == nil
	})
	took := time.Since(since)
	if took > within {
		t.Errorf("answers after %v, want %v at most", took.Round(time.Millisecond), within)
	}
	return took.Round(time.Millisecond)
}

// never fails the test if there ever was a session with another node.
func (n *node) never(o *node) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ever[o.id] {
		n.t.Errorf("node %d had a session with node %d", n.number, o.number)
	}
}
