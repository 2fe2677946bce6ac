package lora

import (
	"bytes"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/lora/dp"
)

func TestAClaimIsWhatItsNumbersGive(t *testing.T) {
	curve, err := dp.Run{Q: 0.1, Sigma: 1.1, Steps: 50}.Curve()
	if err != nil {
		t.Fatal(err)
	}
	epsilon, _ := curve.Epsilon(1e-5)
	honest := func() []gguf.KV {
		r := &run{private: &private{}, now: Outcome{Event: Event{Privacy: &Privacy{Epsilon: epsilon, Delta: 1e-5, Rate: 0.1, Sigma: 1.1, Steps: 50, Clip: 0.1}}}}
		return r.protection()
	}
	for name, c := range map[string]struct {
		change func([]gguf.KV) []gguf.KV
		says   string
	}{
		"as it is":       {func(kv []gguf.KV) []gguf.KV { return kv }, ""},
		"no claim":       {func([]gguf.KV) []gguf.KV { return nil }, "nothing"},
		"a better one":   {set(claimEpsilon, gguf.Of(epsilon/2)), "numbers give"},
		"a worse one":    {set(claimEpsilon, gguf.Of(epsilon*2)), "numbers give"},
		"not a number":   {set(claimEpsilon, gguf.Of(math.NaN())), "numbers give"},
		"more steps":     {set(claimSteps, gguf.Of(uint32(51))), "numbers give"},
		"a text":         {set(claimSteps, gguf.Of("50")), "how many steps"},
		"no noise":       {set(claimSigma, gguf.Of(0.0)), "makes no sense"},
		"a rate of 2":    {set(claimRate, gguf.Of(2.0)), "makes no sense"},
		"half of it":     {func(kv []gguf.KV) []gguf.KV { return kv[:4] }, "but not"},
		"a delta of 0":   {set(claimDelta, gguf.Of(0.0)), "numbers give"},
		"noise infinite": {set(claimSigma, gguf.Of(math.Inf(1))), "makes no sense"},
	} {
		var b bytes.Buffer
		tensors := []gguf.TensorData{{Name: "x", Type: gguf.F32, Dims: []uint64{1, 1}, Write: gguf.Floats([]float32{1})}}
		if err := gguf.WriteAdapter(&b, "llama", "claims", 1, tensors, c.change(honest())...); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "claim.gguf")
		write(t, path, b.String())
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got, err := ReadClaim(f)
		switch c.says {
		case "":
			if err != nil || got == nil || got.Epsilon != epsilon || got.Steps != 50 || got.Clip != 0.1 {
				t.Errorf("%s: got %+v, %v", name, got, err)
			}
		case "nothing":
			if err != nil || got != nil {
				t.Errorf("%s: got %+v, %v, want nothing", name, got, err)
			}
		default:
			if centram.CodeOf(err) != centram.Invalid || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: got %v, want %q", name, err, c.says)
			}
		}
	}
}

// set makes a key have another value.
func set(key string, v gguf.Value) func([]gguf.KV) []gguf.KV {
	return func(all []gguf.KV) []gguf.KV {
		for i := range all {
			if all[i].Key == key {
				all[i].Value = v
			}
		}
		return all
	}
}
