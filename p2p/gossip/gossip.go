// Package gossip keeps signed records and spreads them, so that all nodes of a network come to have the same ones.
//
// A new record goes to all peers at once: small ones whole, large ones by their id, for those who want it to fetch. What
// was missed is found by comparing digests when a session begins and now and then, and by reconciling the sets (package
// rbsr). Only types that a service has asked to Keep are taken, and only what that service accepts.
//
// A Catalogue is safe for concurrent use.
package gossip

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/rbsr"
	"github.com/centram/centram/p2p/wire"
)

const (
	maxRecords = 20_000
	maxBytes   = 64 << 20
	maxAuthor  = 1000 // records of one author
	maxUnknown = 4096 // ids that are remembered as not wanted
	sweepEvery = time.Minute
)

// Config is what a catalogue stands on. Node, Key and Network are needed.
type Config struct {
	Node    *p2p.Node
	Key     ed25519.PrivateKey // signs what is published
	Network wire.Hash
	DB      *sql.DB // of package store. Zero means that records are forgotten at the end.
	Log     *slog.Logger
}

// Entry is a record of the catalogue.
type Entry struct {
	ID       wire.Hash
	Author   centram.PeerID
	Message  wire.Message
	Record   wire.Record
	Received time.Time
}

// Catalogue is the records that this node has.
type Catalogue struct {
	cfg   Config
	log   *slog.Logger
	keep  map[wire.Type]func(context.Context, Entry) error
	fresh chan note

	mu      sync.Mutex // guards the following
	entries map[wire.Hash]*entry
	slots   map[slot]*entry
	authors map[centram.PeerID]int
	bytes   int
	ids     rbsr.Set
	unknown map[wire.Hash]bool // not wanted, so not fetched again
	boxes   map[*p2p.Peer]*box
}

type entry struct {
	Entry
	slot    string
	seq     uint64
	expires int64
}

type slot struct {
	author centram.PeerID
	name   string
}

// note is a record to spread, and who need not be told.
type note struct {
	entry *entry
	from  centram.PeerID
}

// New makes a catalogue and registers what it answers. Keep is to be called before Load, and both before the node runs.
func New(cfg Config) *Catalogue {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	c := &Catalogue{
		cfg: cfg, log: cfg.Log, keep: map[wire.Type]func(context.Context, Entry) error{}, fresh: make(chan note, 1024),
		entries: map[wire.Hash]*entry{}, slots: map[slot]*entry{}, authors: map[centram.PeerID]int{},
		unknown: map[wire.Hash]bool{}, boxes: map[*p2p.Peer]*box{},
	}
	mux := cfg.Node.Mux()
	p2p.On(mux, c.summarised)
	p2p.Answer(mux, c.reconciled)
	p2p.Serve(mux, c.asked)
	cfg.Node.OnSession(c.session)
	return c
}

// Keep lets the catalogue take records of the type M. accept says what else must hold of one, and does with it what is to
// be done; it is called again for every record when the catalogue is loaded. An error keeps the record out.
func Keep[T any, M interface {
	*T
	wire.Message
}](c *Catalogue, accept func(ctx context.Context, e Entry, m M) error) {
	row := wire.RowAs[T]()
	if !row.Kept() {
		panic("gossip: " + row.Name + " is not kept")
	}
	c.keep[row.Type] = func(ctx context.Context, e Entry) error { return accept(ctx, e, e.Message.(M)) }
	p2p.On(c.cfg.Node.Mux(), func(ctx context.Context, p *p2p.Peer, m M) error {
		if !c.box(p).allow() {
			return nil // it will be found by reconciling
		}
		known, err := c.add(ctx, p2p.Received(ctx), p.ID())
		if old(err) && !c.box(p).stale.Allow() {
			return &wire.Status{Code: wire.Malformed, Detail: fmt.Sprintf("sends old records again and again, such as %s", known)}
		}
		return quiet(err)
	})
}

// errKnown says that a record came a second time.
var errKnown = &wire.Status{Code: wire.Stale, Detail: "the record is here"}

// old says that a record was of no use because it came late. Each peer sends an honest record once, so one or the other
// is nothing to speak of.
func old(err error) bool {
	s, ok := errors.AsType[*wire.Status](err)
	return ok && (s.Code == wire.Stale || s.Code == wire.Expired)
}

// quiet drops errors that are nobody's fault: nodes know different things for a while.
func quiet(err error) error {
	if s, ok := errors.AsType[*wire.Status](err); ok && s.Code.Costs() {
		return err
	}
	return nil
}

