package main

import "golang.org/x/sys/unix"

// totalMemory is the machine's. Zero means unknown.
func totalMemory() uint64 {
	n, _ := unix.SysctlUint64("hw.memsize")
	return n
}

// freeMemory is not known: macOS keeps little free on purpose.
func freeMemory() uint64 { return 0 }
