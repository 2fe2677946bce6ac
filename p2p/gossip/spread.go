package gossip

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/rbsr"
	"github.com/centram/centram/p2p/wire"
	"golang.org/x/time/rate"
)

const (
	wholeUpTo      = 1 << 10 // bytes of a record that is sent unasked
	fetchAtOnce    = 256
	pageBytes      = 900 << 10
	compareEvery   = 30 * time.Second
	reconcileAfter = time.Second // what is on its way arrives meanwhile
	reconcileGap   = 5 * time.Second
	maxRounds      = 30 // a reconciliation that is not done by then goes on at the next one
	recordsPerSec  = 10
	recordsBurst   = 600
	stalePerSec    = 1
	staleBurst     = 200
)

// box is what a peer has said that is still to be dealt with.
type box struct {
	limit *rate.Limiter // records
	stale *rate.Limiter // records that are of no use because they come late
	wake  chan struct{}

	mu     sync.Mutex // guards the following
	fresh  []wire.Hash
	digest []byte // of the peer's catalogue; nil if it was not said since
}

func (b *box) allow() bool { return b.limit.Allow() }

func (c *Catalogue) box(p *p2p.Peer) *box {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.boxes[p]
	if b == nil {
		b = &box{
			limit: rate.NewLimiter(recordsPerSec, recordsBurst), stale: rate.NewLimiter(stalePerSec, staleBurst),
			wake: make(chan struct{}, 1),
		}
		c.boxes[p] = b
	}
	return b
}

// spread sends a record to all peers but the one it came from and its author.
func (c *Catalogue) spread(ctx context.Context, n note) {
	for _, p := range c.cfg.Node.Peers() {
		if p.ID() == n.from || p.ID() == n.entry.Author {
			continue
		}
		var err error
		if len(n.entry.Record) <= wholeUpTo {
			err = p.Pass(ctx, n.entry.Record)
		} else {
			err = p.Tell(ctx, c.summary([]wire.Hash{n.entry.ID}))
		}
		if err != nil {
			continue // it has left, and reconciles when it is back
		}
	}
}

func (c *Catalogue) summary(fresh []wire.Hash) *wire.CatSummary {
	count, digest := c.Count()
	slices.SortFunc(fresh, func(a, b wire.Hash) int { return bytes.Compare(a[:], b[:]) })
	return &wire.CatSummary{Count: uint64(count), Digest: digest[:], Fresh: fresh}
}

// summarised notes what a peer says of its catalogue; session deals with it.
func (c *Catalogue) summarised(_ context.Context, p *p2p.Peer, m *wire.CatSummary) error {
	b := c.box(p)
	b.mu.Lock()
	b.fresh = append(b.fresh, m.Fresh...)
	b.fresh = b.fresh[max(0, len(b.fresh)-4*fetchAtOnce):] // the rest is found by reconciling
	b.digest = m.Digest
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return nil
}

// session keeps this catalogue and a peer's the same, as long as the session lasts.
func (c *Catalogue) session(ctx context.Context, p *p2p.Peer) error {
	b := c.box(p)
	defer func() {
		c.mu.Lock()
		delete(c.boxes, p)
		c.mu.Unlock()
	}()
	self := c.cfg.Node.ID()
	// Both sides learn all differences in one reconciliation, so the lower id does it.
	id := p.ID()
	active := bytes.Compare(self[:], id[:]) < 0
	compare := time.NewTimer(0)
	defer compare.Stop()
	var reconcile <-chan time.Time
	last := time.Now().Add(-reconcileGap)
	for {
		select {
		case <-compare.C:
			if err := p.Tell(ctx, c.summary([]wire.Hash{})); err != nil {
				return nil
			}
			compare.Reset(compareEvery/2 + rand.N(compareEvery))
			continue
		case <-b.wake:
		case <-reconcile:
			reconcile = nil
			if err := c.reconcile(ctx, p); err != nil {
				c.log.DebugContext(ctx, "Not reconciled", "peer", id.Short(), "err", err)
				p.Blame(err)
			}
			last = time.Now()
			continue
		case <-ctx.Done():
			return nil
		}
		fresh, digest := b.take()
		if err := c.fetch(ctx, p, fresh); err != nil {
			c.log.DebugContext(ctx, "Records not fetched", "peer", id.Short(), "err", err)
			p.Blame(err)
		}
		if _, own := c.Count(); active && reconcile == nil && digest != nil && !bytes.Equal(digest, own[:]) {
			reconcile = time.After(max(reconcileAfter, time.Until(last.Add(reconcileGap))))
		}
	}
}

