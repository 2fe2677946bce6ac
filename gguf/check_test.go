package gguf

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/centram/centram"
)

// draft is a model to be spoilt.
type draft struct {
	metadata []KV
	tensors  []TensorData
}

func newDraft(t testing.TB) *draft {
	f := mustRead(t, tiny(t))
	return &draft{slices.Clone(f.Metadata), contents(f)}
}

func (d *draft) set(key string, v Value) {
	d.drop(key)
	d.metadata = append(d.metadata, KV{key, v})
}

func (d *draft) drop(key string) {
	d.metadata = slices.DeleteFunc(d.metadata, func(kv KV) bool { return kv.Key == key })
}

// slice sets the keys of layers first to end of a whole.
func (d *draft) slice(first, end, layers uint32) {
	d.set("centram.slice.first", Of(first))
	d.set("centram.slice.end", Of(end))
	d.set("centram.slice.layers", Of(layers))
}

// tensor replaces or adds a tensor, of zeros.
func (d *draft) tensor(name string, typ Type, dims ...uint64) {
	size, _ := dataSize(typ, dims)
	t := TensorData{name, typ, dims, func(w io.Writer) error {
		_, err := w.Write(make([]byte, size))
		return err
	}}
	if i := d.index(name); i >= 0 {
		d.tensors[i] = t
		return
	}
	d.tensors = append(d.tensors, t)
}

func (d *draft) dropTensor(name string) {
	d.tensors = slices.Delete(d.tensors, d.index(name), d.index(name)+1)
}

func (d *draft) index(name string) int {
	return slices.IndexFunc(d.tensors, func(t TensorData) bool { return t.Name == name })
}

func (d *draft) file(t testing.TB) *File {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, d.metadata, d.tensors); err != nil {
		t.Fatal(err)
	}
	return mustRead(t, b.Bytes())
}

// tokens returns the list of tokens to be changed.
func (d *draft) tokens() []string {
	for i, kv := range d.metadata {
		if kv.Key == "tokenizer.ggml.tokens" {
			list := slices.Clone(kv.Value.v.([]string))
			d.metadata[i].Value = List(list)
			return list
		}
	}
	return nil
}

func u32(key string, v uint32) func(*draft) {
	return func(d *draft) { d.set(key, Of(v)) }
}

func f32(key string, v float64) func(*draft) {
	return func(d *draft) { d.set(key, Of(float32(v))) }
}

