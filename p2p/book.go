package p2p

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

const (
	maxAddresses = 8    // of a peer
	maxStrangers = 1024 // peers in the book that are neither paired nor static
	strangerLife = 30 * 24 * time.Hour
	addressLife  = 14 * 24 * time.Hour

	banAt       = 90.0             // points: four faults within a minute or two
	penaltyHalf = 10 * time.Minute // in which half of the points are forgotten
	banFirst    = time.Minute      // doubled at every further ban
	banLongest  = 24 * time.Hour
)

// Source says where an address comes from. Better ones come first.
type Source string

const (
	FromOwner  Source = "static" // typed by the owner
	FromLink   Source = "link"   // a session was made there
	FromBeacon Source = "beacon"
	FromMDNS   Source = "mdns"
	FromPeer   Source = "peer" // certified by the node itself, told by another
)

// Address is where a peer may be.
type Address struct {
	Address netip.AddrPort `json:"address"`
	Source  Source         `json:"source"`
	Seen    time.Time      `json:"seen"`
}

// Contact is what the book has about a peer.
type Contact struct {
	ID          centram.PeerID
	Name        string
	Trust       wire.Trust
	Static      bool // the owner typed its address
	Addresses   []Address
	FirstSeen   time.Time
	LastSeen    time.Time // zero if there never was a session
	BannedUntil time.Time
}

// Book remembers peers over restarts. What is in it is a hint, but for trust: that is the owner's word.
type Book struct {
	db *sql.DB // nil: nothing is kept

	mu      sync.Mutex // guards the following
	peers   map[centram.PeerID]*contact
	statics map[string]*static
}

// contact is a row of the table peers, and what is known of the peer for the moment.
type contact struct {
	Contact
	penalty   float64
	penaltyAt time.Time
	bans      int
	retry     retry
}

// static is a row of the table static_peers.
type static struct {
	host  string
	id    centram.PeerID // zero until somebody has answered
	retry retry

	problem string // of the last attempt
	passing bool   // from the settings: not written down
}

// OpenBook reads the book from the database, whose schema is that of package store. With nil, the book is empty and keeps
// nothing.
func OpenBook(ctx context.Context, db *sql.DB) (*Book, error) {
	b := &Book{db: db, peers: map[centram.PeerID]*contact{}, statics: map[string]*static{}}
	if db == nil {
		return b, nil
	}
	if err := b.load(ctx); err != nil {
		return nil, fmt.Errorf("read the address book: %w", err)
	}
	return b, nil
}

func (b *Book) load(ctx context.Context) error {
	rows, err := b.db.QueryContext(ctx, `
		SELECT id, name, trust, addresses, first_seen, last_seen, penalty, penalty_at, bans, banned_until FROM peers`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var c contact
		var id []byte
		var addresses string
		var first, last, penaltyAt, banned int64
		if err := rows.Scan(&id, &c.Name, &c.Trust, &addresses, &first, &last, &c.penalty, &penaltyAt, &c.bans, &banned); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(addresses), &c.Addresses); err != nil {
			c.Addresses = nil // they are only hints
		}
		c.ID = centram.PeerID(id)
		c.FirstSeen, c.LastSeen, c.penaltyAt, c.BannedUntil = fromMs(first), fromMs(last), fromMs(penaltyAt), fromMs(banned)
		b.peers[c.ID] = &c
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return b.loadStatics(ctx)
}

func (b *Book) loadStatics(ctx context.Context) error {
	rows, err := b.db.QueryContext(ctx, `SELECT address, peer FROM static_peers`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		s := &static{}
		var id []byte
		if err := rows.Scan(&s.host, &id); err != nil {
			return err
		}
		copy(s.id[:], id)
		b.statics[s.host] = s
	}
	return rows.Err()
}

// Contacts returns all peers of the book, the ones last seen first.
func (b *Book) Contacts() []Contact {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]Contact, 0, len(b.peers))
	for _, c := range b.peers {
		list = append(list, b.public(c))
	}
	slices.SortFunc(list, func(x, y Contact) int {
		return cmp.Or(y.LastSeen.Compare(x.LastSeen), slices.Compare(x.ID[:], y.ID[:]))
	})
	return list
}

// Contact returns what the book has about one peer.
func (b *Book) Contact(id centram.PeerID) (Contact, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.peers[id]
	if c == nil {
		return Contact{}, false
	}
	return b.public(c), true
}

func (b *Book) public(c *contact) Contact {
	out := c.Contact
	out.Addresses = slices.Clone(c.Addresses)
	for _, s := range b.statics {
		out.Static = out.Static || s.id == c.ID
	}
	return out
}

