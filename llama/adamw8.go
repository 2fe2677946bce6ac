package llama

import (
	"math"
	"slices"
)

// AdamW's two numbers for each parameter in a byte each (Dettmers, Lewis, Shleifer and Zettlemoyer 2022, 8-bit Optimizers
// via Block-wise Quantization): 256 numbers share a scale, which is the largest of them, and a byte stands for one of 256
// parts of it. The parts are dense where numbers usually are: of seven powers of ten, the lowest has one or two parts, and
// each higher one has twice as many.

// scaled is how many numbers share a scale.
const scaled = 256

// moments8 are numbers that are kept so.
type moments8 struct {
	codes  []uint8
	scales []float32
	map8   *map8
}

func newMoments8(n int, m *map8) *moments8 {
	codes := make([]uint8, n)
	for i := range codes {
		codes[i] = m.zero
	}
	return &moments8{codes, make([]float32, (n+scaled-1)/scaled), m}
}

// map8 is what the bytes stand for, in rising order.
type map8 struct {
	values [256]float32
	middle [255]float32 // between each and the next
	zero   uint8
}

var (
	signed8   = newMap8(true)  // for the mean of gradients
	unsigned8 = newMap8(false) // for that of their squares
)

func newMap8(signed bool) *map8 {
	values := []float32{0, 1}
	size := 1e-6
	for power := range 7 {
		n := 1 << power
		if !signed {
			n *= 2
		}
		for i := range n {
			x := float32((0.1 + 0.9*(float64(i)+0.5)/float64(n)) * size)
			if values = append(values, x); signed {
				values = append(values, -x)
			}
		}
		size *= 10
	}
	slices.Sort(values)
	m := &map8{}
	copy(m.values[:], values)
	for i := range m.middle {
		m.middle[i] = (values[i] + values[i+1]) / 2
	}
	m.zero = m.nearest(0)
	return m
}

// nearest is the byte for what is closest to x.
func (m *map8) nearest(x float32) uint8 {
	low, high := 0, len(m.middle)
	for low < high {
		if at := (low + high) / 2; x > m.middle[at] {
			low = at + 1
		} else {
			high = at
		}
	}
	return uint8(low)
}

// read writes the numbers of a block to out.
func (q *moments8) read(block int, out []float32) {
	scale := q.scales[block]
	for i, c := range q.codes[block*scaled:][:len(out)] {
		out[i] = float32(q.map8.values[c] * scale)
	}
}

// write keeps the numbers of a block.
func (q *moments8) write(block int, in []float32) {
	most := float32(0)
	for _, x := range in {
		most = max(most, float32(math.Abs(float64(x))))
	}
	q.scales[block] = most
	codes := q.codes[block*scaled:][:len(in)]
	for i, x := range in {
		codes[i] = q.map8.zero
		if most > 0 {
			codes[i] = q.map8.nearest(x / most)
		}
		// What is divided by its root must not become nothing: a step would be as long as the gradient is small.
		if q.map8 == unsigned8 && x > 0 && codes[i] == q.map8.zero {
			codes[i]++
		}
	}
}
