package p2p

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

const (
	maxPeers        = 64
	handshakesFree  = 50              // new connections a second before the caller's address is checked first
	penaltyForFault = 25              // points for a message that cannot be right
	endTimeout      = 3 * time.Second // for all sessions to say goodbye
	gossipPerMinute = 600             // records that a peer may send
)

// Config says what a node is. Only Key is needed.
type Config struct {
	Key     ed25519.PrivateKey // the node's identity
	Network string             // nodes of different networks do not talk to each other. Zero means the open network.
	Name    string             // what others show for this node. Zero means no name.
	Version string             // of the program. Zero means "unknown".

	// Listen is the UDP address for QUIC and the beacon. Zero means all addresses, DefaultPort.
	Listen string
	// Socket takes the place of Listen in tests.
	Socket net.PacketConn
	// Peers are addresses, host:port, to dial for ever. Zero means none.
	Peers []string
	// Policy says who gets what costs or reveals something. Zero means PolicyPaired.
	Policy Policy
	// Quiet turns discovery off: no beacons, no mDNS. Peers are then found by address alone.
	Quiet bool
	// NoMDNS turns off mDNS alone, such as where port 5353 is another's.
	NoMDNS bool
	// NoBeacon turns off beacons alone.
	NoBeacon bool
	// MaxPeers is how many sessions there may be. Zero means 64.
	MaxPeers int
	// Upload is the limit for bulk data to all peers together, in bytes a second. Zero means none.
	Upload int64

	// DB is the database of package store. Zero means that peers are forgotten at the end.
	DB *sql.DB
	// Caps are this node's abilities at the start. Zero means none.
	Caps []string
	// Load says how busy the node is. Zero means that it never is.
	Load func() Load
	// Changed is called after something about peers has changed: a session began or ended, or somebody wants to pair. It
	// must not block. Zero means nobody wants to know.
	Changed func(Change)
	// Trace writes a qlog file for every connection into $QLOGDIR.
	Trace bool
	// Metrics is where the node's counters are registered. Zero means nowhere.
	Metrics prometheus.Registerer
	// Log is where the node says what it does. Zero means slog.Default.
	Log *slog.Logger
}

// Load says how busy a node is.
type Load struct {
	Queue uint16 // requests that wait
	Busy  uint16 // thousandths of the processors
}

// Change is something that happened to a peer.
type Change struct {
	Kind string // "joined", "left", "pairing", "paired", "forgotten"
	Peer centram.PeerID
}

// Node is this node among its peers.
type Node struct {
	key     ed25519.PrivateKey
	id      centram.PeerID
	network wire.Hash
	boot    uint64
	name    string
	version string
	policy  Policy
	limits  wire.Limits
	most    int
	cfg     Config
	log     *slog.Logger

	mux       *Mux
	book      *Book
	pairing   *pairing
	metrics   *metrics
	upload    *rate.Limiter
	transport *quic.Transport
	listener  *quic.Listener
	kick      chan struct{} // wakes the dialler
	sessions  []func(context.Context, *Peer) error
	tasks     sync.WaitGroup // short work that outlives whoever started it
	mdns      sync.WaitGroup // multicast DNS

	mu         sync.Mutex // guards the following
	peers      map[centram.PeerID]*Peer
	caps       []string
	heard      map[centram.PeerID]presence // from beacons
	seq        uint64                      // of the last beacon
	suspicions suspicions
	closed     bool
}

// New makes a node and takes its socket. Services are registered in Mux before Run. It fails with centram.Conflict if the
// port is taken.
func New(ctx context.Context, cfg Config) (*Node, error) {
	n, err := newNode(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return n, n.listen()
}

// newNode makes a node without a socket.
func newNode(ctx context.Context, cfg Config) (*Node, error) {
	policy, err := ParsePolicy(string(cfg.Policy))
	if err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Load == nil {
		cfg.Load = func() Load { return Load{} }
	}
	if cfg.Changed == nil {
		cfg.Changed = func(Change) {}
	}
	n := &Node{
		key: cfg.Key, id: centram.PeerID(cfg.Key.Public().(ed25519.PublicKey)), network: wire.NetworkOf(cfg.Network),
		boot: random64(), name: cfg.Name, version: cmp.Or(cfg.Version, "unknown"), policy: policy,
		limits: wire.Limits{Requests: 64, Records: gossipPerMinute}, most: cfg.MaxPeers, cfg: cfg, log: cfg.Log,
		mux: &Mux{}, metrics: newMetrics(cfg.Metrics), kick: make(chan struct{}, 1),
		suspicions: suspicions{heard: map[centram.PeerID]uint64{}},
		peers:      map[centram.PeerID]*Peer{}, caps: slices.Clone(cfg.Caps), heard: map[centram.PeerID]presence{},
	}
	if n.most == 0 {
		n.most = maxPeers
	}
	if cfg.Upload > 0 {
		n.upload = rate.NewLimiter(rate.Limit(cfg.Upload), wire.ChunkSize)
	}
	if n.book, err = OpenBook(ctx, cfg.DB); err != nil {
		return nil, err
	}
	for _, host := range cfg.Peers {
		host, err := ParseHost(host)
		if err != nil {
			return nil, err
		}
		n.book.passStatic(host)
	}
	n.settle()
	n.pairing = newPairing(n)
	return n, nil
}

func random64() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:]) | 1
}

