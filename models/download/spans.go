package download

import "slices"

// span is the half-open range [from, to) of a file.
type span struct{ from, to int64 }

func (s span) len() int64 { return s.to - s.from }

// spans are ranges in order, which neither overlap nor touch.
type spans []span

// add returns the ranges with one more.
func (all spans) add(s span) spans {
	if s.from >= s.to {
		return all
	}
	i, _ := slices.BinarySearchFunc(all, s.from, func(a span, from int64) int { // the first one that ends at s.from or later
		if a.to < from {
			return -1
		}
		return 1
	})
	j := i
	for ; j < len(all) && all[j].from <= s.to; j++ {
		s = span{min(s.from, all[j].from), max(s.to, all[j].to)}
	}
	return slices.Replace(all, i, j, s)
}

// total is the number of bytes in them.
func (all spans) total() (n int64) {
	for _, s := range all {
		n += s.len()
	}
	return n
}

// prefix is how far they reach from the beginning on without a gap.
func (all spans) prefix() int64 {
	if len(all) > 0 && all[0].from == 0 {
		return all[0].to
	}
	return 0
}

// without returns what of s is not in them.
func (all spans) without(s span) (rest spans) {
	for _, a := range all {
		if a.to <= s.from || a.from >= s.to {
			continue
		}
		rest = rest.add(span{s.from, a.from})
		s.from = a.to
	}
	return rest.add(s)
}

// gap is the first range of [0, size) that is not in them.
func (all spans) gap(size int64) (s span, ok bool) {
	at := all.prefix()
	if at >= size {
		return span{}, false
	}
	next := size
	for _, a := range all {
		if a.from > at {
			next = min(a.from, size)
			break
		}
	}
	return span{at, next}, true
}
