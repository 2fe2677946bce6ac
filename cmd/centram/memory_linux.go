package main

import (
	"bufio"
	"os"
	"strconv"
	"strings"
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

func meminfo(name string) uint64 { return kernelBytes("/proc/meminfo", name) }

// peakMemory is the most that this process has had. What the kernel tells of a process's use of resources would not do: there
// it counts for a child what its parent had.
func peakMemory() uint64 { return kernelBytes("/proc/self/status", "VmHWM") }

// kernelBytes is a number of KiB in one of the kernel's files, such as "MemTotal: 16384 kB". Zero means unknown.
func kernelBytes(file, name string) uint64 {
	f, err := os.Open(file)
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 2 && fields[0] == name+":" {
			kib, _ := strconv.ParseUint(fields[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}
