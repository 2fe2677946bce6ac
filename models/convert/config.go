package convert

import (
	"errors"
	"io/fs"
	"math"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
)

// config is what config.json says that matters here.
type config struct {
	shape    gguf.Summary // architecture and dimensions
	headDim  bool         // it names the size of a head, rather than leaving it to be divided
	attnBias bool         // queries, keys, values and, for llama, the output have biases
	mlpBias  bool
	eps      float32
	rope     rope
	tokens   *fields // where ids of special tokens may be
}

// architectures are those that can be converted.
var architectures = map[string]string{"Qwen2ForCausalLM": "qwen2", "LlamaForCausalLM": "llama"}

// limits of dimensions, such that nothing that is computed from them overflows. What llama.cpp takes is less.
const (
	maxDimension = 1 << 24
	maxVocab     = 1 << 20
)

// harmless are fields that make another model of the same weights, with the values that do not.
var harmless = []struct {
	field, what string
	values      []string
}{
	{"hidden_act", "its activation is not SiLU", []string{`"silu"`}},
	{"partial_rotary_factor", "it turns only a part of each head", []string{"1", "1.0"}},
	{"is_causal", "its attention is not causal", []string{"true"}},
	{"draft_vocab_size", "it is a draft for another model", nil},
	{"num_local_experts", "it is a mixture of experts", []string{"0", "1"}},
}

func readConfig(src *folder) (config, error) {
	f, err := src.object(configFile, maxSettings)
	if errors.Is(err, fs.ErrNotExist) {
		return config{}, noConfig(src)
	}
	if err != nil {
		return config{}, err
	}
	c := config{tokens: f}
	for _, step := range []func(*fields) error{c.architecture, c.features, c.dimensions, c.numbers} {
		if err := step(f); err != nil {
			return config{}, err
		}
		if f.err() != nil {
			return config{}, f.err()
		}
	}
	return c, nil
}

// noConfig says what a folder without config.json probably is.
func noConfig(src *folder) error {
	if src.has("adapter_config.json") {
		return bad("%s has an adapter, not a model", src.dir).
			WithHint("Make a GGUF adapter of it with: centram lora import %s FILE.gguf --model MODEL", src.dir)
	}
	return centram.Errorf(centram.NotFound, "%s has no %s", src.dir, configFile).
		WithHint("A model's folder is what save_pretrained writes, or what is downloaded from Hugging Face: %s, %s and %s.",
			configFile, tokenizerFile, weightsFile)
}

func (c *config) architecture(f *fields) error {
	if quantised := f.object("quantization_config"); f.has("quantization_config") {
		return unsupported("%s says that the model is quantised already (%.30q), and such weights cannot be converted",
			f.file, get(quantised, "quant_method", "of unknown method")).
			WithHint("Take the folder of the model before it was quantised, or a GGUF file of it.")
	}
	var name string
	for _, name = range get[[]string](f, "architectures", nil) {
		if c.shape.Architecture = architectures[name]; c.shape.Architecture != "" {
			return nil
		}
	}
	if name == "" {
		name = get(f, "model_type", "") // which is at least a word for it
	}
	return unsupported("%s is of a model of architecture %.60q, which cannot be converted", f.file, name).
		WithHint("Qwen2ForCausalLM and LlamaForCausalLM can be.")
}

func (c *config) features(f *fields) error {
	for _, row := range harmless {
		if !f.among(row.field, row.values...) {
			return unsupported("the model of %s cannot be converted: %s (%s is %.50s)", f.file, row.what, row.field, f.raw[row.field])
		}
	}
	sliding := get(f, "use_sliding_window", false) && f.has("sliding_window") &&
		get(f, "max_window_layers", 28) < get(f, "num_hidden_layers", 0)
	for _, layer := range get[[]string](f, "layer_types", nil) {
		sliding = sliding || layer != "full_attention"
	}
	if sliding {
		return unsupported("the model of %s cannot be converted: some of its layers look back through a sliding window", f.file)
	}
	return nil
}

func (c *config) dimensions(f *fields) error {
	s := &c.shape
	for _, d := range []struct {
		key  string
		into *int
		most int
	}{
		{"num_hidden_layers", &s.Layers, gguf.MaxLayers},
		{"hidden_size", &s.Embedding, maxDimension},
		{"intermediate_size", &s.FeedForward, maxDimension},
		{"num_attention_heads", &s.Heads, maxDimension},
		{"num_key_value_heads", &s.KVHeads, maxDimension},
		{"max_position_embeddings", &s.Context, maxDimension},
		{"vocab_size", &s.VocabSize, maxVocab},
		{"head_dim", &s.HeadDim, maxDimension},
	} {
		otherwise := 0
		switch d.key {
		case "num_key_value_heads":
			otherwise = s.Heads
		case "head_dim":
			c.headDim = f.has("head_dim")
			otherwise = max(1, s.Embedding/s.Heads)
		}
		*d.into = get(f, d.key, otherwise)
		if f.err() != nil {
			return f.err()
		}
		if *d.into < 1 || *d.into > d.most {
			if !f.has(d.key) {
				return bad("%s has no %s", f.file, d.key)
			}
			return bad("%s: its %s is %d, not from 1 to %d", f.file, d.key, *d.into, d.most)
		}
	}
	if !c.headDim && s.Embedding%s.Heads != 0 {
		return bad("%s: its hidden_size of %d does not divide into %d heads", f.file, s.Embedding, s.Heads)
	}
	s.Tied = get(f, "tie_word_embeddings", false)
	c.attnBias = s.Architecture == "qwen2" || get(f, "attention_bias", false)
	c.mlpBias = get(f, "mlp_bias", false)
	return nil
}

func (c *config) numbers(f *fields) error {
	c.eps = float32(get(f, "rms_norm_eps", 1e-6))
	var err error
	c.rope, err = readRope(f, c.shape)
	return err
}

// keys are the metadata of the architecture, in the order in which llama.cpp's converter has them.
func (c *config) keys() []gguf.KV {
	s, arch := c.shape, c.shape.Architecture
	var out []gguf.KV
	number := func(key string, n int) {
		out = append(out, gguf.KV{Key: arch + "." + key, Value: gguf.Of(uint32(min(n, math.MaxUint32)))})
	}
	number("block_count", s.Layers)
	number("context_length", s.Context)
	number("embedding_length", s.Embedding)
	number("feed_forward_length", s.FeedForward)
	number("attention.head_count", s.Heads)
	number("attention.head_count_kv", s.KVHeads)
	out = append(out, c.rope.keys(arch)...)
	out = append(out, gguf.KV{Key: arch + ".attention.layer_norm_rms_epsilon", Value: gguf.Of(c.eps)})
	if c.headDim {
		number("attention.key_length", s.HeadDim)
		number("attention.value_length", s.HeadDim)
	}
	if arch == "llama" {
		number("vocab_size", s.VocabSize)
		number("rope.dimension_count", s.HeadDim)
	}
	return out
}

// biased reports whether the model has a bias of that name in a GGUF file.
func (c *config) biased(tensor string) bool {
	switch {
	case strings.Contains(tensor, ".attn_"):
		return c.attnBias
	case strings.Contains(tensor, ".ffn_"):
		return c.mlpBias
	}
	return false
}
