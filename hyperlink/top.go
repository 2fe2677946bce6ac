package hyperlink

import (
	"encoding/binary"
	"math"
	"slices"
)

// candidate is a token and its logit.
type candidate struct {
	id    uint32
	logit float32
}

// before orders candidates: the likeliest first, and of equals the one with the lower number.
func before(a, b candidate) int {
	switch {
	case a.logit > b.logit:
		return -1
	case a.logit < b.logit:
		return 1
	}
	return int(a.id) - int(b.id)
}

// top returns the n best of logits, in order, in the memory of buf.
func top(buf []candidate, logits []float32, n int) []candidate {
	n = min(n, len(logits))
	buf = buf[:0]
	for i, l := range logits[:n] {
		buf = append(buf, candidate{uint32(i), l})
	}
	// A heap of the best so far with the worst of them on top: nearly all others are dismissed by one comparison.
	for i := n/2 - 1; i >= 0; i-- {
		sift(buf, i)
	}
	worst := buf[0].logit
	for i, l := range logits[n:] {
		if l > worst {
			buf[0] = candidate{uint32(n + i), l}
			sift(buf, 0)
			worst = buf[0].logit
		}
	}
	slices.SortFunc(buf, before)
	return buf
}

func sift(heap []candidate, i int) {
	for {
		child := 2*i + 1
		if child >= len(heap) {
			return
		}
		if child+1 < len(heap) && before(heap[child+1], heap[child]) > 0 {
			child++
		}
		if before(heap[child], heap[i]) < 0 {
			return
		}
		heap[i], heap[child] = heap[child], heap[i]
		i = child
	}
}

// appendTop appends a row of TopRows: the ids, then the logits.
func appendTop(b []byte, best []candidate) []byte {
	for _, c := range best {
		b = binary.LittleEndian.AppendUint32(b, c.id)
	}
	for _, c := range best {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(c.logit))
	}
	return b
}

// spread writes a row of TopRows into logits of a whole vocabulary, in which all others are impossible. used are the ids
// that the row before has set in the same memory. It is false for an id that is not in the vocabulary or a logit that is no number.
func spread(logits []float32, used []uint32, row []byte) ([]uint32, bool) {
	for _, id := range used {
		logits[id] = impossible
	}
	used = used[:0]
	n := len(row) / 8
	for i := range n {
		id := binary.LittleEndian.Uint32(row[4*i:])
		logit := math.Float32frombits(binary.LittleEndian.Uint32(row[4*(n+i):]))
		if int(id) >= len(logits) || logit-logit != 0 { // which it is for NaN and for what is infinite
			return used, false
		}
		logits[id] = logit
		used = append(used, id)
	}
	return used, true
}

var impossible = float32(math.Inf(-1))
