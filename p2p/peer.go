package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

const (
	outboxSize   = 256 // control frames that wait for the peer to read
	controlRate  = 500 // control frames a second that are read; a peer that sends more waits
	controlBurst = 1000
)

// Peer is a session with another node: both have proved who they are and that they are of one network.
type Peer struct {
	node    *Node
	carrier carrier
	scope   wire.Scope
	control stream
	log     *slog.Logger

	id    centram.PeerID
	hello *wire.Hello
	since time.Time

	trust   atomic.Uint32 // wire.Trust
	request atomic.Uint64 // number of the last request
	slots   chan struct{} // one for each request of ours that may run
	serving chan struct{} // one for each request of the peer that may run
	bulk    *rate.Limiter // what the peer takes of bulk data; nil means anything
	pacing  *rate.Limiter // requests of a stranger
	asks    *rate.Limiter // wishes to pair: each shows on the owner's screen
	outbox  chan *wire.Frame
	link    link

	mu      sync.Mutex // guards the following
	caps    []string
	running map[uint64]context.CancelFunc // requests of the peer
	ending  *ending                       // set once: why the session ends, and who wants it
	stop    context.CancelCauseFunc
}

// ending is why a session ends.
type ending struct {
	code wire.GoodbyeCode
	err  error
}

func (e *ending) Error() string { return e.code.String() }
func (e *ending) Unwrap() error { return e.err }

// ID is the peer's key.
func (p *Peer) ID() centram.PeerID { return p.id }

// Name is what the peer's owner calls it. It may be anything, and proves nothing.
func (p *Peer) Name() string { return p.hello.Name }

// Version is the peer's version of the program.
func (p *Peer) Version() string { return p.hello.Version }

// Remote is the peer's address, if it has one.
func (p *Peer) Remote() netip.AddrPort { return p.carrier.Remote() }

// Trust is what this node takes the peer for.
func (p *Peer) Trust() wire.Trust { return wire.Trust(p.trust.Load()) }

// Since is when the session began.
func (p *Peer) Since() time.Time { return p.since }

// Caps are the abilities that the peer has now.
func (p *Peer) Caps() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.caps)
}

// Traffic is what went over the connection.
func (p *Peer) Traffic() Traffic { return p.carrier.Traffic() }

// Done is closed when the connection has ended.
func (p *Peer) Done() <-chan struct{} { return p.carrier.Done() }

// Secret is a value that both ends of this session have and nobody else has, such as for words to compare.
func (p *Peer) Secret() wire.Hash { return p.scope.Session }

// gone is the error of whatever was under way when the connection ended.
func (p *Peer) gone() error {
	return centram.Errorf(centram.Unavailable, "the connection to %s ended", p.id.Short()).WithHint("It is dialled again by itself; try again in a moment.")
}

// Tell sends a notice or a record. It returns when the message is queued, not when it has arrived.
func (p *Peer) Tell(ctx context.Context, m wire.Message) error {
	row := wire.RowFor(m)
	if row.Lane != wire.Control {
		return fmt.Errorf("%s does not travel in the control stream", row.Name)
	}
	f, err := wire.Seal(m, p.node.key, p.scope, 0, 0)
	if err != nil {
		return err
	}
	return p.queue(ctx, f)
}

// Pass sends a record on as it came.
func (p *Peer) Pass(ctx context.Context, r wire.Record) error {
	f, err := r.Frame()
	if err != nil {
		return err
	}
	return p.queue(ctx, f)
}

