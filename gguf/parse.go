package gguf

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math"
	"math/bits"
	"strings"
	"unicode"
	"unicode/utf8"
)

// parse reads the header of a file of size bytes.
func (l Limits) parse(name string, r io.ReaderAt, size int64) (*File, error) {
	f, d := l.header(name, r, size)
	d.place(f, size)
	if d.err != nil {
		return nil, d.err
	}
	return f, nil
}

// maxImpliedSize bounds the file that a header without data may be about. Sums of offsets within it cannot overflow.
const maxImpliedSize = 1 << 60

// parseHeader reads a header whose data is elsewhere, if anywhere. It also returns how long the header is, padding
// included, which may be more than there is.
func (l Limits) parseHeader(name string, header []byte) (f *File, n int64, err error) {
	f, d := l.header(name, bytes.NewReader(header), int64(len(header)))
	d.place(f, maxImpliedSize)
	if d.err != nil {
		return nil, 0, d.err
	}
	return f, pad(d.off, f.Alignment), nil
}

// header reads everything before the tensors' data. Every declared number is held against the limits and against the
// bytes that are really there before anything is allocated for it.
func (l Limits) header(name string, r io.ReaderAt, size int64) (*File, *decoder) {
	d := &decoder{
		name:   name,
		size:   size,
		limits: l.orDefaults(),
		r:      bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 64<<10),
	}
	f := &File{
		Name:      name,
		Size:      size,
		Alignment: DefaultAlignment,
		keys:      map[string]Value{},
		byName:    map[string]Tensor{},
		r:         r,
	}
	d.magic()
	f.Version = d.version()
	d.at = "its header"
	tensors, keys := number[uint64](d), number[uint64](d)
	d.count(tensors, d.limits.Tensors, 24, "tensors")
	d.count(keys, d.limits.Keys, 13, "metadata keys")
	for i := uint64(0); i < keys && d.err == nil; i++ {
		d.key(f, i)
	}
	d.alignment(f)
	for i := uint64(0); i < tensors && d.err == nil; i++ {
		d.tensor(f, i)
	}
	return f, d
}

func (l Limits) orDefaults() Limits {
	return Limits{
		HeaderBytes: cmp.Or(l.HeaderBytes, MaxHeaderBytes),
		Keys:        cmp.Or(l.Keys, MaxKeys),
		KeyBytes:    cmp.Or(l.KeyBytes, MaxKeyBytes),
		StringBytes: cmp.Or(l.StringBytes, MaxStringBytes),
		ListLen:     cmp.Or(l.ListLen, MaxListLen),
		Tensors:     cmp.Or(l.Tensors, MaxTensors),
	}
}

func (d *decoder) magic() {
	if d.size <= 0 {
		d.fail("is empty")
		d.hint(downloadAgain)
		return
	}
	d.at = "its header"
	start, err := d.r.Peek(int(min(d.size, sniffBytes)))
	if err != nil && len(start) < 4 {
		d.readFailed(err)
		return
	}
	if magic := string(start[:min(4, len(start))]); !strings.HasPrefix("GGUF", magic) {
		what, hint := lookalike(start)
		d.fail("is not a GGUF file: %s", what)
		d.hint(hint)
		return
	}
	d.next(4)
}

func (d *decoder) version() uint32 {
	v := number[uint32](d)
	switch {
	case d.err != nil:
	case v&0xffff == 0 && v != 0:
		d.fail("is a big-endian GGUF file, which this machine cannot use")
		d.hint("Get the little-endian version: almost every published GGUF file is one.")
	case v == 1:
		d.fail("is a GGUF file of version 1, which is no longer supported")
		d.hint("Get a newer conversion of the model.")
	case v != 2 && v != 3:
		d.fail("says it is a GGUF file of version %d; versions 2 and 3 are known", v)
	}
	return v
}

func (d *decoder) key(f *File, i uint64) {
	d.at = fmt.Sprintf("metadata key %d", i)
	key := d.string(d.limits.KeyBytes)
	if d.err != nil {
		return
	}
	if reason := badName(key); reason != "" {
		d.fail("is damaged: the name of metadata key %d %s", i, reason)
		return
	}
	if _, ok := f.keys[key]; ok {
		d.fail("is damaged: it has the metadata key %s twice", key)
		return
	}
	d.at = "the value of " + key
	v := d.value(key)
	if d.err != nil {
		return
	}
	f.keys[key] = v
	f.Metadata = append(f.Metadata, KV{key, v})
}

// badName says why s cannot name a key or a tensor. A zero byte would make llama.cpp, which compares C strings, see
// another name than we do.
func badName(s string) string {
	switch {
	case s == "":
		return "is empty"
	case !utf8.ValidString(s):
		return "is not UTF-8"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "has control characters"
	}
	return ""
}

