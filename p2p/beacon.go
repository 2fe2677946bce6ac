package p2p

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

const (
	beaconEvery = 30 * time.Second
	hailAgain   = 800 * time.Millisecond // doubled each time. IPv6 may take 2 s to make sure of an address (RFC 4862 §5.4).
	clockSlack  = 5 * time.Minute        // by which the clocks of two nodes may differ

	datagramsPerSource = 10  // a second, of those that are looked at
	datagramsInAll     = 200 // a second, since each costs a signature to check
	maxSources         = 1024
	maxCopies          = 4 // of one datagram; what anybody sends again later adds no addresses without end
)

// presence is the last beacon of a node: an older one, or one of an earlier start, says nothing.
type presence struct {
	boot, seq uint64
	copies    int
}

// readDatagrams takes beacons and probes until ctx ends. They come on the same socket as QUIC, which they cannot be taken
// for: the second bit of a QUIC packet is set.
func (n *Node) readDatagrams(ctx context.Context) error {
	buf := make([]byte, wire.MaxDatagram+1)
	all := rate.NewLimiter(datagramsInAll, datagramsInAll)
	sources := map[netip.Addr]*rate.Limiter{}
	for {
		size, from, err := n.transport.ReadNonQUICPacket(ctx, buf)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		at := addrPort(from)
		if len(sources) >= maxSources {
			clear(sources)
		}
		if sources[at.Addr()] == nil {
			sources[at.Addr()] = rate.NewLimiter(datagramsPerSource, 2*datagramsPerSource)
		}
		if !sources[at.Addr()].Allow() || !all.Allow() {
			continue
		}
		n.datagram(buf[:size], at)
	}
}

// datagram handles one message from outside of any session. What is not right is dropped without a word: its sender may
// be anybody, and an answer would only help him.
func (n *Node) datagram(b []byte, from netip.AddrPort) {
	f, err := wire.Parse(b)
	if n.cfg.Quiet || n.cfg.NoBeacon || err != nil || f.Author == n.id || wire.RowOf(f.Type) == nil || wire.RowOf(f.Type).Lane != wire.Datagram {
		return
	}
	if err := f.Verify(wire.Scope{Network: n.network}); err != nil {
		n.metrics.refused(wire.BadSignature) // or of another network
		return
	}
	if n.policy == PolicyPrivate && n.book.trust(f.Author) == wire.Stranger && !n.pairing.open() {
		return
	}
	m, err := f.Decode()
	if err != nil {
		n.metrics.refused(wire.Malformed)
		return
	}
	n.metrics.received(wire.RowOf(f.Type), len(b))
	switch m := m.(type) {
	case *wire.Beacon:
		n.see(f.Author, m, from)
	case *wire.Probe:
		if m.Target != (centram.PeerID{}) && m.Target != n.id || !n.fresh(f.Author, m.Boot, m.Seq, m.TimeMs) {
			return
		}
		n.answer(m, from)
	case *wire.ProbeAck:
		f, err := m.Beacon.Frame()
		if err != nil || f.Verify(wire.Scope{Network: n.network}) != nil || f.Author == n.id {
			return
		}
		if beacon, err := f.Decode(); err == nil {
			n.see(f.Author, beacon.(*wire.Beacon), from)
		}
	}
}

// see notes that a node is at an address, and dials it.
func (n *Node) see(id centram.PeerID, m *wire.Beacon, from netip.AddrPort) {
	if !n.fresh(id, m.Boot, m.Seq, m.TimeMs) || n.book.banned(id) {
		return
	}
	if m.Bye {
		return // its sessions say goodbye themselves
	}
	addrs := []netip.AddrPort{netip.AddrPortFrom(from.Addr(), m.Port)}
	for _, s := range m.Addrs {
		addrs = append(addrs, netip.MustParseAddrPort(s)) // Validate has parsed it
	}
	n.book.heard(id, m.Name, FromBeacon, addrs...)
	if !n.connected(id) {
		n.book.nearby(id, n.id)
		n.wake()
	}
}

