package llama

/*
#include <stdlib.h>
#include "shim/shim.h"
extern void centramQuantizing(char * text, void * data);
*/
import "C"

import (
	"regexp"
	"runtime/cgo"
	"strconv"
	"strings"
	"unsafe"
)

// Quantization is how a whole file is quantised, with the value of llama.cpp's LLAMA_FTYPE of that name.
type Quantization int

// The quantisations that need nothing but the file.
const (
	AllF32 Quantization = 0
	F16    Quantization = 1
	Q4_0   Quantization = 2 //nolint:revive // the field's name for it
	Q4_1   Quantization = 3 //nolint:revive // as above
	Q8_0   Quantization = 7 //nolint:revive // as above
	Q5_0   Quantization = 8 //nolint:revive // as above
	Q5_1   Quantization = 9 //nolint:revive // as above
	Q2K    Quantization = 10
	Q3KS   Quantization = 11
	Q3KM   Quantization = 12
	Q3KL   Quantization = 13
	Q4KS   Quantization = 14
	Q4KM   Quantization = 15
	Q5KS   Quantization = 16
	Q5KM   Quantization = 17
	Q6K    Quantization = 18
	BF16   Quantization = 32
)

// Quantize writes the GGUF file in as another file of smaller weights, on that many threads (0: all).
func Quantize(in, out string, to Quantization, threads int) error {
	return Quantizer{To: to, Threads: threads}.Run(in, out)
}

// Quantizer says how a file is quantised.
type Quantizer struct {
	To         Quantization
	Threads    int    // Zero means all
	Buffer     uint64 // bytes of weights in memory at once. Zero means 8 GiB. The file is the same
	Requantize bool   // also what is quantised already, which loses more than to begin with the original does
	// Began is told of each tensor before it is written, from the thread that Run was called on. Nil means nobody.
	Began func(QuantizeStep)
}

// QuantizeStep is a tensor in the order in which they are written.
type QuantizeStep struct {
	Number, Of int // counted from 1
	Name       string
}

// Run writes the GGUF file in as the file out. It cannot be stopped, and what is at out when it fails is worth nothing.
func (q Quantizer) Run(in, out string) error {
	return q.call(in, out, false, func(piece string) {
		if m := stepForm.FindStringSubmatch(piece); m != nil && q.Began != nil {
			q.Began(step(m))
		}
	})
}

// QuantizePlan is what Run will do.
type QuantizePlan struct {
	Types   map[string]string // of each tensor's name, ggml's name of its type
	Misfits []Misfit
}

// Misfit is a tensor whose rows are no multiple of what its type keeps together, and so gets another.
type Misfit struct {
	Name           string
	Columns, Block int
	Type, Instead  string // ggml's names
}

// Plan says what Run will do with the file in, going by llama.cpp's own decisions. It reads no weights.
func (q Quantizer) Plan(in string) (QuantizePlan, error) {
	p := QuantizePlan{Types: map[string]string{}}
	var line strings.Builder
	err := q.call(in, "", true, func(piece string) {
		line.WriteString(piece)
		if strings.HasSuffix(piece, "\n") {
			p.line(line.String())
			line.Reset()
		}
	})
	return p, err
}

// What llama.cpp logs: of a tensor, at first "[ 12/ 290] NAME - [SHAPE], type = f16, " and, where it only plans, "size = ..."
// with the new type in parentheses if it is another; and of one that does not fit, "warning: NAME - ncols ...".
var (
	stepForm   = regexp.MustCompile(`(?s)^\[ *(\d+)/ *(\d+)\] (.*?) +- \[[\d, ]*\], type = +(\S+), `)
	newType    = regexp.MustCompile(` MiB \((\S+)\)\n$`)
	misfitForm = regexp.MustCompile(`(?s)^warning: (.*?) +- ncols +(\d+) not divisible by +(\d+) \(required for type +(\S+)\) .*-> falling back to +(\S+)\n$`)
)

func step(m []string) QuantizeStep {
	number, _ := strconv.Atoi(m[1]) // the form has digits only
	of, _ := strconv.Atoi(m[2])
	return QuantizeStep{number, of, m[3]}
}

func (p *QuantizePlan) line(text string) {
	if m := stepForm.FindStringSubmatch(text); m != nil {
		p.Types[m[3]] = m[4]
		if n := newType.FindStringSubmatch(text); n != nil {
			p.Types[m[3]] = n[1]
		}
		return
	}
	if m := misfitForm.FindStringSubmatch(text); m != nil {
		columns, _ := strconv.Atoi(m[2])
		block, _ := strconv.Atoi(m[3])
		p.Misfits = append(p.Misfits, Misfit{m[1], columns, block, m[4], m[5]})
	}
}

func (q Quantizer) call(in, out string, plan bool, log func(piece string)) error {
	start()
	cIn, cOut := C.CString(in), C.CString(out)
	defer C.free(unsafe.Pointer(cIn))
	defer C.free(unsafe.Pointer(cOut))
	handle := cgo.NewHandle(log)
	defer handle.Delete()
	params := C.cen_quantize_params{
		ftype: C.int32_t(q.To), n_threads: C.int32_t(q.Threads), buffer: C.size_t(q.Buffer), requantize: C.bool(q.Requantize),
		plan: C.bool(plan), log: C.cen_piece_sink(C.centramQuantizing), log_data: C.uintptr_t(handle),
	}
	var reason *C.char
	if C.cen_quantize(cIn, cOut, params, &reason) != 0 {
		return failure("quantize "+in, reason)
	}
	return nil
}

//export centramQuantizing
func centramQuantizing(text *C.char, data unsafe.Pointer) {
	cgo.Handle(uintptr(data)).Value().(func(string))(C.GoString(text))
}
