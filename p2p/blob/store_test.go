package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

func TestPutKeepsBlobsOfAnySize(t *testing.T) {
	for _, n := range []int{0, 1, mib - 1, mib, mib + 1, 3*mib + 17} {
		dir := t.TempDir()
		s := open(t, dir)
		b := content(n)
		put(t, s, b)
		wantBlob(t, s, b)
		wantNames(t, dir, "", ".manifest")
		if u := s.Usage(); u.Bytes != int64(n) {
			t.Errorf("%d bytes are used, want %d", u.Bytes, n)
		}
		wantBlob(t, open(t, dir), b)
	}
}

func TestPutTwiceKeepsOne(t *testing.T) {
	s := open(t, t.TempDir())
	b := content(mib + 1)
	put(t, s, b)
	put(t, s, b)
	wantNames(t, s.Dir, "", ".manifest")
	if u := s.Usage(); u.Bytes != mib+1 {
		t.Errorf("%d bytes are used, want %d", u.Bytes, mib+1)
	}
}

func TestPutRefusesAnotherSizeThanItWasTold(t *testing.T) {
	s := open(t, t.TempDir())
	for _, size := range []int64{0, mib, mib + 1, 2*mib + 2} {
		_, err := s.Put(t.Context(), bytes.NewReader(content(mib+2)), size)
		wantCode(t, err, centram.Invalid)
	}
	_, err := s.Put(t.Context(), bytes.NewReader(nil), wire.MaxChunks*wire.ChunkSize+1)
	wantCode(t, err, centram.TooLarge)
	wantNames(t, s.Dir)
	if u := s.Usage(); u.Bytes != 0 {
		t.Errorf("%d bytes are used, want 0", u.Bytes)
	}
}

func TestPutLeavesNothingWhenTheReaderFails(t *testing.T) {
	s := open(t, t.TempDir())
	r, w := mustPipe(t)
	go func() {
		w.Write(content(mib))
		w.Close()
	}()
	if _, err := s.Put(t.Context(), r, 2*mib); centram.CodeOf(err) != centram.Invalid {
		t.Errorf("got %v, want Invalid for half of the bytes", err)
	}
	wantNames(t, s.Dir)
}

func mustPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, w
}

func TestImportCopiesAFile(t *testing.T) {
	s := open(t, t.TempDir())
	path := filepath.Join(t.TempDir(), "model.gguf")
	b := content(2*mib + 5)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, b)
	_, err := s.Import(t.Context(), path)
	wantCode(t, err, centram.NotFound)
}

func TestWhatIsNotHereIsNotFound(t *testing.T) {
	s := open(t, t.TempDir())
	blob := wire.Hash{1}
	if have := s.Have(blob); have.Complete || len(have.Bits) > 0 {
		t.Errorf("have %+v, want nothing", have)
	}
	_, err := s.Manifest(blob)
	wantCode(t, err, centram.NotFound)
	_, err = s.ReadChunk(blob, 0, nil)
	wantCode(t, err, centram.NotFound)
	_, err = s.Path(blob)
	wantCode(t, err, centram.NotFound)
	wantCode(t, s.Pin(blob), centram.NotFound)
	wantCode(t, s.Remove(blob), centram.NotFound)
	here := put(t, s, content(mib))
	_, err = s.ReadChunk(here, 1, nil)
	wantCode(t, err, centram.NotFound)
	_, err = s.ReadChunk(here, 1<<31, nil)
	wantCode(t, err, centram.NotFound)
}

// clock is a hand-wound one.
type clock struct{ time.Time }

func (c *clock) now() time.Time {
	c.Time = c.Add(time.Hour)
	return c.Time
}

func TestQuotaRemovesWhatWasUsedLongestAgo(t *testing.T) {
	c := &clock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	cfg := Config{Dir: t.TempDir(), Quota: 3 * mib, Now: c.now}
	s := openWith(t, cfg)
	a, b, d := content(mib), content(mib-1), content(mib-2)
	blobA, blobB, blobD := put(t, s, a), put(t, s, b), put(t, s, d)
	if _, err := s.ReadChunk(blobA, 0, nil); err != nil {
		t.Fatal(err)
	}
	s = openWith(t, cfg) // the order survives
	e := content(mib - 3)
	blobE := put(t, s, e)
	for blob, want := range map[wire.Hash]bool{blobA: true, blobB: false, blobD: true, blobE: true} {
		if got := s.Have(blob).Complete; got != want {
			t.Errorf("blob %s is here: %v, want %v", short(blob), got, want)
		}
	}
	if u := s.Usage(); u.Bytes != 3*mib-5 || u.Quota != 3*mib {
		t.Errorf("usage %+v, want %d of %d", u, 3*mib-5, 3*mib)
	}
	list := s.List()
	got := []wire.Hash{}
	for _, i := range list {
		got = append(got, i.Blob)
	}
	if want := []wire.Hash{blobE, blobA, blobD}; !slices.Equal(got, want) {
		t.Errorf("listed %v, want %v", got, want)
	}
}

