package gguf

import (
	"encoding/binary"
	"math"
)

// Encode appends values to b in F32, F16 or BF16, rounded to the nearest and to the even one if two are as near. It panics for
// another type.
func Encode(b []byte, t Type, values []float32) []byte {
	switch t {
	case F32:
		return appendF32(b, values)
	case F16:
		return appendF16(b, values)
	case BF16:
		return appendBF16(b, values)
	}
	panic("gguf: Encode in " + t.String())
}

// Decode appends to values the numbers that b has in F32, F16 or BF16. It panics for another type.
func Decode(values []float32, t Type, b []byte) []float32 {
	if t == F32 {
		for ; len(b) >= 4; b = b[4:] {
			values = append(values, math.Float32frombits(binary.LittleEndian.Uint32(b)))
		}
		return values
	}
	widen := map[Type]func(uint16) float32{F16: fromFloat16, BF16: fromBFloat16}[t]
	if widen == nil {
		panic("gguf: Decode of " + t.String())
	}
	for ; len(b) >= 2; b = b[2:] {
		values = append(values, widen(binary.LittleEndian.Uint16(b)))
	}
	return values
}

func appendF32(b []byte, values []float32) []byte {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

func appendF16(b []byte, values []float32) []byte {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint16(b, float16(v))
	}
	return b
}

func appendBF16(b []byte, values []float32) []byte {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint16(b, bfloat16(v))
	}
	return b
}

// q8Block is how many values share a scale in Q8_0.
const q8Block = 32

// appendQ8 appends one block of Q8_0: the scale in F16, then the values in steps of it. It computes as ggml's reference
// does, down to rounding halves away from zero, so that both make the same bytes.
func appendQ8(b []byte, values []float32) []byte {
	var largest float32
	for _, v := range values {
		largest = max(largest, float32(math.Abs(float64(v))))
	}
	scale := largest / 127
	var inverse float32
	if scale != 0 {
		inverse = 1 / scale
	}
	b = binary.LittleEndian.AppendUint16(b, float16(scale))
	for _, v := range values {
		b = append(b, byte(int8(math.Round(float64(v*inverse)))))
	}
	return b
}

// float16 rounds f to half precision, ties to even, and returns its bits.
func float16(f float32) uint16 {
	bits := math.Float32bits(f)
	sign := uint16(bits >> 16 & 0x8000)
	bits &= 0x7fffffff
	switch {
	case bits > 0x7f800000: // NaN stays NaN
		return sign | 0x7e00
	case bits >= 0x477ff000: // from 65520 on it rounds to infinity
		return sign | 0x7c00
	case bits < 0x38800000: // below 2^-14: adding 1/2 leaves the subnormal in the lowest bits, rounded
		return sign | uint16(math.Float32bits(math.Float32frombits(bits)+0.5)-0x3f000000)
	}
	bits += 0xfff + bits>>13&1 // carries into the exponent if it must
	return sign | uint16((bits-0x38000000)>>13)
}

// fromFloat16 is the number of those bits, which single precision has too.
func fromFloat16(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	bits := uint32(h&0x7fff) << 13
	switch {
	case h&0x7c00 == 0x7c00: // infinity or NaN
		return math.Float32frombits(sign | 0x7f800000 | bits)
	case h&0x7c00 == 0: // subnormal: steps of 2^-24
		return math.Float32frombits(sign | math.Float32bits(float32(h&0x3ff)*(1.0/(1<<24))))
	}
	return math.Float32frombits(sign | bits + 0x38000000)
}

// bfloat16 rounds f to the upper half of its bits, ties to even.
func bfloat16(f float32) uint16 {
	bits := math.Float32bits(f)
	if bits&0x7fffffff > 0x7f800000 { // NaN stays NaN
		return uint16(bits>>16) | 0x40
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

func fromBFloat16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }
