// Package transfer brings blobs from peer to peer: adapters, and tensors of models. A blob is named by its SHA-256, comes
// in chunks of 1 MiB from all peers that have some of it, and is checked chunk by chunk before it touches the disk. What was
// begun goes on after a loss of connection, a restart or a kill.
//
// Where blobs are kept, and which chunk to ask of whom, is package blob's.
package transfer

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/blob"
	"github.com/centram/centram/p2p/wire"
	"golang.org/x/sync/errgroup"
)

const (
	// Ability is what a node says of itself that gives and takes blobs.
	Ability = "transfer/1"

	uploads      = 16 // streams of chunks that are served at the same time
	busyFor      = 250 * time.Millisecond
	tellEvery    = 2 * time.Second // what has arrived meanwhile, to whom it may help
	followFor    = 10 * time.Minute
	maxFollowed  = 256 // blobs whose state peers are told
	comeBack     = time.Second
	askAgain     = 2 * time.Second
	manifestTime = 10 * time.Second
)

// Config is what a Service stands on. Node and Store are needed.
type Config struct {
	Node  *p2p.Node
	Store *blob.Store
	// Wanted decides about a blob that a peer offers unasked; with no error it is fetched. Zero means that nothing is wanted.
	Wanted func(ctx context.Context, p *p2p.Peer, o *wire.TransferOffer) error
	// Receipt is given what a peer certifies to have got from here. Zero means that nobody wants to know.
	Receipt func(r wire.Record, author centram.PeerID, done *wire.TransferDone)
	Log     *slog.Logger
}

// Service gives and takes blobs. It is safe for concurrent use.
type Service struct {
	cfg     Config
	log     *slog.Logger
	serving chan struct{}
	offers  chan offer

	mu        sync.Mutex                                 // guards the following
	followers map[wire.Hash]map[centram.PeerID]time.Time // who wants to know what there is of a blob, until when
	fetches   map[*fetching]bool
	waiting   map[chan<- *p2p.Peer]bool // fetches that want to know of new sessions
}

type offer struct {
	peer centram.PeerID
	*wire.TransferOffer
}

// New makes the service and registers what it answers. It is to be called before the node runs.
func New(cfg Config) *Service {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &Service{
		cfg: cfg, log: cfg.Log, serving: make(chan struct{}, uploads), offers: make(chan offer, 16),
		followers: map[wire.Hash]map[centram.PeerID]time.Time{}, fetches: map[*fetching]bool{},
		waiting: map[chan<- *p2p.Peer]bool{},
	}
	mux := cfg.Node.Mux()
	p2p.Answer(mux, s.manifest)
	p2p.Serve(mux, s.chunks)
	p2p.On(mux, s.haveMap)
	p2p.Serve(mux, s.offered)
	p2p.On(mux, s.done)
	cfg.Node.OnSession(s.session)
	return s
}

