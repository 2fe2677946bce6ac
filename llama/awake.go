package llama

// #include "shim/shim.h"
import "C"

import "time"

// mostAwake bounds what a wrong guess of the caller costs.
const mostAwake = 100 * time.Millisecond

// KeepAwake keeps a core from falling asleep for d, at most 100 ms, so that what arrives meanwhile is taken up at once. It
// returns at once. A call extends what earlier ones asked for and never shortens it. One thread of the process does it, which
// runs only while nobody else wants the core; where there is no such class of threads (Linux has one) nothing is done.
func KeepAwake(d time.Duration) {
	if d > 0 {
		C.cen_awake(C.int64_t(min(d, mostAwake)))
	}
}
