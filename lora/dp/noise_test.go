package dp

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

func seeded(n byte) io.Reader { return rand.NewChaCha8([32]byte{n}) }

func TestSamplePicksEachExampleIndependently(t *testing.T) {
	const n, rounds, q = 200, 2000, 0.03
	picks, sizes, both := make([]float64, n), 0.0, 0.0
	random := seeded(1)
	for range rounds {
		got, err := Sample(random, n, q)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[int]bool{}
		for i, p := range got {
			if i > 0 && p <= got[i-1] {
				t.Fatalf("got %v, want indices that rise", got)
			}
			picks[p]++
			seen[p] = true
		}
		sizes += float64(len(got) * len(got))
		if seen[0] && seen[1] {
			both++
		}
	}
	for i, p := range picks { // five and a half standard deviations
		if want := rounds * q; math.Abs(p-want) > 5.5*math.Sqrt(want*(1-q)) {
			t.Errorf("example %d was picked %v times, want about %v", i, p, want)
		}
	}
	// E[size²] is n q (1-q) + (n q)²; batches of a fixed size would have no variance.
	if got, want := sizes/rounds-n*q*n*q, n*q*(1-q); math.Abs(got-want) > 1.5 {
		t.Errorf("the batch's size varies by %v, want about %v", got, want)
	}
	if both > 12 { // expected: 1.8
		t.Errorf("two examples came together %v times, want about %v", both, rounds*q*q)
	}
}

func TestSampleOfCertaintyAndImpossibility(t *testing.T) {
	if got, err := Sample(nil, 5, 1); len(got) != 5 || err != nil {
		t.Errorf("q 1: got %v, %v, want all five", got, err)
	}
	if got, err := Sample(nil, 5, 0); len(got) != 0 || err != nil {
		t.Errorf("q 0: got %v, %v, want none", got, err)
	}
	if got, err := Sample(nil, 5, 2); err == nil {
		t.Errorf("q 2: got %v, want an error", got)
	}
}

// chiSquare compares counts with probabilities. What is expected fewer than 10 times is put together.
func chiSquare(t *testing.T, what string, n int, counts map[int64]int, weight func(int64) float64) {
	t.Helper()
	total := 0.0
	for x := int64(-200); x <= 200; x++ {
		total += weight(x)
	}
	sum, cells, restGot, restWant := 0.0, 0, n, float64(n)
	for x := int64(-200); x <= 200; x++ {
		want := float64(n) * weight(x) / total
		if want < 10 {
			continue
		}
		d := float64(counts[x]) - want
		sum += d * d / want
		cells++
		restGot -= counts[x]
		restWant -= want
	}
	if restWant > 1 {
		sum += (float64(restGot) - restWant) * (float64(restGot) - restWant) / restWant
	}
	if limit := float64(cells) + 5*math.Sqrt(2*float64(cells)); sum > limit {
		t.Errorf("%s: chi-square is %.1f over %d cells, want less than %.1f", what, sum, cells, limit)
	}
}

func TestDiceHaveTheirDistributions(t *testing.T) {
	const n = 200_000
	for scale := range 4 {
		sigma := float64(int(1) << scale)
		gaussians, laplaces := map[int64]int{}, map[int64]int{}
		d := newDice(seeded(byte(scale)))
		for range n {
			gaussians[d.gaussian(scale)]++
			laplaces[d.laplace(scale)]++
		}
		chiSquare(t, "gaussian", n, gaussians, func(x int64) float64 { return math.Exp(-float64(x*x) / (2 * sigma * sigma)) })
		chiSquare(t, "laplace", n, laplaces, func(x int64) float64 { return math.Exp(-math.Abs(float64(x)) / sigma) })
	}
}

func TestExpMinusHasItsProbability(t *testing.T) {
	const n = 100_000
	d := newDice(seeded(9))
	for _, row := range []struct {
		n     uint64
		shift int
	}{{0, 3}, {1, 3}, {5, 3}, {8, 3}, {9, 3}, {20, 3}, {1, 0}, {3, 1}} {
		got := 0
		for range n {
			if d.expMinus(row.n, row.shift) {
				got++
			}
		}
		p := math.Exp(-math.Ldexp(float64(row.n), -row.shift))
		if math.Abs(float64(got)-n*p) > 5*math.Sqrt(n*p*(1-p))+1e-9 {
			t.Errorf("e^-(%d/2^%d): got %v, want %v", row.n, row.shift, float64(got)/n, p)
		}
	}
}

