package convert

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/centram/centram/gguf"
)

// rope is how positions are told apart: the base of the frequencies, and how they are stretched for longer texts.
type rope struct {
	base    float64
	scaling string  // as GGUF calls it, or empty
	factor  float64 // of scaling
	context int     // that the model had before it was stretched
	yarn    []gguf.KV
	freqs   []float32 // what each frequency is divided by; llama.cpp reads these from a tensor
}

// ropeFields are those that are understood. Another one would be lost, and with it what the model computes.
var ropeFields = []string{
	"type", "rope_type", "rope_theta", "factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor",
	"attention_factor", "beta_fast", "beta_slow", "truncate", "partial_rotary_factor", "finetuned",
}

// readRope reads rope_theta and rope_scaling, or rope_parameters, which newer folders have for both.
func readRope(f *fields, s gguf.Summary) (rope, error) {
	at := f.object("rope_parameters")
	if !f.has("rope_parameters") {
		at = f.object("rope_scaling")
	}
	r := rope{base: get(at, "rope_theta", get(f, "rope_theta", 10000.0))}
	method := get(at, "rope_type", get(at, "type", "default"))
	r.factor = get(at, "factor", 1.0)
	r.context = get(at, "original_max_position_embeddings", get(f, "original_max_position_embeddings", s.Context))
	if err := cmp.Or(f.err(), knownRope(at)); err != nil {
		return rope{}, err
	}
	switch {
	case method == "default":
		return r, nil
	case !(r.factor >= 1) || r.context < 1 || r.context > maxDimension:
		return rope{}, bad("%s: a factor of %v and a context of %d make no sense", at.file, r.factor, r.context)
	case method == "linear":
		r.scaling = "linear"
		return r, nil
	case method == "yarn":
		return r, r.readYarn(at)
	case strings.EqualFold(method, "llama3") && s.Architecture == "llama":
		return r, r.readLlama3(at, s.HeadDim)
	}
	return rope{}, unsupported("%s is %.30q, which cannot be kept for an architecture of %s", at.file, method, s.Architecture).
		WithHint("linear and yarn can be kept, and for llama llama3.")
}

func knownRope(at *fields) error {
	for _, key := range slices.Sorted(maps.Keys(at.raw)) {
		if at.has(key) && !slices.Contains(ropeFields, key) {
			return unsupported("%s cannot be converted: what %.50q means is not known", at.file, key)
		}
	}
	if !at.among("partial_rotary_factor", "1", "1.0") {
		return unsupported("%s cannot be converted: it turns only a part of each head", at.file)
	}
	return nil
}

// readYarn reads what belongs to yarn. llama.cpp computes with the usual values of these, whatever a file of ours says.
func (r *rope) readYarn(at *fields) error {
	usual := 0.1*math.Log(r.factor) + 1
	attention, fast, slow := get(at, "attention_factor", usual), get(at, "beta_fast", 32.0), get(at, "beta_slow", 1.0)
	truncate := get(at, "truncate", true)
	if at.err() != nil {
		return at.err()
	}
	if math.Abs(attention-usual) > 1e-6 || fast != 32 || slow != 1 || !truncate {
		return unsupported("%s has its own attention_factor, beta_fast, beta_slow or truncate, with which llama.cpp does not compute", at.file).
			WithHint("Only the usual ones can be kept: %.4g, 32, 1 and true.", usual)
	}
	r.scaling = "yarn"
	for _, key := range []string{"beta_fast", "beta_slow"} {
		if at.has(key) {
			r.yarn = append(r.yarn, gguf.KV{Key: ".rope.scaling.yarn_" + key, Value: gguf.Of(float32(get(at, key, 0.0)))})
		}
	}
	return nil
}

// readLlama3 makes the divisors of the frequencies: 1 for short waves, factor for long ones, and something between.
func (r *rope) readLlama3(at *fields, headDim int) error {
	factor := get(at, "factor", 8.0)
	low, high := get(at, "low_freq_factor", 1.0), get(at, "high_freq_factor", 4.0)
	if !at.has("original_max_position_embeddings") {
		r.context = 8192
	}
	if at.err() != nil {
		return at.err()
	}
	if !(low > 0) || !(high > low) {
		return bad("%s: a low_freq_factor of %v and a high_freq_factor of %v make no sense", at.file, low, high)
	}
	context := float64(r.context)
	for i := 0; i < headDim; i += 2 {
		wave := 2 * math.Pi * math.Pow(r.base, float64(i)/float64(headDim))
		divisor := factor
		switch {
		case wave < context/high:
			divisor = 1
		case wave <= context/low:
			smooth := (context/wave - low) / (high - low)
			divisor = 1 / ((1-smooth)/factor + smooth)
		}
		r.freqs = append(r.freqs, float32(divisor))
	}
	return nil
}

func (r rope) keys(arch string) []gguf.KV {
	var out []gguf.KV
	if r.scaling != "" {
		out = append(
			out,
			gguf.KV{Key: arch + ".rope.scaling.type", Value: gguf.Of(r.scaling)},
			gguf.KV{Key: arch + ".rope.scaling.factor", Value: gguf.Of(float32(r.factor))},
		)
	}
	if r.scaling == "yarn" {
		out = append(out, gguf.KV{Key: arch + ".rope.scaling.original_context_length", Value: gguf.Of(uint32(r.context))})
	}
	for _, kv := range r.yarn {
		out = append(out, gguf.KV{Key: arch + kv.Key, Value: kv.Value})
	}
	return append(out, gguf.KV{Key: arch + ".rope.freq_base", Value: gguf.Of(float32(r.base))})
}
