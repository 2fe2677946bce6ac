package blob

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// flushAll forces to the disk what the file system of a folder has to write. It fails with errors.ErrUnsupported where that
// cannot be done.
func flushAll(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// preallocate takes the room for n bytes. It fails with errors.ErrUnsupported where that cannot be done.
func preallocate(f *os.File, n int64) error {
	var fs unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &fs) == nil && fs.Type == unix.TMPFS_MAGIC {
		// There it means to write zeroes into memory, which takes as long as a tenth of the transfer: only look.
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err == nil && n-512*st.Blocks > int64(fs.Bavail)*fs.Bsize {
			return unix.ENOSPC
		}
		return errors.ErrUnsupported
	}
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, n)
		if !errors.Is(err, unix.EINTR) {
			return err // EOPNOTSUPP and ENOSYS are errors.ErrUnsupported
		}
	}
}
