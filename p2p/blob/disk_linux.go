package blob

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// preallocate takes the room for n bytes. It fails with errors.ErrUnsupported where that cannot be done.
func preallocate(f *os.File, n int64) error {
	var fs unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &fs) == nil && fs.Type == unix.TMPFS_MAGIC {
		return errors.ErrUnsupported // there it means to write zeroes into memory, which takes as long as a tenth of the transfer
	}
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, n)
		if !errors.Is(err, unix.EINTR) {
			return err // EOPNOTSUPP and ENOSYS are errors.ErrUnsupported
		}
	}
}