func TestCheckRefusesModelsThatWouldHurtLlamaCpp(t *testing.T) {
	for _, row := range []struct {
		name  string
		spoil func(*draft)
		want  string
	}{
		{"no architecture", func(d *draft) { d.drop("general.architecture") }, "what architecture"},
		{"architecture a number", u32("general.architecture", 1), "what architecture"},
		{"an adapter", func(d *draft) { d.set("general.type", Of("adapter")) }, `of type "adapter"`},
		{"no layers", u32("qwen2.block_count", 0), "block_count is 0, not from 1 to 512"},
		{"layers over the arrays", u32("qwen2.block_count", 513), "block_count is 513"},
		{"layers negative", u32("qwen2.block_count", math.MaxUint32), "block_count is 4294967295"},
		{"layers missing", func(d *draft) { d.drop("qwen2.block_count") }, "block_count is missing"},
		{"layers of another kind", func(d *draft) { d.set("qwen2.block_count", Of(int32(2))) }, "is a i32, not a u32"},
		{"layers a list", func(d *draft) { d.set("qwen2.block_count", List([]uint32{2})) }, "is a list, not a u32"},
		{"layers a string", func(d *draft) { d.set("qwen2.block_count", Of("2")) }, "is a string, not a u32"},
		{"fewer layers than there are", u32("qwen2.block_count", 1), "tensor blk.1.attn_norm.weight has no place"},
		{"more layers than there are", u32("qwen2.block_count", 3), "tensor blk.2.attn_norm.weight is missing"},
		{"no context", u32("qwen2.context_length", 0), "context_length is 0"},
		{"no embedding", u32("qwen2.embedding_length", 0), "embedding_length is 0"},
		{"other embedding", u32("qwen2.embedding_length", 64), "its keys ask for"},
		{"no heads", u32("qwen2.attention.head_count", 0), "head_count is 0"},
		{"uneven heads", u32("qwen2.attention.head_count", 3), "does not divide into 3 heads"},
		{"heads per layer", func(d *draft) { d.set("qwen2.attention.head_count", List([]uint32{2, 2})) }, "is a list"},
		{"no KV heads", u32("qwen2.attention.head_count_kv", 0), "head_count_kv is 0"},
		{"more KV heads than heads", u32("qwen2.attention.head_count_kv", 4), "do not divide among 4"},
		{"other KV heads", u32("qwen2.attention.head_count_kv", 2), "blk.0.attn_k.weight has shape"},
		{"other head size", u32("qwen2.attention.key_length", 32), "keys have 32"},
		{"values of another size", u32("qwen2.attention.value_length", 8), "values"},
		{"other rope", u32("qwen2.rope.dimension_count", 8), "rope turns 8"},
		{"other feed-forward", u32("qwen2.feed_forward_length", 128), "blk.0.ffn_gate.weight has shape"},
		{"no feed-forward", func(d *draft) { d.drop("qwen2.feed_forward_length") }, "feed_forward_length is missing"},
		{"epsilon missing", func(d *draft) { d.drop("qwen2.attention.layer_norm_rms_epsilon") }, "epsilon is missing"},
		{"epsilon 0", f32("qwen2.attention.layer_norm_rms_epsilon", 0), "epsilon is 0"},
		{"epsilon not a number", f32("qwen2.attention.layer_norm_rms_epsilon", math.NaN()), "epsilon is NaN"},
		{"rope base infinite", f32("qwen2.rope.freq_base", math.Inf(1)), "freq_base is +Inf"},
		{"rope base negative", f32("qwen2.rope.freq_base", -1), "freq_base is -1"},
		{"rope base f64", func(d *draft) { d.set("qwen2.rope.freq_base", Of(1e6)) }, "is a f64, not a f32"},
		{"rope scaling unknown", func(d *draft) { d.set("qwen2.rope.scaling.type", Of("spiral")) }, `rope scaling "spiral"`},
		{"rope scaling factor 0", f32("qwen2.rope.scaling.factor", 0), "factor is 0"},
		{"experts", u32("qwen2.expert_count", 8), "expert_count is 8, not 0"},
		{"experts used of none", u32("qwen2.expert_used_count", 2), "expert_used_count is 2"},
		{"expert groups of none", u32("qwen2.expert_group_count", 1), "expert_group_count is 1"},
		{"predicting layers", u32("qwen2.nextn_predict_layers", 2), "nextn_predict_layers is 2"},
		{"not causal", func(d *draft) { d.set("qwen2.attention.causal", Of(false)) }, "causal is false"},
		{"pooling", u32("qwen2.pooling_type", 99), "pooling_type is 99"},
		{
			"classifier", func(d *draft) { d.set("qwen2.classifier.output_labels", List([]string{"a"})) },
			"output_labels",
		},
		{"vocabulary size differs", u32("qwen2.vocab_size", 290), "vocab_size says 290"},
		{
			"file type of another kind", func(d *draft) { d.set("general.file_type", Of("F16")) },
			"file_type is a string",
		},

		{"no embedding tensor", func(d *draft) { d.dropTensor("token_embd.weight") }, "token_embd.weight is missing"},
		{"no bias", func(d *draft) { d.dropTensor("blk.1.attn_k.bias") }, "blk.1.attn_k.bias is missing"},
		{
			"embedding short of the vocabulary", func(d *draft) { d.tensor("token_embd.weight", F32, 32, 288) },
			"token_embd.weight has shape [32 288], but its keys ask for [32 289]",
		},
		{"embedding transposed", func(d *draft) { d.tensor("token_embd.weight", F32, 289, 32) }, "has shape [289 32]"},
		{"norm too long", func(d *draft) { d.tensor("output_norm.weight", F32, 33) }, "has shape [33]"},
		{"norm in F16", func(d *draft) { d.tensor("output_norm.weight", F16, 32) }, "in F32 only"},
		{"bias in F16", func(d *draft) { d.tensor("blk.0.attn_q.bias", F16, 32) }, "in F32 only"},
		{
			"matrix of integers", func(d *draft) { d.tensor("blk.0.ffn_up.weight", 26, 32, 64) },
			"I32, which llama.cpp cannot",
		},
		{
			"matrix of Q8_1", func(d *draft) { d.tensor("token_embd.weight", 9, 32, 289) },
			"Q8_1, which llama.cpp cannot",
		},
		{
			"matrix in a third dimension", func(d *draft) { d.tensor("blk.0.ffn_up.weight", F32, 32, 64, 2) },
			"has shape [32 64 2]",
		},
		{"a tensor more", func(d *draft) { d.tensor("blk.0.smuggled", F32, 1) }, "blk.0.smuggled has no place"},
		{
			"output of another shape", func(d *draft) { d.tensor("output.weight", F32, 32, 288) },
			"output.weight has shape",
		},

		{"no tokenizer", func(d *draft) { d.drop("tokenizer.ggml.model") }, "no tokenizer"},
		{"no tokens", func(d *draft) { d.drop("tokenizer.ggml.tokens") }, "no list of tokens"},
		{"tokens empty", func(d *draft) { d.set("tokenizer.ggml.tokens", List([]string{})) }, "no list of tokens"},
		{"tokens of numbers", func(d *draft) { d.set("tokenizer.ggml.tokens", List([]int32{1})) }, "no list of tokens"},
		{"tokens one string", func(d *draft) { d.set("tokenizer.ggml.tokens", Of("a")) }, "no list of tokens"},
		{"token too few", func(d *draft) {
			d.set("tokenizer.ggml.tokens", List(d.tokens()[:288]))
		}, "288 tokens but 289 token types"},
		{"tokens equal", func(d *draft) { d.tokens()[7] = "a" }, "tokens 7 and 97 are the same"},
		{
			"tokens equal when named", func(d *draft) { list := d.tokens(); list[7], list[8] = "", "[EMPTY_7]" },
			"tokens 7 and 8 are the same",
		},
		{"token with a zero byte", func(d *draft) { d.tokens()[7] = "b\x00" }, "token 7 has a zero byte"},
		{"token not UTF-8", func(d *draft) { d.tokens()[7] = "\xc3" }, "token 7 is not UTF-8"},
		{"token long", func(d *draft) { d.tokens()[7] = strings.Repeat("a", 4097) }, "token 7 is 4097 bytes"},
		{"tokens that grow", func(d *draft) {
			for i := range 16 {
				d.tokens()[i] = strings.Repeat("→", 1365-i)
			}
		}, "byte characters"},
		{"byte token not spelt", func(d *draft) {
			types := make([]int32, 289)
			types[3] = tokenByte
			d.set("tokenizer.ggml.token_type", List(types))
		}, "token 3 is of the byte type"},
		{
			"types too many", func(d *draft) { d.set("tokenizer.ggml.token_type", List(make([]int32, 290))) },
			"290 token types",
		},
		{
			"types too few", func(d *draft) { d.set("tokenizer.ggml.token_type", List(make([]int32, 1))) },
			"1 token types",
		},
		{"type negative", func(d *draft) {
			types := make([]int32, 289)
			types[3] = -1
			d.set("tokenizer.ggml.token_type", List(types))
		}, "token 3 is of unknown type -1"},
		{
			"types unsigned", func(d *draft) { d.set("tokenizer.ggml.token_type", List(make([]uint32, 289))) },
			"not a list of i32",
		},
		{"scores too few", func(d *draft) { d.set("tokenizer.ggml.scores", List(make([]float32, 288))) }, "288 scores"},
		{
			"scores f64", func(d *draft) { d.set("tokenizer.ggml.scores", List(make([]float64, 289))) },
			"not a list of f32",
		},
		{"score not a number", func(d *draft) {
			scores := make([]float32, 289)
			scores[5] = float32(math.NaN())
			d.set("tokenizer.ggml.scores", List(scores))
		}, "score of its token 5 is NaN"},
		{"no merges", func(d *draft) { d.drop("tokenizer.ggml.merges") }, "merges is missing"},
		{
			"merges of numbers", func(d *draft) { d.set("tokenizer.ggml.merges", List([]uint8{1})) },
			"not a list of strings",
		},
		{
			"merge of one", func(d *draft) { d.set("tokenizer.ggml.merges", List([]string{"ab"})) },
			"merge 0 is not a pair",
		},
		{
			"merge with nothing", func(d *draft) { d.set("tokenizer.ggml.merges", List([]string{"a b", " c"})) },
			"merge 1 is not a pair",
		},
		{
			"merge of three", func(d *draft) { d.set("tokenizer.ggml.merges", List([]string{"a b c"})) },
			"merge 0 is not a pair",
		},
		{
			"merge twice", func(d *draft) { d.set("tokenizer.ggml.merges", List([]string{"a b", "a b"})) },
			"merges 0 and 1 are the same",
		},
		{
			"end token out of range", u32("tokenizer.ggml.eos_token_id", 289),
			"eos_token_id is 289, but it has 289 tokens",
		},
		{
			"token id negative", func(d *draft) { d.set("tokenizer.ggml.bos_token_id", Of(int32(-5))) },
			"is a i32, not a u32",
		},
		{
			"token id wide", func(d *draft) { d.set("tokenizer.ggml.fim_pre_token_id", Of(uint64(1))) },
			"is a u64, not a u32",
		},
		{"flag a number", u32("tokenizer.ggml.add_bos_token", 1), "add_bos_token is a u32, not a bool"},
		{"name of another model", func(d *draft) { d.set("general.name", Of("My Phi-3")) }, "named after Phi-3"},
		{
			"suppressed out of range", func(d *draft) { d.set("tokenizer.ggml.suppress_tokens", List([]int32{-1})) },
			"suppress_tokens",
		},
		{"template long", func(d *draft) {
			d.set("tokenizer.chat_template", Of(strings.Repeat("x", MaxChatTemplateBytes+1)))
		}, "chat_template is 65537 bytes long"},
		{"template with a zero byte", func(d *draft) { d.set("tokenizer.chat_template", Of("a\x00b")) }, "zero byte"},
		{
			"template a list", func(d *draft) { d.set("tokenizer.chat_template", List([]string{"a"})) },
			"is a list, not a string",
		},
		{"pre-tokenizer a number", u32("tokenizer.ggml.pre", 1), "tokenizer.ggml.pre is a u32"},

		{"slice with a vocabulary", func(d *draft) {
			d.slice(0, 2, 2)
			d.set("qwen2.vocab_size", Of(uint32(289)))
		}, "it is a slice, but has the key tokenizer.ggml.pre"},
		{"slice of no whole", u32("centram.slice.first", 0), "not with all of the keys centram.slice.first"},
		{"no vocabulary and no slice", func(d *draft) {
			d.set("tokenizer.ggml.model", Of("no_vocab"))
		}, `tokenizer "no_vocab" is not supported`},
		{"split part", func(d *draft) {
			d.set("split.count", Of(uint16(2)))
			d.set("split.no", Of(uint16(0)))
		}, "is not named like one"},
		{"split count of another kind", u32("split.count", 2), "split.count is not a u16"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := newDraft(t)
			row.spoil(d)
			_, err := CheckModel(d.file(t))
			code := centram.Invalid
			if row.name == "rope scaling unknown" || row.name == "no vocabulary and no slice" {
				code = centram.Unsupported
			}
			wantError(t, err, code, row.want)
		})
	}
}

