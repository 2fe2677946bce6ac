package blob

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// preallocate takes the room for n bytes. It fails with errors.ErrUnsupported where that cannot be done.
func preallocate(f *os.File, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, n)
		if !errors.Is(err, unix.EINTR) {
			return err // EOPNOTSUPP and ENOSYS are errors.ErrUnsupported
		}
	}
}
