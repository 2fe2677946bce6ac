// Package p2p joins this node to others: it finds them, proves who they are, and carries the messages of p2p/wire.
//
// A Node has one UDP socket, for QUIC and for the beacons by which nodes on a LAN find each other. For each peer that it is
// connected to there is a Peer, with one long control stream and a stream for every request. Services register what they
// answer in a Mux before the node runs, and ask others through a Peer:
//
//	p2p.Answer(mux, func(ctx context.Context, p *p2p.Peer, q *wire.ManifestGet) (*wire.Manifest, error) { ... })
//	m, err := p2p.Ask[wire.Manifest](ctx, peer, &wire.ManifestGet{Blob: hash})
//
// What a peer sends is hostile until it is checked. Every frame passes, in this order: known type, length, lane, the
// sender's rank, signature, author, strict decoding, and the message's own Validate. A handler sees only what passed. A peer that
// sends what cannot be right loses points and then the connection.
//
// All exported methods are safe for concurrent use.
package p2p

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

// DefaultPort is the UDP port of QUIC and of the beacon.
const DefaultPort = 9743

const (
	handshakeTimeout = 5 * time.Second  // for TLS and the hellos, each
	headerTimeout    = 9 * time.Second  // for the first frame of a stream
	stallTimeout     = 8 * time.Second  // for a peer to make room for stallSlice more bytes
	bodyTimeout      = 30 * time.Second // for every further one
	// A peer that is silent so long is gone. The clock starts anew at the first packet sent after the last one that came
	// (RFC 9000 §10.1), so it takes up to keepAlive longer.
	idleTimeout    = 9 * time.Second
	keepAlive      = 3 * time.Second
	goodbyeTimeout = time.Second

	stallSlice = 64 << 10
	maxStreams = 128 // open at the same time, from one peer

	strangerRate  = 200 // requests a second that a stranger may make; more wait
	strangerBurst = 1000
)

// Policy says to whom a node gives what costs something or reveals something.
type Policy string

const (
	PolicyPaired  Policy = "paired"  // to those whom the owner paired with
	PolicyOpen    Policy = "open"    // to every node of the network
	PolicyPrivate Policy = "private" // as paired, and nobody else is even talked to
)

// ParsePolicy reads a policy. The empty text is PolicyPaired.
func ParsePolicy(s string) (Policy, error) {
	switch p := Policy(s); p {
	case "":
		return PolicyPaired, nil
	case PolicyOpen, PolicyPaired, PolicyPrivate:
		return p, nil
	}
	return "", centram.Errorf(centram.Invalid, "%q is not a policy", s).WithHint("Policies are open, paired and private.")
}

// derive makes a secret of the node's key that is the same at every start and tells nothing about the key.
func derive(key ed25519.PrivateKey, purpose string) [32]byte {
	mac := hmac.New(sha256.New, key.Seed())
	mac.Write([]byte("centram/1/" + purpose))
	return [32]byte(mac.Sum(nil))
}

// urgency is the priority of a lane's streams (RFC 9218): 0 goes first.
func urgency(lane wire.Lane) int8 {
	switch lane {
	case wire.Control:
		return 0
	case wire.Hyperlink:
		return 1
	case wire.Request:
		return 3
	}
	return 6
}
