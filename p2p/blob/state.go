package blob

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/bits"

	"github.com/centram/centram/p2p/wire"
)

// A manifest file is, in big-endian order:
//
//	 0  magic    8   "CTRBLOB1"
//	 8  size     u64 bytes of the blob
//	16  blob     32  SHA-256 of the whole
//	48  chunks   32 for each chunk
//	    check    32  SHA-256 of all before
//
// A state file goes on with two sets of chunks:
//
//	written      a bit for each chunk, which is in the .part file as far as the kernel goes
//	synced       a bit for each chunk, which is on the disk
//
// The sets are changed in place. Bits are only ever set, but for a state that is written anew, so that of a write which
// a power cut tears any part is as good as none. A bit of written is set when the chunk was written, one of synced when
// the chunk was forced to the disk; a chunk with the first bit alone has to be hashed before it counts.
const (
	magic      = "CTRBLOB1"
	headSize   = 48
	digestSize = sha256.Size
)

var errState = errors.New("not a state of a blob, or a damaged one")

// appendManifest appends a manifest file to b.
func appendManifest(b []byte, m *wire.Manifest) []byte {
	at := len(b)
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint64(b, m.Size)
	b = append(b, m.Blob[:]...)
	b = append(b, m.Chunks...)
	check := sha256.Sum256(b[at:])
	return append(b, check[:]...)
}

// parseManifest reads what appendManifest wrote, and returns what follows it.
func parseManifest(b []byte) (m *wire.Manifest, rest []byte, err error) {
	if len(b) < headSize || string(b[:len(magic)]) != magic {
		return nil, nil, errState
	}
	m = &wire.Manifest{Size: binary.BigEndian.Uint64(b[len(magic):]), Blob: wire.Hash(b[16:headSize])}
	if m.Size > wire.MaxChunks*wire.ChunkSize {
		return nil, nil, errState
	}
	end := headSize + digestSize*int(m.Count())
	if len(b) < end+digestSize {
		return nil, nil, errState
	}
	m.Chunks, rest = bytes.Clone(b[headSize:end]), b[end+digestSize:]
	if sha256.Sum256(b[:end]) != [digestSize]byte(b[end:]) || m.Validate() != nil {
		return nil, nil, errState
	}
	return m, rest, nil
}

// state is what a state file says.
type state struct {
	manifest        *wire.Manifest
	written, synced set
}

func (s *state) encode() []byte {
	b := appendManifest(nil, s.manifest)
	b = append(b, s.written...)
	return append(b, s.synced...)
}

// setsAt is where written begins.
func (s *state) setsAt() int64 { return int64(headSize + len(s.manifest.Chunks) + digestSize) }

// parseState reads what encode wrote, and nothing else: neither a part of it nor more.
func parseState(b []byte) (*state, error) {
	m, rest, err := parseManifest(b)
	if err != nil {
		return nil, err
	}
	n := int(m.Count())
	half := len(newSet(n))
	if len(rest) != 2*half {
		return nil, errState
	}
	s := &state{m, set(bytes.Clone(rest[:half])), set(bytes.Clone(rest[half:]))}
	if s.written.strays(n) || s.synced.strays(n) {
		return nil, errState
	}
	return s, nil
}

// set is a set of chunks: chunk i is bit i%8 of byte i/8, as in wire.HaveMap.
type set []byte

func newSet(n int) set { return make(set, (n+7)/8) }

func fullSet(n int) set {
	s := newSet(n)
	for i := range n {
		s.add(uint32(i))
	}
	return s
}

func (s set) has(i uint32) bool { return int(i/8) < len(s) && s[i/8]>>(i%8)&1 == 1 }
func (s set) add(i uint32)      { s[i/8] |= 1 << (i % 8) }
func (s set) del(i uint32)      { s[i/8] &^= 1 << (i % 8) }

func (s set) count() int {
	n := 0
	for _, b := range s {
		n += bits.OnesCount8(b)
	}
	return n
}

// strays reports whether there is anything in the set that is not below n.
func (s set) strays(n int) bool {
	return n%8 != 0 && s[len(s)-1]>>(n%8) != 0
}
