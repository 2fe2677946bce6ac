// Package wire is the language of peers: 96 types of messages, and how each is framed, signed and checked.
//
// A frame is, in big-endian order:
//
//	 0  version    u8   1
//	 1  type       u8   family << 4 | index; see Table
//	 2  flags      u16  0 signed, 1 more, 2 reply, 4 critical; all others are zero
//	 4  length     u32  bytes of the body, never over what the type's row allows
//	 8  request    u64  pairs replies with requests; 0 elsewhere
//	16  body       CBOR in core deterministic encoding (RFC 8949 §4.2.1), or bytes laid out by hand for bulk data
//	    key        32   if signed: the author's Ed25519 public key
//	    signature  64   if signed: over what Scope says
//
// Messages come in two kinds. A session message means something between two peers that are connected now: it is signed by
// the peer at the other end and bound to this one connection. A record means something to anyone at any time: its author
// may be somebody else than who passes it on, and its bytes are kept and passed on as they came. Frames of bulk data and
// activations have no signature of their own; what they carry is covered by hashes and commitments that are signed.
//
// Everything here is a pure function over bytes and safe for concurrent use.
package wire

import (
	"encoding/hex"
	"fmt"

	"github.com/centram/centram"
)

const (
	// Version is what the first byte of a frame says, and the version of the protocol in HELLO.
	Version = 1

	// ALPN names the protocol in the TLS handshake.
	ALPN = "centram/1"

	// MaxDatagram is the largest message outside of a connection, with its header and signature, in bytes.
	MaxDatagram = 1200

	kib, mib = 1 << 10, 1 << 20
)

// Message is the body of a frame. Every type is a pointer to a struct of this package with one row in Table.
type Message interface {
	// Validate says what is wrong with the message for whatever reason can be told from the message alone. The sender
	// checks it as well as the receiver, so that nobody can send by mistake what nobody may send.
	Validate() error
}

// Type is the permanent number of a message type.
type Type uint8

// Name is the name that the type is signed under, such as "HELLO".
func (t Type) Name() string {
	if r := RowOf(t); r != nil {
		return r.Name
	}
	return fmt.Sprintf("unknown type %02X", uint8(t))
}

func (t Type) String() string { return t.Name() }

// Hash is a SHA-256 digest.
type Hash [32]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes the hash as 64 hexadecimal digits.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText wrote. It fails with centram.Invalid.
func (h *Hash) UnmarshalText(b []byte) error {
	if n, err := hex.Decode(h[:], b); err != nil || n != len(h) || len(b) != 2*len(h) {
		return centram.Errorf(centram.Invalid, "%q is not a hash", b).WithHint("A hash has 64 hexadecimal digits.")
	}
	return nil
}

// IsZero says that there is no hash.
func (h Hash) IsZero() bool { return h == Hash{} }