func TestCheckRefusesSlicesThatSliceDoesNotMake(t *testing.T) {
	for _, row := range []struct {
		name  string
		spoil func(*draft)
		want  string
	}{
		{"other length", func(d *draft) { d.slice(1, 4, 4) }, "says it is layers 1 to 4 of 4, but has 2"},
		{"beyond the whole", func(d *draft) { d.slice(8, 10, 9) }, "layers 8 to 10 of 9"},
		{"backwards", func(d *draft) { d.slice(3, 1, 4) }, "layers 3 to 1 of 4"},
		{"first missing", func(d *draft) { d.drop("centram.slice.first") }, "not with all of the keys"},
		{"end missing", func(d *draft) { d.drop("centram.slice.end") }, "not with all of the keys"},
		{"whole missing", func(d *draft) { d.drop("centram.slice.layers") }, "not with all of the keys"},
		{"first of another kind", func(d *draft) { d.set("centram.slice.first", Of("1")) }, "is a string, not a u32"},
		{
			"no slice", func(d *draft) {
				d.drop("centram.slice.first")
				d.drop("centram.slice.end")
				d.drop("centram.slice.layers")
			}, `tokenizer "no_vocab" is not supported`,
		},
		{"no tokenizer", func(d *draft) { d.drop("tokenizer.ggml.model") }, `tokenizer is "", not "no_vocab"`},
		{"a tokenizer", func(d *draft) { d.set("tokenizer.ggml.model", Of("gpt2")) }, `tokenizer is "gpt2"`},
		{"none", func(d *draft) { d.set("tokenizer.ggml.model", Of("none")) }, `tokenizer is "none"`},
		{
			"tokens", func(d *draft) { d.set("tokenizer.ggml.tokens", List([]string{"a"})) },
			"has the key tokenizer.ggml.tokens",
		},
		{"template", func(d *draft) { d.set("tokenizer.chat_template", Of("x")) }, "has the key tokenizer.chat_template"},
		{"vocabulary missing", func(d *draft) { d.drop("qwen2.vocab_size") }, "vocab_size is missing"},
		{"vocabulary of 0", u32("qwen2.vocab_size", 0), "vocab_size is 0"},
		{"vocabulary large", u32("qwen2.vocab_size", 1<<22), "has a vocabulary of 4194304, not 32"},
		{"embedding of another size", func(d *draft) { d.tensor("token_embd.weight", F32, 32, 33) }, "has shape [32 33]"},
		{"embedding missing", func(d *draft) { d.dropTensor("token_embd.weight") }, "token_embd.weight is missing"},
		{"norm missing", func(d *draft) { d.dropTensor("output_norm.weight") }, "output_norm.weight is missing"},
		{"output", func(d *draft) { d.tensor("output.weight", F32, 32, 32) }, "output.weight has no place"},
		{"output bias", func(d *draft) { d.tensor("output.bias", F32, 32) }, "output.bias has no place"},
		{"layer missing", func(d *draft) { d.dropTensor("blk.1.ffn_up.weight") }, "blk.1.ffn_up.weight is missing"},
		{"layer more", func(d *draft) { d.tensor("blk.2.ffn_up.weight", F32, 32, 64) }, "blk.2.ffn_up.weight has no place"},
		{"layer in another shape", func(d *draft) { d.tensor("blk.1.ffn_up.weight", F32, 32, 32) }, "has shape [32 32]"},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := cut(t, openBytes(t, generate(t, fourLayers())), 1, 3).Parts[0]
			d := &draft{slices.Clone(f.Metadata), contents(f)}
			row.spoil(d)
			_, err := CheckModel(d.file(t))
			code := centram.Invalid
			if row.name == "no slice" {
				code = centram.Unsupported
			}
			wantError(t, err, code, row.want)
		})
	}
}