func (p *Peer) queue(ctx context.Context, f *wire.Frame) error {
	select {
	case p.outbox <- f:
		return nil
	case <-p.Done():
		return p.gone()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Open sends a request and returns its exchange, which has to be closed. It waits while as many requests run as the peer
// takes. When ctx ends, the exchange does.
func (p *Peer) Open(ctx context.Context, q wire.Message) (*Exchange, error) {
	row := wire.RowFor(q)
	if row.Way != wire.Ask {
		return nil, fmt.Errorf("%s is not a request", row.Name)
	}
	release := func() {}
	if row.Lane == wire.Request {
		select {
		case p.slots <- struct{}{}:
			release = func() { <-p.slots }
		case <-p.Done():
			return nil, p.gone()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	s, err := p.carrier.Open(ctx, row.Lane)
	if err != nil {
		release()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, p.gone()
	}
	x := &Exchange{
		peer: p, stream: s, row: row, request: p.request.Add(1), asking: true, release: release,
		stop: context.AfterFunc(ctx, s.Reset),
	}
	if err := x.Send(ctx, q); err != nil {
		x.Close()
		return nil, err
	}
	return x, nil
}

// cancel tells the peer that nobody waits for a request any more.
func (p *Peer) cancel(request uint64) {
	f, err := wire.Seal(&wire.Cancel{Request: request}, p.node.key, p.scope, 0, 0)
	if err != nil {
		return
	}
	select {
	case p.outbox <- f:
	default: // the stream was reset as well, which says the same
	}
}

// End says goodbye and ends the session.
func (p *Peer) End(code wire.GoodbyeCode) { p.end(code, nil) }

func (p *Peer) end(code wire.GoodbyeCode, err error) {
	e := &ending{code, err}
	p.mu.Lock()
	if p.ending == nil {
		p.ending = e
	}
	p.mu.Unlock()
	p.stop(e)
}

// over says that the session has ended or is about to.
func (p *Peer) over() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.Done():
		return true
	default:
		return p.ending != nil
	}
}

// run carries the session until ctx or the connection ends. It returns why.
func (p *Peer) run(ctx context.Context) *ending {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.readControl(ctx) })
	g.Go(func() error { return p.acceptStreams(ctx) })
	g.Go(func() error { return p.measure(ctx) })
	for _, f := range p.node.sessions {
		g.Go(func() error { return f(ctx, p) })
	}
	g.Go(func() error {
		err := p.writeControl(ctx)
		p.farewell(err)
		return err
	})
	err := g.Wait()
	e, ok := errors.AsType[*ending](err)
	if !ok {
		e = &ending{wire.ShuttingDown, err}
	}
	p.carrier.Close(e.code)
	return e
}

// readControl reads the control stream until it ends. Whatever is wrong with a frame there ends the session, because what
// follows could not be understood.
func (p *Peer) readControl(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = p.control.SetReadDeadline(time.Now()) })()
	limit := rate.NewLimiter(controlRate, controlBurst)
	for {
		if err := limit.Wait(ctx); err != nil {
			return context.Cause(ctx)
		}
		f, err := wire.ReadIf(p.control, func(row *wire.Row) error { return inLane(row, wire.Control) })
		if err != nil {
			return p.lost(ctx, err)
		}
		if wire.RowOf(f.Type) == nil {
			if f.Flags&wire.Critical != 0 {
				p.node.metrics.refused(wire.Unsupported)
			}
			continue
		}
		m, err := p.open(f, wire.Control)
		if err != nil {
			if s, ok := errors.AsType[*wire.Status](err); ok && !s.Code.Costs() {
				p.log.DebugContext(ctx, "Control message refused", "type", f.Type, "err", err)
				continue
			}
			return p.lost(ctx, err)
		}
		p.node.metrics.received(wire.RowOf(f.Type), f.Size())
		switch g := m.(type) {
		case *wire.Goodbye:
			return &ending{g.Code, errPeerLeft}
		case *wire.Hello, *wire.HelloAck:
			return p.lost(ctx, &wire.Status{Code: wire.Malformed, Detail: "a second hello"})
		}
		h := p.node.mux.handlers[f.Type]
		if h == nil {
			continue
		}
		if err := h(withFrame(ctx, f), p, m, nil); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx) // which may well be what err is: it is blamed once
			}
			p.log.DebugContext(ctx, "Control message refused", "type", f.Type, "err", err)
			if p.blame(err) {
				return &ending{wire.Misbehaviour, err}
			}
		}
	}
}

// errPeerLeft says that it was the peer who ended the session.
var errPeerLeft = errors.New("the peer said goodbye")

// lost is why the control stream cannot be read any more.
func (p *Peer) lost(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case p.blame(err):
		return &ending{wire.Misbehaviour, err}
	}
	if code, ok := farewell(p.carrier.Err()); ok {
		return &ending{code, errPeerLeft}
	}
	return fmt.Errorf("the connection ended: %w", err)
}

type frameKey struct{}

func withFrame(ctx context.Context, f *wire.Frame) context.Context {
	return context.WithValue(ctx, frameKey{}, f)
}

// Received is the record that a handler called by On or Serve was given, with its author's signature.
func Received(ctx context.Context) wire.Record {
	f, _ := ctx.Value(frameKey{}).(*wire.Frame)
	if f == nil {
		return nil
	}
	return wire.RecordOf(f)
}

// Author is who signed the message that a handler was given: the peer itself, but for records.
func Author(ctx context.Context) centram.PeerID {
	f, _ := ctx.Value(frameKey{}).(*wire.Frame)
	if f == nil {
		return centram.PeerID{}
	}
	return f.Author
}