// Run fetches what was offered and wanted, and tells peers what has arrived, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var fetches sync.WaitGroup
	defer fetches.Wait()
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case o := <-s.offers:
			fetches.Go(func() {
				if err := s.Fetch(ctx, o.Blob, Options{Manifest: o.Manifest}); err != nil {
					s.log.WarnContext(ctx, "Offered blob not fetched", "blob", o.Blob, "peer", o.peer.Short(), "err", err)
				}
			})
		case <-tick.C:
			s.tellFollowers(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// session wakes fetches that wait for sources.
func (s *Service) session(_ context.Context, p *p2p.Peer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.waiting {
		select {
		case c <- p:
		default: // it looks at all sessions from time to time
		}
	}
	return nil
}

// manifest tells a peer the chunks of a blob, and first which of them are here.
func (s *Service) manifest(ctx context.Context, p *p2p.Peer, q *wire.ManifestGet) (*wire.Manifest, error) {
	m, err := s.cfg.Store.Manifest(q.Blob)
	if err != nil {
		return nil, err
	}
	have := s.cfg.Store.Have(q.Blob)
	if !have.Complete {
		s.follow(q.Blob, p.ID())
	}
	return m, p.Tell(ctx, &have)
}

// follow has a peer told what arrives of a blob.
func (s *Service) follow(b wire.Hash, id centram.PeerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.followers[b] == nil {
		if len(s.followers) >= maxFollowed {
			return
		}
		s.followers[b] = map[centram.PeerID]time.Time{}
	}
	s.followers[b][id] = time.Now().Add(followFor)
}

// unfollow ends that. s.mu is held.
func (s *Service) unfollow(b wire.Hash, id centram.PeerID) {
	delete(s.followers[b], id)
	if len(s.followers[b]) == 0 {
		delete(s.followers, b)
	}
}

func (s *Service) tellFollowers(ctx context.Context) {
	type news struct {
		to   centram.PeerID
		blob wire.Hash
	}
	var list []news
	now := time.Now()
	s.mu.Lock()
	for b, peers := range s.followers {
		for id, until := range peers {
			if now.After(until) || s.cfg.Node.Peer(id) == nil {
				s.unfollow(b, id)
				continue
			}
			list = append(list, news{id, b})
		}
	}
	s.mu.Unlock()
	for _, n := range list {
		p := s.cfg.Node.Peer(n.to)
		if p == nil {
			continue
		}
		have := s.cfg.Store.Have(n.blob)
		if !have.Complete && len(have.Bits) == 0 {
			continue
		}
		if err := p.Tell(ctx, &have); err == nil && have.Complete {
			s.mu.Lock()
			s.unfollow(n.blob, n.to)
			s.mu.Unlock()
		}
	}
}

// haveMap notes what a peer has of a blob, for the fetches of it that run: nobody else wants to know.
func (s *Service) haveMap(_ context.Context, p *p2p.Peer, m *wire.HaveMap) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.fetches {
		if f.blob == m.Blob {
			f.said(p, m)
		}
	}
	if m.Complete {
		s.unfollow(m.Blob, p.ID()) // it needs nothing
	}
	return nil
}

// chunks serves one stream of requests: after the first, the peer sends more on the same stream as answers arrive.
func (s *Service) chunks(ctx context.Context, p *p2p.Peer, q *wire.ChunkGet, x *p2p.Exchange) error {
	select {
	case s.serving <- struct{}{}:
		defer func() { <-s.serving }()
	default:
		return s.rejectAll(ctx, q, x, wire.RejectBusy)
	}
	// The next chunk is read from the disk while the one before is on its way.
	ready := make(chan chunk, 2)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(ready)
		return s.read(ctx, q, x, ready)
	})
	g.Go(func() error {
		for c := range ready {
			err := x.SendMore(ctx, c.Message)
			if c.buf != nil {
				buffers.Put(c.buf)
			}
			if err != nil {
				x.Abort() // nothing more will be asked for, either
				return err
			}
		}
		return nil
	})
	return g.Wait()
}