// Publish signs a record, keeps it and spreads it. It fails as the service that keeps the type says.
func (c *Catalogue) Publish(ctx context.Context, m wire.Message) (wire.Hash, error) {
	f, err := wire.Seal(m, c.cfg.Key, wire.Scope{Network: c.cfg.Network}, 0, 0)
	if err != nil {
		return wire.Hash{}, err
	}
	id, err := c.add(ctx, wire.RecordOf(f), c.cfg.Node.ID())
	if err == errKnown {
		err = nil
	}
	return id, err
}

// Entries returns all records, the oldest first.
func (c *Catalogue) Entries() []Entry { return c.entriesOf(func(wire.Type) bool { return true }) }

// All returns the records of the type T, the oldest first.
func All[T any](c *Catalogue) []Entry {
	want := wire.RowAs[T]().Type
	return c.entriesOf(func(t wire.Type) bool { return t == want })
}

func (c *Catalogue) entriesOf(wanted func(wire.Type) bool) []Entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []Entry
	for _, e := range c.entries {
		if wanted(wire.Type(e.Record[0])) {
			list = append(list, e.Entry)
		}
	}
	slices.SortFunc(list, func(a, b Entry) int {
		return cmp.Or(a.Received.Compare(b.Received), slices.Compare(a.ID[:], b.ID[:]))
	})
	return list
}

// Count is the number of records, and their digest is the same on two nodes that have the same ones.
func (c *Catalogue) Count() (int, rbsr.Fingerprint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ids.Len(), c.ids.Fingerprint(rbsr.ID{}, rbsr.ID{})
}

// add checks a record, keeps it, and has it spread to all but from. It fails with wire.Stale for one that is known or
// older than what there is.
func (c *Catalogue) add(ctx context.Context, r wire.Record, from centram.PeerID) (wire.Hash, error) {
	id, err := r.ID(c.cfg.Network)
	if err != nil {
		return id, err
	}
	if c.has(id) {
		return id, errKnown
	}
	accept := c.keep[wire.Type(r[0])]
	if accept == nil {
		c.refuse(id)
		return id, &wire.Status{Code: wire.Unsupported, Detail: wire.Type(r[0]).Name() + " is not kept here"}
	}
	m, author, err := r.Open(c.cfg.Network)
	if err != nil {
		return id, err
	}
	e := newEntry(id, author, m, r)
	if err := c.room(e); err != nil {
		c.refuse(id)
		return id, err
	}
	if err := accept(ctx, e.Entry); err != nil {
		c.refuse(id)
		return id, err
	}
	old, err := c.put(e)
	if err != nil {
		return id, err
	}
	if err := c.save(ctx, e, old); err != nil {
		return id, err
	}
	select {
	case c.fresh <- note{e, from}:
	default: // so much at once is found by reconciling
	}
	return id, nil
}

func newEntry(id wire.Hash, author centram.PeerID, m wire.Message, r wire.Record) *entry {
	e := &entry{Entry: Entry{ID: id, Author: author, Message: m, Record: slices.Clone(r), Received: time.Now()}}
	if s, ok := m.(wire.Slotted); ok {
		e.slot, e.seq = s.Slot()
	}
	if x, ok := m.(wire.Expiring); ok {
		e.expires = x.Expiry()
	}
	return e
}

func (c *Catalogue) has(id wire.Hash) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries[id] != nil
}

// refuse remembers that a record is not wanted.
func (c *Catalogue) refuse(id wire.Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.unknown) >= maxUnknown {
		clear(c.unknown)
	}
	c.unknown[id] = true
}

// room says whether there is a place for a record.
func (c *Catalogue) room(e *entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.expires != 0 && e.expires <= time.Now().UnixMilli() {
		return &wire.Status{Code: wire.Expired, Detail: "the record has expired"}
	}
	if old := c.slots[slot{e.Author, e.slot}]; e.slot != "" && old != nil {
		if !e.after(old) {
			return &wire.Status{Code: wire.Stale, Detail: "there is a newer record"}
		}
		return nil // it takes the old one's place
	}
	if e.Author == c.cfg.Node.ID() {
		return nil
	}
	switch {
	case c.authors[e.Author] >= maxAuthor:
		return &wire.Status{Code: wire.Busy, Detail: fmt.Sprintf("%d records of one author", maxAuthor)}
	case len(c.entries) >= maxRecords || c.bytes+len(e.Record) > maxBytes:
		return &wire.Status{Code: wire.Busy, Detail: "the catalogue is full"}
	}
	return nil
}

