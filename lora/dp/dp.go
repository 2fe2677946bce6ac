// Package dp accounts for what training reveals about single examples, and makes the randomness that hides them.
//
// The mechanism is DP-SGD. In each step every example takes part with probability Q (Sample), its gradient is clipped to
// length C, the gradients are summed, and noise of standard deviation Sigma·C is added to the sum (Accumulator). Two data
// sets are neighbours if one has one example more. What a run reveals is kept as a Curve: its Rényi differential privacy at
// the integer orders 2 to 512. Curves of runs on the same data add up (Ledger), and Epsilon turns a sum into the usual
// (ε, δ).
//
// The bounds hold for the examples as they are counted: a person who wrote several is protected less. They do not cover
// the choice of hyper-parameters, the time a run took or how many steps it had, and a peer who receives them can check
// their arithmetic, not that they were kept to.
//
// Everything here is a pure function or owned by one goroutine; a Ledger is not safe for concurrent use.
package dp

import (
	"math"

	"github.com/centram/centram"
)

// The orders that are accounted for. Higher ones matter only for so much noise that nothing is learnt.
const (
	MinOrder = 2
	MaxOrder = 512
)

// MinSigma bounds the noise from below. With less the guarantee is void long before the numbers overflow.
const MinSigma = 0.01

// Run is a stretch of equal steps.
type Run struct {
	Q     float64 `json:"q"`     // the probability with which each example takes part in a step
	Sigma float64 `json:"sigma"` // the noise's standard deviation as a multiple of the clipping length
	Steps int     `json:"steps"`
}

// Budget is how much may be revealed: Epsilon, but for a chance of Delta.
type Budget struct {
	Epsilon float64 `json:"epsilon"`
	Delta   float64 `json:"delta"`
}

// Curve is a bound on the Rényi divergence at each order, MinOrder first. The zero Curve reveals nothing.
type Curve [MaxOrder - MinOrder + 1]float64

// Curve is what r reveals. It fails with Invalid if r makes no sense.
func (r Run) Curve() (Curve, error) {
	if err := r.check(); err != nil {
		return Curve{}, err
	}
	var c Curve
	if r.Q == 0 || r.Steps == 0 {
		return c, nil
	}
	for i := range c {
		c[i] = float64(r.Steps) * sampledGaussian(i+MinOrder, r.Q, r.Sigma)
	}
	return c, nil
}

func (r Run) check() error {
	switch {
	case !(r.Q >= 0 && r.Q <= 1):
		return centram.Errorf(centram.Invalid, "the sampling rate has to be from 0 to 1, not %v", r.Q).
			WithHint("It is the expected batch divided by the number of examples.")
	case !(r.Sigma >= MinSigma) || math.IsInf(r.Sigma, 1):
		return centram.Errorf(centram.Invalid, "the noise multiplier has to be %v or more, not %v", MinSigma, r.Sigma)
	case r.Steps < 0:
		return centram.Errorf(centram.Invalid, "a run cannot have %d steps", r.Steps)
	}
	return nil
}

// sampledGaussian is the Rényi divergence of order a of one step (Mironov, Talwar, Zhang 2019, for integer orders):
// log A / (a-1), where
//
//	A = Σ over i from 0 to a of  C(a,i) (1-q)^(a-i) q^i e^((i²-i)/2σ²)
//
// The terms' weights without the exponential sum to 1, and the exponent is 0 for i = 0 and 1, so A - 1 is the sum from
// i = 2 on with e^x - 1 in place of e^x. No term of that is negative and nothing cancels, however small q is.
func sampledGaussian(a int, q, sigma float64) float64 {
	if q == 1 {
		return float64(a) / (2 * sigma * sigma)
	}
	logQ, logP := math.Log(q), math.Log1p(-q)
	sum := math.Inf(-1)
	for i := 2; i <= a; i++ {
		x := float64(i) * float64(i-1) / (2 * sigma * sigma)
		logTerm := logFactorials[a] - logFactorials[i] - logFactorials[a-i] +
			float64(a-i)*logP + float64(i)*logQ + logExpm1(x)
		sum = logAdd(sum, logTerm)
	}
	return log1pExp(sum) / float64(a-1)
}

var logFactorials = func() (out [MaxOrder + 1]float64) {
	for i := 1; i < len(out); i++ {
		out[i], _ = math.Lgamma(float64(i + 1))
	}
	return out
}()

// logExpm1 is log(e^x - 1) for x > 0.
func logExpm1(x float64) float64 {
	if x < 1 {
		return math.Log(math.Expm1(x))
	}
	return x + math.Log1p(-math.Exp(-x))
}

