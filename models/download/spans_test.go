package download

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// A file of few bytes, with a flag for each, is what spans have to agree with.
func TestSpansAreThoseOfASetOfBytes(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		const size = 40
		var all spans
		var flags [size]bool
		for range rng.IntN(20) {
			from := rng.IntN(size)
			s := span{int64(from), int64(from + rng.IntN(size-from+1))}
			var rest spans
			for i := s.from; i < s.to; i++ {
				if !flags[i] {
					rest = rest.add(span{i, i + 1})
				}
			}
			if got := all.without(s); !slices.Equal(got, rest) {
				t.Fatalf("seed %d: %v without %v: got %v, want %v", seed, s, all, got, rest)
			}
			all = all.add(s)
			for i := s.from; i < s.to; i++ {
				flags[i] = true
			}
			check(t, seed, all, flags[:])
		}
	}
}

func check(t *testing.T, seed uint64, all spans, flags []bool) {
	t.Helper()
	var want spans
	total, prefix := int64(0), int64(slices.Index(append(slices.Clone(flags), false), false))
	for i, here := range flags {
		switch {
		case here && (i == 0 || !flags[i-1]):
			want = append(want, span{int64(i), int64(i + 1)})
		case here:
			want[len(want)-1].to++
		}
		if here {
			total++
		}
	}
	if !slices.Equal(all, want) || all.total() != total || all.prefix() != prefix {
		t.Fatalf("seed %d: got %v, %d bytes, the first %d; want %v, %d, %d", seed, all, all.total(), all.prefix(), want, total, prefix)
	}
	gap, ok := all.gap(int64(len(flags)))
	if ok != (prefix < int64(len(flags))) || ok && (gap.from != prefix || flags[gap.from] || gap.to < int64(len(flags)) && !flags[gap.to]) {
		t.Fatalf("seed %d: the first gap of %v is %v (%v)", seed, all, gap, ok)
	}
}