// after says which of two records in one slot counts. With the same seq, which an honest author does not give twice, it is
// the one with the higher id, so that all nodes come to have the same one.
func (e *entry) after(old *entry) bool {
	if e.seq != old.seq {
		return e.seq > old.seq
	}
	return slices.Compare(e.ID[:], old.ID[:]) > 0
}

// put takes a record in and returns the one whose place it takes, if any.
func (c *Catalogue) put(e *entry) (*entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var old *entry
	if e.slot != "" {
		at := slot{e.Author, e.slot}
		if old = c.slots[at]; old != nil {
			if !e.after(old) {
				return nil, &wire.Status{Code: wire.Stale, Detail: "there is a newer record"}
			}
			c.drop(old)
		}
		c.slots[at] = e
	}
	c.entries[e.ID] = e
	c.ids.Insert(rbsr.ID(e.ID))
	c.authors[e.Author]++
	c.bytes += len(e.Record)
	return old, nil
}

func (c *Catalogue) drop(e *entry) {
	delete(c.entries, e.ID)
	c.ids.Remove(rbsr.ID(e.ID))
	if c.authors[e.Author]--; c.authors[e.Author] == 0 {
		delete(c.authors, e.Author)
	}
	c.bytes -= len(e.Record)
	if at := (slot{e.Author, e.slot}); e.slot != "" && c.slots[at] == e {
		delete(c.slots, at)
	}
}

// Run spreads records and drops those that have expired, until ctx ends.
func (c *Catalogue) Run(ctx context.Context) error {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		select {
		case n := <-c.fresh:
			c.spread(ctx, n)
		case <-sweep.C:
			if err := c.sweep(ctx); err != nil && ctx.Err() == nil {
				c.log.WarnContext(ctx, "Records not tidied", "err", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *Catalogue) sweep(ctx context.Context) error {
	now := time.Now().UnixMilli()
	c.mu.Lock()
	for _, e := range c.entries {
		if e.expires != 0 && e.expires <= now {
			c.drop(e)
		}
	}
	c.mu.Unlock()
	if c.cfg.DB == nil {
		return nil
	}
	_, err := c.cfg.DB.ExecContext(ctx, `DELETE FROM records WHERE expires != 0 AND expires <= ?`, now)
	return err
}

// Load reads the records that were kept before.
func (c *Catalogue) Load(ctx context.Context) error {
	if c.cfg.DB == nil {
		return nil
	}
	rows, err := c.cfg.DB.QueryContext(ctx, `SELECT id, record, received FROM records WHERE expires = 0 OR expires > ?`, time.Now().UnixMilli())
	if err != nil {
		return fmt.Errorf("load records: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, record []byte
		var received int64
		if err := rows.Scan(&id, &record, &received); err != nil {
			return fmt.Errorf("load records: %w", err)
		}
		c.restore(ctx, wire.Hash(id), record, time.UnixMilli(received))
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("load records: %w", err)
	}
	return nil
}

// restore takes in one record of the database. Those of another network or an older program stay there, unused.
func (c *Catalogue) restore(ctx context.Context, id wire.Hash, r wire.Record, received time.Time) {
	accept := c.keep[wire.Type(r[0])]
	m, author, err := r.Open(c.cfg.Network)
	if accept == nil || err != nil {
		return
	}
	e := newEntry(id, author, m, r)
	e.Received = received
	if err := accept(ctx, e.Entry); err != nil {
		return
	}
	if _, err := c.put(e); err != nil {
		c.log.DebugContext(ctx, "Record not loaded", "id", id, "err", err)
	}
}

func (c *Catalogue) save(ctx context.Context, e, old *entry) error {
	if c.cfg.DB == nil {
		return nil
	}
	tx, err := c.cfg.DB.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("save a record: %w", err)
	}
	defer tx.Rollback()
	if old != nil {
		if _, err := tx.ExecContext(ctx, `DELETE FROM records WHERE id = ?`, old.ID[:]); err != nil {
			return fmt.Errorf("save a record: %w", err)
		}
	}
	_, err = tx.ExecContext(ctx, `
		INSERT OR REPLACE INTO records (id, type, author, slot, seq, expires, received, record)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		e.ID[:], e.Record[0], e.Author[:], e.slot, int64(e.seq), e.expires, e.Received.UnixMilli(), []byte(e.Record))
	if err != nil {
		return fmt.Errorf("save a record: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("save a record: %w", err)
	}
	return nil
}