// log1pExp is log(1 + e^x).
func log1pExp(x float64) float64 {
	if x > 0 {
		return x + math.Log1p(math.Exp(-x))
	}
	return math.Log1p(math.Exp(x))
}

// logAdd is log(e^a + e^b).
func logAdd(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(b, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}

// Add is what c and d reveal together.
func (c Curve) Add(d Curve) Curve {
	for i := range c {
		c[i] += d[i]
	}
	return c
}

// Times is what n of c reveal together.
func (c Curve) Times(n int) Curve {
	for i := range c {
		c[i] *= float64(n)
	}
	return c
}

// Epsilon is the smallest ε that c bears out for delta, and the order that shows it, which is 0 for the zero Curve. The
// conversion is that of Canonne, Kamath and Steinke (2020). delta has to lie between 0 and 1; otherwise ε is infinite.
func (c Curve) Epsilon(delta float64) (epsilon float64, order int) {
	if !(delta > 0 && delta < 1) {
		return math.Inf(1), 0
	}
	if c == (Curve{}) {
		return 0, 0
	}
	epsilon = math.Inf(1)
	for i, rdp := range c {
		a := float64(i + MinOrder)
		e := rdp - (math.Log(delta)+math.Log(a))/(a-1) + math.Log1p(-1/a)
		if e < epsilon {
			epsilon, order = e, i+MinOrder
		}
	}
	return max(epsilon, 0), order
}

// within reports whether c keeps to b.
func (c Curve) within(b Budget) bool {
	e, _ := c.Epsilon(b.Delta)
	return e <= b.Epsilon
}

func (b Budget) check() error {
	if !(b.Epsilon > 0) || math.IsInf(b.Epsilon, 1) {
		return centram.Errorf(centram.Invalid, "a privacy budget's epsilon has to be more than 0, not %v", b.Epsilon).
			WithHint("Usual values are 1 to 8; less protects more.")
	}
	if !(b.Delta > 0 && b.Delta < 1) {
		return centram.Errorf(centram.Invalid, "a privacy budget's delta has to lie between 0 and 1, not be %v", b.Delta).
			WithHint("Take less than one over the number of examples, such as 1e-5.")
	}
	return nil
}

// maxSigma bounds the search for a noise multiplier.
const maxSigma = 1e6

// SigmaFor is the least noise with which steps at rate q stay within b, after spent was revealed before. It is rounded
// up, by less than a thousandth. It fails with Forbidden if no noise is enough.
func SigmaFor(b Budget, spent Curve, q float64, steps int) (float64, error) {
	if err := b.check(); err != nil {
		return 0, err
	}
	fits := func(sigma float64) bool {
		var total Curve
		for i := range total { // order by order, since the first that is low enough will do
			a := float64(i + MinOrder)
			rdp := spent[i]
			if q > 0 && steps > 0 {
				rdp += float64(steps) * sampledGaussian(i+MinOrder, q, sigma)
			}
			if rdp == 0 || rdp-(math.Log(b.Delta)+math.Log(a))/(a-1)+math.Log1p(-1/a) <= b.Epsilon {
				return true
			}
		}
		return false
	}
	if err := (Run{Q: q, Sigma: 1, Steps: steps}).check(); err != nil {
		return 0, err
	}
	if !fits(maxSigma) {
		now, _ := spent.Epsilon(b.Delta)
		return 0, centram.Errorf(centram.Forbidden,
			"no amount of noise keeps %d steps within a privacy budget of %.4g at delta %.3g: %.4g of it are spent",
			steps, b.Epsilon, b.Delta, now).
			WithHint("Allow a larger epsilon, or train on other data.")
	}
	low, high := MinSigma, float64(maxSigma)
	if fits(low) {
		return low, nil
	}
	for high/low > 1.0005 {
		middle := math.Sqrt(low * high)
		if fits(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return high, nil
}

// GaussianSigma is the least noise for one release without sampling, as a multiple of what one example changes: the exact
// condition of Balle and Wang (2018). What RDP says of the same release is never less.
func GaussianSigma(b Budget) (float64, error) {
	if err := b.check(); err != nil {
		return 0, err
	}
	low, high := 1e-9, 1e9
	for range 200 {
		middle := math.Sqrt(low * high)
		if gaussianDelta(b.Epsilon, middle) <= b.Delta {
			high = middle
		} else {
			low = middle
		}
	}
	return high, nil
}

// gaussianDelta is the exact δ at epsilon of one release with noise sigma.
func gaussianDelta(epsilon, sigma float64) float64 {
	normal := func(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }
	second := normal(-1/(2*sigma) - epsilon*sigma)
	if second > 0 {
		second = math.Exp(epsilon + math.Log(second))
	}
	return normal(1/(2*sigma)-epsilon*sigma) - second
}
