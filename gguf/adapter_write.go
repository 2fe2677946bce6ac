package gguf

import (
	"io"
)

// WriteAdapter writes a LoRA adapter for models of that architecture. The tensors are pairs, named and shaped as
// CheckAdapter wants them; alpha is what the scale of each is, times its rank. more is what the file says besides.
func WriteAdapter(w io.Writer, architecture, name string, alpha float32, tensors []TensorData, more ...KV) error {
	return Write(w, append([]KV{
		{"general.architecture", Of(architecture)},
		{"general.type", Of("adapter")},
		{"general.name", Of(name)},
		{"adapter.type", Of("lora")},
		{"adapter.lora.alpha", Of(alpha)},
	}, more...), tensors)
}

// Floats makes a TensorData.Write of the numbers of an F32 tensor.
func Floats(values []float32) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(appendF32(nil, values))
		return err
	}
}
