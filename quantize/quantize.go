// Package quantize makes smaller files of models, with llama.cpp's own quantiser.
//
// That cannot be stopped and may abort, so it runs in a process of this program (Work), which Plan.Write starts and talks
// to: an order goes in as a line of JSON, lines of JSON with the progress come out, and when its standard input ends, because
// somebody wants no more or because who started it was killed, it removes what it has written and ends.
//
// What is written stands beside its place under a name that nobody takes for a model's, locked by the process, until it is
// whole, checked and on the disk. So whatever dies, there is a whole file or none; what two that died at once leave behind is
// removed by the next Write into the folder, and by Sweep.
package quantize

import (
	"fmt"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/llama"
)

// Type is what the weights of a model can be turned into.
type Type struct {
	Name string
	Bits float64 // that a weight takes in a model of 8 billion parameters, all tensors together
	to   llama.Quantization
}

// Types are all, from the smallest to the largest.
var Types = []Type{
	{"q2_k", 3.2, llama.Q2K},
	{"q3_k_s", 3.6, llama.Q3KS},
	{"q3_k_m", 4.0, llama.Q3KM},
	{"q3_k_l", 4.3, llama.Q3KL},
	{"q4_0", 4.6, llama.Q4_0},
	{"q4_k_s", 4.7, llama.Q4KS},
	{"q4_k_m", 4.9, llama.Q4KM},
	{"q4_1", 5.1, llama.Q4_1},
	{"q5_0", 5.6, llama.Q5_0},
	{"q5_k_s", 5.6, llama.Q5KS},
	{"q5_k_m", 5.7, llama.Q5KM},
	{"q5_1", 6.0, llama.Q5_1},
	{"q6_k", 6.6, llama.Q6K},
	{"q8_0", 8.5, llama.Q8_0},
	{"f16", 16, llama.F16},
	{"bf16", 16, llama.BF16},
	{"f32", 32, llama.AllF32},
}

// short are names that llama.cpp takes as well.
var short = map[string]string{"q3_k": "q3_k_m", "q4_k": "q4_k_m", "q5_k": "q5_k_m"}

// guided are llama.cpp's types that want to be told which weights matter.
var guided = map[string]bool{
	"q2_k_s": true, "iq1_s": true, "iq1_m": true, "iq2_xxs": true, "iq2_xs": true, "iq2_s": true, "iq2_m": true, "iq3_xxs": true, "iq3_xs": true,
}

// ParseType finds a type by its name, in capitals or not. It fails with Invalid, and with Unsupported for one that wants an
// importance matrix.
func ParseType(name string) (Type, error) {
	known := strings.ToLower(name)
	if long := short[known]; long != "" {
		known = long
	}
	for _, t := range Types {
		if t.Name == known {
			return t, nil
		}
	}
	if guided[known] {
		return Type{}, centram.Errorf(centram.Unsupported,
			"%s needs an importance matrix, which says which weights matter and is measured on texts; Centram makes none", known).
			WithHint("Take one that needs none, such as q2_k or q3_k_s. All, with the bits of a weight: %s.", list())
	}
	return Type{}, centram.Errorf(centram.Invalid, "there is no type %q to quantise to", name).
		WithHint("With the bits of a weight, there are: %s.", list())
}

func list() string {
	var all []string
	for _, t := range Types {
		all = append(all, fmt.Sprintf("%s (%.1f)", t.Name, t.Bits))
	}
	return strings.Join(all, ", ")
}

// Config says what is to be made.
type Config struct {
	In         string // file of the model, or of any part of a split one
	Out        string // file to write
	Type       Type
	Threads    int    // to compute with. Zero means one for each processor
	Replace    bool   // what is at Out, once the new file is whole
	Requantize bool   // also what is quantised already
	Memory     uint64 // that could be had now. Zero means that it is not known
}

// Progress is how far a file is.
type Progress struct {
	Stage   Stage  `json:"stage"`
	Tensor  string `json:"tensor,omitempty"` // that is being written
	Number  int    `json:"number,omitempty"` // of the tensor, counted from 1
	Of      int    `json:"of,omitempty"`
	Written uint64 `json:"written_bytes"` // in the file, and never fewer than before
	Bytes   uint64 `json:"bytes"`         // that the file will have, near enough
}

// Part is how much of the file is there, from 0 to 1.
func (p Progress) Part() float64 { return min(float64(p.Written)/float64(max(p.Bytes, 1)), 1) }

// Stage says what is being done.
type Stage string

// The stages, in order.
const (
	Weights Stage = "weights" // the tensors are written
	Saving  Stage = "saving"  // the file is brought onto the disk, and checked
	Whole   Stage = "whole"   // it is there, and can be given its name
)
