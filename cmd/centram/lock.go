package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/centram/centram"
)

// holder is the daemon that uses a data directory, as its lock file tells.
type holder struct {
	PID  int    `json:"pid"`
	URL  string `json:"url"`
	Cert string `json:"cert,omitempty"` // file of the certificate that it shows
}

// dataLock keeps a second daemon away from a data directory. The kernel lets go of it however the process ends.
type dataLock struct{ file *os.File }

func lockPath(dir string) string { return filepath.Join(dir, "centram.lock") }

// lockData fails with centram.Conflict if a daemon uses dir.
func lockData(dir string) (*dataLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, centram.Errorf(centram.Forbidden, "The data directory %s cannot be made: %w", dir, err).
			WithHint("Choose another one with: centram config set data PATH")
	}
	f, err := os.OpenFile(lockPath(dir), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, centram.Errorf(centram.Forbidden, "The data directory %s cannot be used: %w", dir, err).
			WithHint("Make it yours, or choose another one with: centram config set data PATH")
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		defer f.Close()
		h, _ := readHolder(f)
		return nil, centram.Errorf(centram.Conflict, "Centram is already running on this data directory (process %d, %s).", h.PID, h.URL).
			WithHint("Open its page, look at it with: centram ps, or end it with: kill %d", h.PID)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if err := f.Truncate(0); err != nil { // what the last daemon wrote holds no longer
		f.Close()
		return nil, fmt.Errorf("empty the lock file: %w", err)
	}
	return &dataLock{f}, nil
}

// write tells other commands where the daemon is.
func (l *dataLock) write(h holder) error {
	b, err := json.Marshal(h)
	if err == nil {
		err = l.file.Truncate(0)
	}
	if err == nil {
		_, err = l.file.WriteAt(b, 0)
	}
	if err != nil {
		return fmt.Errorf("write the lock file: %w", err)
	}
	return nil
}

func (l *dataLock) Close() error { return l.file.Close() }

// findHolder returns the daemon that uses dir, if one does.
func findHolder(dir string) (holder, bool) {
	f, err := os.Open(lockPath(dir))
	if err != nil {
		return holder{}, false
	}
	defer f.Close()
	if syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil {
		return holder{}, false // nobody holds it: the daemon has ended
	}
	h, err := readHolder(f)
	return h, err == nil && h.URL != ""
}

func readHolder(f *os.File) (h holder, err error) {
	b, err := io.ReadAll(io.LimitReader(f, 1<<16))
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	return h, err
}
