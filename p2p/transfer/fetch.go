package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/blob"
	"github.com/centram/centram/p2p/wire"
	"golang.org/x/sync/errgroup"
)

// Options say how to fetch a blob. The zero value is good.
type Options struct {
	// Manifest is the SHA-256 of the blob's MANIFEST, if it is known: then a list of chunks that is a lie is known at once.
	// Zero means that the first list is believed, until some chunk does not fit.
	Manifest wire.Hash
	// From are the peers to ask. Zero means all.
	From []centram.PeerID
	// Wait is how long to wait for a peer that has the blob. Zero means not at all.
	Wait time.Duration
	// Progress is told how many of the chunks are here. It must return soon.
	Progress func(have, of int)
}

// ManifestHash is the hash of a manifest's bytes.
func ManifestHash(m *wire.Manifest) (wire.Hash, error) {
	b, err := wire.Encode(m)
	return sha256.Sum256(b), err
}

// Fetch brings a blob into the store, from all peers that have some of it, and tells each what came from it. It fails with
// centram.NotFound if no peer has the blob, and as blob.Fetch does. After an error, another Fetch goes on where this one
// was.
func (s *Service) Fetch(ctx context.Context, b wire.Hash, o Options) error {
	if s.cfg.Store.Have(b).Complete {
		return nil
	}
	// The fetch itself, those who look for sources, and the sources all end before Fetch does.
	ctx, cancel := context.WithCancel(ctx)
	f := &fetching{Service: s, blob: b, Options: o, sources: make(chan blob.Source), asked: map[*p2p.Peer]bool{}, talking: map[*p2p.Peer]bool{}}
	var searching sync.WaitGroup
	defer searching.Wait()
	defer cancel()
	s.mu.Lock()
	s.fetches[f] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.fetches, f)
	}()
	m, err := f.manifest(ctx)
	if err != nil {
		return err
	}
	searching.Go(func() { f.search(ctx, m) })
	result, err := blob.Fetch(ctx, blob.FetchConfig{
		Store: s.cfg.Store, Manifest: m, Sources: f.sources, Progress: o.Progress,
		Linger: max(o.Wait, time.Second), First: f.place(m),
	})
	f.acknowledge(ctx, result)
	return err
}

// fetching is one Fetch.
type fetching struct {
	*Service
	Options
	blob    wire.Hash
	sources chan blob.Source

	mu      sync.Mutex         // guards the following
	asked   map[*p2p.Peer]bool // sessions that were asked for the manifest
	talking map[*p2p.Peer]bool // those that are sources
	first   []*source          // found while the manifest was looked for
}

