package hf

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/centram/centram/gguf"
)

// TensorData is a tensor to be written.
type TensorData struct {
	Name  string
	Type  gguf.Type
	Shape []uint64
	Write func(io.Writer) error
}

// WriteSafetensors writes a safetensors file: larger types first, then by name, the order of its own library. The same
// tensors give the same bytes.
func WriteSafetensors(w io.Writer, tensors []TensorData) error {
	sizeOf := func(t gguf.Type) int64 {
		for _, d := range dtypes {
			if d.typ == t {
				return d.size
			}
		}
		return 0
	}
	tensors = slices.Clone(tensors)
	slices.SortFunc(tensors, func(a, b TensorData) int {
		if c := sizeOf(b.Type) - sizeOf(a.Type); c != 0 {
			return int(c)
		}
		return strings.Compare(a.Name, b.Name)
	})
	type entry struct {
		Dtype   string    `json:"dtype"`
		Shape   []uint64  `json:"shape"`
		Offsets [2]uint64 `json:"data_offsets"`
	}
	header := []byte(`{"__metadata__":{"format":"pt"}`)
	end := uint64(0)
	for _, t := range tensors {
		e := entry{Shape: t.Shape}
		for _, d := range dtypes {
			if d.typ == t.Type {
				e.Dtype = d.name
			}
		}
		e.Offsets[0] = end
		size := uint64(sizeOf(t.Type))
		for _, d := range t.Shape {
			size *= d
		}
		end += size
		e.Offsets[1] = end
		key, err := json.Marshal(t.Name)
		if err != nil {
			return err
		}
		value, err := json.Marshal(e)
		if err != nil {
			return err
		}
		header = append(append(append(append(header, ','), key...), ':'), value...)
	}
	header = append(header, '}')
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	if _, err := w.Write(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)); err != nil {
		return err
	}
	for _, t := range tensors {
		if err := t.Write(w); err != nil {
			return fmt.Errorf("write tensor %s: %w", t.Name, err)
		}
	}
	return nil
}
