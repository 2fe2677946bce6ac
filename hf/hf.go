// Package hf knows what the folders of Hugging Face have in common, be it of models or of adapters: safetensors files, JSON
// that is read strictly, what the tensors are called, and in which order their rows lie.
//
// A folder may come from strangers: every count and offset is held against the file's size before it is believed. An error
// is Invalid for what is not sound, or Unsupported for a type of numbers that is not ours.
package hf

import "github.com/centram/centram"

func bad(format string, args ...any) *centram.Error {
	return centram.Errorf(centram.Invalid, format, args...)
}

func unsupported(format string, args ...any) *centram.Error {
	return centram.Errorf(centram.Unsupported, format, args...)
}
