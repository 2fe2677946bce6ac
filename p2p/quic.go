package p2p

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
)

// exporterLabel names the secret that both ends derive from the handshake (RFC 5705), and that signatures are bound to.
const exporterLabel = "EXPORTER-centram/1"

// quicCarrier is a QUIC connection as a carrier.
type quicCarrier struct {
	conn    *quic.Conn
	id      centram.PeerID
	session wire.Hash
	dialled bool
}

func quicConfig(trace bool) *quic.Config {
	c := &quic.Config{
		HandshakeIdleTimeout:  handshakeTimeout,
		MaxIdleTimeout:        idleTimeout,
		KeepAlivePeriod:       keepAlive,
		MaxIncomingStreams:    maxStreams,
		MaxIncomingUniStreams: -1,
		// What a peer can make this node hold in memory: 16 MiB.
		MaxConnectionReceiveWindow: 16 << 20,
		// Room for what arrives while a chunk is hashed and written.
		InitialStreamReceiveWindow:     2 << 20,
		InitialConnectionReceiveWindow: 4 << 20,
	}
	if trace {
		c.Tracer = qlog.DefaultConnectionTracer // a file for each connection, in the folder that QLOGDIR names
	}
	return c
}

// newQUICCarrier waits for the handshake to complete: before that, the client's first bytes come from nobody.
func newQUICCarrier(ctx context.Context, conn *quic.Conn, dialled bool) (*quicCarrier, error) {
	select {
	case <-conn.HandshakeComplete():
	case <-conn.Context().Done():
		return nil, context.Cause(conn.Context())
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	state := conn.ConnectionState().TLS
	id, err := keyOf(state)
	if err != nil {
		return nil, err
	}
	secret, err := state.ExportKeyingMaterial(exporterLabel, nil, len(wire.Hash{}))
	if err != nil {
		return nil, fmt.Errorf("derive the session's secret: %w", err)
	}
	return &quicCarrier{conn: conn, id: id, session: wire.Hash(secret), dialled: dialled}, nil
}

func (c *quicCarrier) Peer() centram.PeerID   { return c.id }
func (c *quicCarrier) Session() wire.Hash     { return c.session }
func (c *quicCarrier) Dialled() bool          { return c.dialled }
func (c *quicCarrier) Remote() netip.AddrPort { return addrPort(c.conn.RemoteAddr()) }
func (c *quicCarrier) Done() <-chan struct{}  { return c.conn.Context().Done() }
func (c *quicCarrier) Err() error             { return context.Cause(c.conn.Context()) }

func (c *quicCarrier) Open(ctx context.Context, lane wire.Lane) (stream, error) {
	s, err := c.conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	q := quicStream{s}
	q.Urge(lane)
	return q, nil
}

func (c *quicCarrier) Accept(ctx context.Context) (stream, error) {
	s, err := c.conn.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	return quicStream{s}, nil
}

func (c *quicCarrier) Close(code wire.GoodbyeCode) {
	_ = c.conn.CloseWithError(quic.ApplicationErrorCode(code), code.String())
}

func (c *quicCarrier) Traffic() Traffic {
	s := c.conn.ConnectionStats()
	return Traffic{Sent: s.BytesSent, Received: s.BytesReceived, Lost: s.BytesLost, RTT: s.SmoothedRTT}
}

type quicStream struct{ *quic.Stream }

func (s quicStream) CloseWrite() error { return s.Close() }
func (s quicStream) CloseRead()        { s.CancelRead(0) }

func (s quicStream) Reset() {
	s.CancelRead(0)
	s.CancelWrite(0)
}

func (s quicStream) Urge(lane wire.Lane) {
	// A pipeline's frames go out in the order they were made; everything else takes turns.
	s.SetPriority(urgency(lane), lane != wire.Hyperlink)
}

// farewell is the code with which the peer closed the connection, if it did.
func farewell(err error) (wire.GoodbyeCode, bool) {
	if e, ok := errors.AsType[*quic.ApplicationError](err); ok && e.Remote && e.ErrorCode < 256 {
		return wire.GoodbyeCode(e.ErrorCode), true
	}
	return 0, false
}

// zoneless is an address as other nodes can read it: which interface leads to it is this node's own affair.
func zoneless(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().WithZone(""), a.Port())
}

func addrPort(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := u.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
