package blob

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

// ReadChunk returns a chunk of a blob, which may be incomplete. It fails with centram.NotFound if the chunk is not here.
//
// If it turns out that the disk has damaged a complete blob, the blob becomes a partial one and the error is
// centram.Unavailable: to fetch it again brings the damaged chunks alone. A link is forgotten instead.
//
// The bytes lie in buf if there is room.
func (s *Store) ReadChunk(blob wire.Hash, index uint32, buf []byte) ([]byte, error) {
	var err error
	for range 2 { // the file may get its final name in between
		var at place
		if at, err = s.locate(blob, index); err != nil {
			return nil, err
		}
		var data []byte
		if data, err = s.readAt(at, index, buf); err == nil {
			return data, nil
		}
		if _, bad := errors.AsType[*BadChunk](err); bad {
			return nil, s.damaged(blob, index, at)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return nil, fmt.Errorf("read chunk %d of the blob %s: %w", index, short(blob), err)
}

// place is where the chunks of a blob can be read.
type place struct {
	path     string
	manifest *wire.Manifest
	whole    *whole // nil for a partial blob
}

func (s *Store) locate(blob wire.Hash, index uint32) (place, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.find(blob); w != nil && uint64(index) < w.manifest.Count() {
		s.touch(blob, w)
		return place{s.file(blob, w), w.manifest, w}, nil
	}
	if p := s.parts[blob]; p != nil && p.has(index) {
		p.used = s.Now()
		return place{s.path(blob, partExt), p.manifest, nil}, nil
	}
	return place{}, centram.Errorf(centram.NotFound, "chunk %d of the blob %s is not here", index, short(blob))
}

// readAt reads a chunk. Each is held against its hash once in the life of the Store, and again when the file has changed:
// what the receiver finds wrong counts against this node, and hashing every time would cost a fifth of the speed.
func (s *Store) readAt(at place, index uint32, buf []byte) ([]byte, error) {
	f, err := os.Open(at.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	n := chunkLen(at.manifest, index)
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	data := buf[:n]
	if s.sound(at.whole, info, index) {
		n, err := f.ReadAt(data, int64(index)*wire.ChunkSize)
		if n == len(data) {
			return data, nil
		}
		return nil, err
	}
	if data, err = readChunk(f, at.manifest, index, data); err == nil {
		s.found(at.whole, info, index)
	}
	return data, err
}

// sound says whether a chunk of a complete blob was right when it was last looked at, and the file is still the same.
func (s *Store) sound(w *whole, info os.FileInfo, index uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return w != nil && w.checked.has(index) && w.checkedAt.Equal(info.ModTime())
}

// found notes that a chunk is right.
func (s *Store) found(w *whole, info os.FileInfo, index uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w == nil || s.Now().Sub(info.ModTime()) < settled {
		return
	}
	if !w.checkedAt.Equal(info.ModTime()) || w.checked == nil {
		w.checked, w.checkedAt = newSet(int(w.manifest.Count())), info.ModTime()
	}
	w.checked.add(index)
}

// settled is how old a file's time has to be for a later change to show in it.
const settled = 100 * time.Millisecond

// damaged takes back what is wrong on the disk.
func (s *Store) damaged(blob wire.Hash, index uint32, at place) error {
	err := centram.Errorf(centram.Unavailable, "chunk %d of the blob %s is damaged on this disk", index, short(blob)).
		WithHint("Fetch the blob again: only what is damaged will be transferred.")
	s.mu.Lock()
	defer s.mu.Unlock()
	w := at.whole
	switch {
	case w == nil || s.whole[blob] != w:
		return err // Complete will find it
	case w.link != nil:
		s.unlink(blob, w)
		return err
	}
	return errors.Join(err, s.reopen(blob, w))
}

// reopen makes a complete blob a partial one, with no chunk that counts before it was looked at. s.mu is held.
func (s *Store) reopen(blob wire.Hash, w *whole) error {
	delete(s.whole, blob)
	if s.parts[blob] != nil { // on its way to be complete again
		s.used -= w.bytes()
		return s.remove(blob, "")
	}
	s.parts[blob] = &part{manifest: w.manifest, begun: true, size: w.bytes(), used: w.used}
	return errors.Join(s.remove(blob, stateExt), os.Rename(s.path(blob, ""), s.path(blob, partExt)))
}
