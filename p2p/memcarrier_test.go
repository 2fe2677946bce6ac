package p2p

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

// nowhere is a socket that nobody reads.
type nowhere struct{ net.PacketConn }

func (nowhere) LocalAddr() net.Addr {
	return &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: DefaultPort}
}

// memCarrier is a connection in memory, at the node's end.
type memCarrier struct {
	peer    centram.PeerID
	session wire.Hash
	dialled bool
	accept  chan *memStream // opened by the peer
	opened  chan *memStream // opened by the node; the peer's ends
	done    chan struct{}

	mu      sync.Mutex // guards the following
	streams []*memStream
	closed  bool
}

func newMemCarrier(peer centram.PeerID, session wire.Hash, dialled bool) *memCarrier {
	return &memCarrier{
		peer: peer, session: session, dialled: dialled, done: make(chan struct{}),
		accept: make(chan *memStream, maxStreams), opened: make(chan *memStream, maxStreams),
	}
}

// open opens a stream as the peer does. It returns the peer's end, or nil if there is no connection any more.
func (c *memCarrier) open() *memStream {
	theirs, ours := newMemStreams()
	if !c.keep(ours) {
		return nil
	}
	c.accept <- ours
	return theirs
}

func (c *memCarrier) keep(s *memStream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.streams) == maxStreams {
		return false
	}
	c.streams = append(c.streams, s)
	return true
}

var errConnEnded = errors.New("the connection ended")

func (c *memCarrier) Open(context.Context, wire.Lane) (stream, error) {
	theirs, ours := newMemStreams()
	if !c.keep(ours) {
		return nil, errConnEnded
	}
	c.opened <- theirs
	return ours, nil
}

func (c *memCarrier) Accept(ctx context.Context) (stream, error) {
	select {
	case s := <-c.accept:
		return s, nil
	case <-c.done:
		return nil, errConnEnded
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *memCarrier) Close(wire.GoodbyeCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	close(c.done)
	for _, s := range c.streams {
		s.Reset()
	}
}

func (c *memCarrier) Peer() centram.PeerID   { return c.peer }
func (c *memCarrier) Session() wire.Hash     { return c.session }
func (c *memCarrier) Remote() netip.AddrPort { return netip.MustParseAddrPort("192.0.2.2:9743") }
func (c *memCarrier) Dialled() bool          { return c.dialled }
func (c *memCarrier) Done() <-chan struct{}  { return c.done }
func (c *memCarrier) Err() error             { return errConnEnded }
func (c *memCarrier) Traffic() Traffic       { return Traffic{} }

// memStream is one end of a stream in memory.
type memStream struct {
	in, out net.Conn
	reset   *atomic.Bool // of both ends
}

func newMemStreams() (a, b *memStream) {
	ab, ba := net.Pipe()
	cd, dc := net.Pipe()
	reset := &atomic.Bool{}
	return &memStream{in: ab, out: cd, reset: reset}, &memStream{in: dc, out: ba, reset: reset}
}

var errReset = errors.New("the stream was reset")

func (s *memStream) Read(b []byte) (int, error) {
	n, err := s.in.Read(b)
	if err != nil && s.reset.Load() {
		err = errReset
	}
	return n, err
}

func (s *memStream) Write(b []byte) (int, error) { return s.out.Write(b) }
func (s *memStream) CloseWrite() error           { return s.out.Close() }
func (s *memStream) CloseRead()                  { _ = s.in.Close() }
func (s *memStream) Urge(wire.Lane)              {}

// SetReadDeadline does not fail, as it does not in QUIC: a pipe's does as soon as the other end is closed.
func (s *memStream) SetReadDeadline(t time.Time) error {
	_ = s.in.SetReadDeadline(t)
	return nil
}

func (s *memStream) SetWriteDeadline(t time.Time) error {
	_ = s.out.SetWriteDeadline(t)
	return nil
}

func (s *memStream) Reset() {
	s.reset.Store(true)
	_ = s.in.Close()
	_ = s.out.Close()
}
