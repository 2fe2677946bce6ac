package blob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/centram/centram"
	"github.com/centram/centram/atomicfile"
	"github.com/centram/centram/p2p/wire"
)

// Replace makes blobs that lie in the folder ranges of a file that has them too, each from the offset in at on, so that
// the disk has them once. The file is read and hashed, in order; if it has other bytes for any of the blobs, nothing is
// changed. Pins stay; what Path has returned for one of them is gone. Blobs that are such a range already are left alone,
// so that Replace can be called again.
//
// A blob's own file is deleted when the file and the link to it are on the disk: whatever happens in between, the blob is
// in one of the two places, or in both. A crash leaves those that were not reached as they were; one that is in both
// places counts in full until Replace is called again.
//
// Replace fails with centram.NotFound if there is no such file or one of the blobs is not complete, with centram.Invalid
// if the file has something else, and with centram.Conflict if somebody writes to it. If progress is not nil, it is told
// how many bytes are hashed; it must return soon.
func (s *Store) Replace(ctx context.Context, path string, at map[wire.Hash]int64, progress func(done, of int64)) error {
	file, err := stampOf(path)
	if err != nil {
		return err
	}
	list, err := s.replaceable(file, at)
	if err != nil || len(list) == 0 {
		return err
	}
	if err := force(file.Path); err != nil {
		return fmt.Errorf("force %s to the disk: %w", file.Path, err)
	}
	if err := compare(ctx, file, list, progress); err != nil {
		return err
	}
	if err := s.keep(list); err != nil {
		return fmt.Errorf("link %s: %w", file.Path, err)
	}
	for _, l := range list {
		if err := s.release(l); err != nil {
			return fmt.Errorf("replace the blob %s: %w", short(l.manifest.Blob), err)
		}
	}
	return nil
}

// replaceable returns the blobs that have a file of their own, in the order of the file.
func (s *Store) replaceable(file stamp, at map[wire.Hash]int64) ([]linked, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []linked
	for _, blob := range slices.SortedFunc(maps.Keys(at), func(a, b wire.Hash) int { return cmp.Compare(at[a], at[b]) }) {
		here := s.find(blob)
		if here == nil {
			return nil, notHere(blob)
		}
		r := Range{at[blob], int64(here.manifest.Size)}
		if r.Length == 0 || !r.in(file.Size) {
			return nil, centram.Errorf(centram.Invalid, "%s has %d bytes, and not the %d of the blob %s from %d on", file.Path, file.Size,
				r.Length, short(blob), r.Offset)
		}
		if !here.whole.own {
			continue
		}
		if sameFile(here.path, file.Path) {
			return nil, centram.Errorf(centram.Invalid, "%s is the file of the blob %s itself", file.Path, short(blob))
		}
		list = append(list, linked{here.manifest, link{file, r}})
	}
	return list, nil
}

func sameFile(a, b string) bool {
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}

// force forces a file and its name to the disk.
func force(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return explain(err)
	}
	return atomicfile.SyncFolder(filepath.Dir(path))
}

// compare reads what the file has, and compares it with the blobs.
func compare(ctx context.Context, file stamp, list []linked, progress func(done, of int64)) error {
	var ranges []Range
	for _, l := range list {
		ranges = append(ranges, l.link.Range)
	}
	of := total(ranges)
	hashed, err := hashRanges(ctx, file, ranges, func(done int64) {
		if progress != nil {
			progress(done, of)
		}
	})
	if err != nil {
		return err
	}
	for i, l := range list {
		if hashed[i].Blob != l.manifest.Blob {
			return centram.Errorf(centram.Invalid, "%s does not have the blob %s from %d on", file.Path, short(l.manifest.Blob), l.link.Offset)
		}
	}
	return nil
}

// release deletes the own file of a blob that has got a link.
func (s *Store) release(l linked) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	blob := l.manifest.Blob
	w := s.whole[blob]
	if w == nil || !w.own || s.known[l.link] != blob {
		return nil // it has been removed, or put in again, meanwhile
	}
	if s.outside(blob, w) == nil {
		return centram.Errorf(centram.Conflict, "%s has changed meanwhile", l.link.Path)
	}
	return s.disown(blob, w)
}