func TestQuotaNeverRemovesWhatIsPinnedOrBeingFetched(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Quota: 4 * mib}
	s := openWith(t, cfg)
	pinned := content(mib)
	blob := put(t, s, pinned)
	if err := s.Pin(blob); err != nil {
		t.Fatal(err)
	}
	s = openWith(t, cfg) // pins survive
	coming := content(2*mib + 1)
	p := begin(t, s, manifestOf(coming))
	write(t, p, coming, 0)
	last := content(mib - 1)
	put(t, s, last)

	_, err := s.Put(t.Context(), bytes.NewReader(content(mib+2)), mib+2)
	wantCode(t, err, centram.Unavailable)
	if centram.HintOf(err) == "" {
		t.Error("the error has no hint")
	}
	_, err = s.Put(t.Context(), bytes.NewReader(nil), 4*mib+1)
	wantCode(t, err, centram.TooLarge)
	_, err = s.Begin(t.Context(), manifestOf(content(5*mib)))
	wantCode(t, err, centram.TooLarge)
	wantBlob(t, s, pinned)
	wantBlob(t, s, last) // nothing was removed in vain
	if u := s.Usage(); u.Bytes != 4*mib || u.Pinned != mib {
		t.Errorf("usage %+v, want %d, of which %d pinned", u, 4*mib, mib)
	}
	wantCode(t, s.Remove(blob), centram.Conflict)
	wantCode(t, s.Remove(manifestOf(coming).Blob), centram.Conflict)

	if err := errors.Join(p.Close(), s.Unpin(blob)); err != nil {
		t.Fatal(err)
	}
	put(t, s, content(4*mib)) // takes the place of all, also of the abandoned part
	wantNames(t, s.Dir, "", ".manifest")
}

func TestRemoveLeavesNothing(t *testing.T) {
	s := open(t, t.TempDir())
	b := content(2 * mib)
	blob := put(t, s, content(mib))
	p := begin(t, s, manifestOf(b))
	write(t, p, b, 1)
	if err := errors.Join(p.Close(), s.Remove(blob), s.Remove(manifestOf(b).Blob)); err != nil {
		t.Fatal(err)
	}
	wantNames(t, s.Dir)
	if u := s.Usage(); u.Bytes != 0 || len(s.List()) != 0 {
		t.Errorf("usage %+v, list %v; want nothing", u, s.List())
	}
}

func TestNewCleansUpAfterACrash(t *testing.T) {
	dir := t.TempDir()
	b := content(mib + 1)
	blob := put(t, open(t, dir), b)
	for _, name := range []string{"x" + tmpExt, blob.String() + stateExt, (wire.Hash{7}).String() + manifestExt, (wire.Hash{7}).String() + pinExt} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("torn"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir)
	wantBlob(t, s, b)
	wantNames(t, dir, "", ".manifest")
}

func TestABlobWithoutManifestCountsAgainOnceItWasLookedAt(t *testing.T) {
	dir := t.TempDir()
	b := content(3 * mib)
	blob := put(t, open(t, dir), b)
	if err := os.Remove(filepath.Join(dir, blob.String()+manifestExt)); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if s.Have(blob).Complete {
		t.Fatal("a blob that cannot be checked counts as complete")
	}
	if r, err := Fetch(t.Context(), FetchConfig{Store: s, Manifest: manifestOf(b), Sources: of()}); err != nil || len(r.Receipts) > 0 {
		t.Fatalf("fetched %+v, %v; want all to be found on the disk", r, err)
	}
	wantBlob(t, s, b)
}

func TestABlobThatWasCutShortIsMended(t *testing.T) {
	dir := t.TempDir()
	b := content(3*mib + 2)
	blob := put(t, open(t, dir), b)
	if err := os.Truncate(filepath.Join(dir, blob.String()), 2*mib); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	src := &remote{name: 1, content: b}
	mustFetch(t, FetchConfig{Store: s, Manifest: manifestOf(b), Sources: of(src)})
	if got := src.asks(); !slices.Equal(got, []uint32{2, 3}) {
		t.Errorf("fetched chunks %v, want 2 and 3", got)
	}
	wantBlob(t, s, b)
}

