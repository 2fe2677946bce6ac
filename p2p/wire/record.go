package wire

import (
	"crypto/sha256"

	"github.com/centram/centram"
)

// Record is a signed record as it is stored and passed on: type, author, signature, body, in this order.
type Record []byte

const recordHead = 1 + trailerSize

// RecordOf returns the record that a frame of a record's type carries.
func RecordOf(f *Frame) Record {
	r := make(Record, 0, recordHead+len(f.Body))
	r = append(r, byte(f.Type))
	r = append(r, f.Author[:]...)
	r = append(r, f.Signature[:]...)
	return append(r, f.Body...)
}

// Frame returns the frame that carries the record. It fails with a *Status if the bytes are no record of a known type.
// The signature is not checked.
func (r Record) Frame() (*Frame, error) {
	if len(r) < recordHead {
		return nil, malformed("a record has at least %d bytes, this has %d", recordHead, len(r))
	}
	row := RowOf(Type(r[0]))
	switch {
	case row == nil:
		return nil, &Status{Code: Unsupported, Detail: Type(r[0]).Name()}
	case row.Signature != ByAuthor:
		return nil, malformed("%s is not a record", row.Name)
	case len(r)-recordHead > row.Max:
		return nil, &Status{Code: TooLarge, Detail: row.Name}
	}
	f := &Frame{Type: row.Type, Flags: Signed, Body: r[recordHead:]}
	copy(f.Author[:], r[1:])
	copy(f.Signature[:], r[1+len(f.Author):])
	return f, nil
}

// Open checks the record's signature and reads it. It fails with a *Status.
func (r Record) Open(network Hash) (Message, centram.PeerID, error) {
	f, err := r.Frame()
	if err != nil {
		return nil, centram.PeerID{}, err
	}
	if err := f.Verify(Scope{Network: network}); err != nil {
		return nil, centram.PeerID{}, err
	}
	m, err := f.Decode()
	return m, f.Author, err
}

// ID names a record by what it says and where: the hash of the bytes that are signed, without the signature, since an
// author can sign the same body twice. It fails with a *Status if the bytes are no record of a known type.
func (r Record) ID(network Hash) (Hash, error) {
	f, err := r.Frame()
	if err != nil {
		return Hash{}, err
	}
	return sha256.Sum256(append(f.signed(RowOf(f.Type), Scope{Network: network}), f.Author[:]...)), nil
}

func (r Record) valid(types ...Type) bool {
	f, err := r.Frame()
	if err != nil {
		return false
	}
	for _, t := range types {
		if f.Type == t {
			return true
		}
	}
	return len(types) == 0
}
