package blob

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

// Usage says how much of the disk is taken.
type Usage struct {
	Bytes  int64 // of all blobs in the folder, with what is reserved for those that are coming
	Pinned int64 // of them, that stay in any case
	Quota  int64 // zero if there is no limit
}

// Usage says how much of the disk is taken.
func (s *Store) Usage() Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := Usage{Bytes: s.used, Quota: s.Quota}
	for blob := range s.pinned {
		if w := s.whole[blob]; w != nil {
			u.Pinned += w.bytes()
		}
		if p := s.parts[blob]; p != nil {
			u.Pinned += p.size
		}
	}
	return u
}

// reserve takes n bytes of the quota. If there are too few it removes unpinned blobs, the one used longest ago first,
// but none if that would not be enough. It fails with centram.TooLarge or centram.Unavailable. s.mu is held.
func (s *Store) reserve(n int64) error {
	over := s.used + n - s.Quota
	if s.Quota == 0 || over <= 0 {
		s.used += n
		return nil
	}
	if n > s.Quota {
		return centram.Errorf(centram.TooLarge, "the blob has %s, and all blobs together may have %s", size(n), size(s.Quota)).
			WithHint("Allow blobs more of the disk.")
	}
	var victims []victim
	for _, v := range s.removable() {
		if over <= 0 {
			break
		}
		over -= v.size
		victims = append(victims, v)
	}
	if over > 0 {
		return centram.Errorf(centram.Unavailable, "%s are missing to make room for a blob of %s: all others are pinned or being fetched",
			size(over), size(n)).WithHint("Allow blobs more of the disk, or remove some.")
	}
	for _, v := range victims {
		if err := s.evict(v.blob); err != nil {
			return fmt.Errorf("make room for a blob: %w", err)
		}
	}
	s.used += n
	return nil
}

type victim struct {
	blob wire.Hash
	size int64
	used time.Time
}

// removable returns the blobs that may go, the first to go first.
func (s *Store) removable() []victim {
	var list []victim
	for blob, w := range s.whole {
		if w.own && !s.pinned[blob] && s.parts[blob] == nil {
			list = append(list, victim{blob, w.bytes(), w.used})
		}
	}
	for blob, p := range s.parts {
		if p.busy == nil && !s.pinned[blob] {
			list = append(list, victim{blob, p.size, p.used})
		}
	}
	slices.SortFunc(list, func(a, b victim) int {
		return cmp.Or(a.used.Compare(b.used), slices.Compare(a.blob[:], b.blob[:]))
	})
	return list
}

// evict deletes a blob, or only its own file if another file has it too. s.mu is held.
func (s *Store) evict(blob wire.Hash) error {
	if w := s.whole[blob]; w != nil && s.parts[blob] == nil && s.outside(blob, w) != nil {
		return s.disown(blob, w)
	}
	return s.drop(blob)
}

func (s *Store) unreserve(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
}

// size is n for people.
func size(n int64) string {
	const mib, gib = 1 << 20, 1 << 30
	switch {
	case n >= gib:
		return fmt.Sprintf("%.1f GiB", float64(n)/gib)
	case n >= mib:
		return fmt.Sprintf("%.1f MiB", float64(n)/mib)
	}
	return fmt.Sprintf("%d bytes", n)
}