func TestCheckTellsUnsupportedFromBroken(t *testing.T) {
	for key, want := range map[string]string{
		"general.architecture": "architecture \"other\" are not supported",
		"tokenizer.ggml.model": "tokenizer \"other\" is not supported",
		"tokenizer.ggml.pre":   "pre-tokenizer \"other\" is not supported",
	} {
		d := newDraft(t)
		d.set(key, Of("other"))
		_, err := CheckModel(d.file(t))
		wantError(t, err, centram.Unsupported, want)
	}
}

func TestCheckRefusesDataThatMmapWouldMisalign(t *testing.T) {
	f := mustRead(t, tiny(t))
	tensors := slices.Clone(f.Tensors)
	tensors[3].Offset += 8 // as in a file with general.alignment 8
	_, err := check(f, tensors, f.Size)
	wantError(t, err, centram.Invalid, "not aligned to 32 bytes")
}

func TestCheckAcceptsWhatRealModelsHave(t *testing.T) {
	for name, change := range map[string]func(*draft){
		"untied":                    func(d *draft) { d.tensor("output.weight", F16, 32, 289) },
		"no token of a kind":        u32("tokenizer.ggml.seperator_token_id", math.MaxUint32),
		"merges":                    func(d *draft) { d.set("tokenizer.ggml.merges", List([]string{"a b", "ab c"})) },
		"no types":                  func(d *draft) { d.drop("tokenizer.ggml.token_type") },
		"scores":                    func(d *draft) { d.set("tokenizer.ggml.scores", List(make([]float32, 289))) },
		"unknown keys":              func(d *draft) { d.set("qwen2.use_sliding_window", Of(false)) },
		"yarn":                      func(d *draft) { d.set("qwen2.rope.scaling.type", Of("yarn")) },
		"no file type":              func(d *draft) { d.drop("general.file_type") },
		"norm with dimensions of 1": func(d *draft) { d.tensor("output_norm.weight", F32, 32, 1, 1) },
		"split of one":              func(d *draft) { d.set("split.count", Of(uint16(1))) },
	} {
		d := newDraft(t)
		change(d)
		sum, err := CheckModel(d.file(t))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if sum.Quantization != "Q8_0" {
			t.Errorf("%s: quantization is %q, want Q8_0", name, sum.Quantization)
		}
	}
}

