package convert

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
)

// large is a model of 15 MB.
func large() gguf.Shape {
	s := small()
	s.Layers, s.Embedding, s.FeedForward, s.Tied = 2, 256, 2048, true
	return s
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("in the folder there is %v, %v, want nothing", left, err)
	}
}

func TestAConversionThatIsCancelledLeavesNothing(t *testing.T) {
	w := newTwin(t, "llama", large())
	for _, at := range []float64{0, 0.1, 0.5, 1} {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Folder(ctx, w.dir, filepath.Join(dir, "out.gguf"), Config{Progress: func(done, total int64) {
			if float64(done) >= at*float64(total) {
				cancel()
			}
		}})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at %v: got %v, want context.Canceled", at, err)
		}
		wantEmpty(t, dir)
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Folder(ctx, w.dir, filepath.Join(dir, "out.gguf"), Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: got %v, want context.Canceled", err)
	}
	wantEmpty(t, dir)
}

func TestProgressGrowsToTheSizeOfTheFile(t *testing.T) {
	w := newTwin(t, "qwen2", large())
	path := filepath.Join(t.TempDir(), "out.gguf")
	var last, size int64
	calls := 0
	_, err := Folder(t.Context(), w.dir, path, Config{Progress: func(done, total int64) {
		if done <= last || size != 0 && total != size {
			t.Errorf("told %d of %d after %d of %d", done, total, last, size)
		}
		last, size, calls = done, total, calls+1
	}})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() != last || last != size || calls < 10 {
		t.Errorf("told %d times, %d of %d at last; the file is %v, %v", calls, last, size, info, err)
	}
	if mode := info.Mode().Perm(); mode != 0o644 {
		t.Errorf("the file has the mode %o, want 644", mode)
	}
}

func TestMemoryDoesNotGrowWithTheModel(t *testing.T) {
	for _, typ := range []Type{AsSource, F16} {
		var took [2]uint64
		for i, layers := range []int{1, 4} {
			s := large()
			s.Layers = layers
			w := newTwin(t, "llama", s)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := Folder(t.Context(), w.dir, filepath.Join(t.TempDir(), "out.gguf"), Config{Type: typ}); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			took[i] = after.TotalAlloc - before.TotalAlloc
		}
		if layer := (took[1] - took[0]) / 3; took[1] > took[0] && layer > 500e3 {
			t.Errorf("type %q: each layer of 7 MB took %d bytes of memory, want next to nothing", typ, layer)
		}
	}
}

func TestADiskWithoutRoomIsNotWrittenTo(t *testing.T) {
	w := newTwin(t, "qwen2", small())
	dir := t.TempDir()
	asked := ""
	_, err := Folder(t.Context(), w.dir, filepath.Join(dir, "out.gguf"), Config{Free: func(folder string) (int64, error) {
		asked = folder
		return 1000, nil
	}})
	if centram.CodeOf(err) != centram.Unavailable || !strings.Contains(err.Error(), "has room for") || asked != dir {
		t.Errorf("asked about %s, got %v, want Unavailable", asked, err)
	}
	wantEmpty(t, dir)
	if free, err := freeBytes(dir); err != nil || free <= 0 {
		t.Errorf("the disk has %d bytes, %v", free, err)
	}
	_, err = Folder(t.Context(), w.dir, filepath.Join(dir, "none", "out.gguf"), Config{})
	if centram.CodeOf(err) != centram.NotFound || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("into no folder: got %v, want NotFound", err)
	}
}

func TestAFileThatIsThereStays(t *testing.T) {
	w := newTwin(t, "qwen2", small())
	path := filepath.Join(t.TempDir(), "out.gguf")
	// It appears while the model is written, too.
	appear := func(_, _ int64) {
		if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		_, err := Folder(t.Context(), w.dir, path, Config{Progress: appear})
		if centram.CodeOf(err) != centram.Conflict {
			t.Errorf("got %v, want Conflict", err)
		}
		if b, err := os.ReadFile(path); string(b) != "old" {
			t.Errorf("got %.10q, %v, want what was there", b, err)
		}
	}
}

func TestWithoutNamelessFilesItIsTheSame(t *testing.T) {
	w := newTwin(t, "qwen2", small())
	m := readModelOf(t, w)
	d, err := m.draft(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f, err := newNamed(filepath.Join(dir, "out.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Write(f); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 || !strings.HasPrefix(entries[0].Name(), ".out.gguf.") {
		t.Errorf("while it is written there is %v, want one file with a dot", entries)
	}
	if err := f.appear(filepath.Join(dir, "out.gguf")); err != nil {
		t.Fatal(err)
	}
	f.discard()
	if entries, _ := os.ReadDir(dir); len(entries) != 1 || entries[0].Name() != "out.gguf" {
		t.Errorf("at the end there is %v, want the file alone", entries)
	}
	if _, err := gguf.OpenModel(filepath.Join(dir, "out.gguf")); err != nil {
		t.Error(err)
	}
}
