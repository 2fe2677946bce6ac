package p2p

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
	"github.com/quic-go/quic-go"
	"golang.org/x/sync/errgroup"
)

const (
	dialAtOnce   = 8                      // peers that are dialled at the same time
	dialStagger  = 250 * time.Millisecond // before the next address of one peer is tried beside (RFC 8305)
	dialTimeout  = 10 * time.Second
	retryFirst   = time.Second
	retryLongest = time.Minute           // for those whom the owner knows
	retryStrange = 10 * time.Minute      // for strangers
	gathering    = 25 * time.Millisecond // copies of a beacon may tell further addresses
	politeness   = time.Second           // the higher id waits for the lower one's call
)

// retry says when to dial again.
type retry struct {
	failures int
	next     time.Time
	busy     bool
}

func (r *retry) due(now time.Time) bool { return !r.busy && !now.Before(r.next) }

// failed puts the next attempt off, with jitter, so that two nodes that failed together do not try together.
func (r *retry) failed(longest time.Duration) {
	wait := min(longest, retryFirst<<min(r.failures, 16))
	r.failures++
	r.next = time.Now().Add(wait/2 + rand.N(wait))
}

// target is somebody to dial.
type target struct {
	id    centram.PeerID // zero: whoever answers
	host  string         // static address, or empty
	addrs []netip.AddrPort
}

// dial dials whom the node is not connected to, until ctx ends.
func (n *Node) dial(ctx context.Context, g *errgroup.Group) error {
	slots := make(chan struct{}, dialAtOnce)
	for {
		list, next := n.book.due(n.connected, n.id)
		for _, t := range list {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
			g.Go(func() error {
				err := n.call(ctx, t, func() { <-slots })
				n.book.dialled(t, err)
				n.wake()
				return nil
			})
		}
		select {
		case <-n.kick:
		case <-time.After(time.Until(next)):
		case <-ctx.Done():
			return nil
		}
	}
}

// answered says that there was a session, or will be one by the other's call.
func answered(err error) bool {
	var e *ending
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.code == wire.Duplicate
	}
	return errors.As(err, &e) && e.code != wire.WrongNetwork && !unwanted(e)
}

// connected says that there is no need to dial a peer.
func (n *Node) connected(id centram.PeerID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.peers[id] != nil
}

// call dials one peer and carries the session to its end. connected is called when dialling is over, either way.
func (n *Node) call(ctx context.Context, t target, over func()) error {
	conn, err := n.reach(ctx, t)
	over()
	if err != nil {
		n.log.DebugContext(ctx, "Peer not reached", "peer", t.id.Short(), "host", t.host, "err", err)
		return err
	}
	return n.attend(ctx, conn, true, t.host)
}

// reach tries the addresses of a peer, the best first, each a moment after the one before. The first connection counts.
func (n *Node) reach(ctx context.Context, t target) (*quic.Conn, error) {
	if t.host != "" {
		addrs, err := resolve(ctx, t.host)
		if err != nil {
			return nil, err
		}
		t.addrs = addrs
	}
	cert, err := certificate(n.key)
	if err != nil {
		return nil, err
	}
	config := tlsConfig(cert, func(id centram.PeerID) error {
		if t.id != (centram.PeerID{}) && id != t.id {
			return fmt.Errorf("%s answered, want %s", id.Short(), t.id.Short())
		}
		return n.admit(id)
	})
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	type result struct {
		conn *quic.Conn
		err  error
	}
	results := make(chan result, len(t.addrs))
	start := func(a netip.AddrPort) {
		conn, err := n.transport.Dial(ctx, net.UDPAddrFromAddrPort(a), config, quicConfig(n.cfg.Trace))
		results <- result{conn, err}
	}
	err = errors.New("no address")
	next, running := 0, 0
	for next < len(t.addrs) || running > 0 {
		var stagger <-chan time.Time
		if next < len(t.addrs) {
			go start(t.addrs[next])
			next, running = next+1, running+1
			stagger = time.After(dialStagger)
		}
		select {
		case r := <-results:
			running--
			if r.err == nil {
				cancel()
				for range running { // late ones are not wanted, and nothing is left running
					if late := <-results; late.err == nil {
						_ = late.conn.CloseWithError(quic.ApplicationErrorCode(wire.Duplicate), "")
					}
				}
				return r.conn, nil
			}
			err = r.err
		case <-stagger:
		}
	}
	return nil, err
}

