package p2p

import (
	"context"
	"fmt"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

// Mux says who handles which type of message. It is filled before the node runs and not changed after.
type Mux struct {
	handlers [256]handler
}

// handler handles a message that has passed all checks. x is nil for what is not a request.
type handler func(ctx context.Context, p *Peer, m wire.Message, x *Exchange) error

// message is a pointer to T that is a message: it lets a caller write the type once.
type message[T any] interface {
	*T
	wire.Message
}

// On handles notices and records of the type M. handle is called in the order of arrival and has to be quick: until it
// returns, nothing else of that peer is read. For a record, the author may be another than the peer; see Received.
func On[T any, M message[T]](mux *Mux, handle func(ctx context.Context, p *Peer, m M) error) {
	row := wire.RowAs[T]()
	if row.Way == wire.Ask || row.Way == wire.Answer {
		panic("p2p: " + row.Name + " is not a notice")
	}
	mux.set(row, func(ctx context.Context, p *Peer, m wire.Message, _ *Exchange) error { return handle(ctx, p, m.(M)) })
}

// Answer handles requests of the type Q that have one reply. An error of handle goes to the peer as a STATUS.
func Answer[T, R any, Q message[T], A message[R]](mux *Mux, handle func(ctx context.Context, p *Peer, q Q) (A, error)) {
	Serve(mux, func(ctx context.Context, p *Peer, q Q, x *Exchange) error {
		reply, err := handle(ctx, p, q)
		if err != nil {
			return err
		}
		return x.Send(ctx, reply)
	})
}

// Serve handles requests of the type Q that have several replies, or none but a STATUS: if handle sends nothing, its error
// or OK is sent.
func Serve[T any, Q message[T]](mux *Mux, handle func(ctx context.Context, p *Peer, q Q, x *Exchange) error) {
	row := wire.RowAs[T]()
	if row.Way != wire.Ask {
		panic("p2p: " + row.Name + " is not a request")
	}
	mux.set(row, func(ctx context.Context, p *Peer, m wire.Message, x *Exchange) error { return handle(ctx, p, m.(Q), x) })
}

func (m *Mux) set(row *wire.Row, h handler) {
	if m.handlers[row.Type] != nil {
		panic("p2p: " + row.Name + " has two handlers")
	}
	m.handlers[row.Type] = h
}

// Missing lists the types that nothing handles yet: requests are answered with STATUS unsupported, notices are dropped. A
// reply is missing if nobody handles the requests that it answers.
func (m *Mux) Missing() []wire.Type {
	answered := map[wire.Type]bool{}
	for _, row := range wire.Table {
		if m.handlers[row.Type] != nil {
			for _, reply := range row.Replies {
				answered[reply] = true
			}
		}
	}
	var missing []wire.Type
	for _, row := range wire.Table {
		if m.handlers[row.Type] == nil && !answered[row.Type] && !inSession[row.Type] {
			missing = append(missing, row.Type)
		}
	}
	return missing
}

// Ask sends a request that has one reply of the type A and waits for it, for 30 s if ctx has no deadline. It fails with the
// peer's own words if that refuses, with centram.Unavailable if the connection ends, and with ctx's error.
func Ask[T any, A message[T]](ctx context.Context, p *Peer, q wire.Message) (A, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, bodyTimeout)
		defer cancel()
	}
	x, err := p.Open(ctx, q)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	m, err := x.Receive(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", wire.RowFor(q).Name, err)
	}
	a, ok := m.(A)
	if !ok {
		return nil, centram.Errorf(centram.Unavailable, "the peer answered %s with %s", wire.RowFor(q).Name, wire.RowFor(m).Name)
	}
	return a, nil
}