// fresh says whether a datagram is newer than all before it of its author, and of now. It comes in copies, by broadcast and
// by multicast and over every interface, each from an address of its own; perhaps only one of these can be dialled.
func (n *Node) fresh(id centram.PeerID, boot, seq uint64, timeMs int64) bool {
	now := time.Now()
	if d := now.Sub(time.UnixMilli(timeMs)); d > clockSlack || d < -clockSlack {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	last := n.heard[id]
	copies := 1
	if last.boot == boot {
		if seq == last.seq {
			copies = last.copies + 1
		}
		if seq < last.seq || copies > maxCopies {
			return false
		}
	}
	if len(n.heard) >= maxStrangers {
		clear(n.heard)
	}
	n.heard[id] = presence{boot, seq, copies}
	return true
}

// announce makes this node known on the LAN, and looks for others, until ctx ends.
func (n *Node) announce(ctx context.Context) error {
	changed, renamed := make(chan struct{}, 1), make(chan struct{}, 1)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.watch(ctx, changed, renamed) })
	if n.visible() && !n.cfg.NoBeacon {
		g.Go(func() error { return n.beacons(ctx, changed) })
	}
	if n.visible() && !n.cfg.NoMDNS {
		g.Go(func() error { return n.multicastDNS(ctx, renamed) })
	}
	return g.Wait()
}

// visible says whether the node shows itself on the LAN.
func (n *Node) visible() bool { return !n.cfg.Quiet && n.policy != PolicyPrivate }

// beacons sends them: at the start, every 30 s, when the network changes, and at the end. A start or a change is followed by
// some more: an address may not be good yet, and a switch may still be asleep.
func (n *Node) beacons(ctx context.Context, changed <-chan struct{}) error {
	lan := newLAN(n.transport, n.log)
	hail := func() {
		lan.join()
		n.shout(lan, n.beacon(false))
		n.shout(lan, n.probe())
	}
	hail()
	wait := hailAgain
	again := time.NewTimer(wait)
	tick := time.NewTicker(beaconEvery)
	defer again.Stop()
	defer tick.Stop()
	for {
		select {
		case <-again.C:
			hail()
			if wait *= 2; wait < beaconEvery {
				again.Reset(wait)
			}
		case <-tick.C:
			n.shout(lan, n.beacon(false))
		case <-changed:
			hail()
			wait = hailAgain
			again.Reset(wait)
		case <-ctx.Done():
			n.shout(lan, n.beacon(true))
			return nil
		}
	}
}

// shout sends a datagram to everybody on the LAN.
func (n *Node) shout(lan *lan, m wire.Message) {
	f, err := wire.Seal(m, n.key, wire.Scope{Network: n.network}, 0, 0)
	if err != nil {
		n.log.Warn("Datagram not sent", "err", err)
		return
	}
	b := f.Append(nil)
	n.metrics.sent(wire.RowOf(f.Type), len(b)*lan.send(b))
}

// answer sends a beacon to who asked for it. It is smaller than the question, so that nobody can make this node send more
// to a third party than he sends himself.
func (n *Node) answer(probe *wire.Probe, to netip.AddrPort) {
	scope := wire.Scope{Network: n.network}
	beacon, err := wire.Seal(n.beacon(false), n.key, scope, 0, 0)
	if err != nil {
		return
	}
	f, err := wire.Seal(&wire.ProbeAck{Nonce: probe.Nonce, Beacon: wire.RecordOf(beacon)}, n.key, scope, 0, 0)
	if err != nil {
		return
	}
	b := f.Append(nil)
	if _, err := n.transport.WriteTo(b, net.UDPAddrFromAddrPort(to)); err != nil {
		n.log.Debug("Datagram not sent", "to", to, "err", err)
		return
	}
	n.metrics.sent(wire.RowOf(f.Type), len(b))
}

// beacon is what this node says of itself now.
func (n *Node) beacon(bye bool) *wire.Beacon {
	return &wire.Beacon{Boot: n.boot, Seq: n.nextSeq(), TimeMs: time.Now().UnixMilli(), Port: n.Port(), Name: n.name, Bye: bye}
}

// probe asks who is there.
func (n *Node) probe() *wire.Probe {
	return &wire.Probe{Boot: n.boot, Seq: n.nextSeq(), TimeMs: time.Now().UnixMilli(), Nonce: random64(), Pad: make([]byte, probePad)}
}

const probePad = 960

func (n *Node) nextSeq() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seq++
	return n.seq
}
