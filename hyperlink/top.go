package hyperlink

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/centram/centram/engine"
)

// top returns the n best of the logits of first and the tokens after it, in order. It is for a stage that gives all of them,
// as those of tests do.
func top(logits []float32, first, n int) []engine.Candidate {
	all := make([]engine.Candidate, len(logits))
	for i, l := range logits {
		all[i] = engine.Candidate{Token: engine.Token(first + i), Logit: l}
	}
	slices.SortFunc(all, engine.Candidate.Compare)
	return all[:min(n, len(all))]
}

// appendTop appends a row of TopRows: the ids, then the logits.
func appendTop(b []byte, best []engine.Candidate) []byte {
	for _, c := range best {
		b = binary.LittleEndian.AppendUint32(b, uint32(c.Token))
	}
	for _, c := range best {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(c.Logit))
	}
	return b
}

// parseTop reads a row of TopRows into the memory of buf. It is false unless these are tokens of the vocabulary with
// numbers, in order.
func parseTop(buf []engine.Candidate, row []byte, vocab int) ([]engine.Candidate, bool) {
	buf = buf[:0]
	n := len(row) / 8
	for i := range n {
		id := binary.LittleEndian.Uint32(row[4*i:])
		c := engine.Candidate{Token: engine.Token(id), Logit: math.Float32frombits(binary.LittleEndian.Uint32(row[4*(n+i):]))}
		switch {
		case id >= uint32(vocab),
			c.Logit-c.Logit != 0, // which it is for NaN and for what is infinite
			i > 0 && buf[i-1].Compare(c) >= 0:
			return buf, false
		}
		buf = append(buf, c)
	}
	return buf, true
}