func (b *box) take() ([]wire.Hash, []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fresh, digest := b.fresh, b.digest
	b.fresh, b.digest = nil, nil
	return fresh, digest
}

// fetch asks a peer for records, but for those that are here or not wanted.
func (c *Catalogue) fetch(ctx context.Context, p *p2p.Peer, ids []wire.Hash) error {
	c.mu.Lock()
	ids = slices.DeleteFunc(slices.Clone(ids), func(id wire.Hash) bool { return c.entries[id] != nil || c.unknown[id] })
	c.mu.Unlock()
	for batch := range slices.Chunk(ids, fetchAtOnce) {
		if err := c.fetchBatch(ctx, p, batch); err != nil {
			return err
		}
	}
	return nil
}

func (c *Catalogue) fetchBatch(ctx context.Context, p *p2p.Peer, ids []wire.Hash) error {
	x, err := p.Open(ctx, &wire.RecordGet{IDs: ids, Genomes: []wire.Hash{}})
	if err != nil {
		return err
	}
	defer x.Close()
	for left := len(ids); left > 0; {
		m, err := x.Receive(ctx)
		if err != nil {
			return nil // the end, or the peer has left
		}
		page, ok := m.(*wire.Records)
		if !ok || len(page.Records) == 0 {
			return nil
		}
		left -= len(page.Records)
		for _, r := range page.Records {
			if _, err := c.add(ctx, r, p.ID()); quiet(err) != nil {
				return err
			}
		}
	}
	return nil
}

// asked answers a peer that wants records.
func (c *Catalogue) asked(ctx context.Context, _ *p2p.Peer, q *wire.RecordGet, x *p2p.Exchange) error {
	c.mu.Lock()
	var list []wire.Record
	for _, id := range q.IDs {
		if e := c.entries[id]; e != nil {
			list = append(list, e.Record)
		}
	}
	c.mu.Unlock()
	page := &wire.Records{Records: []wire.Record{}}
	size := 0
	for _, r := range list {
		if size+len(r) > pageBytes {
			if err := x.SendMore(ctx, page); err != nil {
				return err
			}
			page, size = &wire.Records{Records: []wire.Record{}}, 0
		}
		page.Records, size = append(page.Records, r), size+len(r)
	}
	return x.Send(ctx, page)
}

// reconcile finds out what only one side has, fetches what is missing here, and tells the peer what is missing there.
func (c *Catalogue) reconcile(ctx context.Context, p *p2p.Peer) error {
	c.mu.Lock()
	set := c.ids
	c.mu.Unlock()
	s, msg := rbsr.Config{MaxRounds: maxRounds}.Start(set)
	number := rand.Uint64() | 1
	var need, have []wire.Hash
	for step := uint8(0); msg != nil; step += 2 {
		reply, err := p2p.Ask[wire.CatRecon](ctx, p, &wire.CatRecon{Session: number, Step: step, Ranges: msg})
		if err != nil {
			return err
		}
		var h, n []rbsr.ID
		if msg, h, n, err = s.Next(reply.Ranges); err != nil {
			return &wire.Status{Code: wire.Malformed, Detail: err.Error()}
		}
		for _, id := range h {
			have = append(have, wire.Hash(id))
		}
		for _, id := range n {
			need = append(need, wire.Hash(id))
		}
	}
	if err := c.fetch(ctx, p, need); err != nil {
		return err
	}
	for batch := range slices.Chunk(have, fetchAtOnce) {
		if err := p.Tell(ctx, c.summary(batch)); err != nil {
			return err
		}
	}
	return nil
}

// reconciled answers one step of a peer's reconciliation.
func (c *Catalogue) reconciled(_ context.Context, _ *p2p.Peer, q *wire.CatRecon) (*wire.CatRecon, error) {
	c.mu.Lock()
	set := c.ids
	c.mu.Unlock()
	reply, err := rbsr.Config{}.Respond(set, q.Ranges)
	if err != nil {
		return nil, &wire.Status{Code: wire.Malformed, Detail: err.Error()}
	}
	return &wire.CatRecon{Session: q.Session, Step: q.Step + 1, Ranges: reply}, nil
}
