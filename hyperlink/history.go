package hyperlink

import (
	"cmp"
	"slices"

	"github.com/centram/centram/p2p/wire"
)

const (
	// historyBytes is how much a stage keeps of what it has sent. A lane that does not fit cannot be replayed.
	historyBytes = 512 << 20
	// exactly is how many batches are replayed in their old shapes. The kernels of a wider batch may differ in the last
	// bits, and so may then what follows; but thousands of batches of one token would take as long as they took before.
	exactly     = 512
	replayChunk = 256 // most tokens of a wider batch
)

// history is what went over a boundary and is still in the caches behind it, so that a machine that takes the place of
// another can be given the same. It is in order of the batches.
type history struct {
	most  int // tokens of a batch that the machines behind take. 0: any
	lanes map[uint16]*laneHistory
	batch uint64
	bytes int
}

type laneHistory struct {
	pieces []piece
	lost   bool // its beginning was given up for want of memory
}

// piece is a run of tokens of one lane in one batch.
type piece struct {
	lane     uint16
	batch    uint64
	pos      int
	adapters wire.Hash
	rows     []float32
	width    int
}

func (p piece) end() int { return p.pos + len(p.rows)/p.width }

// add notes a batch that goes over the boundary.
func (h *history) add(frames []wire.ActFwd, hidden []float32, width int) {
	if h.lanes == nil {
		h.lanes = map[uint16]*laneHistory{}
	}
	h.batch++
	at := 0
	for i := range frames {
		f := &frames[i]
		n := int(f.Tokens) * width
		h.trim(f.Lane, int(f.Pos))
		l := h.lanes[f.Lane]
		if l == nil {
			l = &laneHistory{}
			h.lanes[f.Lane] = l
		}
		if h.bytes+4*n > historyBytes {
			h.drop(l)
		}
		if !l.lost {
			l.pieces = append(l.pieces, piece{f.Lane, h.batch, int(f.Pos), f.Adapters, slices.Clone(hidden[at : at+n]), width})
			h.bytes += 4 * n
		}
		at += n
	}
}

// trim forgets a lane from pos on.
func (h *history) trim(lane uint16, pos int) {
	l := h.lanes[lane]
	if l == nil {
		return
	}
	if pos == 0 {
		h.drop(l)
		delete(h.lanes, lane)
		return
	}
	for n := len(l.pieces); n > 0; n = len(l.pieces) {
		p := &l.pieces[n-1]
		if p.end() <= pos {
			return
		}
		keep := max(0, pos-p.pos) * p.width
		h.bytes -= 4 * (len(p.rows) - keep)
		if p.rows = p.rows[:keep]; keep > 0 {
			return
		}
		l.pieces = l.pieces[:n-1]
	}
}

// drop gives a lane up.
func (h *history) drop(l *laneHistory) {
	for _, p := range l.pieces {
		h.bytes -= 4 * len(p.rows)
	}
	l.pieces, l.lost = nil, true
}

// cut trims every lane to the position given for it, and forgets the others.
func (h *history) cut(lanes []wire.LanePos) {
	at := map[uint16]int{}
	for _, l := range lanes {
		at[l.Lane] = int(l.Pos)
	}
	for lane := range h.lanes {
		h.trim(lane, at[lane])
	}
}

// replay returns the batches that fill the caches again, in order. A batch is the pieces that were run together.
func (h *history) replay() [][]piece {
	var all []piece
	for _, l := range h.lanes {
		all = append(all, l.pieces...)
	}
	slices.SortFunc(all, func(a, b piece) int {
		return cmp.Or(cmp.Compare(a.batch, b.batch), cmp.Compare(a.lane, b.lane), cmp.Compare(a.pos, b.pos))
	})
	var batches [][]piece
	for _, p := range all {
		if n := len(batches); n > 0 && batches[n-1][0].batch == p.batch {
			batches[n-1] = append(batches[n-1], p)
			continue
		}
		batches = append(batches, []piece{p})
	}
	if len(batches) <= exactly {
		return batches
	}
	wide := replayChunk
	if h.most > 0 {
		wide = min(wide, h.most)
	}
	return append(merge(batches[:len(batches)-exactly/2], wide), batches[len(batches)-exactly/2:]...)
}

// merge joins what follows on each other in one lane.
func merge(batches [][]piece, wide int) [][]piece {
	lanes := map[uint16][]piece{}
	for _, b := range batches {
		for _, p := range b {
			l := lanes[p.lane]
			if n := len(l); n > 0 && l[n-1].adapters == p.adapters && len(l[n-1].rows)+len(p.rows) <= wide*p.width {
				l[n-1].rows = append(slices.Clip(l[n-1].rows), p.rows...)
				continue
			}
			lanes[p.lane] = append(l, p)
		}
	}
	var out [][]piece
	for _, l := range lanes {
		for _, p := range l {
			out = append(out, []piece{p})
		}
	}
	slices.SortFunc(out, func(a, b []piece) int {
		return cmp.Or(cmp.Compare(a[0].lane, b[0].lane), cmp.Compare(a[0].pos, b[0].pos))
	})
	return out
}
