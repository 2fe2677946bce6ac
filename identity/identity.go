// Package identity holds the keys by which a node is known, and the file they are kept in.
//
// There are three, so that one can be lost without the others: the network key is the node to its peers and is in use all
// the time; the ledger key signs for the node's account; the recovery key replaces either of them, and is the one to keep
// a copy of elsewhere. All are Ed25519 (RFC 8032) and independent of each other.
package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"time"

	"github.com/centram/centram"
)

// Identity is a node's private keys.
type Identity struct {
	Network  ed25519.PrivateKey // its public half is the node's PeerID
	Ledger   ed25519.PrivateKey
	Recovery ed25519.PrivateKey
	Created  time.Time
}

// New makes the keys of a new node.
func New(now time.Time) *Identity {
	return &Identity{Network: newKey(), Ledger: newKey(), Recovery: newKey(), Created: now.UTC().Truncate(time.Second)}
}

func newKey() ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed) // never fails: without randomness the program ends
	return ed25519.NewKeyFromSeed(seed)
}

// Peer is the id that other nodes know this one by.
func (id *Identity) Peer() centram.PeerID {
	return centram.PeerID(id.Network.Public().(ed25519.PublicKey))
}
