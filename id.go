package centram

import (
	"crypto/ed25519"
	"encoding/base32"
	"strings"
)

// PeerID names a node: it is the node's Ed25519 public key, so whoever holds the private half can prove to be it.
type PeerID [ed25519.PublicKeySize]byte

const (
	idAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" // RFC 4648 base32
	idPart     = 13                                 // characters that one check character covers
	idParts    = 4
	idGroup    = 7 // characters between two dashes
)

var idEncoding = base32.NewEncoding(idAlphabet).WithPadding(base32.NoPadding)

// String is the id as people pass it on: base32 with a check character after every 13, in eight groups of seven. One
// wrong character, or two neighbours changed over, is found out by ParsePeerID.
func (id PeerID) String() string {
	code := idEncoding.EncodeToString(id[:])
	var b strings.Builder
	for part := range idParts {
		text := code[part*idPart:][:idPart]
		for i, c := range text + string(checkCharacter(text)) {
			if at := part*(idPart+1) + i; at > 0 && at%idGroup == 0 {
				b.WriteByte('-')
			}
			b.WriteRune(c)
		}
	}
	return b.String()
}

// Short is the first group of String: enough to tell the peers in a list apart, and no proof of anything.
func (id PeerID) Short() string { return id.String()[:idGroup] }

// ParsePeerID reads what String wrote. Case, dashes and spaces do not matter, and the digits that base32 does not have
// stand for the letters they look like. It fails with Invalid.
func ParsePeerID(s string) (PeerID, error) {
	var id PeerID
	code := strings.Map(func(r rune) rune {
		switch {
		case r == '-' || r == ' ' || r == '\n' || r == '\r' || r == '\t':
			return -1
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case r == '0':
			return 'O'
		case r == '1':
			return 'I'
		case r == '8':
			return 'B'
		}
		return r
	}, s)
	if want := idParts * (idPart + 1); len(code) != want {
		return id, Errorf(Invalid, "a node's id has %d letters and digits, but this has %d", want, len(code)).WithHint("Copy the whole id.")
	}
	for i := range len(code) {
		if strings.IndexByte(idAlphabet, code[i]) < 0 {
			return id, Errorf(Invalid, "a node's id has letters and the digits 2 to 7 only, but character %d is another", i+1).WithHint("Copy the id again.")
		}
	}
	var raw strings.Builder
	for part := range idParts {
		text := code[part*(idPart+1):][:idPart+1]
		if checkCharacter(text[:idPart]) != text[idPart] {
			return id, Errorf(Invalid, "there is a typing error in group %d or %d of the node's id", 2*part+1, 2*part+2).WithHint("Compare these two groups of seven with the original.")
		}
		raw.WriteString(text[:idPart])
	}
	b, err := idEncoding.DecodeString(raw.String())
	if err != nil {
		return id, Errorf(Invalid, "this is not a node's id: %w", err)
	}
	copy(id[:], b)
	if idEncoding.EncodeToString(b) != raw.String() { // base32 of 32 bytes leaves four bits that have to be zero
		return PeerID{}, Errorf(Invalid, "this is not a node's id: its last characters cannot occur").WithHint("Copy the id again.")
	}
	return id, nil
}

// checkCharacter is Luhn's check (ISO/IEC 7812-1) carried over from ten digits to the alphabet of 32: from the right,
// every second value is doubled and the two base-32 digits of the double are added.
func checkCharacter(text string) byte {
	const n = len(idAlphabet)
	sum, double := 0, true
	for i := len(text) - 1; i >= 0; i-- {
		v := strings.IndexByte(idAlphabet, text[i])
		if double {
			v = 2*v/n + 2*v%n
		}
		sum += v
		double = !double
	}
	return idAlphabet[(n-sum%n)%n]
}
