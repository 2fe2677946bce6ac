package gossip

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/wire"
)

const (
	recordLife   = 24 * time.Hour
	recordEvery  = 6 * time.Hour
	recordLook   = 10 * time.Second // how often it is looked whether the record is still true
	fewPeers     = 4
	peersAtOnce  = 64
	mostRelative = 25 * time.Hour // how far ahead a record may expire
)

// Peers spreads where this node is, as certified by itself, and learns where others are: who knows one node comes to know
// all. A node whose policy is private spreads nothing.
type Peers struct {
	c *Catalogue
}

// NewPeers registers the exchange of peers. It is to be called before the catalogue is loaded.
func NewPeers(c *Catalogue) *Peers {
	x := &Peers{c}
	Keep(c, x.learn)
	p2p.Answer(c.cfg.Node.Mux(), x.answer)
	c.cfg.Node.OnSession(x.ask)
	return x
}

// Run keeps this node's record true until ctx ends.
func (x *Peers) Run(ctx context.Context) error {
	var last *wire.PeerRecord
	var at time.Time
	for {
		if r := x.record(); r != nil && (last == nil || time.Since(at) > recordEvery || !slices.Equal(r.Addrs, last.Addrs) || !slices.Equal(r.Caps, last.Caps)) {
			if _, err := x.c.Publish(ctx, r); err != nil && ctx.Err() == nil {
				x.c.log.WarnContext(ctx, "Own addresses not published", "err", err)
			}
			last, at = r, time.Now()
		}
		select {
		case <-time.After(recordLook):
		case <-ctx.Done():
			return nil
		}
	}
}

// record is where this node is, or nil if it does not say so.
func (x *Peers) record() *wire.PeerRecord {
	n := x.c.cfg.Node
	addrs := []string{}
	for _, a := range n.Addresses() {
		if !a.Addr().IsLoopback() { // that would be the reader's own machine
			addrs = append(addrs, a.String())
		}
	}
	if len(addrs) == 0 || n.Policy() == p2p.PolicyPrivate {
		return nil
	}
	caps := n.Caps()
	slices.Sort(caps)
	now := time.Now()
	return &wire.PeerRecord{
		Seq: uint64(now.UnixMilli()), Addrs: addrs[:min(len(addrs), 16)], Caps: caps[:min(len(caps), 64)], Name: n.Name(),
		Expires: now.Add(recordLife).UnixMilli(),
	}
}

// learn takes another node's record. That an address is right, dialling it shows.
func (x *Peers) learn(_ context.Context, e Entry, m *wire.PeerRecord) error {
	if m.Expires > time.Now().Add(mostRelative).UnixMilli() {
		return &wire.Status{Code: wire.Denied, Detail: "the record expires too late"}
	}
	if e.Author != x.c.cfg.Node.ID() {
		x.c.cfg.Node.Hint(e.Author, m.Name, addresses(m)...)
	}
	return nil
}

func addresses(m *wire.PeerRecord) []netip.AddrPort {
	list := make([]netip.AddrPort, len(m.Addrs))
	for i, s := range m.Addrs {
		list[i] = netip.MustParseAddrPort(s) // Validate has parsed it
	}
	return list
}

func hasAll(have, want []string) bool {
	return !slices.ContainsFunc(want, func(c string) bool { return !slices.Contains(have, c) })
}

// answer tells a peer of others.
func (x *Peers) answer(_ context.Context, p *p2p.Peer, q *wire.PeerQuery) (*wire.PeerList, error) {
	list := &wire.PeerList{Peers: []wire.Record{}}
	size := 0
	for _, e := range All[wire.PeerRecord](x.c) {
		known := e.Author == p.ID() || slices.Contains(q.Known, e.Author)
		if known || !hasAll(e.Message.(*wire.PeerRecord).Caps, q.Caps) {
			continue
		}
		if size += len(e.Record) + 8; len(list.Peers) >= int(q.Most) || size > 60<<10 {
			break
		}
		list.Peers = append(list.Peers, e.Record)
	}
	return list, nil
}

// ask asks a new peer for others when this node knows few.
func (x *Peers) ask(ctx context.Context, p *p2p.Peer) error {
	if len(x.c.cfg.Node.Peers()) > fewPeers {
		return nil
	}
	q := &wire.PeerQuery{Caps: []string{}, Most: peersAtOnce, Known: []centram.PeerID{}}
	for _, other := range x.c.cfg.Node.Peers() {
		q.Known = append(q.Known, other.ID())
	}
	list, err := p2p.Ask[wire.PeerList](ctx, p, q)
	if err != nil {
		return nil // gossip brings them, too
	}
	for _, r := range list.Peers {
		if _, err := x.c.add(ctx, r, p.ID()); quiet(err) != nil {
			p.Blame(err)
			return nil
		}
	}
	return nil
}
