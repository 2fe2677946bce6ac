package p2p

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

// Exchange is one end of a request's stream. At the asking end, Receive yields the replies; at the answering end, Send
// sends them. One goroutine may send while another receives.
type Exchange struct {
	peer    *Peer
	stream  stream
	row     *wire.Row // of the request
	request uint64
	asking  bool
	buf     []byte // for the frames of the bulk lane
	sent    bool   // anything
	ended   error  // what Receive says after the last reply
	stop    func() bool
	release func()
	once    sync.Once
}

// Send sends a message, signed if its type is.
func (x *Exchange) Send(ctx context.Context, m wire.Message) error { return x.send(ctx, m, 0) }

// SendMore sends a reply that others follow.
func (x *Exchange) SendMore(ctx context.Context, m wire.Message) error {
	return x.send(ctx, m, wire.More)
}

func (x *Exchange) send(ctx context.Context, m wire.Message, flags wire.Flags) error {
	if !x.asking {
		flags |= wire.Reply
	}
	x.sent = true
	if wire.RowFor(m).Signature == wire.ByNobody {
		b := bulkBuffers.Get().(*[]byte)
		defer bulkBuffers.Put(b)
		var err error
		if *b, err = wire.AppendBulk((*b)[:0], m, flags, x.request); err != nil {
			return err
		}
		return x.write(ctx, *b, wire.RowFor(m))
	}
	f, err := wire.Seal(m, x.peer.node.key, x.peer.scope, flags, x.request)
	if err != nil {
		return err
	}
	return x.write(ctx, f.Append(nil), wire.RowFor(m))
}

// SendTogether sends messages that have no signature in one write. At the answering end others may follow.
func (x *Exchange) SendTogether(ctx context.Context, ms ...wire.Message) error {
	var flags wire.Flags
	if !x.asking {
		flags = wire.Reply | wire.More
	}
	x.sent = true
	buf := bulkBuffers.Get().(*[]byte)
	defer bulkBuffers.Put(buf)
	b := (*buf)[:0]
	var err error
	for _, m := range ms {
		if b, err = wire.AppendBulk(b, m, flags, x.request); err != nil {
			return err
		}
	}
	*buf = b
	return x.write(ctx, b, wire.RowFor(ms[0]))
}

var bulkBuffers = sync.Pool{New: func() any { b := make([]byte, 0, wire.ChunkSize+64); return &b }}

func (x *Exchange) write(ctx context.Context, b []byte, row *wire.Row) error {
	if row.Lane == wire.Bulk {
		if err := x.peer.pace(ctx, len(b)); err != nil {
			return err
		}
	}
	for rest := b; len(rest) > 0; {
		slice := rest[:min(len(rest), stallSlice)]
		if err := x.stream.SetWriteDeadline(time.Now().Add(stallTimeout)); err != nil {
			return x.why(ctx, err)
		}
		if _, err := x.stream.Write(slice); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
				x.peer.end(wire.Stalled, err) // it takes part in the connection, and does not read
			}
			return x.why(ctx, err)
		}
		rest = rest[len(slice):]
	}
	x.peer.node.metrics.sent(row, len(b))
	return nil
}

// Receive returns the next message, and io.EOF after the last. At the asking end a STATUS other than OK is an error. In the
// bulk and the hyperlink lane, what the message holds is good until the next Receive.
func (x *Exchange) Receive(ctx context.Context) (wire.Message, error) {
	if x.ended != nil {
		return nil, x.ended
	}
	m, more, err := x.receive(ctx)
	switch {
	case err != nil:
		x.ended = err
	case x.asking && !more:
		x.ended = io.EOF
	}
	return m, err
}

func (x *Exchange) receive(ctx context.Context) (wire.Message, bool, error) {
	if !x.asking {
		// A request may wait as long as its asker likes between two replies; an asker may not, but for a chain, which rests
		// until somebody says something to the model.
		var until time.Time
		if x.row.Lane != wire.Hyperlink {
			until = time.Now().Add(bodyTimeout)
		}
		if err := x.stream.SetReadDeadline(until); err != nil {
			return nil, false, x.why(ctx, err)
		}
	}
	f, err := wire.ReadInto(x.stream, func(row *wire.Row) error { return x.peer.fits(row, x.row.Lane) }, x.buf)
	if _, wrong := errors.AsType[*wire.Status](err); wrong {
		return nil, false, x.fault(err)
	} else if err != nil {
		return nil, false, x.why(ctx, err)
	}
	if x.reuses() && cap(f.Body) > cap(x.buf) {
		x.buf = f.Body[:0]
	}
	m, err := x.peer.open(f, x.row.Lane)
	if err != nil {
		return nil, false, x.fault(err)
	}
	if f.Request != x.request || (f.Flags&wire.Reply != 0) != x.asking {
		return nil, false, x.fault(&wire.Status{Code: wire.Malformed, Detail: f.Type.Name() + " belongs to another request"})
	}
	if !x.asking {
		return m, true, nil
	}
	if s, ok := m.(*wire.Status); ok {
		return m, false, s.Centram()
	}
	if !slices.Contains(x.row.Replies, f.Type) {
		return nil, false, x.fault(&wire.Status{Code: wire.Malformed, Detail: f.Type.Name() + " does not answer " + x.row.Name})
	}
	return m, f.Flags&wire.More != 0, nil
}

// reuses says whether the memory of one frame serves the next.
func (x *Exchange) reuses() bool { return x.row.Lane == wire.Bulk || x.row.Lane == wire.Hyperlink }

// fault is what Receive says of a frame that cannot be right. At the answering end the error goes back to serve, which
// blames the peer. At the asking end it may well be returned to a third node that this one works for, and that has done
// nothing: the peer is blamed here, and the error keeps nothing to blame anybody for.
func (x *Exchange) fault(err error) error {
	if !x.asking || !x.peer.Blame(err) {
		return err
	}
	return centram.Errorf(centram.Unavailable, "the peer answered %s with what cannot be right: %v", x.row.Name, err)
}

// why is err as the caller should see it: ctx's end and the connection's end show as what they are.
func (x *Exchange) why(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case <-x.peer.Done():
		return x.peer.gone()
	default:
	}
	if errors.Is(err, io.EOF) && !x.asking {
		return io.EOF
	}
	return centram.Errorf(centram.Unavailable, "the peer ended the request: %w", err)
}

// CloseSend says that nothing more is asked. What still comes is to be received.
func (x *Exchange) CloseSend() error { return x.stream.CloseWrite() }

// Abort breaks the stream, so that Send and Receive end. Close is still to be called.
func (x *Exchange) Abort() { x.stream.Reset() }

// Close gives the stream back. What was not read is thrown away; a request that still runs at the other end is stopped.
func (x *Exchange) Close() {
	x.once.Do(func() {
		x.stop()
		if x.asking && x.ended != io.EOF {
			x.peer.cancel(x.request)
			x.stream.Reset()
		} else {
			_ = x.stream.CloseWrite()
			x.stream.CloseRead() // QUIC counts a stream as open until its end was read, even if nothing more is to come
		}
		x.release()
	})
}
