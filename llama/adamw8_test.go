package llama

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// The tables that others use have 1, 2, 4, ... 64 parts in each power of ten, and twice as many without a sign, which makes
// 256 with 0 and 1.
func TestABytesTableIsFullAndRises(t *testing.T) {
	for name, m := range map[string]*map8{"signed": signed8, "unsigned": unsigned8} {
		if !slices.IsSorted(m.values[:]) || len(slices.Compact(slices.Clone(m.values[:]))) != 256 {
			t.Errorf("the %s table does not rise: %v", name, m.values)
		}
		if m.values[255] != 1 || m.values[m.zero] != 0 {
			t.Errorf("the %s table ends with %v and has %v for nothing, want 1 and 0", name, m.values[255], m.values[m.zero])
		}
		for i, x := range m.values {
			if got := m.nearest(x); got != uint8(i) {
				t.Errorf("the %s table has byte %d for %v, want %d", name, got, x, i)
			}
		}
	}
	if got, want := signed8.values[0], float32(-0.992968757); math.Abs(float64(got-want)) > 1e-6 {
		t.Errorf("the signed table begins with %v, want %v", got, want)
	}
}

func TestNumbersInBytesStayNear(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const n = 3*scaled + 17 // and a block that is not full
	for _, m := range []*map8{signed8, unsigned8} {
		in := make([]float32, n)
		for i := range in {
			in[i] = float32(rng.NormFloat64()) * float32(math.Pow(10, float64(i/scaled)*-5)) // blocks of other sizes
			if m == unsigned8 {
				in[i] *= in[i]
			}
		}
		q := newMoments8(n, m)
		for block := range q.scales {
			from, to := block*scaled, min((block+1)*scaled, n)
			q.write(block, in[from:to])
			out := make([]float32, to-from)
			q.read(block, out)
			largest := float32(0)
			for _, x := range in[from:to] {
				largest = max(largest, float32(math.Abs(float64(x))))
			}
			for i, got := range out {
				want := in[from+i]
				// Half of the widest part of the number's power of ten: in the highest, 0.9/64 of the largest.
				if off := math.Abs(float64(got - want)); off > 0.0071*float64(largest) || m == unsigned8 && want > 0 && got == 0 {
					t.Errorf("of a block up to %v, %v has become %v", largest, want, got)
				}
			}
		}
	}
	q := newMoments8(4, unsigned8)
	q.write(0, make([]float32, 4))
	out := []float32{1, 1, 1, 1}
	if q.read(0, out); !slices.Equal(out, make([]float32, 4)) {
		t.Errorf("nothing has become %v", out)
	}
}

func TestAnOptimiserOfBytesGoesOnFromItsStateToTheBit(t *testing.T) {
	path := modelPath(t, tinyShape())
	tokens, labels := document(9, 30, every(100))
	one := trainer(t, path, TrainerConfig{Seed: 1, Threads: 1, StateBits: 8})
	overfit(t, one, tokens, labels, 3)
	state := one.State()
	if n := len(state.Values); len(state.M) > 0 || len(state.Codes) != 2*n || len(state.Scales) != 2*((n+255)/256) {
		t.Fatalf("the state of %d parameters has %d bytes and %d scales", n, len(state.Codes), len(state.Scales))
	}
	overfit(t, one, tokens, labels, 3)
	two := trainer(t, path, TrainerConfig{Seed: 2, Threads: 1, StateBits: 8})
	if err := two.SetState(state); err != nil {
		t.Fatal(err)
	}
	overfit(t, two, tokens, labels, 3)
	got, want := two.State(), one.State()
	if !slices.Equal(got.Values, want.Values) || !slices.Equal(got.Codes, want.Codes) || !slices.Equal(got.Scales, want.Scales) {
		t.Error("after six steps the states differ")
	}
	exact := trainer(t, path, TrainerConfig{Seed: 1, Threads: 1})
	if err := exact.SetState(state); err == nil {
		t.Error("a trainer of 32 bits took a state of 8")
	}
}
