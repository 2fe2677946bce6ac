package dp

import (
	"bufio"
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/centram/centram"
)

// Sample picks each of n examples with probability q, independently of the others, and returns their indices in order: the
// only way to pick a batch that Run accounts for. Most batches are larger or smaller than n·q, and some are empty.
//
// A probability is rounded down to a multiple of 2^-64, which reveals less, not more. random is for tests; nil means
// crypto/rand.
func Sample(random io.Reader, n int, q float64) ([]int, error) {
	if err := (Run{Q: q, Sigma: 1}).check(); err != nil {
		return nil, err
	}
	d := newDice(random)
	limit := uint64(0)
	if q < 1 {
		limit = uint64(math.Ldexp(q, 64)) // exact but for what is below 2^-64
	}
	var picked []int
	for i := range n {
		if q == 1 || d.bits(64) < limit {
			picked = append(picked, i)
		}
	}
	if d.err != nil {
		return nil, fmt.Errorf("read random bytes: %w", d.err)
	}
	return picked, nil
}

// AccumulatorConfig says how gradients are made private.
type AccumulatorConfig struct {
	Size  int       // numbers in a gradient
	Clip  float64   // the length that an example's gradient is clipped to
	Sigma float64   // the noise's standard deviation as a multiple of Clip
	Rand  io.Reader // for tests. Zero means crypto/rand
}

// Accumulator sums the gradients of a batch's examples and releases the sum with noise.
//
// Noise made of floating-point numbers gives itself away: which numbers can come out depends on what it was added to
// (Mironov 2012). Here nothing is floating-point between clipping and the released sum. The gradients are put on a grid of
// Sigma·Clip/2^24, towards zero, so that none grows; their length is checked in integers; the sum is of integers; and the
// noise is the discrete Gaussian of Canonne, Kamath and Steinke (2020) of standard deviation 2^24, drawn by their exact
// method. Its Rényi divergences are bounded by the continuous Gaussian's, so Run holds for it. One case is left out, a
// Laplace draw beyond 127 deviations, whose chance is below 1e-55. How long a draw takes is not hidden.
//
// It is used by one goroutine.
type Accumulator struct {
	cfg   AccumulatorConfig
	grid  float64
	limit uint64 // of the sum of squares of an example's integers
	sum   []int64
	one   []int64 // an example's integers
	count int
	dice  *dice
}

const (
	gridBits   = 24      // the noise's standard deviation is 2^gridBits steps of the grid
	maxBatch   = 1 << 20 // examples that can be summed up without overflow: 2^20 · 2^24/MinSigma < 2^63
	maxLaplace = 127     // deviations
)

// NewAccumulator fails with Invalid if cfg makes no sense.
func NewAccumulator(cfg AccumulatorConfig) (*Accumulator, error) {
	if err := (Run{Sigma: cfg.Sigma}).check(); err != nil {
		return nil, err
	}
	if !(cfg.Clip > 0) || math.IsInf(cfg.Clip, 1) || cfg.Size < 1 {
		return nil, centram.Errorf(centram.Invalid, "gradients of %d numbers cannot be clipped to a length of %v", cfg.Size, cfg.Clip)
	}
	grid := math.Ldexp(cfg.Sigma*cfg.Clip, -gridBits)
	if grid < 0x1p-1000 || math.IsInf(grid, 1) {
		return nil, centram.Errorf(centram.Invalid, "gradients cannot be clipped to a length of %v", cfg.Clip)
	}
	// One example has to change the sum by no more than 2^gridBits/Sigma; the factor is for the rounding of this line.
	length := math.Ldexp(1/cfg.Sigma, gridBits)
	return &Accumulator{
		cfg: cfg, grid: grid, limit: uint64(length * length * (1 - 0x1p-40)),
		sum: make([]int64, cfg.Size), one: make([]int64, cfg.Size), dice: newDice(cfg.Rand),
	}, nil
}

