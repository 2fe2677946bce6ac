package p2p

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/centram/centram"
	"github.com/libp2p/zeroconf/v2"
)

const (
	mdnsService = "_centram._udp"
	mdnsDomain  = "local."
	mdnsAfresh  = 10 * time.Minute // zeroconf does not notice all by itself
	mdnsRetry   = 30 * time.Second
)

// multicastDNS registers this node and browses for others, as DNS-SD has it (RFC 6763), until ctx ends. What it finds is a
// hint where to dial and nothing more. zeroconf does not notice when interfaces change, so it is started anew when they
// do, and now and then.
func (n *Node) multicastDNS(ctx context.Context, renamed <-chan struct{}) error {
	for {
		again := time.Duration(mdnsAfresh)
		round, cancel := context.WithCancel(ctx)
		if err := n.browse(round); err != nil {
			n.log.DebugContext(ctx, "No multicast DNS", "err", err) // beacons and static addresses go on
			again = mdnsRetry
		}
		timer := time.NewTimer(again)
		select {
		case <-renamed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		cancel()
		n.mdns.Wait()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// browse starts one round, which ends with ctx; n.mdns waits for it.
func (n *Node) browse(ctx context.Context) error {
	var faces []net.Interface
	traffic := zeroconf.IPv4 // where the kernel has no IPv6, zeroconf would not browse at all if told to use it
	for _, i := range interfaces() {
		if i.Flags&net.FlagMulticast != 0 {
			faces = append(faces, i.Interface)
			if i.ipv6 {
				traffic = zeroconf.IPv4AndIPv6
			}
		}
	}
	if len(faces) == 0 {
		return fmt.Errorf("no interface for multicast")
	}
	instance := make([]byte, 16)
	rand.Read(instance) // never fails
	text := []string{"id=" + n.id.String(), "net=" + n.network.String()[:16]}
	server, err := zeroconf.Register(hex.EncodeToString(instance), mdnsService, mdnsDomain, int(n.Port()), text, faces)
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	n.mdns.Go(func() {
		<-ctx.Done()
		server.Shutdown()
	})
	// A new channel each time: zeroconf closes it. It is read to the end, or zeroconf would wait for ever.
	found := make(chan *zeroconf.ServiceEntry, 32)
	n.mdns.Go(func() {
		if err := zeroconf.Browse(ctx, mdnsService, mdnsDomain, found, zeroconf.SelectIfaces(faces), zeroconf.SelectIPTraffic(traffic)); err != nil {
			n.log.DebugContext(ctx, "Multicast DNS ended", "err", err)
		}
	})
	n.mdns.Go(func() {
		for {
			select {
			case e, ok := <-found:
				if !ok {
					return
				}
				n.named(e)
			case <-ctx.Done():
				// Browse closes the channel a moment later, unless it failed to start.
				timeout := time.After(time.Second)
				for {
					select {
					case _, ok := <-found:
						if !ok {
							return
						}
					case <-timeout:
						return
					}
				}
			}
		}
	})
	return nil
}

// named takes a hint from multicast DNS.
func (n *Node) named(e *zeroconf.ServiceEntry) {
	text := map[string]string{}
	for _, t := range e.Text {
		k, v, _ := strings.Cut(t, "=")
		text[k] = v
	}
	id, err := centram.ParsePeerID(text["id"])
	if err != nil || id == n.id || text["net"] != n.network.String()[:16] || e.Port <= 0 || e.Port > 65535 || n.book.banned(id) {
		return
	}
	var addrs []netip.AddrPort
	for _, ip := range append(e.AddrIPv4, e.AddrIPv6...) {
		a, ok := netip.AddrFromSlice(ip)
		if a = a.Unmap(); !ok {
			continue
		}
		if !a.Is6() || !a.IsLinkLocalUnicast() {
			addrs = append(addrs, netip.AddrPortFrom(a, uint16(e.Port)))
			continue
		}
		for _, i := range interfaces() { // zeroconf does not say which one it is of
			if i.ipv6 {
				addrs = append(addrs, netip.AddrPortFrom(a.WithZone(i.Name), uint16(e.Port)))
			}
		}
	}
	if n.book.heard(id, "", FromMDNS, addrs...) && !n.connected(id) {
		n.book.nearby(id, n.id)
		n.wake()
	}
}
