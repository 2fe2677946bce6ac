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
	f := &fetching{Service: s, blob: b, Options: o, sources: make(chan blob.Source), asked: map[*p2p.Peer]*asked{}}
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

	first []*source // found while the manifest was looked for

	mu    sync.Mutex // guards the following, and what is in it
	asked map[*p2p.Peer]*asked
}

// asked is a session whose peer was asked for the manifest.
type asked struct {
	have    *wire.HaveMap // what it has said last
	heard   chan struct{} // closed when it has said something
	refused bool          // it has no manifest, or one that is of no use
	source  bool          // it is a source, or was one until it was left
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
			a := f.mark(p)
			m, err := f.ask(ctx, p, a)
			if err == nil {
				f.first = append(f.first, f.source(p, a))
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
	return slices.DeleteFunc(f.peersFor(f.From), func(p *p2p.Peer) bool { return f.asked[p] != nil })
}

// forgetAsked has those asked again who gave nothing: they may have got the blob meanwhile, or have just started.
func (f *fetching) forgetAsked() {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.asked, func(_ *p2p.Peer, a *asked) bool { return a.refused })
}

// mark notes that a session is asked.
func (f *fetching) mark(p *p2p.Peer) *asked {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[p] = &asked{heard: make(chan struct{})}
	return f.asked[p]
}

// said notes what a peer has. One that has refused is asked again: it has some of the blob now.
func (f *fetching) said(p *p2p.Peer, m *wire.HaveMap) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.asked[p]
	switch {
	case a == nil: // it will be asked anyway
		return
	case a.refused:
		delete(f.asked, p)
	case a.have == nil:
		close(a.heard)
	}
	a.have = m
}

// refuse notes that a peer does not give the manifest. It may have said what it has by the time that its refusal is here.
func (f *fetching) refuse(p *p2p.Peer, a *asked) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a.refused = true; a.have != nil {
		delete(f.asked, p)
	}
}

// ask gets the manifest from a peer, and with it a map of what the peer has.
func (f *fetching) ask(ctx context.Context, p *p2p.Peer, a *asked) (*wire.Manifest, error) {
	f.follow(f.blob, p.ID()) // it may want what arrives here
	ctx, cancel := context.WithTimeout(ctx, manifestTime)
	defer cancel()
	m, err := p2p.Ask[wire.Manifest](ctx, p, &wire.ManifestGet{Blob: f.blob})
	if err != nil {
		f.refuse(p, a)
		return nil, err
	}
	if m.Blob != f.blob || !f.right(m) {
		err := &wire.Status{Code: wire.Malformed, Detail: "the manifest is another blob's"}
		p.Blame(err)
		return nil, err
	}
	select {
	case <-a.heard: // the map comes in another stream than the manifest
	case <-p.Done():
	case <-ctx.Done():
	}
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
			a := f.mark(p)
			g.Go(func() error {
				switch other, err := f.ask(ctx, p, a); {
				case err != nil:
				case slices.Equal(other.Chunks, m.Chunks):
					give(f.source(p, a))
				default:
					f.refuse(p, a)
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

// source is a peer as a source of the blob.
type source struct {
	f     *fetching
	peer  *p2p.Peer
	asked *asked
}

// source makes a source of a peer that has given the manifest.
func (f *fetching) source(p *p2p.Peer, a *asked) *source {
	f.mu.Lock()
	defer f.mu.Unlock()
	a.source = true
	return &source{f, p, a}
}

// lost has the peer asked again: its stream has broken, and the session may go on, or there may be another. Of two sessions in
// quick succession the older one may be the last to become a source, which takes the place of the newer one.
func (s *source) lost() {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	maps.DeleteFunc(s.f.asked, func(p *p2p.Peer, a *asked) bool { return a.source && p.ID() == s.ID() })
}

func (s *source) ID() centram.PeerID { return s.peer.ID() }

// Have is what the peer has said last. It has said something before or just after it gave the manifest.
func (s *source) Have() wire.HaveMap {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if s.asked.have != nil {
		return *s.asked.have
	}
	return wire.HaveMap{Blob: s.f.blob}
}

// Chunks has one stream to the peer: asks go out as they come, answers come back in the same order. A peer that has too many
// streams ends it and stays a source: what it was asked for is refused for a while, and the next ask opens another stream.
func (s *source) Chunks(ctx context.Context, asks <-chan wire.ChunkRange, got func(blob.Answer) error) error {
	for {
		t := &talk{source: s, got: got}
		err := t.run(ctx, asks)
		if t.busy > 0 && ctx.Err() == nil {
			err = t.putOff()
		}
		if bad, ok := errors.AsType[*blob.BadChunk](err); ok {
			s.peer.Blame(&wire.Status{Code: wire.Malformed, Detail: bad.Error()})
		} else if err != nil && ctx.Err() == nil {
			s.lost()
		}
		if err != nil || t.busy == 0 {
			return err
		}
	}
}

// talk is one stream to a source.
type talk struct {
	*source
	got  func(blob.Answer) error
	busy time.Duration // when to come again, if the last answer was that the peer is busy

	mu   sync.Mutex // guards the following
	open []uint32   // chunks that were asked for, and for which no answer has come
}

func (t *talk) run(ctx context.Context, asks <-chan wire.ChunkRange) error {
	var first wire.ChunkRange
	select {
	case r, ok := <-asks:
		if !ok {
			return nil
		}
		first = r
	case <-t.peer.Done():
		return errors.New("it has left")
	case <-ctx.Done():
		return ctx.Err()
	}
	x, err := t.peer.Open(ctx, t.get(first))
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
				if err := x.Send(ctx, t.get(r)); err != nil {
					return nil // the stream has ended, and why is said at the other end of it, behind the last answer
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
			if err := t.answered(m); err != nil {
				return err
			}
		}
	})
	return g.Wait()
}

// get is a request for chunks.
func (t *talk) get(r wire.ChunkRange) *wire.ChunkGet {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := r.First; i < r.First+r.Count; i++ {
		t.open = append(t.open, i)
	}
	return &wire.ChunkGet{Blob: t.f.blob, Ranges: []wire.ChunkRange{r}}
}

func (t *talk) answered(m wire.Message) error {
	a := blob.Answer{}
	t.busy = 0
	switch m := m.(type) {
	case *wire.ChunkData:
		a = blob.Answer{Index: m.Index, Data: m.Data}
	case *wire.ChunkReject:
		a = blob.Answer{Index: m.Index, Reject: m.Code, Retry: time.Duration(m.RetryMs) * time.Millisecond}
		if m.Code == wire.RejectBusy {
			t.busy = max(a.Retry, busyFor)
		}
	}
	t.mu.Lock()
	t.open = slices.DeleteFunc(t.open, func(i uint32) bool { return i == a.Index })
	t.mu.Unlock()
	return t.got(a)
}

// putOff answers for a busy peer, which has ended the stream, what it was asked for behind its answer.
func (t *talk) putOff() error {
	for _, i := range t.open {
		if err := t.got(blob.Answer{Index: i, Reject: wire.RejectBusy, Retry: t.busy}); err != nil {
			return err
		}
	}
	return nil
}
