package blob

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/centram/centram/p2p/wire"
)

const (
	manifestExt = ".manifest"
	linkExt     = ".link"
	partExt     = ".part"
	stateExt    = ".state"
	pinExt      = ".pin"
	tmpExt      = ".tmp"
)

func (s *Store) path(blob wire.Hash, ext string) string {
	return filepath.Join(s.Dir, blob.String()+ext)
}

// found are the files of one blob, by the ends of their names.
type found map[string]fs.FileInfo

// scan takes in what is in the folder, and removes what is of no use any more.
func (s *Store) scan() error {
	list, err := os.ReadDir(s.Dir)
	if err != nil {
		return err
	}
	blobs := map[wire.Hash]found{}
	for _, e := range list {
		if filepath.Ext(e.Name()) == tmpExt {
			if err := os.Remove(filepath.Join(s.Dir, e.Name())); err != nil {
				return err
			}
			continue
		}
		name, ext, dot := strings.Cut(e.Name(), ".")
		if dot {
			ext = "." + ext
		}
		var blob wire.Hash
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || blob.UnmarshalText([]byte(name)) != nil {
			continue // not ours
		}
		if blobs[blob] == nil {
			blobs[blob] = found{}
		}
		blobs[blob][ext] = info
	}
	for blob, files := range blobs {
		if err := s.adopt(blob, files); err != nil {
			return err
		}
	}
	return nil
}

// adopt takes in the files of one blob, whichever of them a crash has left.
func (s *Store) adopt(blob wire.Hash, files found) error {
	m := s.readManifest(blob)
	switch data, link := files[""], files[linkExt]; {
	case data != nil && m != nil && data.Size() == int64(m.Size):
		s.adoptWhole(blob, m, files)
		if err := s.remove(blob, partExt, stateExt); err != nil {
			return err
		}
	case data != nil && files[partExt] == nil: // begin it again with what is there
		if err := errors.Join(os.Rename(s.path(blob, ""), s.path(blob, partExt)), s.remove(blob, stateExt)); err != nil {
			return err
		}
		s.adoptPart(blob, data, m)
	case files[partExt] != nil:
		s.adoptPart(blob, files[partExt], m)
	case link != nil && m != nil:
		s.adoptWhole(blob, m, files)
	}
	if s.whole[blob] == nil && s.parts[blob] == nil {
		return s.remove(blob, manifestExt, linkExt, stateExt, pinExt)
	}
	if files[pinExt] != nil {
		s.pinned[blob] = true
	}
	return nil
}

func (s *Store) adoptPart(blob wire.Hash, data fs.FileInfo, m *wire.Manifest) {
	p := &part{manifest: m, begun: true, size: data.Size(), used: data.ModTime()}
	if st := s.readState(blob); st != nil && int64(st.manifest.Size) == p.size {
		p.manifest, p.sure = st.manifest, st.synced
	}
	s.parts[blob] = p
	s.used += p.size
}

// adoptWhole takes in a blob that lies in the folder, in other files, or both.
func (s *Store) adoptWhole(blob wire.Hash, m *wire.Manifest, files found) {
	used := files[manifestExt].ModTime()
	w := &whole{manifest: m, own: files[""] != nil, used: used, noted: used}
	var links []link
	if files[linkExt] != nil {
		links = s.readLinks(blob, m)
	}
	if !w.own && len(links) == 0 {
		return // it has to be hashed again
	}
	s.whole[blob] = w
	s.setLinks(blob, w, links)
	s.used += w.bytes()
}

// readManifest returns nil if there is none that can be used.
func (s *Store) readManifest(blob wire.Hash) *wire.Manifest {
	b, err := os.ReadFile(s.path(blob, manifestExt))
	if err != nil {
		return nil
	}
	m, rest, err := parseManifest(b)
	if err != nil || len(rest) > 0 || m.Blob != blob {
		return nil
	}
	return m
}

// readState returns nil if there is none that can be used.
func (s *Store) readState(blob wire.Hash) *state {
	b, err := os.ReadFile(s.path(blob, stateExt))
	if err != nil {
		return nil
	}
	st, err := parseState(b)
	if err != nil || st.manifest.Blob != blob {
		return nil
	}
	return st
}

// remove deletes files of a blob that may be there.
func (s *Store) remove(blob wire.Hash, exts ...string) error {
	for _, ext := range exts {
		if err := os.Remove(s.path(blob, ext)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// drop deletes a blob that nobody writes, with all its files. s.mu is held.
func (s *Store) drop(blob wire.Hash) error {
	if err := s.remove(blob, linkExt, "", partExt, stateExt, manifestExt, pinExt); err != nil {
		return err
	}
	if w := s.whole[blob]; w != nil {
		s.setLinks(blob, w, nil)
		s.used -= w.bytes()
	}
	if p := s.parts[blob]; p != nil {
		s.used -= p.size
	}
	delete(s.whole, blob)
	delete(s.parts, blob)
	delete(s.pinned, blob)
	return nil
}

// disown deletes a blob's own file. The blob is complete by its links. s.mu is held.
func (s *Store) disown(blob wire.Hash, w *whole) error {
	if err := s.remove(blob, ""); err != nil {
		return err
	}
	s.used -= w.bytes()
	w.own = false
	return nil
}

// dropPart deletes what there is of a blob that is complete by other means. s.mu is held.
func (s *Store) dropPart(blob wire.Hash) error {
	p := s.parts[blob]
	if p == nil {
		return nil
	}
	s.used -= p.size
	delete(s.parts, blob)
	return s.remove(blob, partExt, stateExt)
}