// listen takes the socket, and starts to speak QUIC on it.
func (n *Node) listen() error {
	socket := n.cfg.Socket
	if socket == nil {
		addr := cmp.Or(n.cfg.Listen, fmt.Sprintf(":%d", DefaultPort))
		s, err := net.ListenPacket("udp", addr)
		if err != nil {
			return centram.Errorf(centram.Conflict, "cannot listen for peers on UDP %s: %w", addr, err).
				WithHint("Perhaps another Centram runs here. Choose another port with: centram config set p2p_listen :9744")
		}
		socket = s
	}
	cert, err := certificate(n.key)
	if err != nil {
		return err
	}
	reset := quic.StatelessResetKey(derive(n.key, "stateless reset"))
	flood := rate.NewLimiter(handshakesFree, handshakesFree)
	n.transport = &quic.Transport{
		Conn: coalesce(socket), StatelessResetKey: &reset,
		VerifySourceAddress: func(net.Addr) bool { return !flood.Allow() },
	}
	n.listener, err = n.transport.Listen(tlsConfig(cert, n.admit), quicConfig(n.cfg.Trace))
	if err != nil {
		return fmt.Errorf("listen for peers: %w", err)
	}
	return nil
}

// admit decides about a key before anything else of its holder is read.
func (n *Node) admit(id centram.PeerID) error {
	switch {
	case id == n.id:
		return errSelf
	case n.book.banned(id):
		return fmt.Errorf("%s is banned", id.Short())
	}
	return nil
}

var errSelf = errors.New("this is the node itself")

// ID is the node's own id.
func (n *Node) ID() centram.PeerID { return n.id }

// Mux is where services register. It must not change once Run was called.
func (n *Node) Mux() *Mux { return n.mux }

// OnSession has f called at the start of every session, in a goroutine of its own that has to end with ctx. An error of f
// ends the session. It must not be called once Run was.
func (n *Node) OnSession(f func(ctx context.Context, p *Peer) error) {
	n.sessions = append(n.sessions, f)
}

// Name is what the node's owner calls it.
func (n *Node) Name() string { return n.name }

// Policy says to whom the node gives what costs or reveals something.
func (n *Node) Policy() Policy { return n.policy }

// Addresses are where other nodes of the LAN can dial this one.
func (n *Node) Addresses() []netip.AddrPort {
	if at := addrPort(n.transport.Conn.LocalAddr()); !at.Addr().IsUnspecified() {
		return []netip.AddrPort{at} // the owner chose one
	}
	var list []netip.AddrPort
	for _, i := range interfaces() {
		for _, text := range i.addrs {
			if p, err := netip.ParsePrefix(text); err == nil && !p.Addr().IsLinkLocalUnicast() {
				list = append(list, netip.AddrPortFrom(p.Addr(), n.Port()))
			}
		}
	}
	return list
}

// Hint notes where another node is said to be, and dials it in time.
func (n *Node) Hint(id centram.PeerID, name string, addrs ...netip.AddrPort) {
	if n.book.heard(id, name, FromPeer, addrs...) && !n.connected(id) {
		n.wake()
	}
}

// Book is the address book.
func (n *Node) Book() *Book { return n.book }

// Port is the UDP port that the node listens on.
func (n *Node) Port() uint16 { return addrPort(n.transport.Conn.LocalAddr()).Port() }

// Caps are the node's abilities.
func (n *Node) Caps() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.caps == nil {
		return []string{}
	}
	return slices.Clone(n.caps)
}

