package wire

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"

	"github.com/centram/centram"
)

// Scope is what a signature is bound to besides the message. Signatures are Ed25519 (RFC 8032) over
//
//	record    len "centram/1/" NAME | network | body
//	session   len "centram/1/" NAME | network | session | header | body
//
// where len is the length of the name with its prefix, as a uvarint. The name keeps one type from passing for another, the
// network keeps a record in its network, and session, which both ends derive from the TLS handshake (RFC 8446 §7.5), keeps
// a message in the one connection it was said in.
type Scope struct {
	Network Hash
	Session Hash
}

// NetworkOf is the id of the open network called name. The default network has the empty name.
func NetworkOf(name string) Hash {
	return sha256.Sum256([]byte("centram/1/network/" + name))
}

// Seal checks m and puts it in a frame that key has signed, or in one without a signature if m's type has none. It fails
// with centram.Invalid if m is not valid and with centram.TooLarge if it is over its type's limit.
func Seal(m Message, key ed25519.PrivateKey, scope Scope, flags Flags, request uint64) (*Frame, error) {
	row := RowFor(m)
	body, err := Encode(m)
	if err != nil {
		return nil, err
	}
	f := &Frame{Type: row.Type, Flags: flags &^ Signed, Request: request, Body: body}
	if row.Signature == ByNobody {
		return f, nil
	}
	f.Flags |= Signed
	f.Author = centram.PeerID(key.Public().(ed25519.PublicKey))
	copy(f.Signature[:], ed25519.Sign(key, f.signed(row, scope)))
	return f, nil
}

// Verify checks the signature over the bytes as they came. It fails with a *Status. Frames that need no signature pass.
func (f *Frame) Verify(scope Scope) error {
	row := RowOf(f.Type)
	if row == nil {
		return &Status{Code: Unsupported, Detail: f.Type.Name()}
	}
	if row.Signature == ByNobody {
		return nil
	}
	if !ed25519.Verify(f.Author[:], f.signed(row, scope), f.Signature[:]) {
		return &Status{Code: BadSignature, Detail: row.Name}
	}
	return nil
}

// signed are the bytes that the signature is over.
func (f *Frame) signed(row *Row, scope Scope) []byte {
	b := make([]byte, 0, 1+len(ALPN)+1+len(row.Name)+2*len(scope.Network)+headerSize+len(f.Body))
	b = binary.AppendUvarint(b, uint64(len(ALPN)+1+len(row.Name)))
	b = append(b, ALPN+"/"...)
	b = append(b, row.Name...)
	b = append(b, scope.Network[:]...)
	if row.Signature == ByPeer {
		b = append(b, scope.Session[:]...)
		b = f.appendHeader(b)
	}
	return append(b, f.Body...)
}
