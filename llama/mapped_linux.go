package llama

/*
#include "shim/shim.h"
*/
import "C"

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// watch has the model outlive its files: what becomes of it when they cannot be read any more is said by lost. What cannot be
// found out is not watched, and then a file that goes bad ends the process.
func (m *Model) watch(paths []string) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for _, path := range paths {
		if path, err = filepath.Abs(path); err != nil {
			continue
		}
		if path, err = filepath.EvalSymlinks(path); err != nil {
			continue
		}
		for _, r := range mappedRanges(string(maps), path) {
			if id := C.cen_watch(m.c, C.uintptr_t(r[0]), C.uintptr_t(r[1])); id >= 0 {
				m.watched = append(m.watched, int32(id))
			}
		}
	}
}

// mappedRanges finds where a file is mapped, in lines such as "7f00-7f80 r--s 00000000 08:01 42    /path". A line break in the
// path is written as \012.
func mappedRanges(maps, path string) (ranges [][2]uint64) {
	path = strings.ReplaceAll(path, "\n", `\012`)
	for line := range strings.Lines(maps) {
		addresses, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if !strings.HasSuffix(rest, " "+path) {
			continue
		}
		from, to, _ := strings.Cut(addresses, "-")
		begin, err := strconv.ParseUint(from, 16, 64)
		if err != nil {
			continue
		}
		if end, err := strconv.ParseUint(to, 16, 64); err == nil {
			ranges = append(ranges, [2]uint64{begin, end})
		}
	}
	return ranges
}

// lost says whether a file of the model could not be read since it was loaded.
func (m *Model) lost() bool {
	for _, id := range m.watched {
		if C.cen_lost(C.int32_t(id)) {
			return true
		}
	}
	return false
}

// unwatch is called before the memory is given back.
func (m *Model) unwatch() {
	for _, id := range m.watched {
		C.cen_unwatch(C.int32_t(id))
	}
	m.watched = nil
}
