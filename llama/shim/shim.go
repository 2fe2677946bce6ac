// Package shim is the project's only C++: shim.h says what it offers, and train.h for the trainer. It has no Go API; package llama includes the
// header and links with it. It stands apart so that a change in llama's Go files does not compile the C++ again.
package shim

/*
#cgo CPPFLAGS: -I${SRCDIR}/../../build/native/src/include -I${SRCDIR}/../../build/native/src/ggml/include
#cgo CXXFLAGS: -std=c++17 -O3 -I${SRCDIR}/../../build/native/src/common -I${SRCDIR}/../../build/native/src/src -I${SRCDIR}/../../build/native/src/ggml/src -I${SRCDIR}/../../build/native/src/vendor
#cgo LDFLAGS: -L${SRCDIR}/../../build/native/lib -lllama-common -lllama-common-base -lcpp-httplib -lllama -lggml
#cgo cuda LDFLAGS: -L/usr/local/cuda/lib64 -lggml-cuda -lcudart -lcublas -lcublasLt -lcuda
#cgo metal LDFLAGS: -lggml-metal -framework Foundation -framework Metal -framework MetalKit
#cgo vulkan LDFLAGS: -lggml-vulkan -lvulkan
#cgo LDFLAGS: -lggml-cpu -lggml-base -lm
#cgo linux LDFLAGS: -Wl,--wrap=llamafile_sgemm -Wl,--wrap=ggml_compute_forward_flash_attn_ext -lstdc++ -lpthread -ldl
#cgo darwin LDFLAGS: -lc++ -framework Accelerate
#include "shim.h"
*/
import "C"
