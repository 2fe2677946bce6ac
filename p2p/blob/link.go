package blob

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/atomicfile"
	"github.com/centram/centram/p2p/wire"
)

// link says in which file, and where in it, a blob lies, and what the file was when it was hashed.
//
// A .link file is a JSON object of this form for each place. One without a length, as older ones are, is the whole file.
type link struct {
	stamp
	Range
}

// stamp is what tells whether a file has changed.
type stamp struct {
	Path  string `json:"path"`
	Size  int64  `json:"size"`
	MTime int64  `json:"mtime"` // Unix nanoseconds
}

// Range is a part of a file.
type Range struct {
	Offset int64 `json:"offset,omitempty"`
	Length int64 `json:"length,omitempty"`
}

// in reports whether the range is one of a file with size bytes.
func (r Range) in(size int64) bool {
	return r.Offset >= 0 && r.Length >= 0 && r.Offset <= math.MaxInt64-r.Length && r.Offset+r.Length <= size
}

func (l link) entire() bool { return l.Range == Range{0, l.Size} }

// settled reports whether the file's time is so old that a later change will show in it.
func (l link) settled(now time.Time) bool {
	return now.Sub(time.Unix(0, l.MTime)) >= 100*time.Millisecond
}

// Link makes a file a blob where it lies. The blob is gone as soon as the file changes: its size and time are compared
// whenever the blob is asked for. A file that is linked already, and has not changed, is not read again. Link fails with
// centram.NotFound if there is no such file and with centram.Conflict if somebody writes to it.
func (s *Store) Link(ctx context.Context, path string) (*wire.Manifest, error) {
	file, err := stampOf(path)
	if err == nil {
		err = checkSize(file.Size)
	}
	if err != nil {
		return nil, err
	}
	return single(s.linkRanges(ctx, file, []Range{{0, file.Size}}, nil))
}

// LinkRange makes size bytes of a file a blob where they lie. It does as Link does, of which the range is gone when
// anything of the file changes, and fails with centram.Invalid if the file has no such range.
func (s *Store) LinkRange(ctx context.Context, path string, offset, size int64) (*wire.Manifest, error) {
	return single(s.LinkRanges(ctx, path, []Range{{offset, size}}, nil))
}

func single(list []*wire.Manifest, err error) (*wire.Manifest, error) {
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// LinkRanges does what LinkRange does with many ranges of a file, which is read once, in order, and only where a range is
// not linked yet. The ranges may overlap. Nothing is linked unless all were read. If progress is not nil, it is told how
// many bytes of all ranges are hashed; it must return soon.
func (s *Store) LinkRanges(ctx context.Context, path string, ranges []Range, progress func(done, of int64)) ([]*wire.Manifest, error) {
	file, err := stampOf(path)
	if err != nil {
		return nil, err
	}
	for _, r := range ranges {
		if r.Length <= 0 || !r.in(file.Size) {
			return nil, centram.Errorf(centram.Invalid, "%s has %d bytes, and not %d from %d on", path, file.Size, r.Length, r.Offset)
		}
		if err := checkSize(r.Length); err != nil {
			return nil, err
		}
	}
	return s.linkRanges(ctx, file, ranges, progress)
}

func (s *Store) linkRanges(ctx context.Context, file stamp, ranges []Range, progress func(done, of int64)) ([]*wire.Manifest, error) {
	manifests, fresh := s.look(file, ranges)
	told, of := int64(0), total(fresh)
	for r := range manifests {
		told, of = told+r.Length, of+r.Length
	}
	tell := func(done int64) {
		if progress != nil {
			progress(told+done, of)
		}
	}
	tell(0)
	if len(fresh) > 0 {
		hashed, err := hashRanges(ctx, file, fresh, tell)
		if err != nil {
			return nil, err
		}
		var list []linked
		for i, r := range fresh {
			manifests[r] = hashed[i]
			list = append(list, linked{hashed[i], link{file, r}})
		}
		if err := s.keep(list); err != nil {
			return nil, fmt.Errorf("link %s: %w", file.Path, err)
		}
	}
	list := make([]*wire.Manifest, len(ranges))
	for i, r := range ranges {
		list[i] = manifests[r]
	}
	return list, nil
}

// look returns the manifests of the ranges that are linked already, and the others, each once.
func (s *Store) look(file stamp, ranges []Range) (here map[Range]*wire.Manifest, fresh []Range) {
	s.mu.Lock()
	defer s.mu.Unlock()
	here = map[Range]*wire.Manifest{}
	seen := map[Range]bool{}
	for _, r := range ranges {
		if blob, ok := s.known[link{file, r}]; ok {
			here[r] = s.whole[blob].manifest
		} else if !seen[r] {
			seen[r] = true
			fresh = append(fresh, r)
		}
	}
	return here, fresh
}

func total(ranges []Range) int64 {
	sum := int64(0)
	for _, r := range ranges {
		sum += r.Length
	}
	return sum
}

// linked is a blob and a place that has it.
type linked struct {
	manifest *wire.Manifest
	link     link
}

// keep writes down where blobs lie. What it writes is on the disk before it gets its name, so that a crash leaves of each
// blob the links of before or of after; those that are missing are made again by whoever wants them.
func (s *Store) keep(list []linked) error {
	s.linking.Lock()
	defer s.linking.Unlock()
	files := batch{dir: s.Dir}
	defer files.discard()
	var all []*relink
	byBlob := map[wire.Hash]*relink{}
	for _, l := range list {
		blob := l.manifest.Blob
		if l.link.entire() && l.link.Path == s.path(blob, "") {
			continue // it is the blob's own file
		}
		r := byBlob[blob]
		if r == nil {
			r = &relink{manifest: l.manifest, links: s.linksOf(blob)}
			byBlob[blob], all = r, append(all, r)
		}
		r.add(l.link)
	}
	for _, r := range all {
		if err := r.write(&files); err != nil {
			return err
		}
	}
	if err := files.flush(); err != nil {
		return err
	}
	for _, r := range all {
		if err := s.relink(r); err != nil {
			return err
		}
	}
	return atomicfile.SyncFolder(s.Dir)
}

// relink is a change of where a blob lies.
type relink struct {
	manifest *wire.Manifest
	links    []link
	files    [2]string // without their names: the manifest, and the links
}

// add takes in a place, and leaves out what the same file was before it changed. The first link stays the first.
func (r *relink) add(l link) {
	r.links = slices.DeleteFunc(r.links, func(old link) bool {
		return old == l || old.Path == l.Path && old.stamp != l.stamp
	})
	r.links = append(r.links, l)
}

func (r *relink) write(files *batch) error {
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	for _, l := range r.links {
		if err := out.Encode(l); err != nil {
			return err
		}
	}
	for i, content := range [][]byte{appendManifest(nil, r.manifest), b.Bytes()} {
		var err error
		if r.files[i], err = files.add(content); err != nil {
			return err
		}
	}
	return nil
}

// relink makes a change that is on the disk already.
func (s *Store) relink(r *relink) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	blob := r.manifest.Blob
	if p := s.parts[blob]; p != nil && p.busy == nil {
		if err := s.dropPart(blob); err != nil {
			return err
		}
	}
	for i, ext := range []string{manifestExt, linkExt} { // links without a manifest would be of no use
		if err := os.Rename(r.files[i], s.path(blob, ext)); err != nil {
			return explain(err)
		}
	}
	w := s.whole[blob]
	if w == nil {
		w = &whole{manifest: r.manifest}
		s.whole[blob] = w
	}
	s.setLinks(blob, w, r.links)
	if l := r.links[len(r.links)-1]; !w.own && l.settled(s.Now()) { // all of it has just been hashed
		w.checked, w.checkedIn = fullSet(int(w.manifest.Count())), l
	}
	s.touch(blob, w)
	return nil
}

