package convert

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// nameless makes a file without a name in a folder. Not every file system can.
func nameless(folder string) (*os.File, error) {
	fd, err := unix.Open(folder, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), folder)
	if _, err := os.Stat(proc(f)); err != nil { // without /proc it could never get a name
		f.Close()
		return nil, err
	}
	return f, nil
}

// proc is the path of an open file.
func proc(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

func link(f *os.File, path string) error {
	return unix.Linkat(unix.AT_FDCWD, proc(f), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
}
