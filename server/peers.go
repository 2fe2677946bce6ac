package server

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/centram/centram"
	"github.com/centram/centram/identity"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/wire"
)

// Network is what a Server works with of other nodes. The zero value is a network that is off.
type Network struct {
	// Node is this node among them. Nil means that the network is off.
	Node Node
	// Off says why the network is off, with what to do about it: ErrOff if that is somebody's wish, and nil while it is on.
	// Nil means that it is on if there is a Node.
	Off func() error
	// ID is the id of this node. Zero means that it has none.
	ID   centram.PeerID
	Name string // of the network; empty for the open one

	// Blobs are the files that are given to other nodes and come from them. Nil means that there are none.
	Blobs Blobs
	// Fetch brings a blob here, waiting for somebody who has it. Nil means that it cannot be done.
	Fetch func(ctx context.Context, blob wire.Hash, wait time.Duration, progress func(have, of int)) error
	// Records are the signed records that are known here. Nil means none.
	Records func() []Record
	// Hyperlink puts models together from several machines. Nil means that it cannot be done.
	Hyperlink Hyperlink
}

// Node is this node among others, as *p2p.Node is.
type Node interface {
	Name() string
	Policy() p2p.Policy
	Port() uint16
	Addresses() []netip.AddrPort
	Caps() []string
	Book() *p2p.Book
	Peers() []*p2p.Peer
	Peer(centram.PeerID) *p2p.Peer
	AddPeer(ctx context.Context, host string) error
	Hint(id centram.PeerID, name string, addrs ...netip.AddrPort)
	DialSoon(centram.PeerID)
	Forget(context.Context, centram.PeerID) error
	pairer
}

const (
	pingPatience  = 5 * time.Second
	reachPatience = 10 * time.Second
	reachLook     = 20 * time.Millisecond
)

// ErrOff is why a network is off that nobody wants on.
var ErrOff = centram.Errorf(centram.Unavailable, "The network is turned off by the setting p2p_listen.").
	WithHint("Turn it on with: centram config set p2p_listen :%d", p2p.DefaultPort)

// NodeState says who this node is among others.
type NodeState struct {
	State     string   `json:"state" enum:"on,off,failed" doc:"Whether this node talks to others: off is as somebody wished, failed is not."`
	Why       string   `json:"why,omitempty" doc:"Why it does not."`
	Hint      string   `json:"hint,omitempty" doc:"What to do about that."`
	ID        string   `json:"id" doc:"Empty if this node has no keys, or they could not be read."`
	Short     string   `json:"short" doc:"The beginning of the id, to tell nodes in a list apart."`
	Words     string   `json:"words" doc:"What two people compare to see that both mean this node."`
	Name      string   `json:"name"`
	Network   string   `json:"network" doc:"Empty for the open one."`
	Policy    string   `json:"policy" doc:"Who gets what costs or reveals something: open, paired or private."`
	Port      int      `json:"port" doc:"UDP."`
	Addresses []string `json:"addresses" doc:"Where others can reach this node."`
	Peers     int      `json:"peers" doc:"That are connected."`
	Abilities []string `json:"abilities"`
}

type nodeBody struct{ Body NodeState }

func (s *Server) getNode(context.Context, *struct{}) (*nodeBody, error) {
	out := NodeState{State: "off", Network: plain(s.Network.Name), Addresses: []string{}, Abilities: []string{}}
	if id := s.Network.ID; id != (centram.PeerID{}) {
		out.ID, out.Short, out.Words = id.String(), id.Short(), identity.Words(id)
	}
	n, err := s.node()
	if err != nil {
		if !errors.Is(err, ErrOff) {
			out.State = "failed"
		}
		p := problemOf(err)
		out.Why, out.Hint = p.Message, p.Hint
		return &nodeBody{out}, nil
	}
	out.State, out.Name, out.Policy, out.Port = "on", n.Name(), string(n.Policy()), int(n.Port())
	out.Peers, out.Abilities = len(n.Peers()), n.Caps()
	for _, a := range n.Addresses() {
		out.Addresses = append(out.Addresses, a.String())
	}
	return &nodeBody{out}, nil
}

