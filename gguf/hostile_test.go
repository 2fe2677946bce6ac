package gguf

import (
	"encoding/binary"
	"math"
	"strings"
)

// raw builds the bytes of a GGUF file, sound or not: nothing is checked.
type raw struct{ b []byte }

func rawHeader(version uint32, tensors, keys uint64) *raw {
	r := &raw{[]byte("GGUF")}
	return r.u32(version).u64(tensors).u64(keys)
}

func (r *raw) u32(v uint32) *raw       { r.b = binary.LittleEndian.AppendUint32(r.b, v); return r }
func (r *raw) u64(v uint64) *raw       { r.b = binary.LittleEndian.AppendUint64(r.b, v); return r }
func (r *raw) string(s string) *raw    { r.b = appendString(r.b, s); return r }
func (r *raw) bytes(b ...byte) *raw    { r.b = append(r.b, b...); return r }
func (r *raw) kind(k Kind) *raw        { return r.u32(uint32(k)) }
func (r *raw) zeros(n int) *raw        { r.b = append(r.b, make([]byte, n)...); return r }
func (r *raw) align(n int) *raw        { return r.zeros((n - len(r.b)%n) % n) }
func (r *raw) alignment(a uint32) *raw { return r.string("general.alignment").kind(KindUint32).u32(a) }

// tensor appends an entry of the tensor table. Its data is the caller's business.
func (r *raw) tensor(name string, typ Type, offset uint64, dims ...uint64) *raw {
	r.string(name).u32(uint32(len(dims)))
	for _, d := range dims {
		r.u64(d)
	}
	return r.u32(uint32(typ)).u64(offset)
}

