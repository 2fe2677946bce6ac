package wire

import (
	"math"
	"strconv"

	"github.com/centram/centram/engine"
)

// Sampling is the part of a request that says how tokens are chosen. Both APIs use these names, and so does llama.cpp. A
// number may be written as 40 or 40.0: several clients know floats only.
type Sampling struct {
	Temperature      *float64 `json:"temperature"`
	TopK             *float64 `json:"top_k"`
	TopP             *float64 `json:"top_p"`
	MinP             *float64 `json:"min_p"`
	RepeatPenalty    *float64 `json:"repeat_penalty"`
	RepeatLastN      *float64 `json:"repeat_last_n"`
	FrequencyPenalty *float64 `json:"frequency_penalty"`
	PresencePenalty  *float64 `json:"presence_penalty"`
	Seed             *float64 `json:"seed"`
}

// Engine returns the sampling that the request asks for: engine.DefaultSampling where it is silent.
func (s Sampling) Engine() (engine.Sampling, error) {
	out := engine.DefaultSampling()
	rows := []struct {
		number Number
		set    func(float64)
	}{
		{Number{"temperature", s.Temperature, 0, 2, false}, func(v float64) { out.Temperature = float32(v) }},
		{Number{"top_k", s.TopK, -1, math.MaxInt32, true}, func(v float64) { out.TopK = max(0, int(v)) }},
		{Number{"top_p", s.TopP, 0, 1, false}, func(v float64) { out.TopP = float32(v) }},
		{Number{"min_p", s.MinP, 0, 1, false}, func(v float64) { out.MinP = float32(v) }},
		{Number{"repeat_penalty", s.RepeatPenalty, 0, 10, false}, func(v float64) { out.RepeatPenalty = float32(v) }},
		{Number{"repeat_last_n", s.RepeatLastN, -1, math.MaxInt32, true}, func(v float64) { out.RepeatLastN = int(v) }},
		{Number{"frequency_penalty", s.FrequencyPenalty, -2, 2, false}, func(v float64) { out.FrequencyPenalty = float32(v) }},
		{Number{"presence_penalty", s.PresencePenalty, -2, 2, false}, func(v float64) { out.PresencePenalty = float32(v) }},
		{Number{"seed", s.Seed, math.MinInt64, math.MaxInt64, true}, func(v float64) { out.Seed = seed(v) }},
	}
	for _, row := range rows {
		if err := row.number.Check(); err != nil {
			return engine.Sampling{}, err
		}
		if row.number.Value != nil {
			row.set(*row.number.Value)
		}
	}
	// An explicit "no look-back" turns penalties off. To the engine, 0 tokens would mean its default.
	if s.RepeatLastN != nil && out.RepeatLastN == 0 {
		out.RepeatPenalty, out.FrequencyPenalty, out.PresencePenalty = 0, 0, 0
	}
	return out, nil
}

// seed folds what clients send into 32 bits. To llama.cpp and Ollama, -1 (also as an unsigned number) means random.
func seed(v float64) *uint32 {
	if v < 0 || v == math.MaxUint32 {
		return nil
	}
	folded := uint32(math.Mod(v, 1<<32))
	return &folded
}

// Number is a field of a request with the bounds that it must keep. A nil Value keeps them.
type Number struct {
	Param    string
	Value    *float64
	Min, Max float64
	Whole    bool
}

// Check says which bound the number breaks.
func (n Number) Check() error {
	switch {
	case n.Value == nil:
		return nil
	case n.Whole && *n.Value != math.Trunc(*n.Value):
		return Invalid(n.Param, "%q must be a whole number, not %s.", n.Param, plain(*n.Value))
	case *n.Value < n.Min || *n.Value > n.Max:
		return Invalid(n.Param, "%q must be between %s and %s, not %s.", n.Param, plain(n.Min), plain(n.Max), plain(*n.Value))
	}
	return nil
}

// plain writes a number without an exponent, as a person would.
func plain(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// Int is the number as an integer, or absent if there is none. Check it first.
func (n Number) Int(absent int) int {
	if n.Value == nil {
		return absent
	}
	return int(*n.Value)
}
