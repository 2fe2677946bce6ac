package blob

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

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
	offset   int64
	manifest *wire.Manifest
	whole    *whole // nil for a partial blob
	link     *link  // nil for a file of the folder
}

func (s *Store) locate(blob wire.Hash, index uint32) (place, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.find(blob); at != nil && uint64(index) < at.manifest.Count() {
		s.touch(blob, at.whole)
		return *at, nil
	}
	if p := s.parts[blob]; p != nil && p.has(index) {
		p.used = s.Now()
		return place{path: s.path(blob, partExt), manifest: p.manifest}, nil
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
	blob := io.NewSectionReader(f, at.offset, int64(at.manifest.Size))
	now := link{stampFrom(at.path, info), Range{at.offset, blob.Size()}}
	if s.sound(at.whole, now, index) {
		n, err := blob.ReadAt(data, int64(index)*wire.ChunkSize)
		if n == len(data) {
			return data, nil
		}
		return nil, err
	}
	if data, err = readChunk(blob, at.manifest, index, data); err == nil {
		s.found(at.whole, now, index)
	}
	return data, err
}

// sound says whether a chunk of a complete blob was right when it was last looked at, and the file is still the same.
func (s *Store) sound(w *whole, now link, index uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return w != nil && w.checked.has(index) && w.checkedIn == now
}

// found notes that a chunk is right.
func (s *Store) found(w *whole, now link, index uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w == nil || !now.settled(s.Now()) {
		return
	}
	if w.checkedIn != now || w.checked == nil {
		w.checked, w.checkedIn = newSet(int(w.manifest.Count())), now
	}
	w.checked.add(index)
}

// Open opens a complete blob, wherever it lies, for reading from any place of it. As long as it is open it can be read,
// even if the blob is removed. Open does not hash the bytes. It fails with centram.NotFound.
func (s *Store) Open(blob wire.Hash) (*File, error) {
	for range 2 { // it may be removed from the folder, and lie elsewhere, in between
		s.mu.Lock()
		at := s.find(blob)
		if at != nil {
			s.touch(blob, at.whole)
		}
		s.mu.Unlock()
		if at == nil {
			return nil, notHere(blob)
		}
		f, err := at.open()
		if !errors.Is(err, fs.ErrNotExist) {
			return f, doing("open the blob "+short(blob), err)
		}
	}
	return nil, notHere(blob)
}

// File is an open blob. It has to be closed.
type File struct {
	*io.SectionReader
	file *os.File
}

// Close closes the file that the blob lies in.
func (f *File) Close() error { return f.file.Close() }

// open fails with fs.ErrNotExist also if the file is not the one any more that was hashed.
func (p *place) open() (*File, error) {
	f, err := os.Open(p.path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && p.link != nil && stampFrom(p.path, info) != p.link.stamp {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &File{io.NewSectionReader(f, p.offset, int64(p.manifest.Size)), f}, nil
}

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
	case at.link != nil:
		s.unlink(blob, w, *at.link)
		return err
	case !w.own:
		return err // it is elsewhere by now
	case s.outside(blob, w) != nil:
		return errors.Join(err, s.disown(blob, w))
	}
	return errors.Join(err, s.reopen(blob, w))
}

// reopen makes a complete blob a partial one, with no chunk that counts before it was looked at. s.mu is held.
func (s *Store) reopen(blob wire.Hash, w *whole) error {
	s.setLinks(blob, w, nil)
	delete(s.whole, blob)
	if s.parts[blob] != nil { // on its way to be complete again
		s.used -= w.bytes()
		return s.remove(blob, "")
	}
	s.parts[blob] = &part{manifest: w.manifest, begun: true, size: w.bytes(), used: w.used}
	return errors.Join(s.remove(blob, stateExt, linkExt), os.Rename(s.path(blob, ""), s.path(blob, partExt)))
}
