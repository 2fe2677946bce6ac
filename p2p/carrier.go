package p2p

import (
	"context"
	"io"
	"net/netip"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

// carrier is a secured connection to one peer. QUIC on the LAN is the only one today; nothing above this file knows that.
type carrier interface {
	Peer() centram.PeerID   // whom the handshake proved to be at the other end
	Session() wire.Hash     // the same on both ends, and different in every connection
	Remote() netip.AddrPort // zero if there is no such thing
	Dialled() bool          // by this side

	Open(ctx context.Context, lane wire.Lane) (stream, error)
	Accept(ctx context.Context) (stream, error)

	Close(code wire.GoodbyeCode)
	Done() <-chan struct{}
	Err() error // why the connection ended, after Done
	Traffic() Traffic
}

// stream is a pair of byte streams. Write buffers nothing.
type stream interface {
	io.ReadWriter
	CloseWrite() error // the reader sees io.EOF after the last byte
	CloseRead()        // what still comes is thrown away
	Reset()            // both directions, at once
	Urge(wire.Lane)    // sets the priority of what is written
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// Traffic is what went over a connection.
type Traffic struct {
	Sent     uint64        `json:"sent"`     // bytes, with what had to be sent again
	Received uint64        `json:"received"` // bytes
	Lost     uint64        `json:"lost"`     // bytes that were sent and did not arrive
	RTT      time.Duration `json:"-"`        // smoothed round trip
}
