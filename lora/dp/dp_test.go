package dp

import (
	"math"
	"testing"

	"github.com/centram/centram"
	"pgregory.net/rapid"
)

func curve(t testing.TB, runs ...Run) Curve {
	t.Helper()
	var sum Curve
	for _, r := range runs {
		c, err := r.Curve()
		if err != nil {
			t.Fatal(err)
		}
		sum = sum.Add(c)
	}
	return sum
}

// The first row is in the documentation of Opacus; the others were computed by another program for the design.
func TestEpsilonEqualsOtherAccountants(t *testing.T) {
	for _, row := range []struct {
		runs      []Run
		want      float64
		precision float64
		order     int
	}{
		{[]Run{{1e-5, 1, 10}, {1e-4, 3, 4}}, 0.3363, 5e-5, 23},
		{[]Run{{0.01, 1.1, 1000}}, 1.7253, 5e-5, 9},
		{[]Run{{1, 4, 1}}, 1.01255, 5e-6, 18},
	} {
		got, order := curve(t, row.runs...).Epsilon(1e-5)
		if math.Abs(got-row.want) > row.precision || order != row.order {
			t.Errorf("%v: got ε %.6f at order %d, want %v at %d", row.runs, got, order, row.want, row.order)
		}
	}
}

func TestSigmaForEqualsTheTableOfTheDesign(t *testing.T) {
	for _, row := range []struct {
		q       float64
		steps   int
		epsilon float64
		want    float64
	}{
		{0.1, 100, 8, 1.00},
		{0.1, 100, 4, 1.49},
		{0.1, 100, 2, 2.43},
		{0.032, 94, 8, 0.65},
		{0.032, 94, 4, 0.85},
		{0.032, 94, 2, 1.14},
		{0.0256, 117, 8, 0.63},
		{0.0256, 117, 4, 0.81},
		{0.0256, 117, 2, 1.07},
	} {
		got, err := SigmaFor(Budget{row.epsilon, 1e-5}, Curve{}, row.q, row.steps)
		if err != nil || math.Abs(got-row.want) > 0.01 {
			t.Errorf("q %v, %d steps, ε %v: got %.4f, %v, want %v", row.q, row.steps, row.epsilon, got, err, row.want)
		}
	}
}

func TestGaussianSigmaIsTheExactCondition(t *testing.T) {
	for epsilon, want := range map[float64]float64{1: 3.7306, 2: 1.9938, 4: 1.0812, 8: 0.6002} {
		got, err := GaussianSigma(Budget{epsilon, 1e-5})
		if err != nil || math.Abs(got-want) > 1e-4 {
			t.Errorf("ε %v: got %.5f, %v, want %v", epsilon, got, err, want)
		}
	}
}

// The moments of the privacy loss by numerical integration: nothing in common with the sum that is tested.
func TestCurveEqualsTheIntegralThatItStandsFor(t *testing.T) {
	for _, r := range []Run{{1e-6, 1, 1}, {0.01, 0.7, 1}, {0.1, 2, 1}, {0.5, 5, 1}, {0.999, 1.3, 1}} {
		got := curve(t, r)
		for _, a := range []int{2, 3, 8, 20} {
			want := integral(float64(a), r.Q, r.Sigma) / float64(a-1)
			if diff := math.Abs(got[a-MinOrder] - want); diff > 1e-6*want+1e-15 {
				t.Errorf("%+v at order %d: got %v, want %v", r, a, got[a-MinOrder], want)
			}
		}
	}
}

// integral is log E[(1-q + q e^((2x-1)/2σ²))^a] for x of N(0,σ²), as log1p of what is more than 1 to keep small digits.
func integral(a, q, sigma float64) float64 {
	sum, h := 0.0, sigma/2000
	for x := -40 * sigma; x < 40*sigma+2*a; x += h {
		logRatio := math.Log1p(q * math.Expm1((2*x-1)/(2*sigma*sigma)))
		// E[ratio] is 1, so a(ratio-1) may be taken off without changing the result.
		density := -x*x/(2*sigma*sigma) - math.Log(sigma*math.Sqrt(2*math.Pi))
		if power := a*logRatio + density; power < 700 {
			if math.Abs(a*logRatio) < 1e-3 {
				u := math.Expm1(logRatio)
				sum += h * math.Exp(density) * (a * (a - 1) / 2 * u * u * (1 + (a-2)/3*u))
			} else {
				sum += h * (math.Exp(power) - math.Exp(density) - a*math.Expm1(logRatio)*math.Exp(density))
			}
		}
	}
	return math.Log1p(sum)
}

func TestEpsilonIsNeverLessThanTheExactOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sigma := rapid.Float64Range(0.3, 50).Draw(t, "sigma")
		steps := rapid.IntRange(1, 100).Draw(t, "steps")
		delta := math.Pow(10, -rapid.Float64Range(2, 10).Draw(t, "digits"))
		c, err := Run{1, sigma, steps}.Curve()
		if err != nil {
			t.Fatal(err)
		}
		epsilon, _ := c.Epsilon(delta)
		// Without sampling, n steps are one with less noise.
		if exact := gaussianDelta(epsilon, sigma/math.Sqrt(float64(steps))); exact > delta*(1+1e-9) {
			t.Errorf("ε %v is claimed at δ %v, but δ is really %v", epsilon, delta, exact)
		}
	})
}

