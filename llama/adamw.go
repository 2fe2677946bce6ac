package llama

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
)

// AdamW is one step of Adam with decoupled weight decay. Its zero value does nothing, since its rate is 0.
type AdamW struct {
	LR          float32
	Beta1       float32 // zero means 0.9
	Beta2       float32 // zero means 0.999
	Eps         float32 // zero means 1e-8
	WeightDecay float32
}

// The conversions of products to float32 keep a compiler from fusing them with sums, which would round differently on some
// machines.

// Step changes the parameters by the gradient, which stays as it is.
func (t *Trainer) Step(o AdamW) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.c == nil {
		return ErrClosed
	}
	t.step++
	o = o.orDefaults()
	if t.bits == 8 {
		t.step8(o)
	} else {
		if t.m == nil {
			t.m, t.v = make([]float32, len(t.values)), make([]float32, len(t.values))
		}
		o.update(t.step, t.values, t.gradients, t.m, t.v)
	}
	return t.changed()
}

// step8 does the same for moments of a byte, a block at a time.
func (t *Trainer) step8(o AdamW) {
	if t.m8 == nil {
		t.m8, t.v8 = newMoments8(len(t.values), signed8), newMoments8(len(t.values), unsigned8)
	}
	var one, two [scaled]float32
	for i := range t.m8.scales {
		from, to := i*scaled, min((i+1)*scaled, len(t.values))
		m, v := one[:to-from], two[:to-from]
		t.m8.read(i, m)
		t.v8.read(i, v)
		o.update(t.step, t.values[from:to], t.gradients[from:to], m, v)
		t.m8.write(i, m)
		t.v8.write(i, v)
	}
}

// update is a step of some parameters.
func (o AdamW) update(step int, values, gradients, ms, vs []float32) {
	one, two := 1-power(o.Beta1, step), 1-power(o.Beta2, step)
	rate := float32(float64(o.LR) / one)
	root := float32(math.Sqrt(two))
	for i, g := range gradients {
		m := float32(o.Beta1*ms[i]) + float32((1-o.Beta1)*g)
		v := float32(o.Beta2*vs[i]) + float32(float32((1-o.Beta2)*g)*g)
		ms[i], vs[i] = m, v
		down := float32(rate*m) / (float32(math.Sqrt(float64(v)))/root + o.Eps)
		values[i] -= down + float32(float32(o.LR*o.WeightDecay)*values[i])
	}
}

func (o AdamW) orDefaults() AdamW {
	orElse := func(v *float32, d float32) {
		if *v == 0 {
			*v = d
		}
	}
	orElse(&o.Beta1, 0.9)
	orElse(&o.Beta2, 0.999)
	orElse(&o.Eps, 1e-8)
	return o
}

// power is x to the n, without the last bits in which math.Pow differs between machines.
func power(x float32, n int) float64 {
	out, square := 1.0, float64(x)
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			out *= square
		}
		square *= square
	}
	return out
}

// GradNorm is the length of the gradient.
func (t *Trainer) GradNorm() float64 {
	sum := 0.0
	for _, g := range t.gradients {
		sum += float64(float64(g) * float64(g))
	}
	return math.Sqrt(sum)
}

// Scale multiplies the gradient by s.
func (t *Trainer) Scale(s float32) {
	for i := range t.gradients {
		t.gradients[i] *= s
	}
}

// Zero makes the gradient zero.
func (t *Trainer) Zero() { clear(t.gradients) }

// TrainerState is all that a run needs to go on as if it had not stopped. M and V are as long as Values. Of a trainer with
// StateBits 8 they are empty, and Codes and Scales are in their place, first those of M. Before the first step, all but
// Values are empty.
type TrainerState struct {
	Step         int
	Values, M, V []float32
	Codes        []uint8
	Scales       []float32
}

// State copies the state.
func (t *Trainer) State() TrainerState {
	s := TrainerState{Step: t.step, Values: slices.Clone(t.values), M: slices.Clone(t.m), V: slices.Clone(t.v)}
	if t.m8 != nil {
		s.Codes, s.Scales = slices.Concat(t.m8.codes, t.v8.codes), slices.Concat(t.m8.scales, t.v8.scales)
	}
	return s
}

// SetState goes on from a state of a trainer with the same parameters. The gradient becomes zero.
func (t *Trainer) SetState(s TrainerState) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.c == nil {
		return ErrClosed
	}
	if !t.fits(s) {
		return fmt.Errorf("llama: a state of %d, %d and %d numbers and %d bytes after %d steps is not of these %d parameters",
			len(s.Values), len(s.M), len(s.V), len(s.Codes), s.Step, len(t.values))
	}
	copy(t.values, s.Values)
	t.step, t.m, t.v, t.m8, t.v8 = s.Step, nil, nil, nil, nil
	if len(s.M) > 0 {
		t.m, t.v = slices.Clone(s.M), slices.Clone(s.V)
	}
	if len(s.Codes) > 0 {
		t.m8, t.v8 = newMoments8(len(t.values), signed8), newMoments8(len(t.values), unsigned8)
		copy(t.v8.codes, s.Codes[copy(t.m8.codes, s.Codes):])
		copy(t.v8.scales, s.Scales[copy(t.m8.scales, s.Scales):])
	}
	t.Zero()
	return t.changed()
}

// fits reports whether a state is one of this trainer.
func (t *Trainer) fits(s TrainerState) bool {
	n := len(t.values)
	codes, scales, floats := 0, 0, 0
	switch {
	case s.Step == 0:
	case t.bits == 8:
		codes, scales = 2*n, 2*((n+scaled-1)/scaled)
	default:
		floats = n
	}
	return s.Step >= 0 && len(s.Values) == n && len(s.M) == floats && len(s.V) == floats && len(s.Codes) == codes && len(s.Scales) == scales
}

// scatter makes each A of random numbers that keep the size of what they multiply. They are sums of whole numbers, so that
// one seed gives the same bits on every machine.
func (t *Trainer) scatter(seed uint64) {
	const centre, spread = 12 * 65535 / 2, 65536 // mean and deviation of the sum of twelve 16-bit numbers
	for _, p := range t.params {
		if !strings.HasSuffix(p.Name, ".lora_a") {
			continue
		}
		h := fnv.New64a()
		h.Write([]byte(p.Name))
		random := rand.NewPCG(seed, h.Sum64())
		deviation := float32(1 / math.Sqrt(float64(p.Dims[0])) / spread)
		for i := range t.values[p.offset : p.offset+p.size] {
			sum := int32(-centre)
			for range 3 {
				z := random.Uint64()
				sum += int32(z&0xffff) + int32(z>>16&0xffff) + int32(z>>32&0xffff) + int32(z>>48)
			}
			t.values[p.offset+i] = float32(sum) * deviation
		}
	}
}
