package llama

// #include "shim/shim.h"
import "C"

import "time"

// mostAwake bounds what a wrong guess of the caller costs.
const mostAwake = 100 * time.Millisecond

// KeepAwake keeps a core from falling asleep for d, at most 100 ms, so that what arrives meanwhile is taken up at once. It
// does not wait. A call extends what earlier ones asked for and never shortens it, except that zero ends it: call it when
// what was awaited has come. One thread of the process does the work. It runs only where nothing else wants to, and leaves
// the cores alone for ten seconds when somebody else does. Where there is no such class of threads (Linux has one) nothing
// is done.
func KeepAwake(d time.Duration) { keepAwake(d) }

// keepAwake reports whether it will.
func keepAwake(d time.Duration) bool { return bool(C.cen_awake(C.int64_t(min(d, mostAwake)))) }
