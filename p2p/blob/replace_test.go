package blob

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

// slice is a file that was assembled out of blobs, with something before each.
type slice struct {
	path  string
	blobs [][]byte
	at    map[wire.Hash]int64
}

func assemble(t testing.TB, blobs ...[]byte) *slice {
	t.Helper()
	f := &slice{blobs: blobs, at: map[wire.Hash]int64{}}
	b := []byte("head")
	for i, blob := range blobs {
		b = append(b, "some bytes between"[:i%19]...)
		f.at[manifestOf(blob).Blob] = int64(len(b))
		b = append(b, blob...)
	}
	f.path = file(t, "slice.gguf", b)
	return f
}

// want looks for the blobs in the file.
func (f *slice) want(t testing.TB, s *Store) {
	t.Helper()
	for _, b := range f.blobs {
		wantRange(t, s, b, f.path, f.at[manifestOf(b).Blob])
	}
}

func mustReplace(t testing.TB, s *Store, f *slice) {
	t.Helper()
	if err := s.Replace(t.Context(), f.path, f.at, nil); err != nil {
		t.Fatal(err)
	}
}

func TestReplaceKeepsOneOfTwoCopies(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Quota: 8 * mib}
	s := openWith(t, cfg)
	f := assemble(t, content(2*mib+5), content(17), content(mib))
	for _, b := range f.blobs {
		put(t, s, b)
	}
	other := content(100)
	put(t, s, other)
	pinned := manifestOf(f.blobs[2]).Blob
	if err := s.Pin(pinned); err != nil {
		t.Fatal(err)
	}
	if u := s.Usage(); u.Bytes != 3*mib+122 || u.Pinned != mib {
		t.Errorf("usage %+v before, want %d, of which %d pinned", u, 3*mib+122, mib)
	}
	var told []int64
	if err := s.Replace(t.Context(), f.path, f.at, func(done, of int64) { told = append(told, done, of) }); err != nil {
		t.Fatal(err)
	}
	if n := len(told); n < 4 || told[n-1] != 3*mib+22 || told[n-2] != 3*mib+22 {
		t.Errorf("told of %v, want %d in the end", told, 3*mib+22)
	}
	for range 2 {
		f.want(t, s)
		wantBlob(t, s, other)
		wantNames(t, s.Dir, "", ".manifest", ".link", ".manifest", ".link", ".manifest", ".link", ".manifest", ".pin")
		if u := s.Usage(); u.Bytes != 100 || u.Pinned != 0 {
			t.Errorf("usage %+v after, want 100 bytes", u)
		}
		wantCode(t, s.Remove(pinned), centram.Conflict)
		s = openWith(t, cfg)
	}
	put(t, s, content(8*mib-100)) // there is room for it
	f.want(t, s)

	// Another time there is nothing to do, and nothing is read.
	if err := s.Replace(t.Context(), f.path, f.at, func(int64, int64) { t.Error("it is hashed again") }); err != nil {
		t.Error(err)
	}
	// Without the file the blobs are to be fetched again, and the pin is waiting.
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	if s.Have(pinned).Complete {
		t.Error("the blob is here, and no file has it")
	}
	b := f.blobs[2]
	mustFetch(t, FetchConfig{Store: s, Manifest: manifestOf(b), Sources: of(&remote{name: 1, content: b})})
	wantBlob(t, s, b)
	wantCode(t, s.Remove(pinned), centram.Conflict)
}

