package hf

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/centram/centram/gguf"
)

// The bounds of a safetensors file. A large model in one file has a header of some 200 KB, and so has an adapter of it.
const (
	maxHeader  = 16 << 20
	maxTensors = 16 << 10
	maxDims    = 8
	maxName    = 256
)

// Tensor is a tensor of a safetensors file.
type Tensor struct {
	Name   string
	Type   gguf.Type
	Shape  []uint64 // rows first
	Offset int64    // from the start of the file
	Size   int64
}

// dtypes are the types that both formats know.
var dtypes = []struct {
	name string
	typ  gguf.Type
	size int64
}{{"F32", gguf.F32, 4}, {"F16", gguf.F16, 2}, {"BF16", gguf.BF16, 2}}

// ReadSafetensors reads the header of a safetensors file of size bytes:
//
//	u64 length, little-endian    header, a JSON object of that length    data
//
// The header has {"dtype", "shape", "data_offsets": [begin, end]} for each tensor's name, and may have strings under
// "__metadata__". The tensors have to fill the data without gaps or overlaps, in any order; they are returned in that of
// their data.
func ReadSafetensors(name string, r io.ReaderAt, size int64) ([]Tensor, error) {
	var start [8]byte
	if _, err := r.ReadAt(start[:], 0); err != nil {
		if err == io.EOF {
			return nil, bad("%s is cut off: it has %d bytes", name, size).WithHint("Copy or download it again.")
		}
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	length := binary.LittleEndian.Uint64(start[:])
	switch {
	case string(start[:]) == pointer[:8]:
		return nil, bad("%s is a Git LFS pointer, which stands for the real file", name).WithHint("Fetch the real file with: git lfs pull")
	case length > maxHeader:
		return nil, bad("%s is not a safetensors file: its header would have %d bytes", name, length)
	case int64(length) > size-8:
		return nil, bad("%s is cut off: its header has %d bytes, but the file only %d", name, length, size).
			WithHint("Copy or download it again.")
	}
	header := make([]byte, length)
	if _, err := io.ReadFull(io.NewSectionReader(r, 8, int64(length)), header); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if !bytes.HasPrefix(header, []byte("{")) {
		return nil, bad("%s is not a safetensors file: its header is not a JSON object", name)
	}
	entries, err := Object(header)
	if err != nil {
		return nil, bad("%s is damaged: its header: %w", name, err)
	}
	if len(entries) > maxTensors {
		return nil, bad("%s has %d tensors, more than %d", name, len(entries), maxTensors)
	}
	var out []Tensor
	data := size - 8 - int64(length)
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		if key == "__metadata__" {
			var strings map[string]string
			if err := json.Unmarshal(entries[key], &strings); err != nil {
				return nil, bad("%s is damaged: its metadata are not strings", name)
			}
			continue
		}
		t, err := parseTensor(key, entries[key], data)
		if unknown, ok := errors.AsType[typeUnknown](err); ok {
			return nil, unsupported("%s has the tensor %.100q in %.20q, but F32, F16 and BF16 are supported", name, key, string(unknown))
		}
		if err != nil {
			return nil, bad("%s is damaged: the tensor %.100q %w", name, key, err)
		}
		out = append(out, t)
	}
	slices.SortStableFunc(out, func(a, b Tensor) int {
		if a.Offset != b.Offset {
			return int(min(1, max(-1, a.Offset-b.Offset)))
		}
		return int(min(1, max(-1, a.Size-b.Size)))
	})
	end := int64(0)
	for i := range out {
		t := &out[i]
		if t.Offset != end {
			return nil, bad("%s is damaged: the tensor %.100q begins at %d, but the one before it ends at %d", name, t.Name, t.Offset, end)
		}
		end += t.Size
		t.Offset += 8 + int64(length)
	}
	if end != data {
		return nil, bad("%s is damaged: its tensors have %d bytes, but there are %d", name, end, data).
			WithHint("Copy or download it again.")
	}
	return out, nil
}

// typeUnknown is the type of a tensor that is none of dtypes.
type typeUnknown string

func (t typeUnknown) Error() string { return "is of type " + string(t) }

// parseTensor reads one entry of a header, whose offset is that in the data, of which there are size bytes.
func parseTensor(name string, raw json.RawMessage, size int64) (Tensor, error) {
	t := Tensor{Name: name}
	fields, err := Object(raw)
	if err != nil {
		return t, err
	}
	var dtype string
	var offsets []uint64
	for key, into := range map[string]any{"dtype": &dtype, "shape": &t.Shape, "data_offsets": &offsets} {
		if _, ok := fields[key]; !ok {
			return t, fmt.Errorf("has no %s", key)
		}
		if err := json.Unmarshal(fields[key], into); err != nil {
			return t, fmt.Errorf("has a bad %s: %w", key, err)
		}
	}
	if len(fields) != 3 {
		return t, errors.New("has fields that are not known")
	}
	bytes := int64(0)
	for _, d := range dtypes {
		if d.name == dtype {
			t.Type, bytes = d.typ, d.size
		}
	}
	if bytes == 0 {
		return t, typeUnknown(dtype)
	}
	if len(t.Shape) > maxDims || len(name) > maxName || name == "" {
		return t, fmt.Errorf("has %d dimensions and a name of %d bytes", len(t.Shape), len(name))
	}
	if len(offsets) != 2 || offsets[0] > offsets[1] || offsets[1] > uint64(size) {
		return t, fmt.Errorf("lies at %d of %d bytes of data", offsets, size)
	}
	for _, d := range t.Shape {
		if d != 0 && uint64(bytes) > uint64(size)/d {
			return t, fmt.Errorf("has the shape %d, which is more than %d bytes of data", t.Shape, size)
		}
		bytes *= int64(d)
	}
	t.Offset, t.Size = int64(offsets[0]), int64(offsets[1]-offsets[0])
	if t.Size != bytes {
		return t, fmt.Errorf("has %d bytes of data, but its shape %d takes %d", t.Size, t.Shape, bytes)
	}
	return t, nil
}
