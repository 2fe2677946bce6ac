package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/store"
)

// holder is the daemon that uses a data directory, as its lock file tells.
type holder struct {
	PID  int    `json:"pid"`
	URL  string `json:"url"`
	Cert string `json:"cert,omitempty"` // file of the certificate that it shows
}

// dataLock keeps a second daemon away from a data directory. The kernel lets go of it however the process ends.
type dataLock struct{ file *os.File }

// lockWatch is how often a daemon looks whether its directory is still there.
const lockWatch = 2 * time.Second

func lockPath(dir string) string { return filepath.Join(dir, "centram.lock") }

// lockData fails with centram.Conflict if a daemon uses dir.
func lockData(dir string) (*dataLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unusable(centram.Errorf(centram.Forbidden, "The data directory %s cannot be made: %w", dir, err).
			WithHint("Choose another one with: centram config set data PATH"))
	}
	f, err := os.OpenFile(lockPath(dir), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, unusable(centram.Errorf(centram.Forbidden, "The data directory %s cannot be used: %w", dir, err).
			WithHint("Make it yours, or choose another one with: centram config set data PATH"))
	}
	// A command that only looks who is there holds the lock for a moment.
	for range 20 {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		defer f.Close()
		h, err := readHolder(f)
		if err != nil || h.PID == 0 { // it has not come to write that yet
			return nil, centram.Errorf(centram.Conflict, "Centram is just starting on this data directory, or ending.").
				WithHint("Look at it in a moment with: centram ps")
		}
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

// unusable gives the next step where the disk is full or read-only.
func unusable(e *centram.Error) error {
	if u := store.Unwritable(e); u != nil {
		e.Code, e.Hint = u.Code, u.Hint
	}
	return e
}

// watch waits until ctx ends, and fails if the lock file goes before: with its directory all that is written would go too.
func (l *dataLock) watch(ctx context.Context) error {
	tick := time.NewTicker(lockWatch)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		ours, err := l.file.Stat()
		if err != nil {
			return fmt.Errorf("look at the lock file: %w", err)
		}
		now, err := os.Stat(l.file.Name())
		if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(ours, now) {
			return centram.Errorf(centram.Unavailable, "The data directory %s is gone: it was moved or removed while Centram used it.", filepath.Dir(l.file.Name())).
				WithHint("Put it back and start Centram again.")
		}
	}
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
