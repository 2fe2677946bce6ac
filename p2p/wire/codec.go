package wire

import (
	"bytes"
	"encoding"
	"encoding/binary"
	"fmt"

	"github.com/centram/centram"
	"github.com/fxamacker/cbor/v2"
)

// raw is a message whose body is laid out by hand because it is sent thousands of times or is megabytes long. The decoded
// message may keep parts of the bytes it was decoded from.
type raw interface {
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}

var (
	encMode = must(encOptions().EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		UTF8:              cbor.UTF8RejectInvalid,
		MaxNestedLevels:   8,
		MaxArrayElements:  4096,
		MaxMapPairs:       64,
	}.DecMode())
)

// Encode checks m and returns its body. It fails with centram.Invalid if m is not valid and with centram.TooLarge if the
// body is over the limit of m's type.
func Encode(m Message) ([]byte, error) {
	row := RowFor(m)
	if err := m.Validate(); err != nil {
		return nil, centram.Errorf(centram.Invalid, "%s: %w", row.Name, err)
	}
	var body []byte
	var err error
	if r, ok := m.(raw); ok {
		body, err = r.AppendBinary(nil)
	} else {
		body, err = encMode.Marshal(m)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", row.Name, err)
	}
	if len(body) > row.Max {
		return nil, centram.Errorf(centram.TooLarge, "%s: %d bytes, at most %d are allowed", row.Name, len(body), row.Max)
	}
	return body, nil
}

// Decode reads the body. It fails with a *Status: Unsupported for a type that is not in the table, Malformed for anything
// that Encode would not have written, to the bit.
func (f *Frame) Decode() (Message, error) {
	row := RowOf(f.Type)
	if row == nil {
		return nil, &Status{Code: Unsupported, Detail: f.Type.Name()}
	}
	m := row.New()
	var again []byte
	var err error
	if r, ok := m.(raw); ok {
		err = r.UnmarshalBinary(f.Body)
		again = f.Body // laid out by hand: there is one way to write it
	} else if err = decMode.Unmarshal(f.Body, m); err == nil {
		again, err = encMode.Marshal(m)
	}
	if err == nil {
		err = m.Validate()
	}
	switch {
	case err != nil:
		return nil, malformed("%s: %v", row.Name, err)
	case !bytes.Equal(again, f.Body):
		return nil, malformed("%s: not in the deterministic encoding", row.Name)
	}
	return m, nil
}

func encOptions() cbor.EncOptions {
	o := cbor.CoreDetEncOptions()
	o.NilContainers = cbor.NilContainerAsEmpty // an empty list has one encoding
	return o
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// AppendBulk appends to b the whole frame of a message that has no signature, so that a megabyte is copied once. It fails
// like Encode.
func AppendBulk(b []byte, m Message, flags Flags, request uint64) ([]byte, error) {
	row := RowFor(m)
	if row.Signature != ByNobody {
		panic("wire: " + row.Name + " has to be signed")
	}
	if err := m.Validate(); err != nil {
		return b, centram.Errorf(centram.Invalid, "%s: %w", row.Name, err)
	}
	start := len(b)
	f := Frame{Type: row.Type, Flags: flags, Request: request}
	b, err := m.(raw).AppendBinary(f.appendHeader(b))
	if err != nil {
		return b[:start], fmt.Errorf("encode %s: %w", row.Name, err)
	}
	size := len(b) - start - headerSize
	if size > row.Max {
		return b[:start], centram.Errorf(centram.TooLarge, "%s: %d bytes, at most %d are allowed", row.Name, size, row.Max)
	}
	binary.BigEndian.PutUint32(b[start+4:], uint32(size))
	return b, nil
}
