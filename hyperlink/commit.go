package hyperlink

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math"
	"slices"
	"unsafe"

	"github.com/centram/centram/p2p/wire"
)

// A stage commits itself to its work, a window of 32 positions at a time: to the hash of what came in and of what went out,
// and to a fingerprint of the latter that bears rounding. Whoever computes the same layers of the same input can be held
// against it.

// marks is how many numbers a fingerprint has: the largest of the window, as TOPLOC does (arXiv 2501.16007). What another
// kind of processor computes differs in the last bits, and its largest numbers are the same but for ties.
const marks = 64

// mark is one of the largest numbers of a window.
type mark struct {
	at    uint32 // row of the window × width + number of the row
	value float32
}

// window is the work on up to 32 positions of a lane.
type window struct {
	first, next int
	adapters    wire.Hash
	in, out     hash.Hash
	largest     []mark
}

// windows are those under way, by lane. All who see the same frames have the same ones.
type windows map[int]*window

// at is the window that a position goes on with or begins, and nil if the beginning of it was taken back.
func (ws windows) at(lane, pos int, adapters wire.Hash) *window {
	if w := ws[lane]; w != nil && w.next == pos && w.adapters == adapters {
		return w
	}
	delete(ws, lane)
	if pos%wire.CommitTokens != 0 {
		return nil
	}
	ws[lane] = &window{first: pos, next: pos, adapters: adapters, in: sha256.New(), out: sha256.New()}
	return ws[lane]
}

// pass ends a position of a lane's window, and says whether the window is complete.
func (ws windows) pass(lane int) bool {
	w := ws[lane]
	if w.next++; w.next%wire.CommitTokens != 0 {
		return false
	}
	delete(ws, lane)
	return true
}

// note adds a batch to the windows of its lanes, and returns the commitments to those that are complete.
func (s *seat) note(b *batch, hidden []float32) []wire.Message {
	var done []wire.Message
	wanted, width := s.wanted(), s.info.Width
	for i, r := range b.Rows {
		var result []byte
		switch {
		case !s.last:
			result = rawBytes(hidden[i*width : (i+1)*width])
		case r.Logits && len(wanted) > 0:
			result, wanted = wanted[0], wanted[1:]
			if s.shares(b) { // what was sent ahead is a part of the answer
				result = slices.Concat(rawBytes(hidden[:width]), result)
				hidden = hidden[width:]
			}
		}
		w := s.windows.at(r.Seq, r.Pos, b.adapters)
		if w == nil {
			continue
		}
		w.in.Write(rawBytes(b.Hidden[i*s.info.Width : (i+1)*s.info.Width]))
		w.out.Write(result)
		w.look(numbers(result[:min(len(result), 4*s.info.Width)]))
		if s.windows.pass(r.Seq) {
			done = append(done, s.commitment(r.Seq, w))
		}
	}
	return done
}

// wanted are the rows of the last stage's answers, one after the other.
func (s *seat) wanted() [][]byte {
	var out [][]byte
	if !s.last {
		return nil
	}
	for i := range s.rets {
		r := &s.rets[i]
		for n := 0; n < int(r.Tokens); n++ {
			size := len(r.Rows) / int(r.Tokens)
			out = append(out, r.Rows[n*size:(n+1)*size])
		}
	}
	return out
}

// numbers views a row as numbers. The ids of a row of top are so small as numbers that they are never among the largest.
func numbers(row []byte) []float32 {
	if len(row) < 4 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&row[0])), len(row)/4)
}

func (s *seat) commitment(lane int, w *window) *wire.WinCommit {
	s.committed++
	return &wire.WinCommit{
		Chain: s.plan.Chain, Head: s.head.ID(), Stage: s.plan.Stage, Epoch: s.epoch, Lane: uint16(lane), Window: s.committed,
		First: uint32(w.first), End: uint32(w.next), Adapters: w.adapters,
		In: wire.Hash(w.in.Sum(nil)), Out: wire.Hash(w.out.Sum(nil)), Fingerprint: fingerprint(w.largest),
	}
}

// look keeps the largest numbers of the window so far.
func (w *window) look(row []float32) {
	base := uint32(w.next-w.first) * uint32(len(row))
	for i, x := range row {
		if len(w.largest) == marks && abs(x) <= abs(w.largest[marks-1].value) {
			continue
		}
		at := len(w.largest)
		for at > 0 && abs(w.largest[at-1].value) < abs(x) {
			at--
		}
		if len(w.largest) < marks {
			w.largest = append(w.largest, mark{})
		}
		copy(w.largest[at+1:], w.largest[at:])
		w.largest[at] = mark{base + uint32(i), x}
	}
}

func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }

// fingerprint writes marks: place, then the upper half of the number, which is its bfloat16.
func fingerprint(largest []mark) []byte {
	b := []byte{byte(len(largest))}
	for _, m := range largest {
		b = binary.BigEndian.AppendUint32(b, m.at)
		b = binary.BigEndian.AppendUint16(b, uint16(math.Float32bits(m.value)>>16))
	}
	return b
}

// agree says whether two commitments can be to the same work: to the bit, or but for rounding.
func agree(a, b *wire.WinCommit) bool {
	if a.Out == b.Out {
		return true
	}
	x, y := marksOf(a.Fingerprint), marksOf(b.Fingerprint)
	if len(x) != len(y) || len(x) == 0 {
		return false
	}
	common, off := 0, 0.0
	for at, v := range x {
		if u, ok := y[at]; ok {
			common++
			off += math.Abs(float64(u-v)) / max(math.Abs(float64(v)), 1e-6)
		}
	}
	return common >= len(x)*4/5 && off/float64(common) < 0.03
}

func marksOf(b []byte) map[uint32]float32 {
	if len(b) == 0 || len(b) != 1+6*int(b[0]) {
		return nil
	}
	out := map[uint32]float32{}
	for b = b[1:]; len(b) > 0; b = b[6:] {
		out[binary.BigEndian.Uint32(b)] = math.Float32frombits(uint32(binary.BigEndian.Uint16(b[4:])) << 16)
	}
	return out
}