// AddStatic remembers an address that the owner typed.
func (b *Book) AddStatic(ctx context.Context, host string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.static(host)
	s.passing = false
	return b.saveStatic(ctx, s)
}

// passStatic takes an address of the settings, for as long as the node runs.
func (b *Book) passStatic(host string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.statics[host] == nil {
		b.static(host).passing = true
	}
}

// static is the entry of an address, to be dialled at once.
func (b *Book) static(host string) *static {
	if b.statics[host] == nil {
		b.statics[host] = &static{host: host}
	}
	b.statics[host].retry = retry{}
	return b.statics[host]
}

// Static is an address that the owner typed.
type Static struct {
	Host string         // HOST:PORT
	Peer centram.PeerID // that answered there last; zero if nobody has
	Err  string         // why nobody answered the last time; empty if somebody did
}

// Statics returns the addresses that the owner typed.
func (b *Book) Statics() []Static {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]Static, 0, len(b.statics))
	for _, s := range b.statics {
		list = append(list, Static{s.host, s.id, s.problem})
	}
	slices.SortFunc(list, func(x, y Static) int { return cmp.Compare(x.Host, y.Host) })
	return list
}

// RemoveStatic forgets an address that the owner typed. It fails with centram.NotFound.
func (b *Book) RemoveStatic(ctx context.Context, host string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.statics[host] == nil {
		return centram.Errorf(centram.NotFound, "%s is not an address that is dialled", host).WithHint("See which there are with: centram peer list")
	}
	if b.db != nil {
		if _, err := b.db.ExecContext(ctx, `DELETE FROM static_peers WHERE address = ?`, host); err != nil {
			return fmt.Errorf("forget an address: %w", err)
		}
	}
	delete(b.statics, host)
	return nil
}

// Trust sets what the owner takes a peer for.
func (b *Book) Trust(ctx context.Context, id centram.PeerID, trust wire.Trust) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contact(id)
	c.Trust = trust
	if trust != wire.Stranger {
		c.penalty, c.bans, c.BannedUntil = 0, 0, time.Time{} // the owner knows better
	}
	return b.save(ctx, c)
}

// Forget removes a peer and its static addresses. It fails with centram.NotFound.
func (b *Book) Forget(ctx context.Context, id centram.PeerID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.peers[id] == nil {
		return centram.Errorf(centram.NotFound, "there is no peer %s", id.Short()).WithHint("See which there are with: centram peer list")
	}
	if b.db != nil {
		if _, err := b.db.ExecContext(ctx, `DELETE FROM static_peers WHERE peer = ?`, id[:]); err != nil {
			return fmt.Errorf("forget a peer: %w", err)
		}
		if _, err := b.db.ExecContext(ctx, `DELETE FROM peers WHERE id = ?`, id[:]); err != nil {
			return fmt.Errorf("forget a peer: %w", err)
		}
	}
	delete(b.peers, id)
	for host, s := range b.statics {
		if s.id == id {
			delete(b.statics, host)
		}
	}
	return nil
}

func (b *Book) trust(id centram.PeerID) wire.Trust {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.peers[id]; c != nil {
		return c.Trust
	}
	return wire.Stranger
}

// contact returns the entry of a peer, which it makes if there is none.
func (b *Book) contact(id centram.PeerID) *contact {
	c := b.peers[id]
	if c == nil {
		b.makeRoom()
		c = &contact{Contact: Contact{ID: id, FirstSeen: time.Now()}}
		b.peers[id] = c
	}
	return c
}

// makeRoom forgets the stranger that was away longest when there are too many: anybody can make up nodes.
func (b *Book) makeRoom() {
	var oldest *contact
	strangers := 0
	for _, c := range b.peers {
		if c.Trust != wire.Stranger || c.BannedUntil.After(time.Now()) {
			continue
		}
		strangers++
		if oldest == nil || c.last().Before(oldest.last()) {
			oldest = c
		}
	}
	if strangers >= maxStrangers {
		delete(b.peers, oldest.ID) // its row is overwritten or dropped by prune
	}
}

func (c *contact) last() time.Time {
	if c.LastSeen.After(c.FirstSeen) {
		return c.LastSeen
	}
	return c.FirstSeen
}

// heard notes an address at which a peer is said to be. It says whether the address is new.
func (b *Book) heard(id centram.PeerID, name string, source Source, addrs ...netip.AddrPort) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contact(id)
	if name != "" && (c.Name == "" || source != FromPeer) {
		c.Name = name
	}
	fresh := false
	for _, a := range addrs {
		fresh = c.note(Address{a, source, time.Now()}) || fresh
	}
	return fresh
}

