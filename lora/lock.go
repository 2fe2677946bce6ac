package lora

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/centram/centram"
)

// lock is a file that one at a time holds, in this process or another. The kernel lets go of it however the process ends.
type lock struct{ file *os.File }

// errHeld says that another holds a lock.
var errHeld = errors.New("it is held")

// lockOut keeps a second run away from the file that a run writes and from what is saved beside it. It fails with Conflict, or
// waits for the other to end. Where there are no locks it returns nil.
func lockOut(ctx context.Context, out string, wait bool) (*lock, error) {
	path := out + ".lock"
	l, err := acquire(path, syscall.LOCK_NB)
	for wait && errors.Is(err, errHeld) {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
		l, err = acquire(path, syscall.LOCK_NB)
	}
	if unlockable(err) { // some network drives have no locks: there it is as it would be without
		return nil, os.Remove(path)
	}
	if errors.Is(err, errHeld) {
		who := ""
		if b, err := os.ReadFile(path); err == nil && len(b) > 0 && len(b) < 20 {
			who = fmt.Sprintf(" (process %s)", strings.TrimSpace(string(b)))
		}
		return nil, centram.Errorf(centram.Conflict, "another training writes to %s%s", out, who).
			WithHint("Wait until it is done, or stop it and give this command again, or write to another file with --out.")
	}
	if err != nil {
		return nil, centram.Errorf(centram.Invalid, "%s could not be written: %w", out, err).WithHint("Name another file with --out.")
	}
	return l, nil
}

// acquire makes a file and locks it. With LOCK_NB it fails with errHeld where it would wait otherwise.
func acquire(path string, how int) (*lock, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		err = syscall.EINTR
		for errors.Is(err, syscall.EINTR) {
			err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|how)
		}
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = errHeld
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		// Who held it before may have removed it, and another made a new one: then this lock keeps nobody away.
		ours, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if there, err := os.Stat(path); err != nil || !os.SameFile(ours, there) {
			if err := f.Close(); err != nil {
				return nil, err
			}
			continue
		}
		if err = f.Truncate(0); err == nil {
			_, err = io.WriteString(f, strconv.Itoa(os.Getpid())+"\n")
		}
		if err != nil && !full(err) { // the lock holds without a number in it, too
			return nil, errors.Join(err, f.Close())
		}
		return &lock{f}, nil
	}
}

// unlockable says whether there are no locks where a file is.
func unlockable(err error) bool {
	return errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.ENOLCK) || errors.Is(err, syscall.ENOSYS)
}

// Close removes the file while it is held, and lets go of it. That of no lock does nothing.
func (l *lock) Close() error {
	if l == nil {
		return nil
	}
	err := os.Remove(l.file.Name())
	if errors.Is(err, os.ErrNotExist) {
		err = nil // with its folder
	}
	return errors.Join(err, l.file.Close())
}

// full says whether a file could not be written for want of room.
func full(err error) bool {
	for _, e := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
