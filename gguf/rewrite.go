package gguf

import (
	"io"
	"slices"
	"strings"

	"github.com/centram/centram"
)

// Rewrite writes a model that is m but for its numbers, which values yields for each tensor by its name. Matrices are
// written in the type matrices, F32 or F16, and vectors in F32. What is in about replaces m's metadata of the same key, or
// comes behind it.
func (m *Model) Rewrite(w io.Writer, matrices Type, about []KV, values func(name string) ([]float32, error)) error {
	if matrices != F32 && matrices != F16 {
		return centram.Errorf(centram.Unsupported, "a model is written in F32 or F16, not %v", matrices)
	}
	metadata := slices.Clone(m.Parts[0].Metadata)
	for _, kv := range append([]KV{{"general.file_type", Of(fileTypeOf[matrices])}}, about...) {
		if i := slices.IndexFunc(metadata, func(have KV) bool { return have.Key == kv.Key }); i >= 0 {
			metadata[i] = kv
		} else {
			metadata = append(metadata, kv)
		}
	}
	metadata = slices.DeleteFunc(metadata, func(kv KV) bool { return kv.Key == "general.alignment" || strings.HasPrefix(kv.Key, "split.") })
	var tensors []TensorData
	for _, t := range m.Tensors {
		typ := matrices
		if len(t.Dims) == 1 {
			typ = F32
		}
		tensors = append(tensors, TensorData{Name: t.Name, Type: typ, Dims: t.Dims, Write: func(w io.Writer) error {
			list, err := values(t.Name)
			if err != nil {
				return err
			}
			b := appendF32(nil, list)
			if typ == F16 {
				b = appendF16(nil, list)
			}
			_, err = w.Write(b)
			return err
		}})
	}
	return Write(w, metadata, tensors)
}