// SetCaps changes the node's abilities, and tells the peers.
func (n *Node) SetCaps(ctx context.Context, caps []string) {
	n.mu.Lock()
	before := n.caps
	n.caps = slices.Clone(caps)
	n.mu.Unlock()
	without := func(list, other []string) []string {
		out := []string{}
		for _, c := range list {
			if !slices.Contains(other, c) {
				out = append(out, c)
			}
		}
		return out
	}
	update := &wire.CapsUpdate{Added: without(caps, before), Removed: without(before, caps), Limits: n.limits}
	for _, p := range n.Peers() {
		_ = p.Tell(ctx, update) // one that has left learns it in the next hello
	}
}

// Peers are the sessions there are, in the order of their ids.
func (n *Node) Peers() []*Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]*Peer, 0, len(n.peers))
	for _, p := range n.peers {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *Peer) int { return slices.Compare(a.id[:], b.id[:]) })
	return list
}

// Peer returns the session with a peer, or nil.
func (n *Node) Peer(id centram.PeerID) *Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.peers[id]
}

// Run is the node's life: it finds peers and talks to them until ctx ends. Then it says goodbye, and gives the socket back.
func (n *Node) Run(ctx context.Context) error {
	defer n.release()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.accept(ctx, g) })
	g.Go(func() error { return n.dial(ctx, g) })
	g.Go(func() error { return n.readDatagrams(ctx) })
	g.Go(func() error { return n.announce(ctx) })
	g.Go(func() error { return n.tidy(ctx) })
	g.Go(func() error { return n.pairing.run(ctx) })
	err := g.Wait()
	n.tasks.Wait()
	if ctx.Err() == nil {
		return err
	}
	return nil
}

func (n *Node) release() {
	_ = n.listener.Close()
	_ = n.transport.Close()
	if n.cfg.Socket == nil {
		_ = n.transport.Conn.Close()
	}
}

// Close gives back the socket of a node that was never run.
func (n *Node) Close() { n.release() }

// accept takes calls until ctx ends.
func (n *Node) accept(ctx context.Context, g *errgroup.Group) error {
	for {
		conn, err := n.listener.Accept(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept a peer: %w", err)
		}
		g.Go(func() error {
			n.attend(ctx, conn, false, "")
			return nil
		})
	}
}

// attend carries one connection from its first byte to its end. host is the static address that was dialled, or empty.
func (n *Node) attend(ctx context.Context, conn *quic.Conn, dialled bool, host string) error {
	greeting, cancel := context.WithTimeout(ctx, handshakeTimeout)
	c, err := newQUICCarrier(greeting, conn, dialled)
	cancel()
	if err != nil {
		_ = conn.CloseWithError(quic.ApplicationErrorCode(wire.Misbehaviour), "")
		return err
	}
	return n.meet(ctx, c, host)
}

// meet carries a connection whose other end has proved who it is.
func (n *Node) meet(ctx context.Context, c carrier, host string) error {
	p, err := n.greet(ctx, c)
	if err != nil {
		n.log.DebugContext(ctx, "No session", "peer", c.Peer().Short(), "at", c.Remote(), "err", err)
		n.hangUp(ctx, c, err)
		return err
	}
	return n.host(ctx, p, host)
}

// hangUp closes a connection that was refused, after the peer had a moment to read why.
func (n *Node) hangUp(ctx context.Context, c carrier, err error) {
	code := wire.ShuttingDown
	if r, ok := errors.AsType[*refusal](err); ok {
		code = r.code
		select {
		case <-c.Done():
		case <-ctx.Done():
		case <-time.After(min(goodbyeTimeout, 4*c.Traffic().RTT+50*time.Millisecond)):
		}
	}
	c.Close(code)
}

// host carries a session to its end.
func (n *Node) host(ctx context.Context, p *Peer, host string) error {
	ctx, p.stop = context.WithCancelCause(ctx)
	defer p.stop(nil)
	old, err := n.seat(p)
	if err != nil && err.code == wire.Duplicate && old != nil && !n.alive(ctx, old) {
		old, err = n.seat(p) // the peer has lost the old session already, such as by another address
	}
	if err != nil {
		_ = p.say(&wire.Goodbye{Code: err.code, Reason: err.reason})
		n.hangUp(ctx, p.carrier, err)
		return err
	}
	if old != nil {
		old.end(wire.Duplicate, nil)
	} else {
		n.log.InfoContext(ctx, "Peer joined", "peer", p.id.Short(), "name", p.Name(), "at", p.Remote(), "trust", p.Trust())
	}
	if err := n.book.met(ctx, p.id, p.Name(), dialBack(p), host); err != nil {
		n.log.WarnContext(ctx, "Peer not written down", "err", err)
	}
	if old == nil {
		n.cfg.Changed(Change{"joined", p.id})
	}
	why := p.run(ctx)
	if n.unseat(p) {
		n.log.InfoContext(ctx, "Peer left", "peer", p.id.Short(), "why", why.code, "err", why.err)
		if err := n.book.left(ctx, p.id); err != nil {
			n.log.WarnContext(ctx, "Peer not written down", "err", err)
		}
		switch {
		case unwanted(why):
			n.book.later(p.id)
		case ctx.Err() == nil && !errors.Is(why.err, errPeerLeft):
			n.suspect(ctx, p.id)
		}
		n.cfg.Changed(Change{"left", p.id})
		n.wake()
	}
	return why
}