// Add clips the gradient of one example and adds it. A gradient that is not finite is taken for zero: to tell of it would
// tell of the example.
func (a *Accumulator) Add(gradient []float32) error {
	if len(gradient) != a.cfg.Size {
		return centram.Errorf(centram.Internal, "a gradient has %d numbers, not %d", len(gradient), a.cfg.Size)
	}
	if a.count == maxBatch {
		return centram.Errorf(centram.Invalid, "a batch has more than %d examples", maxBatch)
	}
	a.count++
	var squares float64
	for _, g := range gradient {
		squares += float64(g) * float64(g)
	}
	if math.IsNaN(squares) || math.IsInf(squares, 0) {
		return nil
	}
	scale := min(1, a.cfg.Clip/math.Sqrt(squares)) / a.grid // of zero: min(1, +Inf)
	for !a.put(gradient, scale) {
		scale *= 1 - 0x1p-20
	}
	for i, n := range a.one {
		a.sum[i] += n
	}
	return nil
}

// put puts gradient on the grid. It reports whether it is short enough there.
func (a *Accumulator) put(gradient []float32, scale float64) bool {
	squares := uint64(0)
	for i, g := range gradient {
		x := math.Trunc(float64(g) * scale)
		if math.Abs(x) >= 3e9 { // its square fits
			return false
		}
		a.one[i] = int64(x)
		square := uint64(a.one[i] * a.one[i])
		if squares += square; squares > a.limit || squares < square {
			return false
		}
	}
	return true
}

// Release writes the noisy sum to out and begins the next batch. Divide it by the expected size of a batch, not by the
// real one, which is secret. An error says that there was no randomness; the sum is lost then.
func (a *Accumulator) Release(out []float32) error {
	if len(out) != a.cfg.Size {
		return centram.Errorf(centram.Internal, "a sum of %d numbers does not fit into %d", a.cfg.Size, len(out))
	}
	for i, n := range a.sum {
		out[i] = float32(float64(n+a.dice.gaussian(gridBits)) * a.grid)
	}
	clear(a.sum)
	clear(a.one)
	a.count = 0
	if err := a.dice.err; err != nil {
		clear(out)
		return fmt.Errorf("read random bytes: %w", err)
	}
	return nil
}

// dice draws exactly from distributions over integers. After an error every draw is zero.
type dice struct {
	r   *bufio.Reader
	err error
}

func newDice(random io.Reader) *dice {
	return &dice{r: bufio.NewReaderSize(cmp.Or[io.Reader](random, rand.Reader), 16<<10)}
}

// bits is a uniform number of n bits, at most 64.
func (d *dice) bits(n int) uint64 {
	var b [8]byte
	if d.err == nil {
		_, d.err = io.ReadFull(d.r, b[:(n+7)/8])
	}
	if d.err != nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b[:]) & (1<<n - 1)
}

// oneIn is true once in k times.
func (d *dice) oneIn(k uint64) bool {
	const span = 1 << 16 // of k, there are never more than a few dozen
	for {
		if n := d.bits(16); d.err != nil || n < span-span%k {
			return n%k == 0
		}
	}
}

// expMinus is true with probability e^-(n/2^shift): the whole part as so many times e^-1, the rest by von Neumann's
// method, in which the length of a run of successes with probabilities x, x/2, x/3... is even with probability e^-x.
func (d *dice) expMinus(n uint64, shift int) bool {
	for ; n > 1<<shift; n -= 1 << shift {
		if d.err != nil || !d.expMinus(1<<shift, shift) {
			return false
		}
	}
	for k := uint64(1); ; k++ {
		// n is 2^shift here for the whole parts, and then the first condition always holds.
		if d.err != nil || d.bits(shift) >= n || !d.oneIn(k) {
			return k%2 == 1
		}
	}
}

// laplace is a number whose size x has a probability that falls as e^-(x/2^scale).
func (d *dice) laplace(scale int) int64 {
	for d.err == nil {
		x := d.bits(scale)
		if !d.expMinus(x, scale) {
			continue
		}
		times := uint64(0)
		for times <= maxLaplace && d.expMinus(1, 0) {
			times++
		}
		x += times << scale
		negative := d.bits(1) == 1
		switch {
		case times > maxLaplace || negative && x == 0: // zero would count twice
		case negative:
			return -int64(x)
		default:
			return int64(x)
		}
	}
	return 0
}

// gaussian is a number x whose probability falls as e^-(x²/2σ²), for a σ of 2^scale: a Laplace number y is kept with
// probability e^-((|y|-σ)²/2σ²).
func (d *dice) gaussian(scale int) int64 {
	for d.err == nil {
		y := d.laplace(scale)
		off := max(y, -y) - 1<<scale
		if d.expMinus(uint64(off*off), 2*scale+1) {
			return y
		}
	}
	return 0
}
