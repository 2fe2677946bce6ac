// Package atomicfile writes files that others see as they were or as they will be, never in between, and that a power cut leaves so.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// TempPattern has the names of files that are being written, beside the one that they will be. After a crash they are of no use.
const TempPattern = ".*.tmp"

// Write puts a file with these bytes at path, in place of one that is there. The folder has to be. On an error the file is as it
// was, unless only the folder could not be forced to the disk.
func Write(path string, mode fs.FileMode, b []byte) error {
	return WriteFunc(path, mode, func(f *os.File) error {
		_, err := f.Write(b)
		return err
	})
}

// WriteFunc does the same with what fill writes into the new file, which must stay open. An error of fill comes back as it is.
func WriteFunc(path string, mode fs.FileMode, fill func(*os.File) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, TempPattern)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close() // it may be closed
			os.Remove(f.Name())
		}
	}()
	if err := fill(f); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(mode), f.Sync()); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncFolder(dir)
}

// SyncFolder makes the names of files in a folder survive a power cut, where the file system can.
func SyncFolder(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrPermission) { // one may write into it and not look
		return nil
	}
	if err != nil {
		return fmt.Errorf("force a folder to the disk: %w", err)
	}
	defer d.Close()
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || runtime.GOOS == "windows" { // some network file systems, and Windows, can't
		return nil
	}
	return err
}
