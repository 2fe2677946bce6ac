package hyperlink

import (
	"math"
	"unsafe"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/p2p/wire"
)

// batch is what a stage computes at once, and the frames that it came in. Its memory is used again.
type batch struct {
	engine.StageBatch
	frames   []wire.ActFwd // without their rows
	adapters wire.Hash
}

func (b *batch) reset() {
	b.Rows, b.Hidden, b.frames, b.Embedded = b.Rows[:0], b.Hidden[:0], b.frames[:0], false
}

// add appends a frame.
func (b *batch) add(f *wire.ActFwd) {
	b.Rows = appendRows(b.Rows, f)
	n := len(b.Hidden)
	b.Hidden = append(b.Hidden, make([]float32, len(f.Rows)/4)...)
	copy(rawBytes(b.Hidden[n:]), f.Rows)
	b.Embedded = b.Embedded || f.Want == wire.HiddenRows
	b.adapters = f.Adapters
	head := *f
	head.Rows = nil
	b.frames = append(b.frames, head)
}

// appendRows appends the rows of a frame.
func appendRows(rows []engine.Row, f *wire.ActFwd) []engine.Row {
	for i := range int(f.Tokens) {
		r := engine.Row{Seq: int(f.Lane), Pos: int(f.Pos) + i, Logits: rowWanted(f, i)}
		if r.Logits && f.Want == wire.TopRows {
			r.Top = int(f.Top)
		}
		rows = append(rows, r)
	}
	return rows
}

// rowWanted says whether something of a frame's i-th row is wanted.
func rowWanted(f *wire.ActFwd, i int) bool {
	return f.Want != wire.NoRows && (i == int(f.Tokens)-1 || f.Flags&wire.FwdEvery != 0)
}

// end is how far a lane is with the frames of the batch, if it has length without them.
func (b *batch) end(lane uint16, length int) int {
	for i := range b.frames {
		if f := &b.frames[i]; f.Lane == lane {
			length = int(f.Pos) + int(f.Tokens)
		}
	}
	return length
}

// goesOn says whether a frame continues what the batch has of its lane.
func (b *batch) goesOn(f *wire.ActFwd) bool {
	for i := range b.frames {
		if b.frames[i].Lane == f.Lane {
			return int(f.Pos) == b.end(f.Lane, 0)
		}
	}
	return true
}

// wants is what the frames of the batch want back that want anything.
func (b *batch) wants() wire.Result {
	for i := range b.frames {
		if b.frames[i].Want != wire.NoRows {
			return b.frames[i].Want
		}
	}
	return wire.NoRows
}

// yields is how many rows of the batch the engine has to give something of: all, if hidden states are wanted.
func (b *batch) yields() int {
	if b.Embedded {
		return len(b.Rows)
	}
	n := 0
	for _, r := range b.Rows {
		if r.Logits {
			n++
		}
	}
	return n
}

// cut puts the rows of a batch into frames, one for each run of rows of one lane. A run ends at a row whose logits are
// wanted, unless all of its rows are wanted. All but the last are to be joined with the next.
func (b *batch) cut(rows []engine.Row, adapters wire.Hash) {
	b.Rows, b.frames, b.adapters = rows, b.frames[:0], adapters
	for i := 0; i < len(rows); {
		n := run(rows[i:])
		f := wire.ActFwd{Tokens: uint16(n), Adapters: adapters, Flags: wire.FwdJoin}
		f.Lane, f.Pos = uint16(rows[i].Seq), uint32(rows[i].Pos)
		last := rows[i+n-1]
		if last.Logits {
			switch f.Want = wire.LogitRows; {
			case last.Embed:
				f.Want = wire.HiddenRows
			case last.Top > 0:
				f.Want, f.Top = wire.TopRows, uint32(last.Top)
			}
			if n > 1 && rows[i].Logits {
				f.Flags |= wire.FwdEvery
			}
		}
		b.frames = append(b.frames, f)
		i += n
	}
	if n := len(b.frames); n > 0 {
		b.frames[n-1].Flags &^= wire.FwdJoin
	}
}

// run is how many of the rows go into one frame.
func run(rows []engine.Row) int {
	first := rows[0]
	n := 1
	for n < len(rows) && n < math.MaxUint16 {
		r, before := rows[n], rows[n-1]
		if r.Seq != first.Seq || r.Pos != before.Pos+1 || before.Logits && !first.Logits || first.Logits != r.Logits && first.Logits {
			break
		}
		if before.Logits && (r.Top != before.Top || r.Embed != before.Embed) {
			break
		}
		n++
	}
	return n
}

// rawBytes is the memory of f. Hidden states travel as they lie in memory, which is little-endian wherever llama.cpp runs.
func rawBytes(f []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(f))), 4*len(f))
}

// finite says whether all numbers are. What is not is either a broken machine's or somebody's attempt.
func finite(f []float32) bool {
	var sum float32 // x*0 is NaN for what is not finite, and NaN stays
	for _, x := range f {
		sum += x * 0
	}
	return sum == 0
}
