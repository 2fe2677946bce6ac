package gguf

import "fmt"

// Type is how a tensor's values are stored, numbered as in ggml.
type Type uint32

// The types that are made here. A file may hold any type that ggml knows.
const (
	F32  Type = 0
	F16  Type = 1
	Q8_0 Type = 8
	BF16 Type = 30
)

// Known reports whether ggml knows t. Numbers of types that ggml has dropped are not known.
func (t Type) Known() bool { return int(t) < len(types) && types[t].block > 0 }

// String returns ggml's name of t in capitals, such as "Q4_K".
func (t Type) String() string {
	if t.Known() {
		return types[t].name
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// Block returns how many values of a row are stored together, and in how many bytes. Both are 0 for an unknown type.
func (t Type) Block() (values, bytes uint64) {
	if !t.Known() {
		return 0, 0
	}
	return types[t].block, types[t].bytes
}

// weight reports whether ggml can look up rows of t and multiply a matrix of t by F32. It would call a null function
// for a matrix of another type, so such a model must not reach it.
func (t Type) weight() bool { return t.Known() && types[t].weight }

// types is ggml's type table, without the computing. NVFP4 is not a weight here, though ggml can multiply it: it needs
// scale tensors beside it, which no model of the architectures below has.
var types = [...]struct {
	name   string
	block  uint64
	bytes  uint64
	weight bool
}{
	0:  {"F32", 1, 4, true},
	1:  {"F16", 1, 2, true},
	2:  {"Q4_0", 32, 18, true},
	3:  {"Q4_1", 32, 20, true},
	6:  {"Q5_0", 32, 22, true},
	7:  {"Q5_1", 32, 24, true},
	8:  {"Q8_0", 32, 34, true},
	9:  {"Q8_1", 32, 36, false},
	10: {"Q2_K", 256, 84, true},
	11: {"Q3_K", 256, 110, true},
	12: {"Q4_K", 256, 144, true},
	13: {"Q5_K", 256, 176, true},
	14: {"Q6_K", 256, 210, true},
	15: {"Q8_K", 256, 292, false},
	16: {"IQ2_XXS", 256, 66, true},
	17: {"IQ2_XS", 256, 74, true},
	18: {"IQ3_XXS", 256, 98, true},
	19: {"IQ1_S", 256, 50, true},
	20: {"IQ4_NL", 32, 18, true},
	21: {"IQ3_S", 256, 110, true},
	22: {"IQ2_S", 256, 82, true},
	23: {"IQ4_XS", 256, 136, true},
	24: {"I8", 1, 1, false},
	25: {"I16", 1, 2, false},
	26: {"I32", 1, 4, false},
	27: {"I64", 1, 8, false},
	28: {"F64", 1, 8, false},
	29: {"IQ1_M", 256, 56, true},
	30: {"BF16", 1, 2, true},
	34: {"TQ1_0", 256, 54, true},
	35: {"TQ2_0", 256, 66, true},
	39: {"MXFP4", 32, 17, true},
	40: {"NVFP4", 64, 36, false},
	41: {"Q1_0", 128, 18, true},
	42: {"Q2_0", 64, 18, true},
}

// fileTypes names general.file_type, which says how a whole file was quantised.
var fileTypes = map[uint64]string{
	0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
	13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
	21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
	29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4", 39: "NVFP4",
	40: "Q1_0", 41: "Q2_0",
}

// fileTypeOf is the reverse of fileTypes for the types that the package makes.
var fileTypeOf = map[Type]uint32{F32: 0, F16: 1, Q8_0: 7, BF16: 32}