func TestCheckAcceptsALlamaWithSentencePieces(t *testing.T) {
	d := llamaDraft()
	sum, err := CheckModel(d.file(t))
	if err != nil {
		t.Fatal(err)
	}
	if sum.Architecture != "llama" || sum.HeadDim != 16 || sum.Heads != 4 || sum.KVHeads != 2 || sum.VocabSize != 259 ||
		sum.Quantization != "F32" || sum.Name != "evil[31mname" {
		t.Errorf("got %+v", sum)
	}
	d.drop("tokenizer.ggml.token_type")
	d.tokens()[200] = "x"
	_, err = CheckModel(d.file(t))
	wantError(t, err, centram.Invalid, "no token for the byte 0xc5")
}

// llamaDraft is a llama model whose heads are wider than its embedding divided among them.
func llamaDraft() *draft {
	tokens := []string{"<unk>", "<s>", "</s>"}
	types := []int32{2, 3, 3}
	for b := range 256 {
		tokens = append(tokens, fmt.Sprintf("<0x%02X>", b))
		types = append(types, tokenByte)
	}
	d := &draft{metadata: []KV{
		{"general.architecture", Of("llama")},
		{"general.name", Of("evil\x1b[31mname\n")},
		{"llama.block_count", Of(uint32(1))},
		{"llama.context_length", Of(uint32(64))},
		{"llama.embedding_length", Of(uint32(32))},
		{"llama.feed_forward_length", Of(uint32(48))},
		{"llama.attention.head_count", Of(uint32(4))},
		{"llama.attention.head_count_kv", Of(uint32(2))},
		{"llama.attention.key_length", Of(uint32(16))},
		{"llama.attention.value_length", Of(uint32(16))},
		{"llama.rope.dimension_count", Of(uint32(16))},
		{"llama.attention.layer_norm_rms_epsilon", Of(float32(1e-5))},
		{"tokenizer.ggml.model", Of("llama")},
		{"tokenizer.ggml.tokens", List(tokens)},
		{"tokenizer.ggml.token_type", List(types)},
		{"tokenizer.ggml.scores", List(make([]float32, len(tokens)))},
	}}
	sum := Summary{Layers: 1, Embedding: 32, Heads: 4, KVHeads: 2, HeadDim: 16, FeedForward: 48, VocabSize: len(tokens)}
	for _, e := range architectures["llama"].tensors(sum) {
		d.tensor(e.Name, F32, e.Dims...)
	}
	return d
}

func TestARealModelIsAccepted(t *testing.T) {
	path := filepath.Join("..", "..", "shared", "data", "stories260K.gguf")
	if _, err := os.Stat(path); err != nil {
		t.Skip("no model to try by hand")
	}
	m, err := OpenModel(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if got := m.Summary.Parameters; got != 292800 {
		t.Errorf("got %d parameters, want 292800", got)
	}
}