// hostile files, each with a part of the message that it must give. Their names tell what they did, or would do, to
// readers less strict.
func hostile() map[string]struct {
	b    []byte
	want string
} {
	type file = struct {
		b    []byte
		want string
	}
	v3 := func(tensors, keys uint64) *raw { return rawHeader(3, tensors, keys) }
	one := func(name string, typ Type, offset uint64, dims ...uint64) []byte {
		return v3(1, 0).tensor(name, typ, offset, dims...).align(32).zeros(4096).b
	}
	key := func(k Kind) *raw { return v3(0, 1).string("k").kind(k) }
	list := func(elem Kind, n uint64) []byte { return key(KindList).kind(elem).u64(n).zeros(64).b }
	two := func(size0, offset0, offset1 uint64) []byte {
		return v3(2, 0).tensor("t", F32, offset0, size0).tensor("u", F32, offset1, 8).align(32).zeros(256).b
	}
	aligned := func(a uint32) []byte { return v3(1, 1).alignment(a).tensor("t", F32, 0, 8).align(32).zeros(64).b }
	return map[string]file{
		"tensor count huge":              {v3(math.MaxUint64, 0).b, "declares 18446744073709551615 tensors"},
		"tensor count wraps when scaled": {v3(1<<61, 0).b, "tensors, more than the 65536"},
		"tensor count over the file":     {v3(60000, 0).b, "is cut short"},
		"key count huge":                 {v3(0, math.MaxUint64).b, "metadata keys, more than the 4096"},
		"key count negative":             {v3(0, 1<<63).b, "metadata keys, more than"},
		"key count over the file":        {v3(0, 4000).b, "is cut short"},
		"key length wraps": {
			v3(0, 1).u64(math.MaxUint64).zeros(64).b,
			"string of 18446744073709551615 bytes",
		},
		"key too long": {
			v3(0, 1).string(strings.Repeat("k", 257)).kind(KindBool).bytes(1).b,
			"257 bytes",
		},
		"key empty": {v3(0, 1).string("").kind(KindBool).bytes(1).b, "is empty"},
		"key with a zero byte": {
			v3(0, 1).string("a\x00b").kind(KindBool).bytes(1).b,
			"control characters",
		},
		"key not UTF-8": {v3(0, 1).string("\xff").kind(KindBool).bytes(1).b, "not UTF-8"},
		"key twice": {
			v3(0, 2).string("k").kind(KindBool).bytes(1).string("k").kind(KindBool).bytes(0).b,
			"key k twice",
		},
		"kind unknown":  {v3(0, 1).string("k").u32(13).zeros(64).b, "unknown kind 13"},
		"kind negative": {v3(0, 1).string("k").u32(math.MaxUint32).zeros(64).b, "unknown kind"},
		"string value length wraps": {
			key(KindString).u64(math.MaxUint64 - 7).zeros(64).b,
			"18446744073709551608 bytes",
		},
		"string value over the file":    {key(KindString).u64(1 << 20).zeros(64).b, "inside the value of k"},
		"list length wraps":             {list(KindUint64, 1<<61), "more than the 4194304"},
		"list over the file":            {list(KindUint64, 1<<20), "is cut short"},
		"list of strings over the file": {list(KindString, 1<<20), "is cut short"},
		"list of lists":                 {list(KindList, 1), "list of lists"},
		"list of an unknown kind":       {key(KindList).u32(99).u64(1).zeros(64).b, "list of unknown kind 99"},
		"boolean of 2":                  {key(KindBool).bytes(2).b, "neither 0 nor 1"},
		"alignment 0":                   {aligned(0), "general.alignment is 0"},
		"alignment 1":                   {aligned(1), "general.alignment is 1"},
		"alignment not a power of two":  {aligned(48), "general.alignment is 48"},
		"alignment wraps when padding":  {aligned(1 << 31), "general.alignment is 2147483648"},
		"alignment of another kind": {
			v3(0, 1).string("general.alignment").kind(KindUint64).u64(32).b,
			"is a u64, not a u32",
		},
		"tensor name empty": {one("", F32, 0, 8), "name of tensor 0 is empty"},
		"tensor name too long": {
			one(strings.Repeat("n", 64), F32, 0, 8),
			"string of 64 bytes, more than the 63",
		},
		"tensor name length wraps": {v3(1, 0).u64(math.MaxUint64).zeros(64).b, "18446744073709551615 bytes"},
		"tensor twice": {
			v3(2, 0).tensor("t", F32, 0, 8).tensor("t", F32, 32, 8).b,
			"tensor t twice",
		},
		"no dimensions":   {one("t", F32, 0), "0 dimensions"},
		"five dimensions": {one("t", F32, 0, 1, 1, 1, 1, 1), "5 dimensions"},
		"dimension count huge": {
			v3(1, 0).string("t").u32(math.MaxUint32).zeros(4096).b,
			"4294967295 dimensions",
		},
		"dimension 0":                     {one("t", F32, 0, 8, 0), "dimension of 0"},
		"dimension negative":              {one("t", F32, 0, 1<<63), "impossible shape"},
		"element count wraps to 0":        {one("t", F32, 0, 1<<32, 1<<32), "impossible shape"},
		"element count wraps to a little": {one("t", F32, 0, 1<<63+4, 2, 1, 1), "impossible shape"},
		"byte count wraps":                {one("t", F32, 0, 1<<62), "impossible shape"},
		"byte count wraps when padded":    {one("t", Type(24), 0, math.MaxInt64), "impossible shape"},
		"sum of sizes wraps": {
			v3(2, 0).tensor("t", 24, 0, 1<<62).tensor("u", 24, 1<<62, 1<<62).align(32).b,
			"is cut short: tensor t",
		},
		"row not a multiple of the block": {one("t", Q8_0, 0, 33), "multiple of 32"},
		"row shorter than the block":      {one("t", Type(12), 0, 32), "multiple of 256"},
		"type unknown":                    {one("t", Type(43), 0, 32), "unknown type 43"},
		"type dropped":                    {one("t", Type(4), 0, 32), "unknown type 4"},
		"type negative":                   {one("t", Type(math.MaxUint32), 0, 32), "unknown type 4294967295"},
		"tensor over the file": {
			one("t", F32, 0, 1<<20),
			"is cut short: tensor t needs bytes 64..4194368 but the file ends at 4160",
		},
		"offset huge":                      {one("t", F32, math.MaxUint64-31, 8), "has its data at"},
		"offset wraps with the data start": {one("t", F32, math.MaxInt64-31, 8), "gap"},
		"offset not aligned":               {one("t", F32, 4, 8), "not aligned"},
		"data overlaps":                    {two(16, 0, 32), "overlaps"},
		"data at the same place":           {two(8, 0, 0), "overlaps"},
		"gap before data":                  {two(8, 0, 64), "gap of 32 bytes"},
		"no padding before data":           {v3(1, 0).tensor("t", F32, 0, 1).b, "is cut short"},
		"version 1":                        {rawHeader(1, 0, 0).b, "version 1, which is no longer supported"},
		"version 0":                        {rawHeader(0, 0, 0).b, "version 0"},
		"version of the future":            {rawHeader(4, 0, 0).b, "version 4"},
		"big-endian":                       {rawHeader(3<<24, 0, 0).b, "big-endian"},
	}
}
