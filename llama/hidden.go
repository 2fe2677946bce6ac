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
	Normed         // the same, of the rows that want logits alone: what Unembed takes
)

// all says whether all rows yield it.
func (y Yield) all() bool { return y == Hidden || y == Embedded }

// AddHidden appends a row to the batch of a stage: the hidden state that comes out of the layer before.
func (b *Batch) AddHidden(row []float32, pos, seq int, logits bool) {
	b.Hidden = append(b.Hidden, row...)
	b.Place(pos, seq, logits)
}

// rows are what a batch yielded. Their memory is kept from batch to batch.
type rows struct {
	data   []float32 // in the order of the batch
	logits []float32
	flags  []int8 // all set: without its flag, llama.cpp drops a row in the middle of its last layer
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
	case Embedded, Normed:
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
	place, yielding := places(b)
	want := yielding * c.embed
	if int(n) != want {
		return fmt.Errorf("llama: decode: %d numbers came out of the last layer, want %d", n, want)
	}
	computed := unsafe.Slice((*float32)(p), want)
	r := &c.rows
	r.data = slices.Grow(r.data[:0], want)[:want]
	for _, micro := range c.microBatches(b) {
		for _, row := range micro {
			if at := place[row]; at >= 0 {
				copy(r.data[at*c.embed:(at+1)*c.embed], computed)
				computed = computed[c.embed:]
			}
		}
	}
	return nil
}

// places says where the rows of a batch are among those that yield something, -1 for one that does not, and how many do.
func places(b *Batch) (place []int, yielding int) {
	place = make([]int, len(b.Positions))
	for i := range place {
		place[i] = -1
		if b.Yield.all() || b.Logits[i] != 0 {
			place[i] = yielding
			yielding++
		}
	}
	return place, yielding
}

// Hidden returns the Embedding numbers of each row that yields them of the last batch, in its order. They are good until the
// next Decode or Close.
func (c *Context) Hidden() []float32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rows.data
}

// Unembed multiplies what a Decode of the batch b has yielded as Normed, here or in a context of the same shape elsewhere, by
// the output matrix, with the adapters that are set. It returns the logits of the rows that wanted them, one after the other,
// which are good until the next Unembed or Close: as many as the model has rows of the matrix. It is for a stage.
//
// The rows of a micro batch are multiplied at once, as in a graph that goes on from the layers, since kernels round otherwise
// for other numbers of rows.
func (c *Context) Unembed(b *Batch, normed []float32) ([]float32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.c == nil {
		return nil, ErrClosed
	}
	wants := Batch{Positions: b.Positions, Seqs: b.Seqs, Logits: b.Logits}
	place, n := places(&wants)
	if !c.stage || len(normed) != n*c.embed || n == 0 {
		return nil, fmt.Errorf("llama: unembed: %d numbers are not %d rows of %d", len(normed), n, c.embed)
	}
	r := &c.rows
	r.logits = slices.Grow(r.logits[:0], n*c.vocab)[:n*c.vocab]
	for _, micro := range c.microBatches(b) {
		at := micro[:0] // places of its rows that want logits
		for _, row := range micro {
			if place[row] >= 0 {
				at = append(at, place[row])
			}
		}
		if err := c.unembed(at, normed); err != nil {
			return nil, err
		}
	}
	if c.model.lost() {
		return nil, ErrLost
	}
	return r.logits, nil
}

// unembed multiplies the rows at some places of normed at once, and puts the logits at the same places.
func (c *Context) unembed(at []int, normed []float32) error {
	n := len(at)
	if n == 0 {
		return nil
	}
	in, out := normed[at[0]*c.embed:], c.rows.logits[at[0]*c.vocab:]
	lie := at[n-1]-at[0] == n-1 && slices.IsSorted(at) // one after the other
	if !lie {
		in, out = make([]float32, 0, n*c.embed), make([]float32, n*c.vocab)
		for _, i := range at {
			in = append(in, normed[i*c.embed:(i+1)*c.embed]...)
		}
	}
	var reason *C.char
	if C.cen_unembed(c.c, C.int32_t(n), (*C.float)(&in[0]), (*C.float)(&out[0]), &reason) != 0 {
		return failure("unembed", reason)
	}
	if !lie {
		for k, i := range at {
			copy(c.rows.logits[i*c.vocab:(i+1)*c.vocab], out[k*c.vocab:])
		}
	}
	return nil
}

// microBatches are the rows of a batch as llama.cpp computes them, so many at once and in this order. If each sequence has a
// cache of its own it is that of llama_batch_allocr::split_equal: a micro batch has the same number of rows of each of its
// sequences, whose numbers follow on each other, one sequence after the other.
func (c *Context) microBatches(b *Batch) [][]int {
	if c.unified {
		return inOrder(len(b.Positions), c.micro)
	}
	return splitEqual(b.Seqs, c.micro)
}

func inOrder(n, micro int) (out [][]int) {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return slices.Collect(slices.Chunk(all, micro))
}

func splitEqual(seqs []int32, micro int) (out [][]int) {
	left := map[int32][]int{} // rows of each sequence, in order
	for i, s := range seqs {
		left[s] = append(left[s], i)
	}
	for done := 0; done < len(seqs); {
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
		var rows []int
		for _, s := range chosen {
			rows = append(rows, left[s][:each]...)
			left[s] = left[s][each:]
		}
		out, done = append(out, rows), done+len(rows)
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
