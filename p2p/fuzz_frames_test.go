package p2p

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

// spoken is a frame as the peer says it, and what is right and wrong with it.
type spoken struct {
	wire.Frame
	row     *wire.Row // nil: an unknown type
	raw     []byte
	message wire.Message // nil: the body is no message
	signed  bool         // as it has to be
	whole   bool         // the header is right
	cut     bool         // the header says that more follows
}

func (f *spoken) String() string {
	return fmt.Sprintf("%s %x (signed %t, whole %t, cut %t)", f.Type, f.raw[:16], f.signed, f.whole, f.cut)
}

func (f *spoken) key() string { return string(f.Type) + string(f.Author[:]) + string(f.Body) }

// frame makes the frame of a step. If a handler may see it, it notes so.
func (s *script) frame(b []byte) *spoken {
	f := &spoken{whole: true}
	f.Type = fuzzTypes[int(b[1])%len(fuzzTypes)]
	f.row, f.Request, f.Body = wire.RowOf(f.Type), uint64(b[5]%4), body(f.Type, b[3], b[5])
	limit := 64 << 10
	if f.row != nil {
		limit = f.row.Max
	}
	if f.row == nil || f.row.Signature != wire.ByNobody {
		f.Flags |= wire.Signed
	}
	for bit, flag := range []wire.Flags{wire.More, wire.Reply, wire.Critical} {
		if b[2]&(1<<bit) != 0 {
			f.Flags |= flag
		}
	}
	wrong := b[2] >> 4
	switch wrong {
	case 1:
		f.Flags ^= wire.Signed
		f.whole = f.row == nil
	case 2:
		f.Flags |= 1 << 3
		f.whole = false
	case 3:
		f.Flags |= 1 << 9
		f.whole = false
	}
	f.whole = f.whole && len(f.Body) <= limit
	f.signed = f.Flags&wire.Signed == 0 || s.sign(f, b[4])
	f.raw = f.Append(nil)
	switch wrong {
	case 4:
		f.raw[0]++
		f.whole = false
	case 5:
		binary.BigEndian.PutUint32(f.raw[4:], uint32(limit+1))
		f.whole = false
	case 6:
		binary.BigEndian.PutUint32(f.raw[4:], uint32(limit))
		f.cut = f.whole && len(f.Body) < limit
	}
	if f.row == nil || !f.whole {
		return f
	}
	if m, err := f.Decode(); err == nil {
		f.message = m
	}
	if f.message != nil && f.signed && s.ranked(f.row) {
		s.mu.Lock()
		s.may[f.key()]++
		s.mu.Unlock()
	}
	return f
}

func body(t wire.Type, how, change byte) []byte {
	b := []byte{0xa0}
	if golden := fuzzBodies[t]; len(golden) > 0 {
		b = bytes.Clone(golden[int(how>>3)%len(golden)])
	}
	at := int(change) * len(b) / 256
	switch how & 7 {
	case 4:
		b[at] ^= change | 1
	case 5:
		b = b[:at]
	case 6:
		b = append(b, change)
	case 7:
		b = bytes.Repeat([]byte{change}, int(how>>3)*40)
	}
	return b
}

// sign signs a frame as b says; most say that the peer does. It says whether the signature is as it has to be.
func (s *script) sign(f *spoken, b byte) bool {
	scope, key := s.scope, fuzzKeys[1]
	switch b % 8 {
	case 3:
		key = fuzzKeys[2]
	case 4:
		scope.Session[0]++
	case 5:
		scope.Network[0]++
	}
	f.Author = centram.PeerID(key.Public().(ed25519.PublicKey))
	if f.row == nil {
		return false
	}
	copy(f.Signature[:], ed25519.Sign(key, signedBytes(&f.Frame, f.row, scope)))
	switch b % 8 {
	case 3, 4:
		return f.row.Signature == wire.ByAuthor // who may be anybody, and says it in any session
	case 5:
		return false
	case 6:
		f.Author = fuzzIDs[2]
		return false
	case 7:
		f.Signature[b>>3] ^= 1
		return false
	}
	return true
}

// signedBytes are what package wire says that a signature is over.
func signedBytes(f *wire.Frame, row *wire.Row, scope wire.Scope) []byte {
	name := wire.ALPN + "/" + row.Name
	b := append([]byte{byte(len(name))}, name...)
	b = append(b, scope.Network[:]...)
	if row.Signature == wire.ByPeer {
		b = append(b, scope.Session[:]...)
		b = append(b, f.Append(nil)[:16]...)
	}
	return append(b, f.Body...)
}

// ranked says whether the peer may say a type at all.
func (s *script) ranked(row *wire.Row) bool {
	switch row.Rank {
	case wire.Owner:
		return s.trust() == wire.Own
	case wire.Paired:
		return s.trust() != wire.Stranger || s.setting&setOpen != 0
	}
	return true
}
