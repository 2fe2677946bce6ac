package store

import (
	"errors"
	"syscall"

	"github.com/centram/centram"
	"github.com/mattn/go-sqlite3"
)

// Unwritable says what it means for a person that a disk takes no more, or that what is on it may not be changed. It is nil
// for errors of another kind. What was there is as it was, since all that is written is written whole.
func Unwritable(err error) *centram.Error {
	var e *centram.Error
	switch {
	case err == nil:
		return nil
	case full(err):
		e = centram.Errorf(centram.Unavailable, "The disk is full, so nothing can be saved.").
			WithHint("Make room on the disk and try again; nothing that was there is lost. Where it is: centram doctor")
	case readOnly(err):
		e = centram.Errorf(centram.Forbidden, "What Centram keeps may not be changed, so nothing can be saved.").
			WithHint("Make its directory writable for you, or choose another one with: centram config set data PATH")
	case gone(err):
		e = centram.Errorf(centram.Unavailable, "The database is gone, so nothing can be saved.").
			WithHint("Put the data directory back and start Centram again. Where it is to be: centram doctor")
	default:
		return nil
	}
	e.Err = err
	return e
}

func full(err error) bool {
	return anyOf(err, syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG) || sqliteCode(err) == sqlite3.ErrFull
}

func readOnly(err error) bool {
	return anyOf(err, syscall.EROFS) || sqliteCode(err) == sqlite3.ErrReadonly
}

// gone holds for a database that was there when Open was called.
func gone(err error) bool {
	return sqliteCode(err) == sqlite3.ErrCantOpen && anyOf(err, syscall.ENOENT)
}

// anyOf reports whether err is one of the operating system's, of this program or met by SQLite.
func anyOf(err error, numbers ...syscall.Errno) bool {
	e, isSQLite := errors.AsType[sqlite3.Error](err)
	for _, n := range numbers {
		if errors.Is(err, n) || isSQLite && e.SystemErrno == n {
			return true
		}
	}
	return false
}

func sqliteCode(err error) sqlite3.ErrNo {
	e, _ := errors.AsType[sqlite3.Error](err)
	return e.Code
}
