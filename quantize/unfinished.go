package quantize

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/centram/centram"
)

// suffix is behind the name of a file while it is written. The folder of models is searched for names that end in .gguf.
const suffix = ".quantizing"

// unfinished is a file that is being written. The kernel lets go of its lock however the process ends, so what is not locked is
// nobody's.
type unfinished struct {
	file *os.File
	path string
}

// errHeld says that another process writes a file.
var errHeld = errors.New("another process writes it")

// begin makes the file that is to become out. It fails with Conflict if another process is at that.
func begin(out string) (*unfinished, error) {
	path := out + suffix
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, fs.ErrExist) {
			err = removeDead(path)
			if err == nil {
				continue
			}
		}
		if errors.Is(err, errHeld) {
			return nil, centram.Errorf(centram.Conflict, "%s is being written by another process", out).
				WithHint("Wait until it is done, or name another file with --out. If there is no such process, remove %s", path)
		}
		if err != nil {
			return nil, centram.Errorf(centram.Forbidden, "%s could not be written: %w", out, err).WithHint("Name another file with --out.")
		}
		u := &unfinished{f, path}
		if err := lock(f); err == nil && u.there() || unlockable(err) {
			return u, nil
		}
		f.Close() // somebody took it for a dead one's in that moment
	}
}

// there reports whether the file still stands under its unfinished name.
func (u *unfinished) there() bool {
	ours, err := u.file.Stat()
	if err != nil {
		return false
	}
	now, err := os.Lstat(u.path)
	return err == nil && os.SameFile(ours, now)
}

// size is how much has been written.
func (u *unfinished) size() uint64 {
	info, err := u.file.Stat()
	if err != nil {
		return 0
	}
	return uint64(info.Size())
}

// discard removes the file unless it has been given its name.
func (u *unfinished) discard() error {
	if u.there() {
		if err := os.Remove(u.path); err != nil {
			return err
		}
	}
	return u.file.Close()
}

// Sweep removes what processes that died have left in a folder and those in it, and says how many files that were. What may
// not be read is passed over.
func Sweep(dir string) (removed int) {
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && path != dir && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		if err == nil && swept(path, entry) {
			removed++
		}
		return nil
	})
	return removed
}

// sweepFolder does as Sweep, in the folder alone.
func sweepFolder(dir string) {
	entries, _ := os.ReadDir(dir) // whether it can be read shows when it is written to
	for _, entry := range entries {
		swept(filepath.Join(dir, entry.Name()), entry)
	}
}

func swept(path string, entry fs.DirEntry) bool {
	return entry.Type().IsRegular() && strings.HasSuffix(strings.ToLower(path), ".gguf"+suffix) && removeDead(path) == nil
}

// removeDead removes an unfinished file that no process holds. It fails with errHeld if one does, or if that cannot be told.
func removeDead(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := lock(f); err != nil {
		return errHeld
	}
	u := unfinished{f, path}
	if !u.there() { // another has removed it
		return nil
	}
	return os.Remove(path)
}

func lock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// unlockable says whether there are no locks where a file is, as on some network drives.
func unlockable(err error) bool {
	return errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.ENOLCK) || errors.Is(err, syscall.ENOSYS)
}