// node fails with why the network is off.
func (s *Server) node() (Node, error) {
	if s.Network.Off != nil {
		if err := s.Network.Off(); err != nil {
			return nil, err
		}
	}
	if s.Network.Node == nil {
		return nil, ErrOff
	}
	return s.Network.Node, nil
}

// Peer is another node that is known here, connected or not. Its name is what it says of itself, and proves nothing.
type Peer struct {
	ID          string        `json:"id"`
	Short       string        `json:"short"`
	Name        string        `json:"name"`
	State       string        `json:"state" enum:"connected,away,banned"`
	Trust       string        `json:"trust" enum:"stranger,paired,own"`
	Address     string        `json:"address" doc:"Where it is, or where it is looked for first. May be empty."`
	Addresses   []PeerAddress `json:"addresses"`
	Version     string        `json:"version,omitempty"`
	RTT         *float64      `json:"rtt_ms,omitempty" doc:"Round trip in milliseconds, the median of the last ones."`
	Since       *time.Time    `json:"since,omitempty" doc:"When the connection was made."`
	FirstSeen   *time.Time    `json:"first_seen,omitempty"`
	LastSeen    *time.Time    `json:"last_seen,omitempty"`
	BannedUntil *time.Time    `json:"banned_until,omitempty"`
	Static      bool          `json:"static" doc:"Its address was given by hand, so it is dialled for ever."`
	Sent        uint64        `json:"sent" doc:"Bytes, over this connection."`
	Received    uint64        `json:"received" doc:"Bytes, over this connection."`
	Abilities   []string      `json:"abilities"`
}

// PeerAddress is where a peer may be.
type PeerAddress struct {
	Address string    `json:"address"`
	Source  string    `json:"source" enum:"static,link,beacon,mdns,peer" doc:"Who says so."`
	Seen    time.Time `json:"seen"`
}

// Dialled is an address that was given by hand.
type Dialled struct {
	Address string `json:"address"`
	Peer    string `json:"peer,omitempty" doc:"The id of the node that answered there. Absent if none has."`
	Error   string `json:"error,omitempty" doc:"Why there is no session with whoever is there. Absent if there is one, or nothing was tried yet."`
}

// PeerName names a peer.
type PeerName struct {
	ID string `path:"id" maxLength:"256" doc:"The id, its beginning, or the name, if no other peer has the same."`
}

func (p PeerName) text() string { return unescaped(p.ID) }

// unescaped is a part of a path in which the router leaves "%3A" as it is.
func unescaped(part string) string {
	if text, err := url.PathUnescape(part); err == nil {
		return text
	}
	return part
}

type peerAction struct {
	PeerName
	Body *struct{}
}

type peerList struct {
	Body struct {
		Peers   []Peer    `json:"peers"`
		Dialled []Dialled `json:"dialled" doc:"The addresses that were given by hand."`
	}
}

type peerBody struct{ Body Peer }

type peerAdd struct {
	Body struct {
		Address string `json:"address" minLength:"1" maxLength:"300" doc:"HOST:PORT, or HOST alone."`
	}
}

type dialledBody struct{ Body Dialled }

func (s *Server) listPeers(context.Context, *struct{}) (*peerList, error) {
	n, err := s.node()
	if err != nil {
		return nil, err
	}
	out := &peerList{}
	out.Body.Peers, out.Body.Dialled = s.peers(n), []Dialled{}
	for _, a := range n.Book().Statics() {
		out.Body.Dialled = append(out.Body.Dialled, presentDialled(a))
	}
	return out, nil
}

func (s *Server) getPeer(_ context.Context, in *PeerName) (*peerBody, error) {
	n, err := s.node()
	if err != nil {
		return nil, err
	}
	p, err := s.peerNamed(n, in.text())
	if err != nil {
		return nil, err
	}
	return &peerBody{p}, nil
}

