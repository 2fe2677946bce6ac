package blob

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/centram/centram"
)

// writeFile writes a file whole or not at all, and forces it to the disk.
func writeFile(path string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "*"+tmpExt) // mode 0600
	if err != nil {
		return explain(err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return explain(err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return explain(err)
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes new names survive a power cut.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
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
