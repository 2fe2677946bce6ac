package wire

import (
	"encoding/binary"

	"github.com/centram/centram"
)

const (
	// ChunkSize is the size of all chunks of a blob but the last, in bytes.
	ChunkSize = 1 * mib

	// MaxChunks bounds a blob at 31 GiB, so that its manifest fits a frame.
	MaxChunks = 31 << 10

	// Window is how many chunks may be asked for at once.
	Window = 16
)

// ManifestGet asks for the chunk list of a blob.
type ManifestGet struct {
	Blob Hash `cbor:"1,keyasint"` // SHA-256 of the whole
}

func (m *ManifestGet) Validate() error { return nil }

// Manifest lists the digests of a blob's chunks. That of a chunk is the state of SHA-256 (FIPS 180-4: eight words, H0 first)
// when it has taken in everything up to the chunk's end; that of the last chunk is the blob's hash. So a chunk is checked by
// going on from the digest before it, in any order, and when all chunks are right the blob's hash is: nothing is hashed
// twice.
type Manifest struct {
	Blob   Hash   `cbor:"1,keyasint"`
	Size   uint64 `cbor:"2,keyasint"` // bytes of the whole
	Chunks []byte `cbor:"3,keyasint"` // digests of the chunks, 32 bytes each
}

func (m *Manifest) Validate() error {
	var c check
	c.that(m.Size <= MaxChunks*ChunkSize, "size: %d", m.Size)
	c.that(uint64(len(m.Chunks)) == 32*m.Count(), "chunks: %d bytes of digests for %d bytes", len(m.Chunks), m.Size)
	if n := len(m.Chunks); n > 0 && c.err == nil {
		c.that(Hash(m.Chunks[n-32:]) == m.Blob, "chunks: the last is not the blob's hash")
	}
	return c.err
}

// Count is the number of chunks.
func (m *Manifest) Count() uint64 {
	return m.Size/ChunkSize + min(m.Size%ChunkSize, 1)
}

// HaveMap says which chunks of a blob the sender can give.
type HaveMap struct {
	Blob     Hash   `cbor:"1,keyasint"`
	Complete bool   `cbor:"2,keyasint"`
	Bits     []byte `cbor:"3,keyasint,omitempty"` // chunk i is bit i%8 of byte i/8; absent if complete
}

func (m *HaveMap) Validate() error {
	var c check
	c.most("bits", len(m.Bits), MaxChunks/8)
	c.that(!m.Complete || len(m.Bits) == 0, "bits of a complete blob")
	return c.err
}

// ChunkRange is Count chunks from First on.
type ChunkRange struct {
	First uint32 `cbor:"1,keyasint"`
	Count uint32 `cbor:"2,keyasint"`
}

// ChunkGet asks for chunks. Each comes as a ChunkData or a ChunkReject, in the order asked for.
type ChunkGet struct {
	Blob   Hash         `cbor:"1,keyasint"`
	Ranges []ChunkRange `cbor:"2,keyasint"`
	Quote  Hash         `cbor:"3,keyasint,omitzero"` // that pays for it
}

func (m *ChunkGet) Validate() error {
	var c check
	c.some("ranges", len(m.Ranges), Window)
	n := uint64(0)
	for _, r := range m.Ranges {
		n += uint64(r.Count)
		c.that(r.Count > 0 && uint64(r.First)+uint64(r.Count) <= MaxChunks, "range: %d chunks from %d", r.Count, r.First)
	}
	c.that(n <= Window, "chunks: %d at once, at most %d", n, Window)
	return c.err
}

// ChunkData is one chunk: its index in four bytes, big-endian, and its bytes.
type ChunkData struct {
	Index uint32
	Data  []byte
}

func (m *ChunkData) Validate() error {
	var c check
	c.some("data", len(m.Data), ChunkSize)
	c.that(m.Index < MaxChunks, "index: %d", m.Index)
	return c.err
}

func (m *ChunkData) AppendBinary(b []byte) ([]byte, error) {
	return append(binary.BigEndian.AppendUint32(b, m.Index), m.Data...), nil
}

func (m *ChunkData) UnmarshalBinary(b []byte) error {
	if len(b) < 4 {
		return malformed("%d bytes, at least 4", len(b))
	}
	m.Index, m.Data = binary.BigEndian.Uint32(b), b[4:]
	return nil
}

// RejectCode says why a chunk does not come.
type RejectCode uint8

const (
	RejectBusy RejectCode = iota
	RejectMissing
	RejectUnpaid
	RejectChoked // over the receiver's rate
)

var rejectNames = []string{"busy", "missing", "unpaid", "choked"}

func (r RejectCode) String() string { return nameOf(rejectNames, r) }

// ChunkReject says that a chunk will not come now, so that the asker turns elsewhere at once.
type ChunkReject struct {
	Index   uint32     `cbor:"1,keyasint"`
	Code    RejectCode `cbor:"2,keyasint"`
	RetryMs uint32     `cbor:"3,keyasint,omitempty"`
}

func (m *ChunkReject) Validate() error {
	var c check
	c.that(m.Index < MaxChunks, "index: %d", m.Index)
	among(&c, "code", m.Code, rejectNames)
	return c.err
}

// TransferOffer offers a blob. STATUS OK accepts it: the receiver then fetches it.
type TransferOffer struct {
	Blob     Hash   `cbor:"1,keyasint"`
	Manifest Hash   `cbor:"2,keyasint"` // SHA-256 of the MANIFEST body
	Size     uint64 `cbor:"3,keyasint"`
	Name     string `cbor:"4,keyasint,omitempty"`
	Kind     string `cbor:"5,keyasint"` // what it is, such as "genome" or "model"
	Price    uint64 `cbor:"6,keyasint,omitempty"`
	Quote    Hash   `cbor:"7,keyasint,omitzero"`
	Expires  int64  `cbor:"8,keyasint"` // Unix milliseconds
}

func (m *TransferOffer) Validate() error {
	var c check
	c.that(m.Size <= MaxChunks*ChunkSize, "size: %d", m.Size)
	c.text("name", m.Name, 256)
	c.word("kind", m.Kind, 32)
	c.that(m.Expires > 0, "expires: %d", m.Expires)
	return c.err
}

// TransferDone is the receiver's signed receipt: evidence for what was used.
type TransferDone struct {
	Blob   Hash           `cbor:"1,keyasint"`
	Sender centram.PeerID `cbor:"2,keyasint"`
	Bytes  uint64         `cbor:"3,keyasint"` // that came from this sender and were right
	Bad    []uint32       `cbor:"4,keyasint"` // chunks that were wrong
	TimeMs int64          `cbor:"5,keyasint"`
	Whole  bool           `cbor:"6,keyasint"` // the blob is complete, and its hash is right
}

func (m *TransferDone) Validate() error {
	var c check
	c.most("bad", len(m.Bad), 256)
	return c.err
}