// addPeer dials an address now and for ever.
func (s *Server) addPeer(ctx context.Context, in *peerAdd) (*dialledBody, error) {
	n, err := s.node()
	if err != nil {
		return nil, err
	}
	if err := n.AddPeer(ctx, in.Body.Address); err != nil {
		return nil, err
	}
	if a, ok := staticNamed(n, in.Body.Address); ok {
		return &dialledBody{presentDialled(a)}, nil
	}
	return &dialledBody{Dialled{Address: in.Body.Address}}, nil
}

// forgetPeer forgets a peer and everything agreed with it, or an address at which nobody has answered.
func (s *Server) forgetPeer(ctx context.Context, in *PeerName) (*struct{}, error) {
	n, err := s.node()
	if err != nil {
		return nil, err
	}
	if a, ok := staticNamed(n, in.text()); ok {
		if err := n.Book().RemoveStatic(ctx, a.Host); err != nil || a.Peer == (centram.PeerID{}) {
			return nil, err
		}
		err := n.Forget(ctx, a.Peer)
		if centram.CodeOf(err) == centram.NotFound {
			return nil, nil // it was forgotten before
		}
		return nil, err
	}
	p, err := s.peerNamed(n, in.text())
	if err != nil {
		return nil, err
	}
	return nil, n.Forget(ctx, p.id())
}

// Pong is what came of a ping.
type Pong struct {
	RTT float64 `json:"rtt_ms" doc:"Round trip in milliseconds."`
}

type pongBody struct{ Body Pong }

func (s *Server) pingPeer(ctx context.Context, in *peerAction) (*pongBody, error) {
	n, err := s.node()
	if err != nil {
		return nil, err
	}
	p, err := s.peerNamed(n, in.text())
	if err != nil {
		return nil, err
	}
	session := n.Peer(p.id())
	if session == nil {
		return nil, away(p)
	}
	ctx, cancel := context.WithTimeout(ctx, pingPatience)
	defer cancel()
	rtt, err := session.Ping(ctx)
	if err != nil {
		return nil, err
	}
	return &pongBody{Pong{milliseconds(rtt)}}, nil
}

func away(p Peer) error {
	return centram.Errorf(centram.Unavailable, "%s is not connected.", p.label()).
		WithHint("See that Centram runs there. If its address has changed: centram peer add HOST:PORT")
}

// reach waits until a peer is connected. addrs are where it may be, beside what the book says.
func (s *Server) reach(ctx context.Context, n Node, id centram.PeerID, addrs []netip.AddrPort) error {
	if n.Peer(id) != nil {
		return nil
	}
	if len(addrs) > 0 {
		n.Hint(id, "", addrs...)
	}
	n.DialSoon(id)
	ctx, cancel := context.WithTimeout(ctx, reachPatience)
	defer cancel()
	look := time.NewTicker(reachLook)
	defer look.Stop()
	for n.Peer(id) == nil {
		select {
		case <-look.C:
		case <-ctx.Done():
			p, _ := s.known(n, id)
			return away(p)
		}
	}
	return nil
}

// peers are all that are known, the connected ones first and of these the trusted ones.
func (s *Server) peers(n Node) []Peer {
	list := []Peer{}
	for id := range s.knownIDs(n) {
		if p, ok := s.known(n, id); ok {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b Peer) int {
		return cmp.Or(
			cmp.Compare(slices.Index(states, a.State), slices.Index(states, b.State)),
			cmp.Compare(slices.Index(ranks, a.Trust), slices.Index(ranks, b.Trust)),
			later(a.LastSeen, b.LastSeen),
			cmp.Compare(a.ID, b.ID),
		)
	})
	return list
}

var (
	states = []string{"connected", "away", "banned"}
	ranks  = []string{wire.Own.String(), wire.Friend.String(), wire.Stranger.String()}
)

func later(a, b *time.Time) int {
	switch {
	case a != nil && b != nil:
		return b.Compare(*a)
	case a != nil:
		return -1
	case b != nil:
		return 1
	}
	return 0
}

func (s *Server) knownIDs(n Node) map[centram.PeerID]bool {
	ids := map[centram.PeerID]bool{}
	for _, c := range n.Book().Contacts() {
		ids[c.ID] = true
	}
	for _, p := range n.Peers() {
		ids[p.ID()] = true
	}
	delete(ids, s.Network.ID)
	return ids
}

