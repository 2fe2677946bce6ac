package llama

/*
#include "ggml-backend.h"
*/
import "C"

// Device is something that this build can compute with.
type Device struct {
	Name        string // such as CUDA0
	Description string // what it is sold as
	Kind        DeviceKind
	Free, Total uint64 // bytes of its memory; of an integrated GPU and of the processor, the machine's
}

// DeviceKind is one of the words below.
type DeviceKind string

const (
	CPU           DeviceKind = "cpu"
	GPU           DeviceKind = "gpu"
	IntegratedGPU DeviceKind = "integrated gpu"
	Accelerator   DeviceKind = "accelerator" // of the processor's, such as a library for its matrices
)

var deviceKinds = map[uint32]DeviceKind{
	C.GGML_BACKEND_DEVICE_TYPE_CPU: CPU, C.GGML_BACKEND_DEVICE_TYPE_GPU: GPU, C.GGML_BACKEND_DEVICE_TYPE_IGPU: IntegratedGPU,
	C.GGML_BACKEND_DEVICE_TYPE_ACCEL: Accelerator,
}

// Devices lists what this build can compute with, and how much of their memory is free now.
func Devices() []Device {
	start()
	var all []Device
	for i := range C.ggml_backend_dev_count() {
		d := C.ggml_backend_dev_get(i)
		var free, total C.size_t
		C.ggml_backend_dev_memory(d, &free, &total)
		all = append(all, Device{
			Name: C.GoString(C.ggml_backend_dev_name(d)), Description: C.GoString(C.ggml_backend_dev_description(d)),
			Kind: deviceKinds[uint32(C.ggml_backend_dev_type(d))], Free: uint64(free), Total: uint64(total),
		})
	}
	return all
}