// manifest is the store's, if the blob was begun before, or that of the first peer that has the right one.
func (f *fetching) manifest(ctx context.Context) (*wire.Manifest, error) {
	if m, err := f.cfg.Store.Manifest(f.blob); err == nil && f.right(m) {
		return m, nil
	}
	news, stop := f.listen()
	defer stop()
	var last error
	deadline, again := time.NewTimer(f.Wait), time.NewTicker(askAgain)
	defer deadline.Stop()
	defer again.Stop()
	for {
		for _, p := range f.fresh() {
			f.mark(p)
			m, err := f.ask(ctx, p)
			if err == nil {
				f.first = append(f.first, f.source(p))
				return m, nil
			}
			if last == nil || centram.CodeOf(err) != centram.NotFound {
				last = err // the telling reason is not that one of many does not have it
			}
		}
		select {
		case <-news:
		case <-again.C:
			f.forgetAsked()
		case <-deadline.C:
			return nil, errNobody(f.blob, last)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// listen returns a channel that is told of new sessions.
func (f *fetching) listen() (<-chan *p2p.Peer, func()) {
	news := make(chan *p2p.Peer, 16)
	f.Service.mu.Lock()
	defer f.Service.mu.Unlock()
	f.waiting[news] = true
	return news, func() {
		f.Service.mu.Lock()
		defer f.Service.mu.Unlock()
		delete(f.waiting, news)
	}
}

// fresh returns the sessions that were not asked yet.
func (f *fetching) fresh() []*p2p.Peer {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(f.peersFor(f.From), func(p *p2p.Peer) bool { return f.asked[p] })
}

// forgetAsked has those asked again who are no sources: they may have got the blob meanwhile, or have just started.
func (f *fetching) forgetAsked() {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.asked, func(p *p2p.Peer, _ bool) bool { return !f.talking[p] })
}

// mark notes that a session was asked.
func (f *fetching) mark(p *p2p.Peer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[p] = true
}

// ask gets the manifest from a peer, and with it a map of what the peer has.
func (f *fetching) ask(ctx context.Context, p *p2p.Peer) (*wire.Manifest, error) {
	f.follow(f.blob, p.ID()) // it may want what arrives here
	ctx, cancel := context.WithTimeout(ctx, manifestTime)
	defer cancel()
	m, err := p2p.Ask[wire.Manifest](ctx, p, &wire.ManifestGet{Blob: f.blob})
	if err != nil {
		return nil, err
	}
	if m.Blob != f.blob || !f.right(m) {
		err := &wire.Status{Code: wire.Malformed, Detail: "the manifest is another blob's"}
		p.Blame(err)
		return nil, err
	}
	f.awaitMap(ctx, p, f.blob)
	return m, nil
}

func (f *fetching) right(m *wire.Manifest) bool {
	if f.Manifest.IsZero() {
		return true
	}
	h, err := ManifestHash(m)
	return err == nil && h == f.Manifest
}

// search finds sources until ctx ends: the peers that are connected now, and those that will be.
func (f *fetching) search(ctx context.Context, m *wire.Manifest) {
	news, stop := f.listen()
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	defer func() { _ = g.Wait() }()
	give := func(s *source) {
		select {
		case f.sources <- s:
		case <-ctx.Done():
		}
	}
	g.Go(func() error {
		for _, s := range f.first {
			give(s)
		}
		return nil
	})
	tick, again := time.NewTicker(comeBack), time.NewTicker(5*askAgain)
	defer tick.Stop()
	defer again.Stop()
	for {
		for _, p := range f.fresh() {
			f.mark(p)
			g.Go(func() error {
				if other, err := f.ask(ctx, p); err == nil && slices.Equal(other.Chunks, m.Chunks) {
					give(f.source(p))
				}
				return nil
			})
		}
		select {
		case <-news:
		case <-tick.C:
		case <-again.C:
			f.forgetAsked()
		case <-ctx.Done():
			return
		}
	}
}

// place is where to begin. With several peers it is somewhere that depends on this node, so that those who fetch the same
// have something for each other; with one it is the beginning, so that the whole can be hashed as it grows.
func (f *fetching) place(m *wire.Manifest) int {
	if len(f.peersFor(f.From)) < 2 {
		return 0
	}
	id := f.cfg.Node.ID()
	return int(binary.BigEndian.Uint64(id[:]) % max(1, m.Count()))
}

// acknowledge sends each source a receipt for what came from it.
func (f *fetching) acknowledge(ctx context.Context, r *blob.Result) {
	for i := range r.Receipts {
		done := &r.Receipts[i]
		done.TimeMs = time.Now().UnixMilli()
		if p := f.cfg.Node.Peer(done.Sender); p != nil && (done.Bytes > 0 || len(done.Bad) > 0) {
			_ = p.Tell(context.WithoutCancel(ctx), done) // one that has left does without
		}
	}
}

// source is a peer as a source of one blob.
type source struct {
	s    *Service
	peer *p2p.Peer
	blob wire.Hash
	lost func() // called when the stream to it has broken
}

// source makes a source of a peer, which is asked again when its stream has broken and the session goes on.
func (f *fetching) source(p *p2p.Peer) *source {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.talking[p] = true
	return &source{f.Service, p, f.blob, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.talking, p)
		delete(f.asked, p)
	}}
}

// appeared has a peer asked again that had nothing when it was asked, and has some of the blob now.
func (f *fetching) appeared(p *p2p.Peer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.talking[p] {
		delete(f.asked, p)
	}
}

func (s *source) ID() centram.PeerID { return s.peer.ID() }

// Have is what the peer has said last. It has said something before or just after it gave the manifest.
func (s *source) Have() wire.HaveMap {
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	if m, ok := s.s.maps[s.peer.ID()][s.blob]; ok {
		return m
	}
	return wire.HaveMap{Blob: s.blob}
}

// Chunks has one stream to the peer: asks go out as they come, answers come back in the same order.
func (s *source) Chunks(ctx context.Context, asks <-chan wire.ChunkRange, got func(blob.Answer) error) error {
	err := s.stream(ctx, asks, got)
	if bad, ok := errors.AsType[*blob.BadChunk](err); ok {
		s.peer.Blame(&wire.Status{Code: wire.Malformed, Detail: bad.Error()})
	} else if ctx.Err() == nil {
		s.lost()
	}
	return err
}

func (s *source) stream(ctx context.Context, asks <-chan wire.ChunkRange, got func(blob.Answer) error) error {
	var first wire.ChunkRange
	select {
	case r, ok := <-asks:
		if !ok {
			return nil
		}
		first = r
	case <-s.peer.Done():
		return errors.New("it has left")
	case <-ctx.Done():
		return ctx.Err()
	}
	x, err := s.peer.Open(ctx, s.get(first))
	if err != nil {
		return err
	}
	defer x.Close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for {
			select {
			case r, ok := <-asks:
				if !ok {
					return nil
				}
				if err := x.Send(ctx, s.get(r)); err != nil {
					return err
				}
			case <-ctx.Done():
				return nil
			}
		}
	})
	g.Go(func() error {
		for {
			m, err := x.Receive(ctx)
			if err != nil {
				return err
			}
			a := blob.Answer{}
			switch m := m.(type) {
			case *wire.ChunkData:
				a = blob.Answer{Index: m.Index, Data: m.Data}
			case *wire.ChunkReject:
				a = blob.Answer{Index: m.Index, Reject: m.Code, Retry: time.Duration(m.RetryMs) * time.Millisecond}
			}
			if err := got(a); err != nil {
				return err
			}
		}
	})
	return g.Wait()
}

func (s *source) get(r wire.ChunkRange) *wire.ChunkGet {
	return &wire.ChunkGet{Blob: s.blob, Ranges: []wire.ChunkRange{r}}
}