// writeControl sends what is queued, and ends with ctx. A peer that does not read for a while is let go.
func (p *Peer) writeControl(ctx context.Context) error {
	buf := make([]byte, 0, 4096)
	for {
		select {
		case f := <-p.outbox:
			buf = f.Append(buf[:0])
			for len(buf) < 16<<10 { // what waits already goes out together
				select {
				case f := <-p.outbox:
					buf = f.Append(buf)
					continue
				default:
				}
				break
			}
			if err := p.control.SetWriteDeadline(time.Now().Add(headerTimeout)); err != nil {
				return p.lost(ctx, err)
			}
			if _, err := p.control.Write(buf); err != nil {
				err = p.lost(ctx, fmt.Errorf("write the control stream: %w", err))
				p.carrier.Close(wire.Stalled) // a part of a frame may have gone out: the peer would take a goodbye for the rest
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// farewell tells the peer why the session ends, unless it was the peer who ended it.
func (p *Peer) farewell(err error) {
	if errors.Is(err, errPeerLeft) {
		return
	}
	g := &wire.Goodbye{Code: wire.ShuttingDown}
	if e, ok := errors.AsType[*ending](err); ok {
		g.Code = e.code
		if s, ok := errors.AsType[*wire.Status](e.err); ok {
			g.Reason = strings.ToValidUTF8(s.Detail[:min(len(s.Detail), 256)], "")
		}
	}
	f, err := wire.Seal(g, p.node.key, p.scope, 0, 0)
	if err != nil {
		return
	}
	_ = p.control.SetWriteDeadline(time.Now().Add(goodbyeTimeout))
	if _, err := p.control.Write(f.Append(nil)); err != nil {
		return
	}
	_ = p.control.CloseWrite()
	// The frame is on its way only when the peer has had a moment to take it: it closes the connection when it has.
	select {
	case <-p.Done():
	case <-time.After(min(goodbyeTimeout, 4*p.Traffic().RTT+50*time.Millisecond)):
	}
}

// open checks a frame that came in a lane and reads its message.
func (p *Peer) open(f *wire.Frame, lane wire.Lane) (wire.Message, error) {
	row := wire.RowOf(f.Type)
	if row == nil {
		return nil, &wire.Status{Code: wire.Unsupported, Detail: f.Type.Name()}
	}
	if err := p.fits(row, lane); err != nil {
		return nil, err
	}
	if err := f.Verify(p.scope); err != nil {
		return nil, err
	}
	if row.Signature == wire.ByPeer && f.Author != p.id {
		return nil, &wire.Status{Code: wire.BadSignature, Detail: row.Name + " is signed by another node"}
	}
	return f.Decode()
}

// fits says whether the peer may say a type in a lane. It costs nothing, so it is asked before a body is read.
func (p *Peer) fits(row *wire.Row, lane wire.Lane) error {
	if err := inLane(row, lane); err != nil {
		return err
	}
	return p.may(row)
}

func inLane(row *wire.Row, lane wire.Lane) error {
	if row.Lane != lane && row.Type != typeStatus {
		return &wire.Status{Code: wire.Malformed, Detail: row.Name + " does not travel in the " + string(lane) + " stream"}
	}
	return nil
}

var typeStatus = wire.RowAs[wire.Status]().Type

// may says whether the peer has the rank that a message needs.
func (p *Peer) may(row *wire.Row) error {
	trust := p.Trust()
	switch row.Rank {
	case wire.Owner:
		if trust == wire.Own {
			return nil
		}
	case wire.Paired:
		if trust != wire.Stranger || p.node.policy == PolicyOpen {
			return nil
		}
	default:
		return nil
	}
	return &wire.Status{
		Code: wire.Denied, Detail: row.Name + " is for paired nodes",
		Hint: "Pair the two nodes with: centram peer pair",
	}
}

// acceptStreams serves the peer's requests until ctx ends, and waits for them.
func (p *Peer) acceptStreams(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		s, err := p.carrier.Accept(ctx)
		if err != nil {
			return p.lost(ctx, err)
		}
		wg.Go(func() { p.serve(ctx, s) })
	}
}

// serve answers one request.
func (p *Peer) serve(ctx context.Context, s stream) {
	defer context.AfterFunc(ctx, s.Reset)()
	if s.SetReadDeadline(time.Now().Add(headerTimeout)) != nil {
		return
	}
	in := &counted{Reader: s}
	f, err := wire.ReadIf(in, func(row *wire.Row) error {
		if err := p.may(row); err != nil {
			return err
		}
		if row.Way != wire.Ask { // what only belongs into a stream may be sixteen times as long as a request
			return notRequest(row)
		}
		return nil
	})
	if f == nil {
		s.Reset()
		if in.n == 0 && ctx.Err() == nil && errors.Is(err, io.EOF) {
			// Nobody ends a stream by chance before its first byte. One that stays empty may be honest: QUIC opens it with
			// the next one's first packet, and its own may be lost as long as nothing gets through.
			err = &wire.Status{Code: wire.Malformed, Detail: "a stream without a request"}
		}
		if p.blame(err) {
			p.end(wire.Misbehaviour, err)
		}
		return
	}
	row := wire.RowOf(f.Type)
	if row != nil {
		s.Urge(row.Lane)
	} else {
		row = wire.RowAs[wire.Status]()
	}
	x := &Exchange{peer: p, stream: s, row: row, request: f.Request, stop: func() bool { return true }, release: func() {}}
	defer x.Close()
	if err == nil {
		err = p.handle(ctx, f, x)
	}
	if err == nil && x.sent {
		return
	}
	if p.blame(err) {
		p.end(wire.Misbehaviour, err)
	}
	status := wire.StatusOf(err)
	if status.Code == wire.Failed {
		p.log.WarnContext(ctx, "Request of a peer failed", "type", f.Type, "err", err)
	}
	p.node.metrics.refused(status.Code)
	_ = x.Send(ctx, status) // a peer that has gone needs no answer
}

// counted counts the bytes that were read.
type counted struct {
	io.Reader
	n int
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += n
	return n, err
}

func notRequest(row *wire.Row) error {
	return &wire.Status{Code: wire.Malformed, Detail: row.Name + " is not a request"}
}

// handle checks a request and calls its handler.
func (p *Peer) handle(ctx context.Context, f *wire.Frame, x *Exchange) error {
	m, err := p.open(f, x.row.Lane)
	if err != nil {
		return err
	}
	if x.row.Way != wire.Ask || f.Request == 0 {
		return notRequest(x.row)
	}
	p.node.metrics.received(x.row, f.Size())
	if p.Trust() == wire.Stranger {
		if err := p.pacing.Wait(ctx); err != nil {
			return &wire.Status{Code: wire.Cancelled}
		}
	}
	h := p.node.mux.handlers[f.Type]
	if h == nil {
		return &wire.Status{Code: wire.Unsupported, Detail: x.row.Name, Hint: "Perhaps the peer has an older version of Centram."}
	}
	if x.row.Lane == wire.Request {
		select {
		case p.serving <- struct{}{}:
			defer func() { <-p.serving }()
		default:
			return &wire.Status{Code: wire.Busy, RetryMs: 100, Detail: "too many requests at once"}
		}
	}
	ctx, cancel := context.WithCancel(withFrame(ctx, f))
	defer cancel()
	p.mu.Lock()
	if _, twice := p.running[f.Request]; twice {
		p.mu.Unlock()
		return &wire.Status{Code: wire.Malformed, Detail: "two requests have one number"}
	}
	p.running[f.Request] = cancel
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.running, f.Request)
		p.mu.Unlock()
	}()
	err = h(ctx, p, m, x)
	if err != nil && ctx.Err() != nil {
		return &wire.Status{Code: wire.Cancelled} // whatever the handler made of it: nobody waits any more
	}
	return err
}

// pace waits until n more bytes of bulk data may be sent.
func (p *Peer) pace(ctx context.Context, n int) error {
	for _, l := range []*rate.Limiter{p.bulk, p.node.upload} {
		if l == nil {
			continue
		}
		if err := l.WaitN(ctx, min(n, l.Burst())); err != nil {
			return err
		}
	}
	return nil
}

// Blame ends the session and counts err against the peer, if err is one that only a broken or hostile peer causes, such as
// a record in a reply whose signature is wrong. It says whether it is.
func (p *Peer) Blame(err error) bool {
	if !p.blame(err) {
		return false
	}
	p.end(wire.Misbehaviour, err)
	return true
}

// blame counts err against the peer if only a broken or hostile one causes it. It says whether it does.
func (p *Peer) blame(err error) bool {
	s, ok := errors.AsType[*wire.Status](err)
	if !ok || !s.Code.Costs() {
		return false
	}
	p.node.metrics.refused(s.Code)
	p.node.penalise(p.id, s)
	p.log.Info("Peer misbehaved", "err", s)
	return true
}
