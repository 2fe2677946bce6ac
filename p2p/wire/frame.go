package wire

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/centram/centram"
)

// Flags are the bits of a frame's header.
type Flags uint16

const (
	Signed   Flags = 1 << 0 // key and signature follow the body
	More     Flags = 1 << 1 // a reply that another one follows
	Reply    Flags = 1 << 2
	Critical Flags = 1 << 4 // a receiver that does not know the type must say so; without it, it skips the frame

	// Bit 3 was kept for compression. It stays zero: a body that grows when it is opened is a bomb, and what is big here
	// (weights, activations) does not compress.
	knownFlags = Signed | More | Reply | Critical

	headerSize  = 16
	trailerSize = 32 + 64
	maxUnknown  = 64 * kib // body of a type that is not in the table
	firstRead   = 64 * kib
)

// Frame is one message as it travels. Body is not to be changed once the frame is signed.
type Frame struct {
	Type      Type
	Flags     Flags
	Request   uint64
	Body      []byte
	Author    centram.PeerID // zero unless signed
	Signature [64]byte
}

// Append appends the bytes of the frame to b.
func (f *Frame) Append(b []byte) []byte {
	b = f.appendHeader(b)
	b = append(b, f.Body...)
	if f.Flags&Signed != 0 {
		b = append(b, f.Author[:]...)
		b = append(b, f.Signature[:]...)
	}
	return b
}

// Size is the number of bytes that Append appends.
func (f *Frame) Size() int {
	if f.Flags&Signed != 0 {
		return headerSize + len(f.Body) + trailerSize
	}
	return headerSize + len(f.Body)
}

func (f *Frame) appendHeader(b []byte) []byte {
	b = append(b, Version, byte(f.Type))
	b = binary.BigEndian.AppendUint16(b, uint16(f.Flags))
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.Body)))
	return binary.BigEndian.AppendUint64(b, f.Request)
}

// Read reads one frame. Its length is held against the type's row before any memory is taken for it. A frame of an
// unknown type is read whole, so that the caller can skip it. Read fails with io.EOF between two frames, and with a
// *Status if the bytes are no frame: then nothing after them can be read either.
func Read(r io.Reader) (*Frame, error) {
	return ReadIf(r, func(*Row) error { return nil })
}

// ReadIf is Read, but it asks may first, if the type is known. An error of may ends it before the body is read: it returns
// that error, and the frame without body and signature.
func ReadIf(r io.Reader, may func(*Row) error) (*Frame, error) { return ReadInto(r, may, nil) }

// ReadInto is ReadIf, but the frame's body lies in buf if there is room, so that a megabyte need not be made each time. It
// is good until buf is used again.
func ReadInto(r io.Reader, may func(*Row) error, buf []byte) (*Frame, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	f, size, err := parseHeader(header)
	if err != nil {
		return nil, err
	}
	if row := RowOf(f.Type); row != nil {
		if err := may(row); err != nil {
			return f, err
		}
	}
	rest, err := readRest(r, size, buf)
	if err != nil {
		return nil, err
	}
	f.take(rest)
	return f, nil
}

// readRest reads size bytes, into buf if there is room. It takes memory as they come: a header alone says 16 MiB in sixteen
// bytes.
func readRest(r io.Reader, size int, buf []byte) ([]byte, error) {
	if cap(buf) >= size {
		_, err := io.ReadFull(r, buf[:size])
		return buf[:size], unexpected(err)
	}
	var b []byte
	for len(b) < size {
		n := min(size, max(firstRead, 2*len(b)))
		b = append(make([]byte, 0, n), b...)
		if _, err := io.ReadFull(r, b[len(b):n]); err != nil {
			return nil, unexpected(err)
		}
		b = b[:n]
	}
	return b, nil
}

// Parse reads the one frame that b is, such as a datagram. The frame's body is a part of b. Parse fails with a *Status.
func Parse(b []byte) (*Frame, error) {
	if len(b) < headerSize {
		return nil, malformed("a frame has at least %d bytes, this has %d", headerSize, len(b))
	}
	f, size, err := parseHeader([headerSize]byte(b))
	if err != nil {
		return nil, err
	}
	if len(b)-headerSize != size {
		return nil, malformed("%s: %d bytes follow the header, it says %d", f.Type, len(b)-headerSize, size)
	}
	f.take(b[headerSize:])
	return f, nil
}

// parseHeader returns the frame without its body, and how many bytes of it are still to come.
func parseHeader(h [headerSize]byte) (*Frame, int, error) {
	f := &Frame{
		Type:    Type(h[1]),
		Flags:   Flags(binary.BigEndian.Uint16(h[2:])),
		Request: binary.BigEndian.Uint64(h[8:]),
	}
	length := binary.BigEndian.Uint32(h[4:])
	limit := maxUnknown
	if row := RowOf(f.Type); row != nil {
		limit = row.Max
		if signed := f.Flags&Signed != 0; signed != (row.Signature != ByNobody) {
			return nil, 0, malformed("%s: signed is %t", f.Type, signed)
		}
	}
	switch {
	case h[0] != Version:
		return nil, 0, malformed("version %d, this is %d", h[0], Version)
	case f.Flags&^knownFlags != 0:
		return nil, 0, malformed("%s: unknown flags %#x", f.Type, f.Flags&^knownFlags)
	case uint64(length) > uint64(limit):
		return nil, 0, &Status{Code: TooLarge, Detail: fmt.Sprintf("%s: %d bytes, at most %d are allowed", f.Type, length, limit)}
	}
	size := int(length)
	if f.Flags&Signed != 0 {
		size += trailerSize
	}
	return f, size, nil
}

// take cuts the bytes after the header into body, author and signature.
func (f *Frame) take(rest []byte) {
	if f.Flags&Signed != 0 {
		trailer := rest[len(rest)-trailerSize:]
		rest = rest[: len(rest)-trailerSize : len(rest)-trailerSize]
		copy(f.Author[:], trailer)
		copy(f.Signature[:], trailer[len(f.Author):])
	}
	f.Body = rest
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
