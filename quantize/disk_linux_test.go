package quantize

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"golang.org/x/sys/unix"
)

// disk is a file system of its own, of so many bytes.
func disk(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("a disk cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestADiskThatIsTooSmallIsNoticedBeforehand(t *testing.T) {
	in, dir := generate(t, small(gguf.F16)), disk(t, "size=1m")
	_, err := Config{In: in, Out: filepath.Join(dir, "out.gguf"), Type: typeOf(t, "q8_0")}.Plan()
	wantFull(t, err, "takes 3 MB", "room for 1 MB")
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestADiskThatFillsUpMeanwhileLeavesNothingOfTheNewFileAndAllElse(t *testing.T) {
	in, dir := generate(t, slow()), disk(t, "size=40m")
	mine := filepath.Join(dir, "mine")
	var filled int64
	err := write(t.Context(), Config{In: in, Out: filepath.Join(dir, "out.gguf"), Type: typeOf(t, "q8_0"), Threads: 1}, func(p Progress) {
		if filled == 0 {
			filled = fill(t, mine)
		}
	})
	wantFull(t, err, "takes ", "room for ")
	if got := strings.Join(files(t, dir), " "); got != "mine" {
		t.Errorf("got %s", got)
	}
	if info, err := os.Stat(mine); err != nil || info.Size() != filled {
		t.Errorf("got %v, %v, want %d bytes", info, err, filled)
	}
}

func TestAFolderThatIsReadOnlyIsNoticedBeforehand(t *testing.T) {
	in, dir := generate(t, small(gguf.F16)), disk(t, "size=10m")
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skipf("a disk cannot be made read-only here: %v", err)
	}
	_, err := Config{In: in, Out: filepath.Join(dir, "out.gguf"), Type: typeOf(t, "q8_0")}.Plan()
	if centram.CodeOf(err) != centram.Forbidden || !strings.Contains(err.Error(), "read-only") || !strings.Contains(centram.HintOf(err), "--out") {
		t.Errorf("got %v, %s", err, centram.HintOf(err))
	}
}

func wantFull(t *testing.T, err error, says ...string) {
	t.Helper()
	for _, s := range append(says, "disk") {
		if centram.CodeOf(err) != centram.Unavailable || !strings.Contains(err.Error(), s) || !strings.Contains(centram.HintOf(err), "Make room") {
			t.Errorf("got %v, hint %s; want %q", err, centram.HintOf(err), s)
		}
	}
}

// fill writes a file until the disk is full, and returns how much that was.
func fill(t *testing.T, path string) (n int64) {
	f, err := os.Create(path)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for {
		m, err := f.Write(block)
		n += int64(m)
		if errors.Is(err, unix.ENOSPC) {
			return n
		}
		if err != nil {
			t.Error(err)
			return n
		}
	}
}
