package blob

import (
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

// BadChunk says that some bytes are not those of a chunk. Whoever sent them is to blame.
type BadChunk struct {
	Blob  wire.Hash
	Index uint32
}

func (e *BadChunk) Error() string {
	return fmt.Sprintf("wrong bytes for chunk %d of the blob %s", e.Index, short(e.Blob))
}

// chunkLen is the number of bytes of a chunk, zero if there is no such chunk.
func chunkLen(m *wire.Manifest, index uint32) int {
	at := uint64(index) * wire.ChunkSize
	if at >= m.Size {
		return 0
	}
	return int(min(m.Size-at, wire.ChunkSize))
}

// checkChunk compares data with the manifest. It fails with *BadChunk.
func checkChunk(m *wire.Manifest, index uint32, data []byte) error {
	n := chunkLen(m, index)
	if n == 0 || len(data) != n || chunkDigest(m, index, data) != [digestSize]byte(m.Chunks[digestSize*index:]) {
		return &BadChunk{m.Blob, index}
	}
	return nil
}

// chunkDigest is what the manifest has to say of a chunk with these bytes, if it is right about the chunk before.
func chunkDigest(m *wire.Manifest, index uint32, data []byte) [digestSize]byte {
	h := sha256.New()
	if index > 0 {
		goOn(h, m.Chunks[digestSize*(index-1):][:digestSize], uint64(index)*wire.ChunkSize)
	}
	h.Write(data)
	if uint64(index) == m.Count()-1 {
		return [digestSize]byte(h.Sum(nil))
	}
	return wordsOf(h)
}

// A sha256 hash writes down its state as four bytes, the eight words, the bytes of a block that is not full, and the length.
const (
	stateMagic  = "sha\x03"
	stateLength = len(stateMagic) + digestSize + sha256.BlockSize + 8
)

// goOn makes h go on from a state after length bytes, which are whole blocks.
func goOn(h hash.Hash, words []byte, length uint64) {
	b := make([]byte, 0, stateLength)
	b = append(append(b, stateMagic...), words...)
	b = append(b, make([]byte, sha256.BlockSize)...)
	b = binary.BigEndian.AppendUint64(b, length)
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(b); err != nil {
		panic(err) // a Go with another crypto/sha256; a test would have noticed
	}
}

// wordsOf returns the words of h, which has taken in whole blocks.
func wordsOf(h hash.Hash) [digestSize]byte {
	b, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil || len(b) != stateLength || string(b[:len(stateMagic)]) != stateMagic {
		panic(fmt.Sprintf("the state of SHA-256 is %x, %v", b, err)) // as above
	}
	return [digestSize]byte(b[len(stateMagic):])
}

// readChunk reads and checks a chunk. It fails with *BadChunk also if the file is too short.
func readChunk(r io.ReaderAt, m *wire.Manifest, index uint32, buf []byte) ([]byte, error) {
	data := buf[:chunkLen(m, index)]
	n, err := r.ReadAt(data, int64(index)*wire.ChunkSize)
	if n < len(data) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return data, checkChunk(m, index, data[:n])
}

// digest reads size bytes, and not one more, copies them to w and returns their manifest. It fails with
// centram.Invalid if r has fewer or more.
func digest(ctx context.Context, r io.Reader, w io.Writer, size int64) (*wire.Manifest, error) {
	d := newDigester(size)
	buf := make([]byte, wire.ChunkSize)
	for i := range uint32(d.manifest.Count()) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		data := buf[:chunkLen(d.manifest, i)]
		if n, err := io.ReadFull(r, data); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, centram.Errorf(centram.Invalid, "there are %d bytes, %d were expected", int64(i)*wire.ChunkSize+int64(n), size)
		} else if err != nil {
			return nil, err
		}
		d.take(data)
		if _, err := w.Write(data); err != nil {
			return nil, explain(err)
		}
	}
	if n, _ := io.ReadFull(r, buf[:1]); n > 0 {
		return nil, centram.Errorf(centram.Invalid, "there are more than the %d bytes that were expected", size)
	}
	return d.end(), nil
}

// digester makes the manifest of bytes that come in pieces of any size.
type digester struct {
	manifest *wire.Manifest // has no Blob before the end
	hash     hash.Hash
	done     uint64
}

func newDigester(size int64) *digester {
	return &digester{manifest: &wire.Manifest{Size: uint64(size)}, hash: sha256.New()}
}

// take goes on with b. All b together have as many bytes as the manifest says.
func (d *digester) take(b []byte) {
	for len(b) > 0 {
		n := min(uint64(len(b)), wire.ChunkSize-d.done%wire.ChunkSize)
		d.hash.Write(b[:n])
		d.done, b = d.done+n, b[n:]
		if d.done%wire.ChunkSize == 0 && d.done < d.manifest.Size {
			state := wordsOf(d.hash)
			d.manifest.Chunks = append(d.manifest.Chunks, state[:]...)
		}
	}
}

func (d *digester) end() *wire.Manifest {
	m := d.manifest
	m.Blob = wire.Hash(d.hash.Sum(nil))
	if m.Size > 0 {
		m.Chunks = append(m.Chunks, m.Blob[:]...)
	}
	return m
}
