// Package p2ptest is a network in memory for tests of nodes: the nodes, their QUIC and their signatures are the real ones,
// and packets get lost, doubled, overtaken and cut off as the test says. In a synctest bubble its time costs nothing.
package p2ptest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p"
	"github.com/quic-go/quic-go/testutils/simnet"
)

// Faults are what the network does to packets. Zero means that all arrive, at once and in order.
type Faults struct {
	Loss      float64 // fraction
	Duplicate float64
	Reorder   float64       // fraction that comes late
	Latency   time.Duration // one way
}

// Net is the network.
type Net struct {
	t testing.TB

	mu      sync.Mutex // guards the following
	faults  Faults
	random  *rand.Rand
	hosts   map[netip.AddrPort]simnet.PacketReceiver
	cut     map[netip.AddrPort]bool           // nothing goes in or out
	present map[netip.AddrPort]netip.AddrPort // under which address a host's packets are seen: what a NAT does
	real    map[netip.AddrPort]netip.AddrPort
}

// started is when the program started, by a clock that is not a bubble's.
var started = time.Now()

// New makes a network whose faults are drawn from seed. In a synctest bubble, it waits until the bubble's clock has reached
// the present: package quic-go counts from the start of the program and takes times before it for times that are not set,
// so that a connection that probes a path at the turn of the millennium spins for ever.
func New(t testing.TB, seed uint64, faults Faults) *Net {
	if early := time.Until(started); early > 0 {
		time.Sleep(early + time.Second)
	}
	return &Net{
		t: t, faults: faults, random: rand.New(rand.NewPCG(seed, seed)),
		hosts: map[netip.AddrPort]simnet.PacketReceiver{}, cut: map[netip.AddrPort]bool{},
		present: map[netip.AddrPort]netip.AddrPort{}, real: map[netip.AddrPort]netip.AddrPort{},
	}
}

// Key is the key of the i-th node, the same in every run.
func Key(i int) ed25519.PrivateKey {
	seed := sha256.Sum256(fmt.Appendf(nil, "node %d", i))
	return ed25519.NewKeyFromSeed(seed[:])
}

// ID is the id of the node with the i-th key.
func ID(i int) centram.PeerID { return centram.PeerID(Key(i).Public().(ed25519.PublicKey)) }

// Addr is the address of the i-th node.
func Addr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), p2p.DefaultPort)
}

// Node is a running node.
type Node struct {
	*p2p.Node
	net    *Net
	index  int
	socket *simnet.SimConn
	stop   context.CancelFunc
	done   chan error
}

// Node makes and runs the i-th node. setup registers its services; it may be nil. The node is stopped at the test's end.
func (n *Net) Node(i int, cfg p2p.Config, setup func(*p2p.Node)) *Node {
	n.t.Helper()
	socket := simnet.NewBlockingSimConn(net.UDPAddrFromAddrPort(Addr(i)), n)
	cfg.Socket, cfg.Quiet = socket, !cfg.NoMDNS // who turns mDNS off himself wants to hear beacons
	if cfg.Key == nil {
		cfg.Key = Key(i)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	node, err := p2p.New(n.t.Context(), cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	if setup != nil {
		setup(node)
	}
	ctx, stop := context.WithCancel(context.Background())
	run := &Node{Node: node, net: n, index: i, socket: socket, stop: stop, done: make(chan error, 1)}
	go func() { run.done <- node.Run(ctx) }()
	n.t.Cleanup(run.Stop)
	return run
}

// Stop ends the node as its owner would, and waits for it.
func (r *Node) Stop() {
	if r.done == nil {
		return
	}
	r.stop()
	if err := <-r.done; err != nil {
		r.net.t.Errorf("node %d: %v", r.index, err)
	}
	r.socket.Close()
	r.done = nil
}

// Kill ends the node without a word to anybody.
func (r *Node) Kill() {
	r.net.Cut(r.index, true)
	r.Stop()
	r.net.Cut(r.index, false)
}

// Cut takes the i-th node off the network, or back on.
func (n *Net) Cut(i int, off bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[Addr(i)] = off
}

// Rebind lets the i-th node's packets come from another port from now on, as a NAT does that has forgotten it.
func (n *Net) Rebind(i int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := Addr(i)
	delete(n.real, n.present[a])
	seen := netip.AddrPortFrom(a.Addr(), uint16(20000+n.random.IntN(20000)))
	n.present[a], n.real[seen] = seen, a
}

// SetFaults changes what the network does to packets.
func (n *Net) SetFaults(f Faults) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = f
}

// AddNode is for package simnet.
func (n *Net) AddNode(addr net.Addr, r simnet.PacketReceiver) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[addr.(*net.UDPAddr).AddrPort()] = r
}

// SendPacket is for package simnet.
func (n *Net) SendPacket(p simnet.Packet) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	from, to := unmap(p.From), unmap(p.To)
	if a, ok := n.real[to]; ok {
		to = a
	}
	host := n.hosts[to]
	if n.cut[from] || n.cut[to] || host == nil {
		return nil // as on a wire: nobody says so
	}
	if a, ok := n.present[from]; ok {
		p.From = net.UDPAddrFromAddrPort(a)
	}
	copies := 1
	if n.random.Float64() < n.faults.Duplicate {
		copies++
	}
	for range copies {
		if n.random.Float64() < n.faults.Loss {
			continue
		}
		delay := n.faults.Latency
		if n.random.Float64() < n.faults.Reorder {
			delay += time.Duration(n.random.IntN(20)) * time.Millisecond
		}
		time.AfterFunc(delay, func() { host.RecvPacket(p) })
	}
	return nil
}

func unmap(a net.Addr) netip.AddrPort {
	ap := a.(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// Eventually waits until ok, and fails the test if it takes longer than limit.
func Eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > limit {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}
