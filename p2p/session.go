package p2p

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
	"golang.org/x/time/rate"
)

// inSession are the types that the session itself handles.
var inSession = map[wire.Type]bool{
	wire.RowAs[wire.Hello]().Type:    true,
	wire.RowAs[wire.HelloAck]().Type: true,
	wire.RowAs[wire.Status]().Type:   true,
	wire.RowAs[wire.Goodbye]().Type:  true,
	wire.RowAs[wire.Beacon]().Type:   true,
	wire.RowAs[wire.Probe]().Type:    true,
	wire.RowAs[wire.ProbeAck]().Type: true,
}

// refusal ends a connection before there is a session.
type refusal struct {
	code   wire.GoodbyeCode
	reason string
}

func (r *refusal) Error() string {
	if r.reason == "" {
		return r.code.String()
	}
	return r.code.String() + ": " + r.reason
}

// greet exchanges the hellos and returns the session. The dialler speaks first:
//
//	dialler   HELLO                   HELLO_ACK
//	other             HELLO HELLO_ACK
//
// Each side knows then that the other holds the key of its certificate, is of the same network, and lets it in. Nothing
// but these frames and GOODBYE is understood before.
func (n *Node) greet(ctx context.Context, c carrier) (*Peer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, handshakeTimeout, fmt.Errorf("no hello within %v", handshakeTimeout))
	defer cancel()
	p := n.newPeer(c)
	var err error
	if c.Dialled() {
		p.control, err = c.Open(ctx, wire.Control)
	} else {
		p.control, err = c.Accept(ctx)
	}
	if err != nil {
		return nil, err
	}
	p.control.Urge(wire.Control)
	defer context.AfterFunc(ctx, func() { _ = p.control.SetReadDeadline(time.Now()) })()
	if err := p.greet(); err != nil {
		if r, ok := err.(*refusal); ok {
			_ = p.say(&wire.Goodbye{Code: r.code, Reason: r.reason})
			_ = p.control.CloseWrite()
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	_ = p.control.SetReadDeadline(time.Time{})
	return p, nil
}

func (n *Node) newPeer(c carrier) *Peer {
	return &Peer{
		node: n, carrier: c, id: c.Peer(), since: time.Now(),
		scope:   wire.Scope{Network: n.network, Session: c.Session()},
		log:     n.log.With("peer", c.Peer().Short()),
		pacing:  rate.NewLimiter(strangerRate, strangerBurst),
		asks:    rate.NewLimiter(rate.Every(20*time.Second), 3),
		outbox:  make(chan *wire.Frame, outboxSize),
		running: map[uint64]context.CancelFunc{},
		stop:    func(error) {},
	}
}

func (p *Peer) greet() error {
	if p.carrier.Dialled() {
		if err := p.say(p.node.hello()); err != nil {
			return err
		}
	}
	m, err := p.hear()
	if err != nil {
		return err
	}
	hello, ok := m.(*wire.Hello)
	if !ok {
		return fmt.Errorf("got %s, want HELLO", wire.RowFor(m).Name)
	}
	if err := p.welcome(hello); err != nil {
		return err
	}
	if !p.carrier.Dialled() {
		if err := p.say(p.node.hello()); err != nil {
			return err
		}
	}
	ack := p.ack()
	if err := p.say(ack); err != nil {
		return err
	}
	if m, err = p.hear(); err != nil {
		return err
	}
	theirs, ok := m.(*wire.HelloAck)
	if !ok {
		return fmt.Errorf("got %s, want HELLO_ACK", wire.RowFor(m).Name)
	}
	if theirs.Proto != ack.Proto {
		return &refusal{wire.NoCommonVersion, fmt.Sprintf("%d is not %d", theirs.Proto, ack.Proto)}
	}
	return nil
}

// welcome decides whether the peer may come in.
func (p *Peer) welcome(h *wire.Hello) error {
	n := p.node
	p.hello, p.caps = h, h.Caps
	trust := n.book.trust(p.id)
	p.trust.Store(uint32(trust))
	switch {
	case h.ProtoMin > wire.Version:
		return &refusal{wire.NoCommonVersion, fmt.Sprintf("this node speaks version %d", wire.Version)}
	case n.policy == PolicyPrivate && trust == wire.Stranger && !n.pairing.open():
		return &refusal{wire.Private, ""}
	}
	p.slots = make(chan struct{}, h.Limits.Requests)
	p.serving = make(chan struct{}, n.limits.Requests)
	if h.Limits.Bulk > 0 {
		p.bulk = rate.NewLimiter(rate.Limit(h.Limits.Bulk), wire.ChunkSize)
	}
	return nil
}

// hello is what this node says of itself.
func (n *Node) hello() *wire.Hello {
	return &wire.Hello{
		ProtoMin: wire.Version, ProtoMax: wire.Version, Network: n.network, Version: n.version, Name: n.name, Boot: n.boot,
		Caps: n.Caps(), Limits: n.limits, ClockMs: time.Now().UnixMilli(), Port: n.Port(),
	}
}

func (p *Peer) ack() *wire.HelloAck {
	n := p.node
	both := slices.DeleteFunc(n.Caps(), func(c string) bool { return !slices.Contains(p.hello.Caps, c) })
	return &wire.HelloAck{
		Proto: wire.Version, Caps: both, Observed: zoneless(p.Remote()).String(), Trust: p.Trust(),
		Limits: wire.Limits{
			Requests: min(n.limits.Requests, p.hello.Limits.Requests),
			Records:  min(n.limits.Records, p.hello.Limits.Records),
			Bulk:     n.limits.Bulk,
		},
	}
}

// say sends a message of the handshake.
func (p *Peer) say(m wire.Message) error {
	f, err := wire.Seal(m, p.node.key, p.scope, 0, 0)
	if err != nil {
		return err
	}
	if err := p.control.SetWriteDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	_, err = p.control.Write(f.Append(nil))
	return err
}

// hear reads a message of the handshake.
func (p *Peer) hear() (wire.Message, error) {
	f, err := wire.ReadIf(p.control, func(row *wire.Row) error {
		if row.Rank != wire.Anyone {
			return fmt.Errorf("got %s before HELLO", row.Name)
		}
		return nil
	})
	if err != nil {
		p.blame(err)
		return nil, err
	}
	if wire.RowOf(f.Type) == nil {
		return nil, fmt.Errorf("got %s before HELLO", f.Type)
	}
	if err := p.foreign(f); err != nil {
		return nil, err
	}
	m, err := p.open(f, wire.Control)
	if err != nil {
		p.blame(err)
		return nil, err
	}
	if g, ok := m.(*wire.Goodbye); ok {
		return nil, &ending{g.Code, errPeerLeft}
	}
	return m, nil
}

// foreign says whether a frame is an honest one of another network: its signature would be taken for a wrong one.
func (p *Peer) foreign(f *wire.Frame) error {
	m, err := f.Decode()
	if err != nil {
		return nil // open says so, and blames the peer
	}
	switch m := m.(type) {
	case *wire.Hello:
		if m.Network != p.node.network {
			return &refusal{wire.WrongNetwork, ""}
		}
	case *wire.Goodbye:
		if m.Code == wire.WrongNetwork {
			return &ending{m.Code, errPeerLeft}
		}
	}
	return nil
}

// settle registers the messages that keep a session going.
func (n *Node) settle() {
	On(n.mux, func(ctx context.Context, p *Peer, m *wire.Ping) error {
		load := n.load()
		return p.Tell(ctx, &wire.Pong{Nonce: m.Nonce, Queue: load.Queue, Load: load.Busy})
	})
	On(n.mux, n.suspected)
	On(n.mux, func(_ context.Context, p *Peer, m *wire.Pong) error { p.link.pong(m, time.Now()); return nil })
	On(n.mux, func(_ context.Context, p *Peer, m *wire.LinkReport) error { p.link.report(m); return nil })
	On(n.mux, func(_ context.Context, p *Peer, m *wire.Cancel) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if cancel := p.running[m.Request]; cancel != nil {
			cancel()
		}
		return nil
	})
	On(n.mux, func(_ context.Context, p *Peer, m *wire.CapsUpdate) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.caps = slices.DeleteFunc(p.caps, func(c string) bool { return slices.Contains(m.Removed, c) })
		for _, c := range m.Added {
			if !slices.Contains(p.caps, c) && len(p.caps) < maxCaps {
				p.caps = append(p.caps, c)
			}
		}
		return nil
	})
}

const maxCaps = 128

// supersedes says whether a new session with the same peer takes the place of an old one. Both ends come to the same
// answer, whatever the order in which they see the two connections: when both have dialled, the lower id's call counts.
func (p *Peer) supersedes(old *Peer, self centram.PeerID) bool {
	if old.over() {
		return true
	}
	if old.hello.Boot != p.hello.Boot || old.carrier.Dialled() == p.carrier.Dialled() {
		return true // the peer has restarted, or has lost the old connection and dialled again
	}
	selfIsLower := slices.Compare(self[:], p.id[:]) < 0
	return p.carrier.Dialled() == selfIsLower
}