// resolve looks up the addresses of a host that the owner typed.
func resolve(ctx context.Context, host string) ([]netip.AddrPort, error) {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return nil, err
	}
	p, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
	if err != nil {
		return nil, err
	}
	if a, err := netip.ParseAddr(name); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(a, uint16(p))}, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		addrs[i] = netip.AddrPortFrom(ip.Unmap(), uint16(p))
	}
	return addrs, nil
}

// dialBack is where the peer of a session can be dialled.
func dialBack(p *Peer) netip.AddrPort {
	at := p.Remote()
	if p.carrier.Dialled() || !at.IsValid() {
		return at
	}
	return netip.AddrPortFrom(at.Addr(), p.hello.Port)
}

// due returns whom to dial now, and marks them as being dialled: the owner's addresses, those whom the node was connected
// to, and those it has heard of. It also returns when somebody is due next.
func (b *Book) due(connected func(centram.PeerID) bool, self centram.PeerID) (list []target, next time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	next = now.Add(time.Minute)
	ready := func(r *retry) bool {
		if !r.busy && r.next.After(now) && r.next.Before(next) {
			next = r.next
		}
		if !r.due(now) {
			return false
		}
		r.busy = true
		return true
	}
	for _, s := range b.statics {
		if s.id != (centram.PeerID{}) && (connected(s.id) || s.id == self) || !ready(&s.retry) {
			continue
		}
		list = append(list, target{host: s.host})
	}
	for _, c := range b.peers {
		if len(c.Addresses) == 0 || c.BannedUntil.After(now) || connected(c.ID) || c.ID == self || !ready(&c.retry) {
			continue
		}
		t := target{id: c.ID}
		for _, a := range c.Addresses {
			t.addrs = append(t.addrs, a.Address)
		}
		list = append(list, t)
	}
	// Should there be more than can be dialled at once: first friends, then those with whom there was a session last. Nodes
	// that were good before the restart are the anchors that an attacker cannot take the place of by being many.
	slices.SortStableFunc(list, func(x, y target) int {
		return cmp.Or(b.worth(y)-b.worth(x), b.lastSeen(y).Compare(b.lastSeen(x)))
	})
	return list, next
}

func (b *Book) lastSeen(t target) time.Time {
	if c := b.peers[t.id]; c != nil {
		return c.LastSeen
	}
	return time.Time{}
}

func (b *Book) worth(t target) int {
	if t.host != "" {
		return 2
	}
	return min(1, int(b.peers[t.id].Trust))
}

// dialled notes how dialling ended.
func (b *Book) dialled(t target, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	met := err == nil || answered(err)
	var r *retry
	longest := retryLongest
	if s := b.statics[t.host]; t.host != "" && s != nil {
		r, s.problem = &s.retry, ""
		if !met {
			s.problem = err.Error()
		}
	} else if c := b.peers[t.id]; c != nil {
		r = &c.retry
		if c.Trust == wire.Stranger {
			longest = retryStrange
		}
	}
	if r == nil {
		return // forgotten meanwhile
	}
	r.busy = false
	if met {
		*r = retry{next: time.Now().Add(retryFirst/2 + rand.N(retryFirst))}
		return
	}
	r.failed(longest)
}

// nearby dials a peer that has just shown itself. The lower id calls at once, so that seldom both do.
func (b *Book) nearby(id, self centram.PeerID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.peers[id]
	if c == nil || c.retry.busy || c.retry.next.After(time.Now().Add(retryLongest)) {
		return // under way, or not wanted
	}
	c.retry = retry{next: time.Now().Add(gathering)}
	if slices.Compare(self[:], id[:]) > 0 {
		c.retry.next = time.Now().Add(politeness)
	}
}

// later puts off dialling a peer that does not want to be dialled.
func (b *Book) later(id centram.PeerID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.peers[id]; c != nil {
		c.retry.next = time.Now().Add(retryStrange)
	}
	for _, s := range b.statics {
		if s.id == id {
			s.retry.next = time.Now().Add(retryStrange)
		}
	}
}

// afresh forgets all waiting: the network has changed, or the computer was asleep.
func (b *Book) afresh() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.statics {
		s.retry.failures, s.retry.next = 0, time.Time{}
	}
	for _, c := range b.peers {
		c.retry.failures, c.retry.next = 0, time.Time{}
	}
}

// DialSoon dials a peer of the book that is not connected without waiting until its turn comes.
func (n *Node) DialSoon(id centram.PeerID) {
	n.book.mu.Lock()
	if c := n.book.peers[id]; c != nil && !c.retry.busy {
		c.retry = retry{}
	}
	n.book.mu.Unlock()
	n.wake()
}
