package local

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// PhysicalCores is the number of threads that pay: two of one core share its vector units, and a container may have less time
// than processors, which is in GOMAXPROCS.
func PhysicalCores() int {
	n := min(runtime.NumCPU(), runtime.GOMAXPROCS(0))
	if cores := coresFromSys(); cores > 0 {
		n = min(n, cores)
	}
	return n
}

// coresFromSys counts cores by the lists of threads that share one, as Linux tells them. Zero means it does not say.
func coresFromSys() int {
	files, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list")
	cores := map[string]bool{}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil {
			cores[strings.TrimSpace(string(b))] = true
		}
	}
	return len(cores)
}
