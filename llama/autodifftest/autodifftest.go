// Package autodifftest has ggml itself differentiate a model, to compare the trainer with. Only tests link it.
package autodifftest

/*
#cgo CPPFLAGS: -I${SRCDIR}/../../build/native/src/ggml/include
#cgo CXXFLAGS: -std=c++17 -O2
#include <stdlib.h>
#include "autodiff.h"
*/
import "C"

import (
	"errors"
	"slices"
	"unsafe"

	_ "github.com/centram/centram/llama/shim" // links llama.cpp
)

// Gradients returns the sum of the losses of the rows that have a label, and its gradient in each of the values, which
// replace or come to the tensors of the F32 model at path.
func Gradients(path string, values map[string][]float32, tokens, positions, documents, labels []int32) (float64, map[string][]float32, error) {
	cPath := C.CString(path)
	defer C.free(unsafe.Pointer(cPath))
	params := unsafe.Slice((*C.autodiff_param)(C.calloc(C.size_t(len(values)), C.sizeof_autodiff_param)), len(values))
	defer C.free(unsafe.Pointer(&params[0]))
	var names []string
	for name, v := range values {
		p := &params[len(names)]
		names = append(names, name)
		p.name, p.n = C.CString(name), C.int64_t(len(v))
		p.gradient = (*C.float)(C.calloc(C.size_t(2*len(v)), C.sizeof_float))
		p.values = (*C.float)(unsafe.Add(unsafe.Pointer(p.gradient), len(v)*C.sizeof_float))
		copy(unsafe.Slice((*float32)(p.values), len(v)), v)
		defer C.free(unsafe.Pointer(p.name))
		defer C.free(unsafe.Pointer(p.gradient))
	}
	var reason *C.char
	loss := C.autodiff_gradients(cPath, &params[0], C.size_t(len(params)), C.int32_t(len(tokens)), (*C.int32_t)(&tokens[0]),
		(*C.int32_t)(&positions[0]), (*C.int32_t)(&documents[0]), (*C.int32_t)(&labels[0]), &reason)
	if reason != nil {
		defer C.free(unsafe.Pointer(reason))
		return 0, nil, errors.New(C.GoString(reason))
	}
	out := map[string][]float32{}
	for i, name := range names {
		out[name] = slices.Clone(unsafe.Slice((*float32)(params[i].gradient), int(params[i].n)))
	}
	return float64(loss), out, nil
}
