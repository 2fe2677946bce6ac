package store

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"github.com/centram/centram"
	"github.com/mattn/go-sqlite3"
)

func TestWhatADiskRefusesIsSaidInWords(t *testing.T) {
	path := func(n syscall.Errno) error { return &fs.PathError{Op: "write", Path: "x", Err: n} }
	for _, row := range []struct {
		err  error
		want centram.Code // empty for nothing
	}{
		{path(syscall.ENOSPC), centram.Unavailable},
		{path(syscall.EDQUOT), centram.Unavailable},
		{path(syscall.EROFS), centram.Forbidden},
		{fmt.Errorf("save: %w", sqlite3.Error{Code: sqlite3.ErrFull}), centram.Unavailable},
		{sqlite3.Error{Code: sqlite3.ErrIoErr, SystemErrno: syscall.ENOSPC}, centram.Unavailable},
		{sqlite3.Error{Code: sqlite3.ErrReadonly}, centram.Forbidden},
		{sqlite3.Error{Code: sqlite3.ErrCantOpen, SystemErrno: syscall.ENOENT}, centram.Unavailable},
		{sqlite3.Error{Code: sqlite3.ErrCantOpen, SystemErrno: syscall.EMFILE}, ""},
		{sqlite3.Error{Code: sqlite3.ErrConstraint}, ""},
		{path(syscall.EPERM), ""}, // which a firewall says too
		{errors.New("another"), ""},
		{nil, ""},
	} {
		got := Unwritable(row.err)
		if (got == nil) != (row.want == "") || got != nil && (got.Code != row.want || got.Hint == "" || !errors.Is(got, row.err)) {
			t.Errorf("%v: got %+v, want %q", row.err, got, row.want)
		}
	}
}
