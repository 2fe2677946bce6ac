package blob

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

// file writes a file that is some minutes old.
func file(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	age(t, path)
	return path
}

// age gives a file the same time in all tests.
func age(t testing.TB, path string) {
	t.Helper()
	if err := os.Chtimes(path, time.Unix(1e9, 0), time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}
}

func linkRanges(t testing.TB, s *Store, path string, ranges ...Range) []wire.Hash {
	t.Helper()
	list, err := s.LinkRanges(t.Context(), path, ranges, nil)
	if err != nil {
		t.Fatal(err)
	}
	blobs := []wire.Hash{}
	for _, m := range list {
		blobs = append(blobs, m.Blob)
	}
	return blobs
}

// wantRange reads a blob that lies in a file in all ways.
func wantRange(t testing.TB, s *Store, want []byte, path string, offset int64) {
	t.Helper()
	m := manifestOf(want)
	if have := s.Have(m.Blob); !have.Complete {
		t.Fatalf("have %+v, want the %d bytes from %d on", have, len(want), offset)
	}
	if got, err := s.Manifest(m.Blob); err != nil || !sameManifest(got, m) {
		t.Fatalf("manifest %v, %v; want that of the content", got, err)
	}
	for range 2 { // the second time without hashing
		for i := range uint32(m.Count()) {
			if got, err := s.ReadChunk(m.Blob, i, nil); err != nil || !bytes.Equal(got, chunkOf(want, i)) {
				t.Fatalf("chunk %d has %d bytes, %v; want %d", i, len(got), err, len(chunkOf(want, i)))
			}
		}
	}
	wantOpen(t, s, want)
	if got, err := s.Path(m.Blob); centram.CodeOf(err) != centram.Unsupported {
		t.Errorf("path %q, %v; want unsupported", got, err)
	}
	for _, i := range s.List() {
		if i.Blob == m.Blob && (i.Link != path || i.Offset != offset || i.Size != int64(len(want)) || !i.Whole) {
			t.Errorf("listed %+v, want %s from %d on", i, path, offset)
		}
	}
}

func wantOpen(t testing.TB, s *Store, want []byte) {
	t.Helper()
	f, err := s.Open(manifestOf(want).Blob)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v; want the %d of the blob", len(got), err, len(want))
	}
	one := make([]byte, 2)
	if n, err := f.ReadAt(one, int64(len(want))-1); n != 1 || !errors.Is(err, io.EOF) || one[0] != want[len(want)-1] {
		t.Errorf("at the end: %d bytes, %v; want the last one and no more", n, err)
	}
}

func TestRangesOfAFileAreBlobs(t *testing.T) {
	s := openWith(t, Config{Dir: t.TempDir(), Quota: 1})
	b := content(5*mib + 123)
	path := file(t, "model.gguf", b)
	ranges := []Range{
		{17, mib},
		{0, 1},
		{mib - 1, 2*mib + 5}, // overlaps the first
		{mib, mib},           // lies in the one before
		{5*mib + 122, 1},
		{0, 5 * mib},
		{17, mib}, // again
		{2*mib + 3, 3 * mib},
	}
	list, err := s.LinkRanges(t.Context(), path, ranges, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range ranges {
		if want := manifestOf(b[r.Offset:][:r.Length]); !sameManifest(list[i], want) {
			t.Errorf("range %+v: got %s, want %s", r, short(list[i].Blob), short(want.Blob))
		}
	}
	for range 2 {
		if n := len(s.List()); n != len(ranges)-1 {
			t.Errorf("%d blobs, want %d", n, len(ranges)-1)
		}
		for _, r := range ranges {
			wantRange(t, s, b[r.Offset:][:r.Length], path, r.Offset)
		}
		if u := s.Usage(); u.Bytes != 0 {
			t.Errorf("links take %d bytes, want 0", u.Bytes)
		}
		s = open(t, s.Dir)
	}
	if err := s.Remove(list[0].Blob); err != nil {
		t.Fatal(err)
	}
	if s.Have(list[0].Blob).Complete || !s.Have(list[1].Blob).Complete {
		t.Error("not the one range that was removed is gone, but another")
	}
}

func TestTheWholeFileAsARangeIsAFile(t *testing.T) {
	s := open(t, t.TempDir())
	b := content(mib + 3)
	path := file(t, "model.gguf", b)
	m, err := s.LinkRange(t.Context(), path, 0, mib+3)
	if err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, b)
	if got, err := s.Path(m.Blob); err != nil || got != path {
		t.Errorf("path %s, %v; want %s", got, err, path)
	}
}

