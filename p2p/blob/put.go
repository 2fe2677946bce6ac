package blob

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/centram/centram"
	"github.com/centram/centram/atomicfile"
	"github.com/centram/centram/p2p/wire"
)

// Put keeps size bytes from r, for which room is made before the first is read. If the blob is here already it stays as
// it is. Put fails with centram.TooLarge or centram.Unavailable if there is no room, and with centram.Invalid if r has
// fewer bytes or more.
func (s *Store) Put(ctx context.Context, r io.Reader, size int64) (*wire.Manifest, error) {
	if err := checkSize(size); err != nil {
		return nil, err
	}
	s.mu.Lock()
	err := s.reserve(size)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	m, err := s.put(ctx, r, size)
	if err != nil {
		s.unreserve(size)
		return nil, fmt.Errorf("keep a blob: %w", err)
	}
	return m, nil
}

func (s *Store) put(ctx context.Context, r io.Reader, size int64) (*wire.Manifest, error) {
	tmp, err := os.CreateTemp(s.Dir, "*"+tmpExt) // mode 0600
	if err != nil {
		return nil, explain(err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	if err := setLength(tmp, size); err != nil {
		return nil, err
	}
	m, err := digest(ctx, r, tmp, size)
	if err != nil {
		return nil, err
	}
	if err := tmp.Sync(); err != nil {
		return nil, explain(err)
	}
	return m, s.commit(m, tmp.Name(), func() error { return nil })
}

// commit makes the file at from, which has been checked and is on the disk, a complete blob, unless there is one, and calls
// then, with s.mu held, before anybody sees the blob. Its size has been reserved.
//
// The disk is not waited for while s.mu is held: a tensor is a blob, and all of a model's are fetched side by side.
func (s *Store) commit(m *wire.Manifest, from string, then func() error) error {
	manifest, err := writeTmp(s.Dir, appendManifest(nil, m))
	if err != nil {
		return err
	}
	defer os.Remove(manifest)
	if err := s.name(m, from, manifest, then); err != nil {
		return err
	}
	return atomicfile.SyncFolder(s.Dir)
}

// name gives a blob and its manifest their names.
func (s *Store) name(m *wire.Manifest, from, manifest string, then func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.parts[m.Blob]; p != nil && p.busy == nil {
		if err := s.dropPart(m.Blob); err != nil {
			return err
		}
	}
	old := s.whole[m.Blob]
	if old != nil && old.own {
		s.touch(m.Blob, old)
		s.used -= int64(m.Size)
		return then()
	}
	// The manifest first: a blob without one would have to be fetched again at the next start.
	if err := os.Rename(manifest, s.path(m.Blob, manifestExt)); err != nil {
		return err
	}
	if err := os.Rename(from, s.path(m.Blob, "")); err != nil {
		return err
	}
	if old != nil {
		s.setLinks(m.Blob, old, nil)
	}
	s.whole[m.Blob] = &whole{manifest: m, own: true}
	s.touch(m.Blob, s.whole[m.Blob])
	_ = s.remove(m.Blob, linkExt) // it would be of no account
	return then()
}

// Import keeps a copy of a file. It fails as Put does, and with centram.NotFound if there is no such file.
func (s *Store) Import(ctx context.Context, path string) (*wire.Manifest, error) {
	file, err := stampOf(path)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return s.Put(ctx, f, file.Size)
}

func checkSize(n int64) error {
	if n < 0 || n > wire.MaxChunks*wire.ChunkSize {
		return centram.Errorf(centram.TooLarge, "a blob may have %s, and this has %s", size(wire.MaxChunks*wire.ChunkSize), size(n)).
			WithHint("Split the file.")
	}
	return nil
}
