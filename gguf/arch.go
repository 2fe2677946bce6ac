package gguf

import (
	"fmt"
	"math"
	"slices"

	"github.com/centram/centram"
)

// architecture is what a model of that general.architecture consists of.
type architecture struct {
	name        string
	freeHeadDim bool         // the heads need not share the embedding among them
	head        []tensorRule // of the whole model
	block       []tensorRule // of each layer, under "blk.N."
}

// tensorRule is one tensor of an architecture. A vector is added or multiplied in element by element, which ggml does
// in F32 only; it aborts on another type. Everything else is a matrix in any weight type.
type tensorRule struct {
	name     string
	dims     []dim
	vector   bool
	optional bool
}

// dim is a dimension that the keys determine.
type dim int

const (
	embedding dim = iota
	vocabulary
	queries // all heads
	kvs     // all KV heads
	feedForward
	ropeFreqs
)

// The tensors that grow with the vocabulary.
const (
	tokenEmbedding = "token_embd.weight"
	outputMatrix   = "output.weight"
	outputBias     = "output.bias"
)

const (
	vector   = true
	matrix   = false
	optional = true
	required = false
)

// architectures is the allow-list. A row was checked against what llama.cpp loads and asserts for it.
var architectures = map[string]*architecture{
	"qwen2": {
		name: "qwen2",
		head: append(commonHead(),
			tensorRule{outputBias, []dim{vocabulary}, vector, optional},
		),
		block: append(commonBlock(),
			tensorRule{"attn_q.bias", []dim{queries}, vector, required},
			tensorRule{"attn_k.bias", []dim{kvs}, vector, required},
			tensorRule{"attn_v.bias", []dim{kvs}, vector, required},
		),
	},
	"llama": {
		name:        "llama",
		freeHeadDim: true,
		head: append(commonHead(),
			tensorRule{"rope_freqs.weight", []dim{ropeFreqs}, vector, optional},
		),
		block: append(commonBlock(),
			tensorRule{"attn_q.bias", []dim{queries}, vector, optional},
			tensorRule{"attn_k.bias", []dim{kvs}, vector, optional},
			tensorRule{"attn_v.bias", []dim{kvs}, vector, optional},
			tensorRule{"attn_output.bias", []dim{embedding}, vector, optional},
			tensorRule{"ffn_gate.bias", []dim{feedForward}, vector, optional},
			tensorRule{"ffn_up.bias", []dim{feedForward}, vector, optional},
			tensorRule{"ffn_down.bias", []dim{embedding}, vector, optional},
		),
	},
}

func commonHead() []tensorRule {
	return []tensorRule{
		{tokenEmbedding, []dim{embedding, vocabulary}, matrix, required},
		{"output_norm.weight", []dim{embedding}, vector, required},
		{outputMatrix, []dim{embedding, vocabulary}, matrix, optional}, // without it the embedding is used: "tied"
	}
}

func commonBlock() []tensorRule {
	return []tensorRule{
		{"attn_norm.weight", []dim{embedding}, vector, required},
		{"attn_q.weight", []dim{embedding, queries}, matrix, required},
		{"attn_k.weight", []dim{embedding, kvs}, matrix, required},
		{"attn_v.weight", []dim{embedding, kvs}, matrix, required},
		{"attn_output.weight", []dim{queries, embedding}, matrix, required},
		{"ffn_norm.weight", []dim{embedding}, vector, required},
		{"ffn_gate.weight", []dim{embedding, feedForward}, matrix, required},
		{"ffn_up.weight", []dim{embedding, feedForward}, matrix, required},
		{"ffn_down.weight", []dim{feedForward, embedding}, matrix, required},
	}
}

// Expected is a tensor that a model should have.
type Expected struct {
	Name     string
	Dims     []uint64
	Vector   bool // it has to be in F32
	Optional bool
}

// TensorsOf lists the tensors of a model of the architecture and dimensions of s, in the order in which they are written. It
// fails with Unsupported if the architecture is not known.
func TensorsOf(s Summary) ([]Expected, error) {
	arch, ok := architectures[s.Architecture]
	if !ok {
		return nil, centram.Errorf(centram.Unsupported, "models of architecture %q are not supported", printable(s.Architecture))
	}
	return arch.tensors(s), nil
}

// tensors lists every tensor of a model with the dimensions of s. A slice without the last layer has no output.
func (a *architecture) tensors(s Summary) []Expected {
	size := map[dim]int{
		embedding:   s.Embedding,
		vocabulary:  s.VocabSize,
		queries:     s.Heads * s.HeadDim,
		kvs:         s.KVHeads * s.HeadDim,
		feedForward: s.FeedForward,
		ropeFreqs:   s.HeadDim / 2,
	}
	var out []Expected
	add := func(prefix string, rules []tensorRule) {
		for _, r := range rules {
			if !s.tail() && r.optional && slices.Contains(r.dims, vocabulary) {
				continue
			}
			e := Expected{Name: prefix + r.name, Vector: r.vector, Optional: r.optional}
			for _, d := range r.dims {
				e.Dims = append(e.Dims, uint64(size[d]))
			}
			out = append(out, e)
		}
	}
	add("", a.head)
	for i := range s.Layers {
		add(fmt.Sprintf("blk.%d.", i), a.block)
	}
	return out
}