// known is what the book and the session, if there is one, say of a peer.
func (s *Server) known(n Node, id centram.PeerID) (Peer, bool) {
	c, inBook := n.Book().Contact(id)
	out := Peer{
		ID: id.String(), Short: id.Short(), Name: plain(c.Name), State: "away", Trust: c.Trust.String(), Static: c.Static,
		Addresses: []PeerAddress{}, Abilities: []string{}, FirstSeen: moment(c.FirstSeen), LastSeen: moment(c.LastSeen),
	}
	for _, a := range c.Addresses {
		out.Addresses = append(out.Addresses, PeerAddress{a.Address.String(), string(a.Source), a.Seen})
	}
	if len(out.Addresses) > 0 {
		out.Address = out.Addresses[0].Address
	}
	if c.BannedUntil.After(s.Now()) {
		out.State, out.BannedUntil = "banned", &c.BannedUntil
	}
	p := n.Peer(id)
	if p == nil {
		return out, inBook
	}
	link, traffic, since := p.Link(), p.Traffic(), p.Since()
	rtt := milliseconds(cmp.Or(link.RTT, traffic.RTT))
	out.State, out.Trust, out.Name, out.Version = "connected", p.Trust().String(), plain(p.Name()), plain(p.Version())
	out.RTT, out.Since, out.Sent, out.Received, out.Abilities = &rtt, &since, traffic.Sent, traffic.Received, p.Caps()
	if at := p.Remote(); at.IsValid() {
		out.Address = at.String()
	}
	return out, true
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// id is the one that ID was written from.
func (p Peer) id() centram.PeerID {
	id, _ := centram.ParsePeerID(p.ID)
	return id
}

// label is what a person recognises the peer by.
func (p Peer) label() string {
	if p.Name == "" {
		return p.Short
	}
	return p.Name + " (" + p.Short + ")"
}

// plain is a text of a stranger that can be shown anywhere: what moves a terminal's cursor or turns letters around is left
// out.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
}

// peerNamed finds a peer by its id, the beginning of that, or its name. It fails with centram.NotFound, and with
// centram.Conflict if several are meant: names are anybody's choice, so none is guessed.
func (s *Server) peerNamed(n Node, text string) (Peer, error) {
	id, err := centram.ParsePeerID(text)
	if err == nil {
		if p, ok := s.known(n, id); ok {
			return p, nil
		}
		return Peer{}, noPeer(id.Short())
	}
	beginning := compact(text)
	if len(beginning) == len(compact(id.String())) {
		return Peer{}, err // a whole id with a typing error
	}
	var found []Peer
	for _, p := range s.peers(n) {
		if text != "" && strings.EqualFold(p.Name, text) || beginning != "" && strings.HasPrefix(compact(p.ID), beginning) {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 0:
		return Peer{}, noPeer(plain(text))
	case 1:
		return found[0], nil
	}
	return Peer{}, centram.Errorf(centram.Conflict, "%q may be %s or %s.", text, found[0].label(), found[1].label()).
		WithHint("Give more of the id: %s", found[0].ID)
}

func noPeer(text string) error {
	return centram.Errorf(centram.NotFound, "There is no peer %s.", text).WithHint("See which there are with: centram peer list")
}

// compact is an id, or its beginning, with what does not matter left out.
func compact(id string) string {
	return strings.NewReplacer("-", "", " ", "", "0", "O", "1", "I", "8", "B").Replace(strings.ToUpper(id))
}

// staticNamed finds an address that was given by hand, which may be written without its port.
func staticNamed(n Node, text string) (p2p.Static, bool) {
	const port = ":9743"
	for _, a := range n.Book().Statics() {
		if a.Host == text || a.Host == text+port || a.Host == "["+text+"]"+port {
			return a, true
		}
	}
	return p2p.Static{}, false
}

func presentDialled(a p2p.Static) Dialled {
	out := Dialled{Address: plain(a.Host), Error: plain(a.Err)}
	if a.Peer != (centram.PeerID{}) {
		out.Peer = a.Peer.String()
	}
	return out
}