// note adds an address or refreshes it. Of too many, those from better sources stay, and among these the newer.
func (c *contact) note(a Address) bool {
	i := slices.IndexFunc(c.Addresses, func(o Address) bool { return o.Address == a.Address })
	if i >= 0 {
		c.Addresses[i].Seen = a.Seen
		if rank(a.Source) < rank(c.Addresses[i].Source) {
			c.Addresses[i].Source = a.Source
		}
		return false
	}
	c.Addresses = append(c.Addresses, a)
	slices.SortStableFunc(c.Addresses, func(x, y Address) int {
		return cmp.Or(rank(x.Source)-rank(y.Source), y.Seen.Compare(x.Seen))
	})
	c.Addresses = c.Addresses[:min(len(c.Addresses), maxAddresses)]
	return slices.Contains(c.Addresses, a)
}

func rank(s Source) int {
	return slices.Index([]Source{FromOwner, FromLink, FromBeacon, FromMDNS, FromPeer}, s)
}

// met notes a session. host is the static address that was dialled, or empty.
func (b *Book) met(ctx context.Context, id centram.PeerID, name string, at netip.AddrPort, host string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contact(id)
	c.Name, c.LastSeen, c.retry = name, time.Now(), retry{}
	if at.IsValid() {
		c.note(Address{at, FromLink, time.Now()})
	}
	if s := b.statics[host]; s != nil {
		s.id, s.retry = id, retry{}
		if err := b.saveStatic(ctx, s); err != nil {
			return err
		}
	}
	return b.save(ctx, c)
}

// left notes the end of a session.
func (b *Book) left(ctx context.Context, id centram.PeerID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.peers[id]
	if c == nil {
		return nil // forgotten meanwhile
	}
	c.LastSeen = time.Now()
	return b.save(ctx, c)
}

// penalise counts points against a peer and says until when it is banned, if it is.
func (b *Book) penalise(ctx context.Context, id centram.PeerID, points float64) (time.Time, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contact(id)
	now := time.Now()
	c.penalty = c.penalty*math.Exp2(-now.Sub(c.penaltyAt).Seconds()/penaltyHalf.Seconds()) + points
	c.penaltyAt = now
	if c.penalty >= banAt {
		c.penalty = 0
		c.BannedUntil = now.Add(min(banLongest, banFirst<<min(c.bans, 20)))
		c.bans++
	}
	return c.BannedUntil, b.save(ctx, c)
}

func (b *Book) banned(id centram.PeerID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.peers[id]
	return c != nil && c.BannedUntil.After(time.Now())
}

// prune forgets strangers and addresses that were not seen for long.
func (b *Book) prune(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for id, c := range b.peers {
		c.Addresses = slices.DeleteFunc(c.Addresses, func(a Address) bool {
			return a.Source != FromOwner && now.Sub(a.Seen) > addressLife && len(c.Addresses) > 1
		})
		if c.Trust == wire.Stranger && now.Sub(c.last()) > strangerLife && c.BannedUntil.Before(now) {
			delete(b.peers, id)
		}
	}
	if b.db == nil {
		return nil
	}
	_, err := b.db.ExecContext(ctx, `DELETE FROM peers WHERE trust = 0 AND banned_until < ? AND max(first_seen, last_seen) < ?`,
		now.UnixMilli(), now.Add(-strangerLife).UnixMilli())
	return err
}

func (b *Book) save(ctx context.Context, c *contact) error {
	if b.db == nil {
		return nil
	}
	addresses, err := json.Marshal(c.Addresses)
	if err != nil {
		return fmt.Errorf("save a peer: %w", err)
	}
	_, err = b.db.ExecContext(context.WithoutCancel(ctx), `
		INSERT OR REPLACE INTO peers
			(id, name, trust, addresses, first_seen, last_seen, penalty, penalty_at, bans, banned_until)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		c.ID[:], c.Name, c.Trust, string(addresses), ms(c.FirstSeen), ms(c.LastSeen), c.penalty, ms(c.penaltyAt), c.bans, ms(c.BannedUntil))
	if err != nil {
		return fmt.Errorf("save a peer: %w", err)
	}
	return nil
}

func (b *Book) saveStatic(ctx context.Context, s *static) error {
	if b.db == nil || s.passing {
		return nil
	}
	var id []byte
	if s.id != (centram.PeerID{}) {
		id = s.id[:]
	}
	_, err := b.db.ExecContext(context.WithoutCancel(ctx), `INSERT OR REPLACE INTO static_peers (address, peer) VALUES (?, ?)`, s.host, id)
	if err != nil {
		return fmt.Errorf("save a peer's address: %w", err)
	}
	return nil
}

func ms(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMs(v int64) time.Time {
	if v == 0 {
		return time.Time{}
	}
	return time.UnixMilli(v)
}