// read reads what the peer asks for, in this order, until it asks for no more.
func (s *Service) read(ctx context.Context, q *wire.ChunkGet, x *p2p.Exchange, ready chan<- chunk) error {
	for {
		for _, r := range q.Ranges {
			for i := r.First; i < r.First+r.Count; i++ {
				select {
				case ready <- s.chunk(ctx, q.Blob, i):
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		m, err := x.Receive(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		next, ok := m.(*wire.ChunkGet)
		if !ok || next.Blob != q.Blob {
			return &wire.Status{Code: wire.Malformed, Detail: "a stream is for one blob"}
		}
		q = next
	}
}

// chunk is a CHUNK_DATA or CHUNK_REJECT, and the buffer that its data lies in.
type chunk struct {
	wire.Message
	buf *[]byte
}

var buffers = sync.Pool{New: func() any { b := make([]byte, wire.ChunkSize); return &b }}

func (s *Service) chunk(ctx context.Context, b wire.Hash, i uint32) chunk {
	buf := buffers.Get().(*[]byte)
	data, err := s.cfg.Store.ReadChunk(b, i, *buf)
	if err != nil {
		buffers.Put(buf)
		if centram.CodeOf(err) != centram.NotFound {
			s.log.WarnContext(ctx, "Chunk not read", "blob", b, "chunk", i, "err", err)
		}
		return chunk{&wire.ChunkReject{Index: i, Code: wire.RejectMissing}, nil}
	}
	return chunk{&wire.ChunkData{Index: i, Data: data}, buf}
}

// rejectAll says no to everything at once, so that the peer turns elsewhere.
func (s *Service) rejectAll(ctx context.Context, q *wire.ChunkGet, x *p2p.Exchange, why wire.RejectCode) error {
	for _, r := range q.Ranges {
		for i := r.First; i < r.First+r.Count; i++ {
			m := &wire.ChunkReject{Index: i, Code: why, RetryMs: uint32(busyFor.Milliseconds())}
			if err := x.SendMore(ctx, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// Offer offers a blob to a peer. It fails with the peer's reason if that does not want it. The peer then fetches the blob
// when it likes.
func (s *Service) Offer(ctx context.Context, p *p2p.Peer, b wire.Hash, kind, name string) error {
	m, err := s.cfg.Store.Manifest(b)
	if err != nil {
		return err
	}
	id, err := ManifestHash(m)
	if err != nil {
		return err
	}
	_, err = p2p.Ask[wire.Status](ctx, p, &wire.TransferOffer{
		Blob: b, Manifest: id, Size: m.Size, Kind: kind, Name: name, Expires: time.Now().Add(followFor).UnixMilli(),
	})
	return err
}

// offered decides about a peer's offer.
func (s *Service) offered(ctx context.Context, p *p2p.Peer, o *wire.TransferOffer, _ *p2p.Exchange) error {
	switch {
	case s.cfg.Wanted == nil:
		return &wire.Status{Code: wire.Denied, Detail: "nothing is taken that was not asked for"}
	case time.Now().UnixMilli() > o.Expires:
		return &wire.Status{Code: wire.Expired, Detail: "the offer has expired"}
	}
	if err := s.cfg.Wanted(ctx, p, o); err != nil {
		return err
	}
	select {
	case s.offers <- offer{p.ID(), o}:
		return nil // STATUS OK
	default:
		return &wire.Status{Code: wire.Busy, RetryMs: 1000, Detail: "too many offers at once"}
	}
}

// done takes a peer's receipt.
func (s *Service) done(ctx context.Context, p *p2p.Peer, m *wire.TransferDone) error {
	author := p2p.Author(ctx)
	if m.Sender != s.cfg.Node.ID() || author != p.ID() {
		return nil // not about this node
	}
	s.log.DebugContext(ctx, "Blob given", "peer", author.Short(), "blob", m.Blob, "bytes", m.Bytes, "bad", len(m.Bad))
	if s.cfg.Receipt != nil {
		s.cfg.Receipt(p2p.Received(ctx), author, m)
	}
	return nil
}

// peersFor returns the sessions that may have a blob: those in from, or all.
func (s *Service) peersFor(from []centram.PeerID) []*p2p.Peer {
	if len(from) == 0 {
		return s.cfg.Node.Peers()
	}
	var list []*p2p.Peer
	for _, id := range from {
		if p := s.cfg.Node.Peer(id); p != nil {
			list = append(list, p)
		}
	}
	return list
}

// errNobody is why a fetch does not begin.
func errNobody(b wire.Hash, last error) error {
	const hint = "See who is connected with: centram peer list"
	if last == nil {
		return centram.Errorf(centram.NotFound, "no peer is connected, so nobody can give the blob %.12s", b.String()).WithHint(hint)
	}
	code := centram.CodeOf(last)
	if code == centram.Internal { // a peer that does not answer, and nothing wrong here
		code = centram.Unavailable
	}
	return centram.Errorf(code, "no peer that is connected gives the blob %.12s: %w", b.String(), last).WithHint(hint)
}
