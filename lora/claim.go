package lora

import (
	"math"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/lora/dp"
)

// The keys of what a file says of how little it tells.
const (
	claimMode       = "centram.dp.mode"
	claimAccountant = "centram.dp.accountant"
	claimEpsilon    = "centram.dp.epsilon"
	claimDelta      = "centram.dp.delta"
	claimRate       = "centram.dp.q"
	claimSigma      = "centram.dp.sigma"
	claimSteps      = "centram.dp.steps"
	claimClip       = "centram.dp.clip"
)

// Claim is what an adapter says of how little it tells of any one document. It is the word of who made it: that its numbers
// agree with each other can be checked, not that it was trained so.
type Claim struct {
	Epsilon float64 `json:"epsilon"`
	Delta   float64 `json:"delta"`
	Rate    float64 `json:"sampling_rate"`
	Sigma   float64 `json:"noise_multiplier"`
	Steps   int     `json:"steps"`
	Clip    float64 `json:"clip"`
}

// protection is what the file says; nothing, unless the run is private.
func (r *run) protection() []gguf.KV {
	if r.private == nil {
		return nil
	}
	p := r.now.Privacy
	return []gguf.KV{
		{Key: claimMode, Value: gguf.Of("dp-sgd, poisson sampling of documents, discrete gaussian noise")},
		{Key: claimAccountant, Value: gguf.Of("rdp of the sampled gaussian, orders 2 to 512")},
		{Key: claimEpsilon, Value: gguf.Of(p.Epsilon)},
		{Key: claimDelta, Value: gguf.Of(p.Delta)},
		{Key: claimRate, Value: gguf.Of(p.Rate)},
		{Key: claimSigma, Value: gguf.Of(p.Sigma)},
		{Key: claimSteps, Value: gguf.Of(uint32(p.Steps))},
		{Key: claimClip, Value: gguf.Of(p.Clip)},
	}
}

// ReadClaim returns the claim of an adapter, or nil if it makes none. It fails with Invalid if the claim is not what its
// own numbers give.
func ReadClaim(f *gguf.File) (*Claim, error) {
	if _, ok := f.Value(claimMode); !ok {
		return nil, nil
	}
	var c Claim
	for key, to := range map[string]*float64{
		claimEpsilon: &c.Epsilon, claimDelta: &c.Delta, claimRate: &c.Rate, claimSigma: &c.Sigma, claimClip: &c.Clip,
	} {
		var ok bool
		if *to, ok = f.Float(key); !ok {
			return nil, centram.Errorf(centram.Invalid, "%s says that it was trained privately, but not its %s", f.Name, key)
		}
	}
	steps, ok := f.Uint(claimSteps)
	if !ok || steps > math.MaxInt32 {
		return nil, centram.Errorf(centram.Invalid, "%s says that it was trained privately, but not in how many steps", f.Name)
	}
	c.Steps = int(steps)
	curve, err := dp.Run{Q: c.Rate, Sigma: c.Sigma, Steps: c.Steps}.Curve()
	if err != nil {
		return nil, centram.Errorf(centram.Invalid, "what %s says of its privacy makes no sense: %w", f.Name, err)
	}
	if epsilon, _ := curve.Epsilon(c.Delta); math.IsInf(epsilon, 1) || !(math.Abs(epsilon-c.Epsilon) <= 1e-6*epsilon) {
		return nil, centram.Errorf(centram.Invalid, "%s says that it was trained with epsilon %.4g, but its numbers give %.4g", f.Name, c.Epsilon, epsilon)
	}
	return &c, nil
}