func TestARangeThatTheFileDoesNotHaveIsInvalid(t *testing.T) {
	s := open(t, t.TempDir())
	path := file(t, "model.gguf", content(100))
	for _, r := range []Range{
		{-1, 1}, {0, 0}, {0, -1}, {100, 1}, {99, 2}, {0, 101}, {1, math.MaxInt64}, {math.MaxInt64, math.MaxInt64},
	} {
		_, err := s.LinkRange(t.Context(), path, r.Offset, r.Length)
		wantCode(t, err, centram.Invalid)
		_, err = s.LinkRanges(t.Context(), path, []Range{{0, 1}, r}, nil)
		wantCode(t, err, centram.Invalid)
	}
	_, err := s.LinkRange(t.Context(), path+".not", 0, 1)
	wantCode(t, err, centram.NotFound)
	_, err = s.LinkRange(t.Context(), filepath.Dir(path), 0, 1)
	wantCode(t, err, centram.Invalid)
	wantNames(t, s.Dir)
}

func TestALinkedRangeIsGoneWhenItsFileHasChanged(t *testing.T) {
	b := content(3 * mib)
	for name, change := range map[string]func(path string) error{
		"longer":  func(path string) error { return os.WriteFile(path, append(slices.Clone(b), 0), 0o600) },
		"shorter": func(path string) error { return os.Truncate(path, 2*mib) },
		"newer":   func(path string) error { return os.Chtimes(path, time.Now(), time.Unix(1e9+1, 0)) },
		"in secret": func(path string) error {
			overwrite(t, path, mib+100, "other")
			return os.Chtimes(path, time.Unix(1e9, 0), time.Unix(1e9, 0))
		},
		"replaced": func(path string) error { return os.Rename(file(t, "other", content(mib)), path) },
		"deleted":  os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, "model.gguf", b)
			dir := t.TempDir()
			blob := linkRanges(t, open(t, dir), path, Range{50, 2*mib - 50})[0]
			s := open(t, dir) // which has not seen the bytes itself
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			if data, err := s.ReadChunk(blob, 1, nil); err == nil {
				t.Fatalf("got %d bytes of another file", len(data))
			}
			if s.Have(blob).Complete {
				t.Error("the range is still there")
			}
			_, err := s.Open(blob)
			wantCode(t, err, centram.NotFound)
			if list := s.List(); len(list) > 0 {
				t.Errorf("listed %+v, want nothing", list)
			}
		})
	}
}

// olderLink is what a .link file was before there were ranges.
const olderLink = `{"path":%q,"size":%d,"mtime":1000000000000000000}`

func TestALinkFromBeforeThereWereRangesIsRead(t *testing.T) {
	b := content(2*mib + 1)
	path := file(t, "model.gguf", b)
	s := open(t, t.TempDir())
	blob := put(t, s, b)
	if err := os.Remove(s.path(blob, "")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path(blob, linkExt), fmt.Appendf(nil, olderLink, path, len(b)), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, s.Dir)
	wantBlob(t, s, b)
	if list := s.List(); len(list) != 1 || list[0].Link != path || list[0].Offset != 0 {
		t.Errorf("listed %+v, want the link", list)
	}
	// It is known, and is as good as a new one.
	overwrite(t, path, 0, "other")
	age(t, path)
	if got := linkRanges(t, s, path, Range{0, 2*mib + 1})[0]; got != blob {
		t.Error("a file that is linked is hashed again")
	}
}

