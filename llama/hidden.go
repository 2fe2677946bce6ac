package llama

/*
#include <stdlib.h>
#include "shim/shim.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"
)

// Yield is what the rows of a batch yield.
type Yield int

const (
	Logits   Yield = iota
	Hidden         // the hidden state after the last layer; nothing beyond that is computed
	Embedded       // that, normalised as it goes into the output matrix: what embeddings are made of
)

// AddHidden appends a row to the batch of a stage: the hidden state that comes out of the layer before.
func (b *Batch) AddHidden(row []float32, pos, seq int, logits bool) {
	b.Hidden = append(b.Hidden, row...)
	b.Place(pos, seq, logits)
}

// rows are what a batch yielded. Their memory is kept from batch to batch.
type rows struct {
	data  []float32 // in the order of the batch
	order []int     // row of the batch that llama.cpp computes at each place
	flags []int8    // all set: without its flag, llama.cpp drops a row in the middle of its last layer
}

func (r *rows) all(n int) []int8 {
	for len(r.flags) < n {
		r.flags = append(r.flags, 1)
	}
	return r.flags[:n]
}

// capture has llama.cpp end the graph where the batch wants it to.
func (c *Context) capture(y Yield) {
	switch y {
	case Hidden:
		name := C.CString(fmt.Sprintf("l_out-%d", c.layers-1))
		defer C.free(unsafe.Pointer(name))
		C.cen_capture(c.c, name)
	case Embedded:
		name := C.CString("result_norm")
		defer C.free(unsafe.Pointer(name))
		C.cen_capture(c.c, name)
	default:
		C.cen_capture(c.c, nil)
	}
}

// keep copies the hidden states that a batch yielded.
func (c *Context) keep(b *Batch) error {
	if b.Yield == Logits {
		return nil
	}
	var n C.size_t
	p := C.cen_captured(c.c, &n)
	want := len(b.Positions) * c.embed
	if int(n) != want {
		return fmt.Errorf("llama: decode: %d numbers came out of the last layer, want %d", n, want)
	}
	computed := unsafe.Slice((*float32)(p), want)
	r := &c.rows
	r.data = slices.Grow(r.data[:0], want)[:want]
	if c.unified {
		copy(r.data, computed)
		return nil
	}
	r.order = order(r.order[:0], b.Seqs, c.micro)
	for at, row := range r.order {
		copy(r.data[row*c.embed:(row+1)*c.embed], computed[at*c.embed:])
	}
	return nil
}

// Hidden returns the rows × Embedding numbers that the last batch yielded, in its order. They are good until the next
// Decode or Close.
func (c *Context) Hidden() []float32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rows.data
}

// order appends the order in which llama.cpp computes the rows of a batch when each sequence has a cache of its own. It is
// that of llama_batch_allocr::split_equal: a micro batch has the same number of rows of each of its sequences, whose
// numbers follow on each other, one sequence after the other.
func order(out []int, seqs []int32, micro int) []int {
	left := map[int32][]int{} // rows of each sequence, in order
	for i, s := range seqs {
		left[s] = append(left[s], i)
	}
	for len(out) < len(seqs) {
		var chosen []int32
		for i, s := range seqs {
			if len(left[s]) == 0 || i < left[s][0] || slices.Contains(chosen, s) {
				continue
			}
			if len(chosen) > 0 && s != chosen[len(chosen)-1]+1 {
				continue
			}
			if chosen = append(chosen, s); len(chosen) > micro {
				break
			}
		}
		each := len(left[chosen[0]])
		for _, s := range chosen {
			each = min(each, len(left[s]))
		}
		each = min(each, max(1, micro/len(chosen)))
		for _, s := range chosen {
			out = append(out, left[s][:each]...)
			left[s] = left[s][each:]
		}
	}
	return out
}

// Dequantize turns numbers of a ggml type into floats, as llama.cpp does when it looks up the embedding of a token.
func Dequantize(ggmlType uint32, in []byte, out []float32) error {
	if len(in) == 0 || len(out) == 0 {
		return errors.New("llama: dequantize: nothing given")
	}
	if !C.cen_dequantize(C.int32_t(ggmlType), unsafe.Pointer(&in[0]), (*C.float)(&out[0]), C.int64_t(len(out))) {
		return fmt.Errorf("llama: dequantize: %d numbers of type %d", len(out), ggmlType)
	}
	return nil
}
