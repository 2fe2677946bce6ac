// Package llama is the project's only door to llama.cpp. It exports no C type. Models, contexts, samplers, adapters and
// trainers are made by functions and freed by Close, which is idempotent; a use after Close is ErrClosed. A Model may be used by
// any number of goroutines; a Context, a Sampler and a Trainer by one at a time. Nothing here aborts the process on bad input as
// long as files are checked by package gguf before they are loaded: llama.cpp itself asserts on some hostile values.
package llama

/*
#cgo CPPFLAGS: -I${SRCDIR}/../build/native/src/include -I${SRCDIR}/../build/native/src/ggml/include
#include <stdlib.h>
#include "shim/shim.h"

extern void centramLog(int level, char * text);
extern bool centramProgress(float progress, void * data);
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"unsafe"

	_ "github.com/centram/centram/llama/shim" // the C++ that this package links with
)

// Version is the llama.cpp release this package is written for; vendor-cpp/VERSION pins the same.
const Version = "v0.5.0"

// ErrClosed is returned by methods of what has been closed.
var ErrClosed = errors.New("llama: used after Close")

// ErrCacheFull is returned by Context.Decode when the KV cache has no room for the batch. Nothing was decoded.
var ErrCacheFull = errors.New("llama: no room in the KV cache")

// ErrLost is returned by Context.Decode, then and ever after, when the model's file could not be read: it was cut short while it
// was mapped into memory, or its disk has failed.
var ErrLost = errors.New("llama: the model's file could not be read while it was in use")

// Token is an index into a vocabulary.
type Token = int32

// OwnKernels says whether matrices in Q4_K are multiplied by kernels of our own (shim/rows_avx512_q8_k.cpp). Then what a row of a
// batch becomes does not depend on how many there are, as with llama.cpp's --no-repack.
func OwnKernels() bool {
	start() // they are tried beside llama.cpp's
	return bool(C.cen_own_kernels())
}

var start = sync.OnceFunc(func() { C.cen_init(C.cen_log_sink(C.centramLog)) })

var (
	logMu  sync.Mutex // guards logger and the line being put together
	logger *slog.Logger
	line   strings.Builder
	level  C.int
)

// SetLogger sends llama.cpp's log to l, at debug level: what is wrong reaches the caller as an error, and an interrupted
// Decode, which llama.cpp calls one, is none. Nil, which is how it starts, drops it.
func SetLogger(l *slog.Logger) {
	logMu.Lock()
	defer logMu.Unlock()
	logger = l
}

// levels are ggml's, by number.
var levels = []string{"none", "debug", "info", "warn", "error", "more"}

// centramLog gets fragments of lines from any thread.
//
//export centramLog
func centramLog(lvl C.int, text *C.char) {
	logMu.Lock()
	defer logMu.Unlock()
	if logger == nil {
		return
	}
	if line.Len() == 0 {
		level = lvl
	}
	line.WriteString(C.GoString(text))
	if !strings.HasSuffix(line.String(), "\n") {
		return
	}
	msg := strings.TrimSpace(line.String())
	line.Reset()
	if strings.Trim(msg, ".") == "" {
		return
	}
	logger.DebugContext(context.Background(), "llama.cpp", "level", levels[min(level, C.int(len(levels)-1))], "line", msg)
}

// SystemInfo lists the processor features and devices that llama.cpp was built for and found.
func SystemInfo() string {
	start()
	return strings.TrimSpace(C.GoString(C.llama_print_system_info()))
}

// GPUOffload reports whether this build can put layers on a GPU.
func GPUOffload() bool {
	start()
	return bool(C.llama_supports_gpu_offload())
}

// MaxSequences is the most sequences that one Context can hold.
func MaxSequences() int { return int(C.llama_max_parallel_sequences()) }

// failure takes the error text that a shim function set, and frees it.
func failure(doing string, text *C.char) error {
	if text == nil {
		return fmt.Errorf("llama: %s: no reason given", doing)
	}
	defer C.free(unsafe.Pointer(text))
	return fmt.Errorf("llama: %s: %s", doing, C.GoString(text))
}

// takeString copies a C string that we own, and frees it.
func takeString(s *C.char) string {
	defer C.free(unsafe.Pointer(s))
	return C.GoString(s)
}