func accumulator(t testing.TB, cfg AccumulatorConfig) *Accumulator {
	t.Helper()
	a, err := NewAccumulator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestReleaseIsTheSumAndNoiseOfTheRightSize(t *testing.T) {
	const size = 100_000
	a := accumulator(t, AccumulatorConfig{Size: size, Clip: 2, Sigma: 1.5, Rand: seeded(3)})
	gradient := make([]float32, size)
	gradient[0], gradient[1] = 600, -800 // clipped to 1.2 and -1.6
	for range 50 {
		if err := a.Add(gradient); err != nil {
			t.Fatal(err)
		}
	}
	out := make([]float32, size)
	if err := a.Release(out); err != nil {
		t.Fatal(err)
	}
	const deviation = 3.0
	if math.Abs(float64(out[0])-60) > 5*deviation || math.Abs(float64(out[1])+80) > 5*deviation {
		t.Errorf("got a sum of %v and %v, want 60 and -80, give or take 15", out[0], out[1])
	}
	var sum, squares, fourth, tails float64
	for _, x := range out[2:] {
		z := float64(x) / deviation
		sum += z
		squares += z * z
		fourth += z * z * z * z
		if math.Abs(z) > 1.959964 {
			tails++
		}
	}
	for _, row := range []struct {
		what            string
		got, want, give float64
	}{
		{"mean", sum / size, 0, 5 / math.Sqrt(size)},
		{"variance", squares / size, 1, 5 * math.Sqrt(2.0/size)},
		{"fourth moment", fourth / size, 3, 5 * math.Sqrt(96.0/size)},
		{"beyond 1.96 deviations", tails / size, 0.05, 5 * math.Sqrt(0.05*0.95/size)},
	} {
		if math.Abs(row.got-row.want) > row.give {
			t.Errorf("%s: got %v, want %v, give or take %v", row.what, row.got, row.want, row.give)
		}
	}
	if err := a.Release(out); err != nil || math.Abs(float64(out[0])) > 5*deviation {
		t.Errorf("the next batch begins with %v, %v, want noise alone", out[0], err)
	}
}

func TestNoExampleChangesTheSumByMoreThanItMay(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		size := 1 + r.IntN(50)
		sigma := math.Exp(r.Float64()*10 - 4.6)
		clip := math.Exp(r.Float64()*40 - 20)
		a := accumulator(t, AccumulatorConfig{Size: size, Clip: clip, Sigma: sigma})
		gradient := make([]float32, size)
		length := 0.0
		for i := range gradient {
			gradient[i] = float32(r.NormFloat64() * clip * math.Exp(r.Float64()*6-3))
			length += float64(gradient[i]) * float64(gradient[i])
		}
		if err := a.Add(gradient); err != nil {
			t.Fatal(err)
		}
		squares := 0.0
		for _, n := range a.sum {
			squares += float64(n) * float64(n)
		}
		most := 0x1p24 / sigma
		if got := math.Sqrt(squares); got > most {
			t.Fatalf("size %d, σ %v: one example has a length of %v steps, at most %v are allowed", size, sigma, got, most)
		}
		// Nor is it longer than it was, or shorter than it has to be: by less than a step in each number.
		want := min(math.Sqrt(length), clip) / a.grid
		if got := math.Sqrt(squares); got < want*(1-0x1p-18)-math.Sqrt(float64(size)) || got > want*(1+0x1p-40) {
			t.Fatalf("size %d, σ %v: one example has a length of %v steps, want about %v", size, sigma, got, want)
		}
	}
}

func TestAnExampleThatFallsOnTheEdgeIsShortened(t *testing.T) {
	a := accumulator(t, AccumulatorConfig{Size: 1, Clip: 1, Sigma: 1})
	if a.put([]float32{1}, 1/a.grid) {
		t.Errorf("a length of %d steps was accepted, though 2^24 might be less by rounding", a.one[0])
	}
	if err := a.Add([]float32{4}); err != nil {
		t.Fatal(err)
	}
	if got := a.sum[0]; got >= 1<<24 || got < 1<<24-100 {
		t.Errorf("got %d steps, want a little less than 2^24", got)
	}
}

func TestGradientsThatAreNotNumbersCountForNothing(t *testing.T) {
	a := accumulator(t, AccumulatorConfig{Size: 2, Clip: 1, Sigma: 1})
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		if err := a.Add([]float32{1, bad}); err != nil {
			t.Fatal(err)
		}
	}
	if a.sum[0] != 0 || a.sum[1] != 0 {
		t.Errorf("got a sum of %v, want nothing", a.sum)
	}
}

func TestWithoutRandomnessNothingIsReleased(t *testing.T) {
	broken := errors.New("no entropy")
	a := accumulator(t, AccumulatorConfig{Size: 3, Clip: 1, Sigma: 1, Rand: io.MultiReader(bytes.NewReader(make([]byte, 40)), iotest.ErrReader(broken))})
	if err := a.Add([]float32{1, 1, 1}); err != nil {
		t.Fatal(err)
	}
	out := []float32{7, 7, 7}
	if err := a.Release(out); !errors.Is(err, broken) || out[0] != 0 || out[2] != 0 {
		t.Errorf("got %v, %v, want zeros and the reader's error", out, err)
	}
	if got, err := Sample(iotest.ErrReader(broken), 3, 0.5); !errors.Is(err, broken) || got != nil {
		t.Errorf("got a sample %v, %v, want the reader's error", got, err)
	}
}

func TestAccumulatorRefusesSettingsThatProtectNobody(t *testing.T) {
	for _, cfg := range []AccumulatorConfig{
		{Size: 1, Clip: 1},
		{Size: 1, Sigma: 1},
		{Clip: 1, Sigma: 1},
		{Size: 1, Clip: math.NaN(), Sigma: 1},
		{Size: 1, Clip: 1, Sigma: math.NaN()},
		{Size: 1, Clip: math.Inf(1), Sigma: 1},
		{Size: 1, Clip: 1, Sigma: MinSigma / 2},
		{Size: 1, Clip: 1e-320, Sigma: 1},
	} {
		if _, err := NewAccumulator(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
	a := accumulator(t, AccumulatorConfig{Size: 2, Clip: 1, Sigma: 1})
	if err := a.Add(make([]float32, 3)); err == nil {
		t.Error("a gradient of another size was accepted")
	}
	if err := a.Release(make([]float32, 1)); err == nil {
		t.Error("a sum was released into too little room")
	}
}

func BenchmarkRelease(b *testing.B) {
	const size = 1 << 16
	a := accumulator(b, AccumulatorConfig{Size: size, Clip: 1, Sigma: 1})
	out := make([]float32, size)
	b.SetBytes(size)
	for b.Loop() {
		if err := a.Release(out); err != nil {
			b.Fatal(err)
		}
	}
}