// ropeScalings are the values of rope.scaling.type that llama.cpp knows; it aborts on others. "longrope" is left out:
// it needs tensors that the architectures above do not have.
var ropeScalings = []string{"none", "linear", "yarn"}

// MaxLayers is LLAMA_MAX_LAYERS: llama.cpp keeps per-layer values in arrays of this length.
const MaxLayers = 512

// keyRule bounds a key. A key that starts with a dot stands under the architecture's name. The bounds of a string are
// those of its length; a boolean counts as 0 or 1.
type keyRule struct {
	key      string
	kind     Kind
	required bool
	min, max float64
}

func (r keyRule) allowed() string {
	if r.min == r.max {
		return fmt.Sprint(r.min)
	}
	if r.max == math.MaxUint32 {
		return fmt.Sprintf("%v or more", r.min)
	}
	return fmt.Sprintf("from %v to %v", r.min, r.max)
}

// MaxChatTemplateBytes bounds tokenizer.chat_template. The longest in use, with tool calls, are near 20 KB.
const MaxChatTemplateBytes = 64 << 10

const maxTextBytes = 64 << 10

// keyRules are the keys that llama.cpp reads for these architectures, in the kinds that it reads them in. A key that is
// not here is not read, and may be anything.
var keyRules = []keyRule{
	{"general.architecture", KindString, true, 1, 64},
	{"general.name", KindString, false, 0, maxTextBytes},
	{"general.license", KindString, false, 0, maxTextBytes},
	{"general.file_type", KindUint32, false, 0, math.MaxUint32},
	{"general.quantization_version", KindUint32, false, 0, math.MaxUint32},

	{".block_count", KindUint32, true, 1, MaxLayers},
	{".context_length", KindUint32, true, 1, 1 << 24},
	{".embedding_length", KindUint32, true, 1, 1 << 17},
	{".feed_forward_length", KindUint32, true, 1, 1 << 20},
	{".attention.head_count", KindUint32, true, 1, 1024},
	{".attention.head_count_kv", KindUint32, false, 1, 1024},
	{".attention.key_length", KindUint32, false, 2, 1 << 12},
	{".attention.value_length", KindUint32, false, 2, 1 << 12},
	{".attention.layer_norm_rms_epsilon", KindFloat32, true, 1e-12, 0.1},
	{".vocab_size", KindUint32, false, 1, MaxListLen},
	{".embedding_length_out", KindUint32, false, 1, 1 << 17},
	{".rope.dimension_count", KindUint32, false, 2, 1 << 12},
	{".rope.freq_base", KindFloat32, false, 1, 1e12},
	{".rope.scale_linear", KindFloat32, false, 1e-4, 1e5},
	{".rope.scaling.type", KindString, false, 1, 32},
	{".rope.scaling.factor", KindFloat32, false, 1e-4, 1e5},
	{".rope.scaling.attn_factor", KindFloat32, false, 1e-4, 1e5},
	{".rope.scaling.alpha", KindFloat32, false, -1e5, 1e5},
	{".rope.scaling.original_context_length", KindUint32, false, 1, 1 << 24},
	{".rope.scaling.finetuned", KindBool, false, 0, 1},

	// Features that would make llama.cpp read further keys and tensors, or take another path through its asserts.
	{".attention.causal", KindBool, false, 1, 1},
	{".attention.key_length_swa", KindUint32, false, 0, 0},
	{".attention.value_length_swa", KindUint32, false, 0, 0},
	{".rope.dimension_count_swa", KindUint32, false, 0, 0},
	{".pooling_type", KindUint32, false, 0, 0},
	{".nextn_predict_layers", KindUint32, false, 0, 0},
	{".expert_count", KindUint32, false, 0, 0},
	{".expert_used_count", KindUint32, false, 0, 0},
	{".expert_group_count", KindUint32, false, 0, 0},
	{".expert_group_used_count", KindUint32, false, 0, 0},
	{".classifier.output_labels", KindList, false, 0, 0}, // a list measures as NaN, so none passes

	{"tokenizer.chat_template", KindString, false, 0, MaxChatTemplateBytes},

	{sliceFirst, KindUint32, false, 0, MaxLayers},
	{sliceEnd, KindUint32, false, 1, MaxLayers},
	{sliceLayers, KindUint32, false, 1, MaxLayers},
	{sliceTokensFirst, KindUint32, false, 0, MaxListLen},
	{sliceTokensEnd, KindUint32, false, 1, MaxListLen},
	{sliceTokens, KindUint32, false, 2, MaxListLen},
}
