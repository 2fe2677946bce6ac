package blob

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

// link says where a blob lies outside of the folder, and what the file was when it was hashed.
type link struct {
	Path  string `json:"path"`
	Size  int64  `json:"size"`
	MTime int64  `json:"mtime"` // Unix nanoseconds
}

// Link makes a file a blob where it lies. The blob is gone as soon as the file changes: its size and time are compared
// whenever the blob is asked for. Link fails with centram.NotFound if there is no such file and with centram.Conflict if
// somebody writes to it.
func (s *Store) Link(ctx context.Context, path string) (*wire.Manifest, error) {
	f, before, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := digest(ctx, f, io.Discard, before.Size)
	if err != nil && centram.CodeOf(err) != centram.Invalid {
		return nil, fmt.Errorf("hash %s: %w", path, err)
	}
	after, statErr := linkTo(before.Path)
	if err != nil || statErr != nil || *after != *before {
		return nil, centram.Errorf(centram.Conflict, "%s has changed while it was read", path).
			WithHint("Wait until nobody writes to it.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.find(m.Blob) != nil {
		return m, nil
	}
	return m, doing("link "+path, s.keepLink(m, before))
}

func (s *Store) keepLink(m *wire.Manifest, l *link) error {
	if p := s.parts[m.Blob]; p != nil && p.busy == nil {
		if err := s.dropPart(m.Blob); err != nil {
			return err
		}
	}
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if err := writeFile(s.path(m.Blob, manifestExt), appendManifest(nil, m)); err != nil {
		return err
	}
	if err := writeFile(s.path(m.Blob, linkExt), b); err != nil {
		return err
	}
	s.whole[m.Blob] = &whole{manifest: m, link: l}
	if at := time.Unix(0, l.MTime); s.Now().Sub(at) >= settled { // all of it has just been hashed
		s.whole[m.Blob].checked, s.whole[m.Blob].checkedAt = fullSet(int(m.Count())), at
	}
	s.touch(m.Blob, s.whole[m.Blob])
	return nil
}

// unlink forgets a link whose file has changed. s.mu is held.
func (s *Store) unlink(blob wire.Hash, w *whole) {
	if s.whole[blob] != w {
		return
	}
	delete(s.whole, blob)
	// What cannot be removed is found to be wrong again after the next start.
	_ = s.remove(blob, linkExt)
}

func linkTo(path string) (*link, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, centram.Errorf(centram.Invalid, "%s is not a file", path)
	}
	return &link{path, info.Size(), info.ModTime().UnixNano()}, nil
}
