package hf

import (
	"fmt"
	"io"
	"strings"

	"github.com/centram/centram/gguf"
)

// Heads returns how many heads the rows of a tensor of a GGUF file belong to if llama.cpp has them in another order than a
// folder, and 0 if not. For the llama architecture, its rotary embedding turns neighbouring rows, where Hugging Face's turns a
// row of the first half of the head with one of the second.
func Heads(base gguf.Summary, tensor string) int {
	if base.Architecture != "llama" {
		return 0
	}
	_, part, _ := SplitLayer(tensor, blocks)
	module, _, _ := strings.Cut(part, ".")
	switch module {
	case "attn_q":
		return base.Heads
	case "attn_k":
		return base.KVHeads
	}
	return 0
}

// Interleave puts the rows of each head in llama.cpp's order: row j of the half i of a head becomes row 2j+i.
func Interleave(data []byte, heads int, rows uint64) ([]byte, error) {
	return reorder(data, heads, rows, false)
}

// Separate is the reverse of Interleave.
func Separate(data []byte, heads int, rows uint64) ([]byte, error) {
	return reorder(data, heads, rows, true)
}

func reorder(data []byte, heads int, rows uint64, back bool) ([]byte, error) {
	if heads < 1 || rows == 0 || rows%uint64(2*heads) != 0 || uint64(len(data))%rows != 0 {
		return nil, fmt.Errorf("%d rows in %d bytes are not those of %d heads", rows, len(data), heads)
	}
	width := len(data) / int(rows)
	half := int(rows) / heads / 2
	out := make([]byte, 0, len(data))
	for row := range int(rows) {
		first, in := row/(2*half)*2*half, row%(2*half)
		from := source(in, half)
		if back {
			from = in%half*2 + in/half
		}
		out = append(out, data[(first+from)*width:][:width]...)
	}
	return out, nil
}

// source says which row of a head of 2*half rows comes to lie at row.
func source(row, half int) int { return row%2*half + row/2 }

// Rows reads the rows of a tensor as Interleave would put them, one at a time.
type Rows struct {
	r         io.ReaderAt
	row, rows int
	half      int
	buffer    []byte // one row
	left      []byte // of it
}

// NewRows returns a reader of the rows of r, which has so many, of so many heads.
func NewRows(r *io.SectionReader, heads int, rows uint64) (*Rows, error) {
	size := uint64(r.Size())
	if heads < 1 || rows == 0 || rows%uint64(2*heads) != 0 || size%rows != 0 || size == 0 {
		return nil, fmt.Errorf("%d rows in %d bytes are not those of %d heads", rows, size, heads)
	}
	return &Rows{r: r, rows: int(rows), half: int(rows) / heads / 2, buffer: make([]byte, size/rows)}, nil
}

func (r *Rows) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		if r.row == r.rows {
			return 0, io.EOF
		}
		first, in := r.row/(2*r.half)*2*r.half, r.row%(2*r.half)
		at := int64(first+source(in, r.half)) * int64(len(r.buffer))
		if n, err := r.r.ReadAt(r.buffer, at); n < len(r.buffer) {
			return 0, err
		}
		r.left = r.buffer
		r.row++
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}
