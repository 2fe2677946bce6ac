package main

import "golang.org/x/sys/unix"

// totalMemory is the machine's. Zero means unknown.
func totalMemory() uint64 {
	n, _ := unix.SysctlUint64("hw.memsize")
	return n
}

// freeMemory is not known: macOS keeps little free on purpose.
func freeMemory() uint64 { return 0 }

// peakMemory is the most that this process has had.
func peakMemory() uint64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return uint64(u.Maxrss)
}
