package blob

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/centram/centram"
	"github.com/centram/centram/atomicfile"
)

// writeFile writes a file whole or not at all, and forces it to the disk.
func writeFile(path string, b []byte) error { return explain(atomicfile.Write(path, 0o600, b)) }

// writeTmp writes a file that has no name of its own yet, forces it to the disk, and returns the name that it has.
func writeTmp(dir string, b []byte) (string, error) {
	tmp, err := os.CreateTemp(dir, "*"+tmpExt) // mode 0600
	if err != nil {
		return "", explain(err)
	}
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return "", errors.Join(explain(err), os.Remove(tmp.Name()))
	}
	return tmp.Name(), nil
}

// batch writes many files of a folder with one wait for the disk instead of one for each.
type batch struct {
	dir  string
	tmps []string
}

// add writes a file that has no name of its own yet, and returns the one that it has.
func (b *batch) add(data []byte) (tmp string, err error) {
	f, err := os.CreateTemp(b.dir, "*"+tmpExt) // mode 0600
	if err != nil {
		return "", explain(err)
	}
	b.tmps = append(b.tmps, f.Name())
	_, err = f.Write(data)
	return f.Name(), explain(errors.Join(err, f.Close()))
}

// flush forces all that was added to the disk, so that no name comes to stand for half a file.
func (b *batch) flush() error {
	if len(b.tmps) > flushEach {
		if err := flushAll(b.dir); !errors.Is(err, errors.ErrUnsupported) {
			return explain(err)
		}
	}
	for _, tmp := range b.tmps {
		f, err := os.OpenFile(tmp, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return explain(err)
		}
	}
	return nil
}

// flushEach is how many files are forced to the disk each by itself, rather than all that the file system has to write.
const flushEach = 4

// discard removes what was added and has not been renamed.
func (b *batch) discard() {
	for _, tmp := range b.tmps {
		_ = os.Remove(tmp) // what stays is removed at the next start
	}
}

// setLength makes f n bytes long, and takes the room for them where the file system can.
func setLength(f *os.File, n int64) error {
	info, err := f.Stat()
	if err != nil || info.Size() == n {
		return err
	}
	if info.Size() < n {
		if err := preallocate(f, n); err == nil || !errors.Is(err, errors.ErrUnsupported) {
			return explain(err)
		}
	}
	return explain(f.Truncate(n)) // a hole: the room is taken when it is written
}

// explain turns a full disk into what a person can act on.
func explain(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return centram.Errorf(centram.Unavailable, "the disk is full: %w", err).
			WithHint("Free some room. What is there already stays, and a fetch goes on where it was.")
	}
	return err
}

// doing says what was being done when err happened, if it did.
func doing(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
