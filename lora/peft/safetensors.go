package peft

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/centram/centram/gguf"
)

// The bounds of a safetensors file. An adapter of every matrix of a large model has a header of some 200 KB.
const (
	maxHeader  = 16 << 20
	maxTensors = 16 << 10
	maxDims    = 8
	maxName    = 256
)

// tensor is a tensor of a safetensors file.
type tensor struct {
	name   string
	typ    gguf.Type
	shape  []uint64 // rows first
	offset int64    // from the start of the file
	size   int64
}

// readSafetensors reads the header of a safetensors file of size bytes:
//
//	u64 length, little-endian    header, a JSON object of that length    data
//
// The header has {"dtype", "shape", "data_offsets": [begin, end]} for each tensor's name, and may have strings under
// "__metadata__". The tensors have to fill the data without gaps or overlaps, in any order; they are returned in that of
// their data.
func readSafetensors(name string, r io.ReaderAt, size int64) ([]tensor, error) {
	var start [8]byte
	if _, err := r.ReadAt(start[:], 0); err != nil {
		if err == io.EOF {
			return nil, bad("%s is cut off: it has %d bytes", name, size).WithHint("Copy or download it again.")
		}
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	length := binary.LittleEndian.Uint64(start[:])
	switch {
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
	entries, err := object(header)
	if err != nil {
		return nil, bad("%s is damaged: its header: %w", name, err)
	}
	if len(entries) > maxTensors {
		return nil, bad("%s has %d tensors, more than %d", name, len(entries), maxTensors)
	}
	var out []tensor
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
		if err != nil {
			return nil, bad("%s is damaged: the tensor %.100q %w", name, key, err)
		}
		out = append(out, t)
	}
	slices.SortStableFunc(out, func(a, b tensor) int {
		if a.offset != b.offset {
			return int(min(1, max(-1, a.offset-b.offset)))
		}
		return int(min(1, max(-1, a.size-b.size)))
	})
	end := int64(0)
	for i := range out {
		t := &out[i]
		if t.offset != end {
			return nil, bad("%s is damaged: the tensor %.100q begins at %d, but the one before it ends at %d", name, t.name, t.offset, end)
		}
		end += t.size
		t.offset += 8 + int64(length)
	}
	if end != data {
		return nil, bad("%s is damaged: its tensors have %d bytes, but there are %d", name, end, data).
			WithHint("Copy or download it again.")
	}
	return out, nil
}

// parseTensor reads one entry of a header, whose offset is that in the data, of which there are size bytes.
func parseTensor(name string, raw json.RawMessage, size int64) (tensor, error) {
	t := tensor{name: name}
	fields, err := object(raw)
	if err != nil {
		return t, err
	}
	var dtype string
	var offsets []uint64
	for key, into := range map[string]any{"dtype": &dtype, "shape": &t.shape, "data_offsets": &offsets} {
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
			t.typ, bytes = d.typ, d.size
		}
	}
	if bytes == 0 {
		return t, fmt.Errorf("is of type %.20q; F32, F16 and BF16 are supported", dtype)
	}
	if len(t.shape) > maxDims || len(name) > maxName || name == "" {
		return t, fmt.Errorf("has %d dimensions and a name of %d bytes", len(t.shape), len(name))
	}
	if len(offsets) != 2 || offsets[0] > offsets[1] || offsets[1] > uint64(size) {
		return t, fmt.Errorf("lies at %d of %d bytes of data", offsets, size)
	}
	for _, d := range t.shape {
		if d != 0 && uint64(bytes) > uint64(size)/d {
			return t, fmt.Errorf("has the shape %d, which is more than %d bytes of data", t.shape, size)
		}
		bytes *= int64(d)
	}
	t.offset, t.size = int64(offsets[0]), int64(offsets[1]-offsets[0])
	if t.size != bytes {
		return t, fmt.Errorf("has %d bytes of data, but its shape %d takes %d", t.size, t.shape, bytes)
	}
	return t, nil
}

// object reads a JSON object in which no key is twice. encoding/json would take the last, another reader the first.
func object(raw []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(raw) {
		return nil, errors.New("is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	open, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	if open != json.Delim('{') {
		return nil, errors.New("is not a JSON object")
	}
	out := map[string]json.RawMessage{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("is not JSON: %w", err)
		}
		name := key.(string) // the decoder accepts nothing else here
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, fmt.Errorf("is not JSON: %w", err)
		}
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("has the key %.100q twice", name)
		}
		out[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("is followed by something else")
	}
	return out, nil
}

// tensorData is a tensor to be written.
type tensorData struct {
	name  string
	typ   gguf.Type
	shape []uint64
	write func(io.Writer) error
}

// writeSafetensors writes a safetensors file: larger types first, then by name, the order of its own library. The same
// tensors give the same bytes.
func writeSafetensors(w io.Writer, tensors []tensorData) error {
	sizeOf := func(t gguf.Type) int64 {
		for _, d := range dtypes {
			if d.typ == t {
				return d.size
			}
		}
		return 0
	}
	tensors = slices.Clone(tensors)
	slices.SortFunc(tensors, func(a, b tensorData) int {
		if c := sizeOf(b.typ) - sizeOf(a.typ); c != 0 {
			return int(c)
		}
		return strings.Compare(a.name, b.name)
	})
	type entry struct {
		Dtype   string    `json:"dtype"`
		Shape   []uint64  `json:"shape"`
		Offsets [2]uint64 `json:"data_offsets"`
	}
	header := []byte(`{"__metadata__":{"format":"pt"}`)
	end := uint64(0)
	for _, t := range tensors {
		e := entry{Shape: t.shape}
		for _, d := range dtypes {
			if d.typ == t.typ {
				e.Dtype = d.name
			}
		}
		e.Offsets[0] = end
		size := uint64(sizeOf(t.typ))
		for _, d := range t.shape {
			size *= d
		}
		end += size
		e.Offsets[1] = end
		key, err := json.Marshal(t.name)
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
		if err := t.write(w); err != nil {
			return fmt.Errorf("write tensor %s: %w", t.name, err)
		}
	}
	return nil
}
