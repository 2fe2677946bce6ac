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
	if t.m == nil {
		t.m, t.v = make([]float32, len(t.values)), make([]float32, len(t.values))
	}
	t.step++
	o = o.orDefaults()
	one, two := 1-power(o.Beta1, t.step), 1-power(o.Beta2, t.step)
	rate := float32(float64(o.LR) / one)
	root := float32(math.Sqrt(two))
	for i, g := range t.gradients {
		m := float32(o.Beta1*t.m[i]) + float32((1-o.Beta1)*g)
		v := float32(o.Beta2*t.v[i]) + float32(float32((1-o.Beta2)*g)*g)
		t.m[i], t.v[i] = m, v
		down := float32(rate*m) / (float32(math.Sqrt(float64(v)))/root + o.Eps)
		t.values[i] -= down + float32(float32(o.LR*o.WeightDecay)*t.values[i])
	}
	return t.changed()
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

// TrainerState is all that a run needs to go on as if it had not stopped. The lists are as long as each other; M and V are
// empty before the first step.
type TrainerState struct {
	Step         int
	Values, M, V []float32
}

// State copies the state.
func (t *Trainer) State() TrainerState {
	return TrainerState{t.step, slices.Clone(t.values), slices.Clone(t.m), slices.Clone(t.v)}
}

// SetState goes on from a state of a trainer with the same parameters. The gradient becomes zero.
func (t *Trainer) SetState(s TrainerState) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.c == nil {
		return ErrClosed
	}
	if n := len(t.values); len(s.Values) != n || len(s.M) != len(s.V) || len(s.M) != n && (len(s.M) != 0 || s.Step != 0) || s.Step < 0 {
		return fmt.Errorf("llama: a state of %d, %d and %d numbers after %d steps is not of these %d parameters", len(s.Values), len(s.M), len(s.V), s.Step, n)
	}
	copy(t.values, s.Values)
	t.step, t.m, t.v = s.Step, nil, nil
	if len(s.M) > 0 {
		t.m, t.v = slices.Clone(s.M), slices.Clone(s.V)
	}
	t.Zero()
	return t.changed()
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
