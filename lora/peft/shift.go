package peft

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/centram/centram/gguf"
)

// shifted multiplies what write writes by 2^by.
func shifted(write func(io.Writer) error, typ gguf.Type, by int) func(io.Writer) error {
	return func(w io.Writer) error {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			return err
		}
		shift(b.Bytes(), typ, by)
		_, err := b.WriteTo(w)
		return err
	}
}

// shift multiplies each number of data by 2^by. It reports whether that was exact for all of them.
func shift(data []byte, typ gguf.Type, by int) bool {
	exact := true
	switch typ {
	case gguf.F32:
		for i := 0; i < len(data); i += 4 {
			bits, ok := shiftBits(binary.LittleEndian.Uint32(data[i:]), 8, 23, by)
			binary.LittleEndian.PutUint32(data[i:], bits)
			exact = exact && ok
		}
	default:
		exponent, fraction := 5, 10
		if typ == gguf.BF16 {
			exponent, fraction = 8, 7
		}
		for i := 0; i < len(data); i += 2 {
			bits, ok := shiftBits(uint32(binary.LittleEndian.Uint16(data[i:])), exponent, fraction, by)
			binary.LittleEndian.PutUint16(data[i:], uint16(bits))
			exact = exact && ok
		}
	}
	return exact
}

// shiftBits multiplies a floating-point number, with so many bits of exponent and of fraction, by 2^by.
func shiftBits(bits uint32, exponent, fraction, by int) (uint32, bool) {
	sign := bits & (1 << (exponent + fraction))
	top := 1<<exponent - 1 // of the infinities and what is no number
	e := int(bits>>fraction) & top
	m := bits & (1<<fraction - 1)
	if e == top || e == 0 && m == 0 {
		return bits, true
	}
	if e == 0 {
		e = 1 // subnormal: the same exponent without the leading one
	} else {
		m |= 1 << fraction
	}
	e += by
	for ; e > 1 && m < 1<<fraction; e-- {
		m <<= 1
	}
	for ; e < 1; e++ {
		if m&1 != 0 {
			return bits, false
		}
		m >>= 1
	}
	if e >= top {
		return bits, false
	}
	if m < 1<<fraction {
		e = 0
	}
	return sign | uint32(e)<<fraction | m&(1<<fraction-1), true
}