func TestReplaceChangesNothingUnlessTheFileHasAll(t *testing.T) {
	s := open(t, t.TempDir())
	f := assemble(t, content(mib+5), content(100))
	for _, b := range f.blobs {
		put(t, s, b)
	}
	first, second := manifestOf(f.blobs[0]).Blob, manifestOf(f.blobs[1]).Blob
	right := f.at[second]
	for name, row := range map[string]struct {
		path string
		at   map[wire.Hash]int64
		want centram.Code
	}{
		"another place":     {f.path, map[wire.Hash]int64{first: f.at[first], second: right - 1}, centram.Invalid},
		"beyond the end":    {f.path, map[wire.Hash]int64{first: f.at[first], second: right + 1}, centram.Invalid},
		"before the start":  {f.path, map[wire.Hash]int64{first: f.at[first], second: -1}, centram.Invalid},
		"no such blob":      {f.path, map[wire.Hash]int64{first: f.at[first], {1}: 0}, centram.NotFound},
		"no such file":      {f.path + ".not", f.at, centram.NotFound},
		"the blob's own":    {s.path(first, ""), map[wire.Hash]int64{first: 0}, centram.Invalid},
		"a name of its own": {symlink(t, s.path(first, "")), map[wire.Hash]int64{first: 0}, centram.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			wantCode(t, s.Replace(t.Context(), row.path, row.at, nil), row.want)
			for _, b := range f.blobs {
				wantBlob(t, s, b)
			}
			wantNames(t, s.Dir, "", "", ".manifest", ".manifest")
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Replace(ctx, f.path, f.at, func(int64, int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want it to be canceled", err)
	}
	err = s.Replace(t.Context(), f.path, f.at, func(done, of int64) { overwrite(t, f.path, 0, "other") })
	wantCode(t, err, centram.Conflict)
	wantNames(t, s.Dir, "", "", ".manifest", ".manifest")
}

func symlink(t testing.TB, to string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestReplaceSurvivesACrashAtAnyStep has the folder as it is between two of the steps.
func TestReplaceSurvivesACrashAtAnyStep(t *testing.T) {
	f := assemble(t, content(mib+5))
	b := f.blobs[0]
	blob := manifestOf(b).Blob
	done := open(t, t.TempDir())
	put(t, done, b)
	mustReplace(t, done, f)
	give := func(s *Store, ext, to string) {
		t.Helper()
		data, err := os.ReadFile(done.path(blob, ext))
		if err == nil {
			err = os.WriteFile(filepath.Join(s.Dir, to), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	name := blob.String()
	steps := []struct {
		name string
		do   func(s *Store)
		used int64
	}{
		{"before", func(*Store) {}, mib + 5},
		{"written down, without names", func(s *Store) {
			give(s, manifestExt, "1"+tmpExt)
			give(s, linkExt, "2"+tmpExt)
		}, mib + 5},
		{"a new manifest", func(s *Store) { give(s, manifestExt, name+manifestExt) }, mib + 5},
		{"a link beside the file", func(s *Store) { give(s, linkExt, name+linkExt) }, mib + 5},
		{"the link alone", func(s *Store) {
			if err := os.Remove(s.path(blob, "")); err != nil {
				t.Fatal(err)
			}
		}, 0},
	}
	for crash := range steps {
		t.Run(steps[crash].name, func(t *testing.T) {
			s := open(t, t.TempDir())
			put(t, s, b)
			if err := s.Pin(blob); err != nil {
				t.Fatal(err)
			}
			for _, step := range steps[:crash+1] {
				step.do(s)
			}
			s = open(t, s.Dir)
			wantOpen(t, s, b)
			if u := s.Usage(); u.Bytes != steps[crash].used {
				t.Errorf("%d bytes are used, want %d", u.Bytes, steps[crash].used)
			}
			mustReplace(t, s, f)
			f.want(t, s)
			f.want(t, open(t, s.Dir))
			wantNames(t, s.Dir, ".link", ".manifest", ".pin")
		})
	}
}

// victimSlice is set for a process that is killed while it exchanges blobs: the slice it does so for.
const victimSlice = "CENTRAM_BLOB_VICTIM_SLICE"

const victimBlobs = 100

func victimBlob(i int) []byte { return content(30_000 + i) }

func beKilledReplacing(dir, path string) {
	at, offset := map[wire.Hash]int64{}, int64(len("head"))
	for i := range victimBlobs {
		b := victimBlob(i)
		offset += int64(i % 19)
		at[manifestOf(b).Blob] = offset
		offset += int64(len(b))
	}
	s, err := New(Config{Dir: dir})
	if err == nil {
		err = s.Replace(context.Background(), path, at, nil)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func TestKill9LosesNoBlobThatIsReplaced(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var blobs [][]byte
	for i := range victimBlobs {
		blobs = append(blobs, victimBlob(i))
	}
	f := assemble(t, blobs...)
	dir := t.TempDir()
	s := open(t, dir)
	for _, b := range blobs {
		put(t, s, b)
	}
	// Each is killed when a blob has come so far: it has a link, or its own file is gone.
	type moment struct {
		blob   int
		linked bool
	}
	between := 0
	for _, m := range []moment{{0, true}, {50, true}, {0, false}, {30, false}, {60, false}, {victimBlobs, false}} {
		victim := exec.Command(exe)
		victim.Env = append(os.Environ(), victimDir+"="+dir, victimSlice+"="+f.path)
		victim.Stderr = os.Stderr
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- victim.Wait() }()
		watch := time.NewTicker(20 * time.Microsecond)
		var end error
		for alive := true; alive; {
			select {
			case end = <-ended:
				alive = false
			case <-watch.C:
				if m.blob == victimBlobs {
					continue
				}
				_, linkErr := os.Stat(s.path(manifestOf(blobs[m.blob]).Blob, linkExt))
				_, ownErr := os.Stat(s.path(manifestOf(blobs[m.blob]).Blob, ""))
				if m.linked && linkErr == nil || ownErr != nil {
					victim.Process.Kill()
				}
			}
		}
		watch.Stop()
		s := open(t, dir)
		own := 0
		for _, b := range blobs {
			wantOpen(t, s, b)
			if _, err := s.Path(manifestOf(b).Blob); err == nil {
				own++
			}
		}
		if own > 0 && own < victimBlobs {
			between++
		}
		if end == nil {
			break
		}
		if m.blob == victimBlobs {
			t.Fatalf("it ended with %v", end)
		}
	}
	f.want(t, open(t, dir))
	t.Logf("%d were killed with some blobs in the one place alone and some in the other", between)
}

func TestABlobIsReadWhileItIsReplaced(t *testing.T) {
	s := open(t, t.TempDir())
	var blobs [][]byte
	for i := range 20 {
		blobs = append(blobs, content(mib+1+i))
	}
	f := assemble(t, blobs...)
	for _, b := range blobs {
		put(t, s, b)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for n := range 2 {
		readers.Go(func() {
			for ctx.Err() == nil {
				for _, b := range blobs {
					blob := manifestOf(b).Blob
					if n == 0 {
						wantOpen(t, s, b)
					} else if got, err := s.ReadChunk(blob, 1, nil); err != nil || !slices.Equal(got, chunkOf(b, 1)) {
						t.Errorf("read %d bytes, %v", len(got), err)
					}
				}
			}
		})
	}
	err := s.Replace(t.Context(), f.path, f.at, nil)
	cancel()
	readers.Wait()
	if err != nil {
		t.Fatal(err)
	}
	f.want(t, s)
}
