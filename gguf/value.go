package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
)

// KV is one key of a file's metadata.
type KV struct {
	Key   string
	Value Value
}

// Value is a metadata value: one Element or a list of one kind of them. Its zero value is no value, and cannot be
// written.
type Value struct {
	v any // T or []T of an Element T
}

// Element is what a metadata value may consist of. A list of lists is not among them: GGUF's prose allows it, no reader
// of model files does.
type Element interface {
	uint8 | int8 | uint16 | int16 | uint32 | int32 | uint64 | int64 | float32 | float64 | bool | string
}

// Of makes a value of v. Its Go type chooses the kind in the file.
func Of[T Element](v T) Value { return Value{v} }

// List makes a list value. It keeps v, which must not change afterwards.
func List[T Element](v []T) Value {
	if v == nil {
		v = []T{}
	}
	return Value{v}
}

// Any returns the value as T or []T of an Element T, or nil for no value.
func (v Value) Any() any { return v.v }

// Kind returns the kind of v: KindList for a list.
func (v Value) Kind() Kind {
	if _, n := v.list(); n >= 0 {
		return KindList
	}
	kind, _ := kindOf(v.v)
	return kind
}

// Len returns the number of elements of a list and 0 for anything else.
func (v Value) Len() int {
	_, n := v.list()
	return max(n, 0)
}

// list returns the kind of a list's elements and their number, which is negative if v is not a list.
func (v Value) list() (Kind, int) {
	switch l := v.v.(type) {
	case []uint8:
		return KindUint8, len(l)
	case []int8:
		return KindInt8, len(l)
	case []uint16:
		return KindUint16, len(l)
	case []int16:
		return KindInt16, len(l)
	case []uint32:
		return KindUint32, len(l)
	case []int32:
		return KindInt32, len(l)
	case []float32:
		return KindFloat32, len(l)
	case []bool:
		return KindBool, len(l)
	case []string:
		return KindString, len(l)
	case []uint64:
		return KindUint64, len(l)
	case []int64:
		return KindInt64, len(l)
	case []float64:
		return KindFloat64, len(l)
	}
	return 0, -1
}

// Kind is the type of a metadata value, numbered as in the file.
type Kind uint32

const (
	KindUint8 Kind = iota
	KindInt8
	KindUint16
	KindInt16
	KindUint32
	KindInt32
	KindFloat32
	KindBool
	KindString
	KindList
	KindUint64
	KindInt64
	KindFloat64
)

func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k].name
	}
	return fmt.Sprintf("kind %d", uint32(k))
}

// kinds says how each kind is read. A list of lists has no reader and is so refused.
var kinds = [...]struct {
	name string
	one  func(*decoder) any
	many func(*decoder, uint64) any
}{
	KindUint8:   {"u8", one[uint8], many[uint8]},
	KindInt8:    {"i8", one[int8], many[int8]},
	KindUint16:  {"u16", one[uint16], many[uint16]},
	KindInt16:   {"i16", one[int16], many[int16]},
	KindUint32:  {"u32", one[uint32], many[uint32]},
	KindInt32:   {"i32", one[int32], many[int32]},
	KindFloat32: {"f32", one[float32], many[float32]},
	KindBool:    {"bool", one[bool], many[bool]},
	KindString:  {"string", oneString, manyStrings},
	KindList:    {"list", nil, nil},
	KindUint64:  {"u64", one[uint64], many[uint64]},
	KindInt64:   {"i64", one[int64], many[int64]},
	KindFloat64: {"f64", one[float64], many[float64]},
}

func one[T Element](d *decoder) any            { return number[T](d) }
func many[T Element](d *decoder, n uint64) any { return numbers[T](d, n) }
func oneString(d *decoder) any                 { return d.string(d.limits.StringBytes) }
func manyStrings(d *decoder, n uint64) any     { return d.strings(n) }

func kindOf(v any) (kind Kind, ok bool) {
	switch v.(type) {
	case uint8:
		return KindUint8, true
	case int8:
		return KindInt8, true
	case uint16:
		return KindUint16, true
	case int16:
		return KindInt16, true
	case uint32:
		return KindUint32, true
	case int32:
		return KindInt32, true
	case float32:
		return KindFloat32, true
	case bool:
		return KindBool, true
	case string:
		return KindString, true
	case uint64:
		return KindUint64, true
	case int64:
		return KindInt64, true
	case float64:
		return KindFloat64, true
	}
	return 0, false
}

func (v Value) int() (int64, bool) {
	switch n := v.v.(type) {
	case int8:
		return int64(n), true
	case int16:
		return int64(n), true
	case int32:
		return int64(n), true
	case int64:
		return n, true
	}
	u, ok := v.uint()
	return int64(u), ok && u <= math.MaxInt64
}

func (v Value) uint() (uint64, bool) {
	switch n := v.v.(type) {
	case uint8:
		return uint64(n), true
	case uint16:
		return uint64(n), true
	case uint32:
		return uint64(n), true
	case uint64:
		return n, true
	case int8, int16, int32, int64:
		i, _ := v.int()
		return uint64(i), i >= 0
	}
	return 0, false
}

func (v Value) float() (float64, bool) {
	switch n := v.v.(type) {
	case float32:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}

// append appends v as it stands in a file, its kind first.
func (v Value) append(b []byte) ([]byte, error) {
	elem, n := v.list()
	if n < 0 {
		kind, ok := kindOf(v.v)
		if !ok {
			return nil, fmt.Errorf("no value")
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(kind))
		if s, ok := v.v.(string); ok {
			return appendString(b, s), nil
		}
		return binary.Append(b, binary.LittleEndian, v.v)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(KindList))
	b = binary.LittleEndian.AppendUint32(b, uint32(elem))
	b = binary.LittleEndian.AppendUint64(b, uint64(n))
	if list, ok := v.v.([]string); ok {
		for _, s := range list {
			b = appendString(b, s)
		}
		return b, nil
	}
	return binary.Append(b, binary.LittleEndian, v.v)
}

func appendString(b []byte, s string) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(len(s)))
	return append(b, s...)
}