// linksOf returns where a blob lies outside of the folder.
func (s *Store) linksOf(blob wire.Hash) []link {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.whole[blob]; w != nil {
		return slices.Clone(w.links)
	}
	return nil
}

// setLinks says where a blob lies outside of the folder. s.mu is held.
func (s *Store) setLinks(blob wire.Hash, w *whole, links []link) {
	for _, l := range w.links {
		if s.known[l] == blob {
			delete(s.known, l)
		}
	}
	w.links = links
	for _, l := range links {
		s.known[l] = blob
	}
}

// outside returns the first place outside of the folder that has a blob, a file of its own before a range, or nil. A link
// whose file has changed is forgotten. s.mu is held.
func (s *Store) outside(blob wire.Hash, w *whole) *place {
	var found *place
	for _, l := range slices.Clone(w.links) {
		if found != nil && !l.entire() {
			continue
		}
		now, err := stampOfFile(l.Path)
		if err != nil {
			continue // it may come back, as an external disk does
		}
		if now != l.stamp {
			s.unlink(blob, w, l)
			continue
		}
		found = &place{path: l.Path, offset: l.Offset, manifest: w.manifest, whole: w, link: &l}
		if l.entire() {
			break
		}
	}
	return found
}

// unlink forgets a link whose file has changed. s.mu is held.
func (s *Store) unlink(blob wire.Hash, w *whole, l link) {
	if s.whole[blob] != w {
		return
	}
	s.setLinks(blob, w, slices.DeleteFunc(slices.Clone(w.links), func(other link) bool { return other == l }))
	if len(w.links) > 0 {
		return
	}
	if !w.own {
		delete(s.whole, blob)
	}
	// What cannot be removed is found to be wrong again after the next start, as one link of several is.
	_ = s.remove(blob, linkExt)
}

// readLinks returns the links of a blob that can be used.
func (s *Store) readLinks(blob wire.Hash, m *wire.Manifest) []link {
	b, err := os.ReadFile(s.path(blob, linkExt))
	if err != nil {
		return nil
	}
	var list []link
	for in := json.NewDecoder(bytes.NewReader(b)); ; {
		var l link
		if in.Decode(&l) != nil {
			return list // the end, or damage
		}
		if (l.Range == Range{}) {
			l.Length = l.Size
		}
		if l.Length == int64(m.Size) && l.in(l.Size) {
			list = append(list, l)
		}
	}
}

// stampOf looks at a file that is to become a blob. It fails with centram.NotFound and centram.Invalid.
func stampOf(path string) (stamp, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return stamp{}, fmt.Errorf("find the file: %w", err)
	}
	now, err := stampOfFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return stamp{}, centram.Errorf(centram.NotFound, "there is no file %s", path)
	}
	return now, err
}

func stampOfFile(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	if !info.Mode().IsRegular() {
		return stamp{}, centram.Errorf(centram.Invalid, "%s is not a file", path)
	}
	return stampFrom(path, info), nil
}

func stampFrom(path string, info fs.FileInfo) stamp {
	return stamp{path, info.Size(), info.ModTime().UnixNano()}
}