func (d *decoder) value(key string) Value {
	kind := Kind(number[uint32](d))
	if d.err != nil {
		return Value{}
	}
	if kind != KindList {
		if int(kind) >= len(kinds) {
			d.fail("is damaged: the value of %s is of unknown kind %d", key, uint32(kind))
			return Value{}
		}
		return Value{kinds[kind].one(d)}
	}
	elem, n := Kind(number[uint32](d)), number[uint64](d)
	switch {
	case d.err != nil:
	case int(elem) >= len(kinds):
		d.fail("is damaged: %s is a list of unknown kind %d", key, uint32(elem))
	case kinds[elem].many == nil:
		d.fail("is damaged: %s is a list of lists, which GGUF readers do not allow", key)
	case n > d.limits.ListLen:
		d.fail("is damaged: %s is a list of %d elements, more than the %d allowed", key, n, d.limits.ListLen)
	default:
		return Value{kinds[elem].many(d, n)}
	}
	return Value{}
}

func (d *decoder) alignment(f *File) {
	v, ok := f.keys["general.alignment"]
	if d.err != nil || !ok {
		return
	}
	a, ok := v.v.(uint32)
	switch {
	case !ok:
		d.fail("is damaged: general.alignment is a %v, not a u32", v.Kind())
	case a < MinAlignment || a > MaxAlignment || bits.OnesCount32(a) != 1:
		d.fail("is damaged: general.alignment is %d, not a power of two from %d to %d", a, MinAlignment, MaxAlignment)
	}
	f.Alignment = int64(a)
}

// tensor reads one row of the tensor table. Its Offset is left relative to the data until place knows where that is.
func (d *decoder) tensor(f *File, i uint64) {
	d.at = fmt.Sprintf("the entry of tensor %d", i)
	name := d.string(MaxNameBytes)
	if d.err != nil {
		return
	}
	if reason := badName(name); reason != "" {
		d.fail("is damaged: the name of tensor %d %s", i, reason)
		return
	}
	if _, ok := f.byName[name]; ok {
		d.fail("is damaged: it has the tensor %s twice", name)
		return
	}
	d.at = "the entry of tensor " + name
	rank := number[uint32](d)
	if d.err == nil && (rank < 1 || rank > MaxDims) {
		d.fail("is damaged: tensor %s has %d dimensions, not 1 to %d", name, rank, MaxDims)
	}
	var dims []uint64
	for range min(rank, MaxDims) {
		dims = append(dims, number[uint64](d))
	}
	t := Tensor{Name: name, Dims: dims, Type: Type(number[uint32](d))}
	offset := number[uint64](d)
	if d.err != nil {
		return
	}
	size, reason := dataSize(t.Type, dims)
	if reason != "" {
		d.fail("is damaged: tensor %s %s", name, reason)
		return
	}
	if offset > math.MaxInt64 {
		d.fail("is damaged: tensor %s has its data at %d", name, offset)
		return
	}
	t.Size, t.Offset = size, int64(offset)
	f.byName[name] = t
	f.Tensors = append(f.Tensors, t)
}

// dataSize returns how many bytes a tensor takes, or why it cannot be.
func dataSize(t Type, dims []uint64) (size int64, reason string) {
	if !t.Known() {
		return 0, fmt.Sprintf("is of unknown type %d", uint32(t))
	}
	block, bytes := t.Block()
	if dims[0]%block != 0 {
		return 0, fmt.Sprintf("has rows of %d values, but %v needs a multiple of %d", dims[0], t, block)
	}
	values := uint64(1)
	for _, dim := range dims {
		if dim == 0 {
			return 0, "has a dimension of 0"
		}
		hi, lo := bits.Mul64(values, dim)
		if hi != 0 || lo > math.MaxInt64 {
			return 0, fmt.Sprintf("has an impossible shape %v", dims)
		}
		values = lo
	}
	hi, lo := bits.Mul64(values/block, bytes)
	if hi != 0 || lo > math.MaxInt64-2*MaxAlignment {
		return 0, fmt.Sprintf("has an impossible shape %v", dims)
	}
	return int64(lo), ""
}

// place checks that the tensors' data follow each other without gap or overlap, as ggml demands, and lie inside a file
// of size bytes.
func (d *decoder) place(f *File, size int64) {
	if d.err != nil {
		return
	}
	start, next := pad(d.off, f.Alignment), int64(0)
	for i := range f.Tensors {
		t := &f.Tensors[i]
		switch {
		case t.Offset%f.Alignment != 0:
			d.fail("is damaged: the data of tensor %s is not aligned to %d bytes", t.Name, f.Alignment)
		case t.Offset < next:
			d.fail("is damaged: the data of tensor %s overlaps that of the tensor before it", t.Name)
		case t.Offset > next:
			d.fail("is damaged: there is a gap of %d bytes before the data of tensor %s", t.Offset-next, t.Name)
		case t.Size > size-start-next: // cannot overflow: start and next are within the file or just past it
			d.fail("is cut short: tensor %s needs bytes %d..%d but the file ends at %d",
				t.Name, start+next, uint64(start+next)+uint64(t.Size), size)
			d.hint(downloadAgain)
		}
		if d.err != nil {
			return
		}
		next = pad(next+t.Size, f.Alignment)
		t.Offset += start
		f.byName[t.Name] = *t
	}
}

func pad(n, alignment int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }
