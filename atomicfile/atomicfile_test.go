package atomicfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/centram/centram/atomicfile"
)

func TestAFileIsReplacedWithItsMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, text := range []string{"first, and longer", "second"} {
		if err := atomicfile.Write(path, 0o640, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got := read(t, path); got != text {
			t.Errorf("the file has %q, want %q", got, text)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o640 {
		t.Errorf("the file's mode is %v, want %v", info.Mode(), fs.FileMode(0o640))
	}
	nothingElse(t, path)
}

func TestTheOldFileIsThereUntilTheNewOneIsWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := atomicfile.Write(path, 0o600, []byte("old")); err != nil {
		t.Fatal(err)
	}
	err := atomicfile.WriteFunc(path, 0o600, func(f *os.File) error {
		if _, err := f.WriteString("new"); err != nil {
			return err
		}
		if got := read(t, path); got != "old" {
			t.Errorf("while it is written the file has %q, want %q", got, "old")
		}
		stale, err := filepath.Glob(filepath.Join(filepath.Dir(path), atomicfile.TempPattern))
		if len(stale) != 1 || stale[0] != f.Name() {
			t.Errorf("TempPattern has %v, want %s (%v)", stale, f.Name(), err)
		}
		return nil
	})
	if got := read(t, path); err != nil || got != "new" {
		t.Errorf("then it has %q, want %q (%v)", got, "new", err)
	}
}

func TestAFailureLeavesEverythingAsItWas(t *testing.T) {
	broken := errors.New("broken")
	tests := []struct {
		name string
		fill func(*os.File) error
		want error
	}{
		{"what writes fails", func(f *os.File) error { f.WriteString("half"); return broken }, broken},
		{"the file was closed", func(f *os.File) error { return f.Close() }, os.ErrClosed},
		{"the new file is gone", func(f *os.File) error { return os.Remove(f.Name()) }, fs.ErrNotExist},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if err := atomicfile.Write(path, 0o600, []byte("old")); err != nil {
				t.Fatal(err)
			}
			if err := atomicfile.WriteFunc(path, 0o600, tt.fill); !errors.Is(err, tt.want) {
				t.Errorf("WriteFunc says %v, want %v", err, tt.want)
			}
			if got := read(t, path); got != "old" {
				t.Errorf("the file has %q, want %q", got, "old")
			}
			nothingElse(t, path)
		})
	}
}

func TestAFolderThatIsMissingIsSaid(t *testing.T) {
	err := atomicfile.Write(filepath.Join(t.TempDir(), "missing", "file"), 0o600, nil)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Write says %v, want %v", err, fs.ErrNotExist)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func nothingElse(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder has %v, want only %s (%v)", entries, filepath.Base(path), err)
	}
}