func TestADamagedBlobIsNotGivenAwayAndMended(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	b := content(4 * mib)
	blob := put(t, s, b)
	overwrite(t, filepath.Join(dir, blob.String()), 2*mib+5, "rot")
	_, err := s.ReadChunk(blob, 2, nil)
	wantCode(t, err, centram.Unavailable)
	if s.Have(blob).Complete {
		t.Error("a damaged blob counts as complete")
	}
	src := &remote{name: 1, content: b}
	if _, err := Fetch(t.Context(), FetchConfig{Store: s, Manifest: manifestOf(b), Sources: of(src)}); err != nil {
		t.Fatal(err)
	}
	if got := src.asks(); !slices.Equal(got, []uint32{2}) {
		t.Errorf("fetched chunks %v, want 2 alone", got)
	}
	wantBlob(t, s, b)
}

func linkFile(t *testing.T, s *Store, b []byte) (blob wire.Hash, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := s.Link(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return m.Blob, path
}

func TestALinkedFileStaysWhereItIs(t *testing.T) {
	s := openWith(t, Config{Dir: t.TempDir(), Quota: 1})
	b := content(2*mib + 9)
	blob, path := linkFile(t, s, b)
	wantBlob(t, s, b)
	wantNames(t, s.Dir, ".link", ".manifest")
	if u := s.Usage(); u.Bytes != 0 {
		t.Errorf("a link takes %d bytes, want 0", u.Bytes)
	}
	s = open(t, s.Dir)
	wantBlob(t, s, b)
	if list := s.List(); len(list) != 1 || list[0].Link != path || !list[0].Whole || list[0].Chunks != 3 {
		t.Errorf("listed %+v, want the link", list)
	}
	if err := s.Remove(blob); err != nil {
		t.Fatal(err)
	}
	wantNames(t, s.Dir)
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file is gone with the link: %v", err)
	}
}

func TestALinkIsGoneWhenItsFileHasChanged(t *testing.T) {
	b := content(2 * mib)
	keepTime := func(path string) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		overwrite(t, path, mib, "other")
		if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range map[string]func(path string){
		"longer":           func(path string) { os.WriteFile(path, append(slices.Clone(b), 0), 0o600) },
		"newer":            func(path string) { os.Chtimes(path, time.Now(), time.Unix(1e9, 0)) },
		"in secret":        keepTime,
		"now a folder":     func(path string) { os.Remove(path); os.Mkdir(path, 0o700) },
		"replaced by none": func(path string) { os.Remove(path) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			blob, path := linkFile(t, s, b)
			change(path)
			if data, err := s.ReadChunk(blob, 1, nil); err == nil {
				t.Fatalf("got %d bytes of another file", len(data))
			}
			if s.Have(blob).Complete {
				t.Error("the link is still there")
			}
		})
	}
}

func TestALinkComesBackWithItsFile(t *testing.T) {
	s := open(t, t.TempDir())
	b := content(mib)
	blob, path := linkFile(t, s, b)
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if s.Have(blob).Complete {
		t.Error("a file that is away counts")
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, b)
}

func TestPutTakesThePlaceOfALink(t *testing.T) {
	s := open(t, t.TempDir())
	b := content(mib)
	_, path := linkFile(t, s, b)
	put(t, s, b)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, b)
	wantBlob(t, open(t, s.Dir), b)
	wantNames(t, s.Dir, "", ".manifest")
}

func TestABlobMayArriveInTwoWaysAtOnce(t *testing.T) {
	t.Run("completed", func(t *testing.T) { arriveTwice(t, false) })
	t.Run("given up", func(t *testing.T) { arriveTwice(t, true) })
}

func arriveTwice(t *testing.T, giveUp bool) {
	s := open(t, t.TempDir())
	b := content(2 * mib)
	p := begin(t, s, manifestOf(b))
	write(t, p, b, 0, 1)
	put(t, s, b)
	wantBlob(t, s, b)
	end := p.Complete
	if giveUp {
		end = func(context.Context) error { return p.Close() }
	}
	if err := end(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, b)
	wantNames(t, s.Dir, "", ".manifest")
	if u := s.Usage(); u.Bytes != 2*mib {
		t.Errorf("%d bytes are used, want %d", u.Bytes, 2*mib)
	}
}

func TestHashesOfOtherContentDiffer(t *testing.T) {
	if sha256.Sum256(content(mib)) == sha256.Sum256(content(mib-1)) {
		t.Fatal("the tests' contents are too much alike")
	}
}