func TestNothingButALinkIsALink(t *testing.T) {
	b := content(1000)
	path := file(t, "model.gguf", b)
	for name, content := range map[string]string{
		"empty":            "",
		"torn":             `{"path":"/x","si`,
		"zeroes":           string(make([]byte, 200)),
		"of another size":  fmt.Sprintf(olderLink, path, 999),
		"beyond the end":   fmt.Sprintf(`{"path":%q,"size":1000,"mtime":1000000000000000000,"offset":1,"length":1000}`, path),
		"before the start": fmt.Sprintf(`{"path":%q,"size":1000,"mtime":1000000000000000000,"offset":-1,"length":1000}`, path),
		"far out":          fmt.Sprintf(`{"path":%q,"size":1000,"mtime":1000000000000000000,"offset":%d,"length":1000}`, path, math.MaxInt64),
	} {
		s := open(t, t.TempDir())
		blob := put(t, s, b)
		if err := errors.Join(os.Remove(s.path(blob, "")), os.WriteFile(s.path(blob, linkExt), []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
		if open(t, s.Dir).Have(blob).Complete {
			t.Errorf("%s: it is taken for a link", name)
		}
		wantNames(t, s.Dir)
	}
}

// A file whose time and size are the same is not read: what it has become meanwhile does not show.
func TestARangeThatIsLinkedIsNotReadAgain(t *testing.T) {
	s := open(t, t.TempDir())
	b := slices.Concat(content(mib), content(mib), content(mib+7)) // two that are the same
	path := file(t, "model.gguf", b)
	ranges := []Range{{0, mib}, {mib, mib}, {2 * mib, mib + 7}}
	own := put(t, s, content(mib+7))
	first := linkRanges(t, s, path, ranges...)
	if first[0] != first[1] || first[2] != own {
		t.Fatalf("blobs %v, want the first two to be the same and the last one as it was put in", first)
	}
	if err := os.WriteFile(path, make([]byte, len(b)), 0o600); err != nil {
		t.Fatal(err)
	}
	age(t, path)
	for range 2 {
		var told []int64
		list, err := s.LinkRanges(t.Context(), path, ranges, func(done, of int64) { told = append(told, done, of) })
		if err != nil {
			t.Fatal(err)
		}
		for i := range list {
			if list[i].Blob != first[i] {
				t.Errorf("range %d was read again", i)
			}
		}
		if want := int64(len(b)); !slices.Equal(told, []int64{want, want}) {
			t.Errorf("told of %v, want all at once", told)
		}
		s = open(t, s.Dir)
	}
	if got := linkRanges(t, s, path, append(ranges, Range{1, mib})...); got[3] != manifestOf(make([]byte, mib)).Blob || got[0] != first[0] {
		t.Error("not the new range alone was read")
	}
	if err := os.Chtimes(path, time.Unix(1e9+1, 0), time.Unix(1e9+1, 0)); err != nil {
		t.Fatal(err)
	}
	if got := linkRanges(t, s, path, ranges...); got[0] != manifestOf(make([]byte, mib)).Blob {
		t.Error("a file with another time was not read again")
	}
}

func TestABlobIsHereAsLongAsOneOfItsPlacesIs(t *testing.T) {
	s := open(t, t.TempDir())
	b := content(mib + 5)
	first := file(t, "a.gguf", slices.Concat([]byte("head"), b, b))
	second := file(t, "b.gguf", slices.Concat([]byte("another head"), b))
	linkRanges(t, s, first, Range{4, mib + 5}, Range{mib + 9, mib + 5})
	linkRanges(t, s, second, Range{12, mib + 5})
	for _, restart := range []bool{false, true} {
		if restart {
			s = open(t, s.Dir)
		}
		wantRange(t, s, b, first, 4)
		if err := os.Rename(first, first+".away"); err != nil {
			t.Fatal(err)
		}
		wantRange(t, s, b, second, 12)
		if err := os.Rename(first+".away", first); err != nil {
			t.Fatal(err)
		}
	}
	overwrite(t, first, 100, "other")
	age(t, first)
	s = open(t, s.Dir)
	_, err := s.ReadChunk(manifestOf(b).Blob, 0, nil)
	wantCode(t, err, centram.Unavailable) // one place is wrong, which the caller is told, and the next one is used
	wantRange(t, s, b, first, mib+9)
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
	wantRange(t, s, b, second, 12)
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	if s.Have(manifestOf(b).Blob).Complete {
		t.Error("the blob is here, and no file has it")
	}
}

func TestABlobThatIsLinkedGivesItsRoomAndStays(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Quota: 2 * mib}
	b := content(mib + 5)
	path := file(t, "model.gguf", slices.Concat([]byte("head"), b))
	s := openWith(t, cfg)
	put(t, s, b)
	linkRanges(t, s, path, Range{4, mib + 5})
	wantBlob(t, s, b) // as its own file, for as long as there is room
	s = openWith(t, cfg)
	if u := s.Usage(); u.Bytes != mib+5 {
		t.Errorf("%d bytes are used, want %d", u.Bytes, mib+5)
	}
	put(t, s, content(mib))
	wantRange(t, s, b, path, 4)
	if u := s.Usage(); u.Bytes != mib {
		t.Errorf("%d bytes are used, want %d", u.Bytes, mib)
	}
	wantNames(t, s.Dir, "", ".manifest", ".link", ".manifest")
}

func TestADamagedBlobIsReadFromWhereElseItLies(t *testing.T) {
	s := open(t, t.TempDir())
	b := content(2 * mib)
	blob := put(t, s, b)
	path := file(t, "model.gguf", slices.Concat([]byte("head"), b))
	linkRanges(t, s, path, Range{4, 2 * mib})
	overwrite(t, s.path(blob, ""), mib+5, "rot")
	_, err := s.ReadChunk(blob, 1, nil)
	wantCode(t, err, centram.Unavailable)
	wantRange(t, s, b, path, 4)
	if u := s.Usage(); u.Bytes != 0 {
		t.Errorf("%d bytes are used, want 0", u.Bytes)
	}
}

func TestLinkRangesEndsWhenItIsToldTo(t *testing.T) {
	s := open(t, t.TempDir())
	path := file(t, "model.gguf", content(8*mib))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	last := int64(0)
	_, err := s.LinkRanges(ctx, path, []Range{{0, mib}, {mib, 7 * mib}}, func(done, of int64) {
		if last = done; done > 2*mib {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || last > 4*mib {
		t.Errorf("got %v after %d bytes, want it to be canceled after 3 MiB", err, last)
	}
	wantNames(t, s.Dir)
}

func TestLinkRangesTellsHowFarItIs(t *testing.T) {
	s := open(t, t.TempDir())
	path := file(t, "model.gguf", content(5*mib))
	linkRanges(t, s, path, Range{0, mib})
	var told []int64
	_, err := s.LinkRanges(t.Context(), path, []Range{{4 * mib, 100}, {0, mib}, {mib + 9, 2*mib + 9}, {4 * mib, 100}}, func(done, of int64) {
		if of != 3*mib+109 {
			t.Errorf("told of %d bytes, want %d", of, 3*mib+109)
		}
		told = append(told, done)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(told) < 3 || !slices.IsSorted(told) || told[0] != mib || told[len(told)-1] != 3*mib+109 {
		t.Errorf("told of %v, want %d to %d", told, mib, 3*mib+109)
	}
}

func TestAFileThatIsWrittenWhileItIsReadIsNotLinked(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"changed":   func(path string) error { overwrite(t, path, 0, "other"); return nil },
		"truncated": func(path string) error { return os.Truncate(path, mib) },
		"deleted":   os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			path := file(t, "model.gguf", content(4*mib))
			_, err := s.LinkRanges(t.Context(), path, []Range{{0, 10}, {mib, 3 * mib}}, func(done, of int64) {
				if done == mib+10 {
					if err := change(path); err != nil {
						t.Error(err)
					}
				}
			})
			wantCode(t, err, centram.Conflict)
			wantNames(t, s.Dir)
		})
	}
}

// counted counts what is read.
type counted struct {
	io.ReaderAt
	n int64
}

func (c *counted) ReadAt(b []byte, at int64) (int, error) {
	c.n += int64(len(b))
	return c.ReaderAt.ReadAt(b, at)
}

func TestAnyRangesAreHashedInOneReading(t *testing.T) {
	b := content(4*mib + 77)
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 12 {
		var ranges []Range
		for range n {
			offset := r.Int64N(int64(len(b)))
			length := 1 + r.Int64N(int64(len(b))-offset)
			if r.IntN(2) == 0 {
				length = min(length, 1+r.Int64N(1000))
			}
			ranges = append(ranges, Range{offset, length})
		}
		f := &counted{ReaderAt: bytes.NewReader(b)}
		done := int64(0)
		list, err := digestRanges(t.Context(), f, ranges, func(n int64) { done = n })
		if err != nil || len(list) != n {
			t.Fatalf("%d manifests, %v; want %d", len(list), err, n)
		}
		for i, r := range ranges {
			if want := manifestOf(b[r.Offset:][:r.Length]); !sameManifest(list[i], want) {
				t.Errorf("range %+v of %v has another manifest", r, ranges)
			}
		}
		if f.n > int64(len(b)) {
			t.Errorf("%d bytes were read of a file with %d", f.n, len(b))
		}
		if done != total(ranges) {
			t.Errorf("told of %d bytes, want %d", done, total(ranges))
		}
	}
}

// FuzzLink has link files of any content read: what comes out of one lies in a file and has the length of the blob.
func FuzzLink(f *testing.F) {
	whole, err := json.Marshal(link{stamp{"/model.gguf", 1000, 1}, Range{0, 1000}})
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range [][]byte{nil, whole, whole[:40], slices.Concat(whole, []byte("\n"), whole), fmt.Appendf(nil, olderLink, "/model.gguf", 1000)} {
		f.Add(b)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &Store{Config: Config{Dir: dir}}
		m := &wire.Manifest{Size: 1000}
		if err := os.WriteFile(s.path(m.Blob, linkExt), b, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, l := range s.readLinks(m.Blob, m) {
			if l.Length != 1000 || l.Offset < 0 || l.Offset > l.Size-1000 {
				t.Errorf("a link is taken for one that is none: %+v", l)
			}
		}
	})
}

// BenchmarkNew opens a folder with 2000 links, as one with five large models has.
func BenchmarkNew(b *testing.B) {
	dir := b.TempDir()
	s := open(b, dir)
	var ranges []Range
	for i := range int64(2000) {
		ranges = append(ranges, Range{i, 64 << 10})
	}
	linkRanges(b, s, file(b, "model.gguf", content(mib)), ranges...)
	for b.Loop() {
		if s := open(b, dir); len(s.whole) != len(ranges) {
			b.Fatalf("%d blobs, want %d", len(s.whole), len(ranges))
		}
	}
}