// unwanted says that the peer does not want to be dialled again soon.
func unwanted(e *ending) bool {
	switch e.code {
	case wire.Forgotten, wire.Misbehaviour, wire.Crowded, wire.Private:
		return errors.Is(e.err, errPeerLeft)
	}
	return false
}

// seat makes p the session with its peer. It returns the session that p takes the place of, and refuses p if that one is to
// stay or there are too many.
func (n *Node) seat(p *Peer) (*Peer, *refusal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.peers[p.id]
	switch {
	case n.closed:
		return nil, &refusal{wire.ShuttingDown, ""}
	case old != nil && !p.supersedes(old, n.id):
		return old, &refusal{wire.Duplicate, ""}
	case old == nil && p.Trust() == wire.Stranger && len(n.peers) >= n.room(p):
		return nil, &refusal{wire.Crowded, fmt.Sprintf("%d peers are connected", len(n.peers))}
	}
	n.peers[p.id] = p
	n.metrics.sessions.Set(float64(len(n.peers)))
	return old, nil
}

// room is how many sessions there may be for a stranger to come in. Some places are kept for those whom this node dials:
// whoever wants to be all of its peers cannot do so by calling (Heilman et al., "Eclipse Attacks on Bitcoin's Peer-to-Peer
// Network", 2015).
func (n *Node) room(p *Peer) int {
	if p.carrier.Dialled() {
		return n.most
	}
	return n.most - n.most/4
}

// unseat says whether p was still the session with its peer.
func (n *Node) unseat(p *Peer) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.peers[p.id] != p {
		return false
	}
	delete(n.peers, p.id)
	n.metrics.sessions.Set(float64(len(n.peers)))
	return true
}

// tidy keeps the address book small, and empties the house at the end.
func (n *Node) tidy(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := n.book.prune(ctx); err != nil && ctx.Err() == nil {
			n.log.WarnContext(ctx, "Address book not tidied", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			n.mu.Lock()
			n.closed = true
			n.mu.Unlock()
			return nil
		}
	}
}

// load is how busy the node is.
func (n *Node) load() Load { return n.cfg.Load() }

// penalise counts a fault against a peer, and ends its session if that was one too many.
func (n *Node) penalise(id centram.PeerID, fault *wire.Status) {
	until, err := n.book.penalise(context.Background(), id, penaltyForFault)
	if err != nil {
		n.log.Warn("Penalty not written down", "err", err)
	}
	if until.After(time.Now()) {
		n.log.Warn("Peer banned", "peer", id.Short(), "until", until.Format(time.RFC3339), "for", fault)
		if p := n.Peer(id); p != nil {
			p.end(wire.Misbehaviour, fault)
		}
	}
}

// wake makes the dialler look again.
func (n *Node) wake() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// AddPeer dials an address, host:port, now and whenever nobody is connected there, also after a restart. It fails with
// centram.Invalid.
func (n *Node) AddPeer(ctx context.Context, host string) error {
	host, err := ParseHost(host)
	if err != nil {
		return err
	}
	if err := n.book.AddStatic(ctx, host); err != nil {
		return err
	}
	n.wake()
	return nil
}

// ParseHost reads an address, HOST or HOST:PORT, and adds the usual port if it has none. It fails with centram.Invalid.
func ParseHost(host string) (string, error) {
	if _, port, err := net.SplitHostPort(host); err != nil || port == "" {
		if strings.Count(host, ":") > 1 && !strings.HasPrefix(host, "[") {
			host = "[" + host + "]"
		}
		host = fmt.Sprintf("%s:%d", host, DefaultPort)
	}
	name, port, err := net.SplitHostPort(host)
	if _, bad := net.LookupPort("udp", port); err != nil || bad != nil || name == "" {
		return "", centram.Errorf(centram.Invalid, "%q is not an address", host).WithHint("Write it as HOST:PORT, such as 192.168.1.20:%d", DefaultPort)
	}
	return host, nil
}
