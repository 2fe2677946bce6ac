package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

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
	if n == 0 || len(data) != n || sha256.Sum256(data) != [digestSize]byte(m.Chunks[digestSize*index:]) {
		return &BadChunk{m.Blob, index}
	}
	return nil
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
	m := &wire.Manifest{Size: uint64(size)}
	all := sha256.New()
	buf := make([]byte, wire.ChunkSize)
	for i := range uint32(m.Count()) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		data := buf[:chunkLen(m, i)]
		if n, err := io.ReadFull(r, data); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, centram.Errorf(centram.Invalid, "there are %d bytes, %d were expected", int64(i)*wire.ChunkSize+int64(n), size)
		} else if err != nil {
			return nil, err
		}
		var rest sync.WaitGroup
		rest.Go(func() { all.Write(data) }) // hashing is what takes the time, and there are two hashes to make
		sum := sha256.Sum256(data)
		_, err := w.Write(data)
		rest.Wait()
		if err != nil {
			return nil, explain(err)
		}
		m.Chunks = append(m.Chunks, sum[:]...)
	}
	if n, _ := io.ReadFull(r, buf[:1]); n > 0 {
		return nil, centram.Errorf(centram.Invalid, "there are more than the %d bytes that were expected", size)
	}
	m.Blob = wire.Hash(all.Sum(nil))
	return m, nil
}
