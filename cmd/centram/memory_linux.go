package main

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// totalMemory is what this process may use at most: the machine's memory, or less in a container. Zero means unknown.
func totalMemory() uint64 {
	total := meminfo("MemTotal")
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if limit, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err == nil && limit < total {
			return limit
		}
	}
	return total
}

// freeMemory is what could be had now without swapping. Zero means unknown.
func freeMemory() uint64 { return min(meminfo("MemAvailable"), totalMemory()) }

func meminfo(name string) uint64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text()) // MemTotal: 16384 kB
		if len(fields) >= 2 && fields[0] == name+":" {
			kib, _ := strconv.ParseUint(fields[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// peakMemory is the most that this process has had.
func peakMemory() uint64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return uint64(u.Maxrss) << 10
}
