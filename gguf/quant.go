package gguf

import (
	"encoding/binary"
	"math"
)

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