func TestMoreNoiseFewerStepsOrRarerSamplingNeverRevealMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		more := Run{
			rapid.Float64Range(0, 1).Draw(t, "q"), rapid.Float64Range(0.1, 20).Draw(t, "sigma"),
			rapid.IntRange(0, 10000).Draw(t, "steps"),
		}
		less := Run{
			more.Q * rapid.Float64Range(0, 1).Draw(t, "rarer"), more.Sigma * rapid.Float64Range(1, 3).Draw(t, "more noise"),
			rapid.IntRange(0, more.Steps).Draw(t, "fewer steps"),
		}
		a, err := less.Curve()
		if err != nil {
			t.Fatal(err)
		}
		b, err := more.Curve()
		if err != nil {
			t.Fatal(err)
		}
		for i := range a {
			if a[i] > b[i]*(1+1e-9) || math.IsNaN(a[i]) || a[i] < 0 {
				t.Fatalf("%+v reveals %v at order %d, but %+v reveals %v", less, a[i], i+MinOrder, more, b[i])
			}
		}
		small, _ := a.Epsilon(1e-5)
		large, _ := b.Epsilon(1e-5)
		if small > large*(1+1e-9) {
			t.Errorf("%+v has ε %v, but %+v has %v", less, small, more, large)
		}
	})
}

func TestRunsCompose(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Run{rapid.Float64Range(0.001, 1).Draw(t, "q"), rapid.Float64Range(0.3, 9).Draw(t, "sigma"), rapid.IntRange(2, 5000).Draw(t, "steps")}
		first := r
		first.Steps = rapid.IntRange(1, r.Steps-1).Draw(t, "first")
		second := r
		second.Steps -= first.Steps
		a, _ := first.Curve()
		b, _ := second.Curve()
		whole, err := r.Curve()
		if err != nil {
			t.Fatal(err)
		}
		for i, got := range a.Add(b) {
			if math.Abs(got-whole[i]) > 1e-12*whole[i] {
				t.Fatalf("at order %d, %d and %d steps reveal %v, but %d reveal %v", i+MinOrder, first.Steps, second.Steps, got, r.Steps, whole[i])
			}
		}
	})
}

func TestSigmaForIsEnoughAndNotMuchMore(t *testing.T) {
	for _, row := range []struct {
		q       float64
		steps   int
		epsilon float64
	}{{0.01, 1000, 1}, {0.2, 30, 3}, {1, 1, 0.5}} {
		spent := curve(t, Run{0.01, 3, 50})
		sigma, err := SigmaFor(Budget{row.epsilon, 1e-6}, spent, row.q, row.steps)
		if err != nil {
			t.Fatal(err)
		}
		at, _ := spent.Add(curve(t, Run{row.q, sigma, row.steps})).Epsilon(1e-6)
		below, _ := spent.Add(curve(t, Run{row.q, sigma * 0.999, row.steps})).Epsilon(1e-6)
		if at > row.epsilon || below <= row.epsilon {
			t.Errorf("%+v: with noise %v ε is %v, with a thousandth less %v", row, sigma, at, below)
		}
	}
}

func TestSigmaForRefusesWhatNoNoiseCanGive(t *testing.T) {
	spent := curve(t, Run{1, 1, 1})
	if got, err := SigmaFor(Budget{1, 1e-5}, spent, 0.1, 10); centram.CodeOf(err) != centram.Forbidden {
		t.Errorf("over budget already: got %v, %v, want Forbidden", got, err)
	}
	for _, b := range []Budget{{0, 1e-5}, {-1, 1e-5}, {math.NaN(), 1e-5}, {math.Inf(1), 1e-5}, {1, 0}, {1, 1}, {1, math.NaN()}} {
		if got, err := SigmaFor(b, Curve{}, 0.1, 10); centram.CodeOf(err) != centram.Invalid {
			t.Errorf("budget %v: got %v, %v, want Invalid", b, got, err)
		}
	}
	for _, r := range []Run{{-0.1, 1, 1}, {1.1, 1, 1}, {math.NaN(), 1, 1}, {0.1, 0, 1}, {0.1, math.NaN(), 1}, {0.1, math.Inf(1), 1}, {0.1, 1, -1}} {
		if _, err := r.Curve(); centram.CodeOf(err) != centram.Invalid {
			t.Errorf("run %v: got %v, want Invalid", r, err)
		}
	}
}

func TestNothingIsRevealedByNothing(t *testing.T) {
	for _, r := range []Run{{0, 1, 100}, {0.5, 1, 0}} {
		if got, _ := curve(t, r).Epsilon(1e-5); got != 0 {
			t.Errorf("%+v: got ε %v, want 0", r, got)
		}
	}
}

func TestLittleNoiseIsFiniteAndVast(t *testing.T) {
	got, _ := curve(t, Run{0.001, MinSigma, 1 << 40}).Epsilon(1e-5)
	if math.IsNaN(got) || math.IsInf(got, 0) || got < 1e6 {
		t.Errorf("got ε %v, want a number over a million", got)
	}
}
