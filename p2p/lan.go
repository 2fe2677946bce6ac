package p2p

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/centram/centram/p2p/wire"
	"github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	watchEvery    = 2 * time.Second
	aliveAfter    = 2 * time.Second // a session that does not answer so long after a change is dialled anew
	sleptAtLeast  = 10 * time.Second
	groupIPv4Text = "239.192.67.69"   // organisation-local scope (RFC 2365)
	groupIPv6Text = "ff12::4345:4e54" // link-local, transient (RFC 4291 §2.7)
)

var (
	groupIPv4 = netip.MustParseAddr(groupIPv4Text)
	groupIPv6 = netip.MustParseAddr(groupIPv6Text)
)

// lan reaches everybody on the networks that this machine is on: by broadcast and multicast in IPv4, since access points
// drop one or the other, and by multicast in IPv6.
type lan struct {
	transport *quic.Transport
	log       *slog.Logger
	v4        *ipv4.PacketConn // nil if the socket is not the system's, such as in tests
	v6        *ipv6.PacketConn
}

func newLAN(transport *quic.Transport, log *slog.Logger) *lan {
	l := &lan{transport: transport, log: log}
	if socket, ok := transport.Conn.(quic.OOBCapablePacketConn); ok {
		l.v4, l.v6 = ipv4.NewPacketConn(socket), ipv6.NewPacketConn(socket)
	}
	return l
}

// join lets the socket hear both groups on every interface there is. It may be called again when there are others.
func (l *lan) join() {
	if l.v4 == nil {
		return
	}
	for _, i := range interfaces() {
		// One of the two fails where the system or the interface has only the other; joining twice fails, too.
		_ = l.v4.JoinGroup(&i.Interface, net.UDPAddrFromAddrPort(netip.AddrPortFrom(groupIPv4, 0)))
		_ = l.v6.JoinGroup(&i.Interface, net.UDPAddrFromAddrPort(netip.AddrPortFrom(groupIPv6, 0)))
	}
}

// send sends b to everybody and says in how many copies.
func (l *lan) send(b []byte) int {
	sent := 0
	to := func(a netip.Addr) {
		_, err := l.transport.WriteTo(b, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, DefaultPort)))
		if err != nil {
			l.log.Debug("Datagram not sent", "to", a, "err", err)
			return
		}
		sent++
	}
	for _, i := range interfaces() {
		for _, a := range i.broadcast {
			to(a)
		}
		if i.Flags&net.FlagMulticast == 0 || l.v4 == nil {
			continue
		}
		if len(i.broadcast) > 0 && l.v4.SetMulticastInterface(&i.Interface) == nil {
			to(groupIPv4)
		}
		if i.ipv6 {
			to(groupIPv6.WithZone(i.Name))
		}
	}
	return sent
}

// face is an interface that is up and leads to other machines.
type face struct {
	net.Interface
	broadcast []netip.Addr // IPv4 broadcast addresses of its networks
	ipv6      bool
	addrs     []string
}

func interfaces() []face {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var list []face
	for _, i := range all {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 || i.Flags&(net.FlagBroadcast|net.FlagMulticast) == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		f := face{Interface: i}
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			f.addrs = append(f.addrs, n.String())
			if v4 := n.IP.To4(); v4 == nil {
				f.ipv6 = true
			} else if len(n.Mask) == net.IPv4len && i.Flags&net.FlagBroadcast != 0 {
				for k := range v4 {
					v4[k] |= ^n.Mask[k]
				}
				f.broadcast = append(f.broadcast, netip.AddrFrom4([4]byte(v4)))
			}
		}
		list = append(list, f)
	}
	return list
}

// watch looks for changes of the network and for a computer that was asleep. After one, it tells both channels, tries all
// peers again, and lets go of sessions that do not answer any more, rather than to wait until they time out.
func (n *Node) watch(ctx context.Context, changed, renamed chan<- struct{}) error {
	if n.cfg.Socket != nil {
		<-ctx.Done() // not this machine's network
		return nil
	}
	before, last := fingerprint(), time.Now().Round(0) // Round(0): the monotonic clock stands still in sleep
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		now, wall := fingerprint(), time.Now().Round(0)
		slept := wall.Sub(last) > sleptAtLeast
		if now != before || slept {
			n.log.InfoContext(ctx, "The network has changed", "slept", slept)
			forgetZones()
			for _, c := range []chan<- struct{}{changed, renamed} {
				select {
				case c <- struct{}{}:
				default: // told already
				}
			}
			n.book.afresh()
			n.wake()
			for _, p := range n.Peers() {
				n.tasks.Go(func() { n.alive(ctx, p) })
			}
		}
		before, last = now, wall
	}
}

func fingerprint() string {
	var b strings.Builder
	for _, i := range interfaces() {
		fmt.Fprintln(&b, i.Index, i.Name, i.Flags, i.addrs)
	}
	return b.String()
}

// forgetZones makes package net look again which interface has which name: it remembers that for a minute, in which another
// one of the same name could not be reached by IPv6. It looks at once for a name that it does not know.
func forgetZones() {
	c, err := net.DialUDP("udp6", nil, &net.UDPAddr{IP: net.IPv6linklocalallrouters, Port: DefaultPort, Zone: "no interface"})
	if err == nil {
		_ = c.Close() // nothing was sent
	}
}

// alive ends a session whose peer does not answer. It says whether the peer does.
func (n *Node) alive(ctx context.Context, p *Peer) bool {
	ctx, cancel := context.WithTimeout(ctx, aliveAfter)
	defer cancel()
	_, err := p.Ping(ctx)
	if err != nil {
		p.end(wire.Restarting, err)
	}
	return err == nil
}
