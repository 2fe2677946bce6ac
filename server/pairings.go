package server

import (
	"context"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/identity"
	"github.com/centram/centram/p2p"
)

// pairer makes strangers friends.
type pairer interface {
	ShowCode() p2p.Code
	PairWithCode(ctx context.Context, id centram.PeerID, code string) error
	StartPairing(centram.PeerID) (p2p.Pairing, error)
	Pairings() []p2p.Pairing
	Decide(ctx context.Context, id centram.PeerID, agree bool) error
}

// maxPlaces is how many addresses a link has: more make its QR code hard to read.
const maxPlaces = 4

// Pairing is a pairing of this node with another that is under way, or is over since a moment ago.
type Pairing struct {
	ID       string    `json:"id" doc:"Of the peer."`
	Short    string    `json:"short"`
	Name     string    `json:"name"`
	Words    string    `json:"words" doc:"Both screens show the same ones, unless somebody is in between."`
	Outgoing bool      `json:"outgoing" doc:"It was begun here."`
	Mine     bool      `json:"mine" doc:"It was agreed to here."`
	Theirs   bool      `json:"theirs" doc:"It was agreed to there."`
	State    string    `json:"state" enum:"waiting,paired,failed"`
	Reason   string    `json:"reason,omitempty" doc:"Why it failed."`
	Expires  time.Time `json:"expires"`
}

type pairingList struct {
	Body struct {
		Pairings []Pairing `json:"pairings"`
	}
}

type pairingBody struct{ Body Pairing }

type pairRequest struct {
	PeerName
	Body struct {
		Code string   `json:"code,omitempty" maxLength:"32" doc:"What the other screen shows. Absent: both screens show words to compare."`
		At   []string `json:"at,omitempty" maxItems:"8" doc:"IP:PORT where the peer may be, if it is not known here."`
	}
}

type pairDecision struct {
	PeerName
	Body struct {
		Agree bool `json:"agree" doc:"Whether both screens show the same words."`
	}
}

func (s *Server) listPairings(context.Context, *struct{}) (*pairingList, error) {
	n, err := s.node()
	if err != nil {
		return nil, err
	}
	out := &pairingList{}
	out.Body.Pairings = []Pairing{}
	for _, p := range n.Pairings() {
		out.Body.Pairings = append(out.Body.Pairings, presentPairing(p))
	}
	return out, nil
}

// pair pairs with a peer by its code, or begins to by words.
func (s *Server) pair(ctx context.Context, in *pairRequest) (*pairingBody, error) {
	n, err := s.node()
	if err != nil {
		return nil, err
	}
	id, err := s.reachNamed(ctx, n, in.text(), in.Body.At)
	if err != nil {
		return nil, err
	}
	if in.Body.Code == "" {
		p, err := n.StartPairing(id)
		return &pairingBody{presentPairing(p)}, err
	}
	if err := n.PairWithCode(ctx, id, in.Body.Code); err != nil {
		return nil, err
	}
	p, _ := s.known(n, id)
	return &pairingBody{Pairing{
		ID: p.ID, Short: p.Short, Name: p.Name, Outgoing: true, Mine: true, Theirs: true, State: "paired", Expires: s.Now(),
	}}, nil
}

// reachNamed finds a peer and waits until it is connected. One that is not known yet has to be named by its whole id.
func (s *Server) reachNamed(ctx context.Context, n Node, text string, at []string) (centram.PeerID, error) {
	var places []netip.AddrPort
	for _, a := range at {
		place, err := netip.ParseAddrPort(a)
		if err != nil {
			return centram.PeerID{}, centram.Errorf(centram.Invalid, "%q is not an address.", a).WithHint("Write it as IP:PORT.")
		}
		places = append(places, place)
	}
	id, err := centram.ParsePeerID(text)
	if err != nil || len(places) == 0 {
		p, err := s.peerNamed(n, text)
		if err != nil {
			return id, err
		}
		id = p.id()
	}
	if id == s.Network.ID {
		return id, centram.Errorf(centram.Invalid, "This is the node itself.").WithHint("Pair on the other machine.")
	}
	return id, s.reach(ctx, n, id, places)
}

// decide is this owner's word on a pairing.
func (s *Server) decide(ctx context.Context, in *pairDecision) (*pairingBody, error) {
	n, err := s.node()
	if err != nil {
		return nil, err
	}
	p, err := s.peerNamed(n, in.text())
	if err != nil {
		return nil, err
	}
	if err := n.Decide(ctx, p.id(), in.Body.Agree); err != nil {
		return nil, err
	}
	for _, pairing := range n.Pairings() {
		if pairing.Peer == p.id() {
			return &pairingBody{presentPairing(pairing)}, nil
		}
	}
	return nil, centram.Errorf(centram.NotFound, "The pairing with %s is over.", p.label()).WithHint("Begin anew with: centram peer pair %s", p.Short)
}

func presentPairing(p p2p.Pairing) Pairing {
	out := Pairing{
		ID: p.Peer.String(), Short: p.Peer.Short(), Name: plain(p.Name), Words: identity.WordsOf(p.Secret), Outgoing: p.Outgoing,
		Mine: p.Mine, Theirs: p.Theirs, State: "waiting", Reason: plain(p.Failed), Expires: p.Expires,
	}
	switch {
	case p.Failed != "":
		out.State = "failed"
	case p.Mine && p.Theirs:
		out.State = "paired"
	}
	return out
}

type codeRequest struct{ Body *struct{} }

// PairingCode is a code that the other side types.
type PairingCode struct {
	Code    string    `json:"code"`
	Expires time.Time `json:"expires"`
	Link    string    `json:"link" doc:"The id of this node, the code, and where this node is, for: centram peer pair LINK"`
}

type codeBody struct{ Body PairingCode }

// showCode makes a code, which takes the place of the last one.
func (s *Server) showCode(context.Context, *codeRequest) (*codeBody, error) {
	n, err := s.node()
	if err != nil {
		return nil, err
	}
	c := n.ShowCode()
	half := len(c.Code) / 2
	return &codeBody{PairingCode{c.Code[:half] + "-" + c.Code[half:], c.Expires, s.pairingLink(n, c.Code)}}, nil
}

func (s *Server) pairingLink(n Node, code string) string {
	var b strings.Builder
	b.WriteString("centram:pair?id=" + compact(s.Network.ID.String()) + "&code=" + code)
	places := n.Addresses()
	for _, a := range places[:min(len(places), maxPlaces)] {
		b.WriteString("&at=" + url.QueryEscape(a.String()))
	}
	return b.String()
}
