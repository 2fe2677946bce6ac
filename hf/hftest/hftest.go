// Package hftest writes folders as Hugging Face keeps models, out of the GGUF files that such folders would be converted to.
// It is for tests.
package hftest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hf"
)

// The files of a folder.
const (
	Config    = "config.json"
	Weights   = "model.safetensors"
	Index     = "model.safetensors.index.json"
	Tokenizer = "tokenizer.json"
	Settings  = "tokenizer_config.json"
)

// QwenSplit is how the tokenizers of Qwen 2 cut texts.
const QwenSplit = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

// WriteFolder writes the folder of m, a model with the tokens of gguf.ByteVocab, with all weights in one file.
func WriteFolder(dir string, m *gguf.Model) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, content := range map[string]any{Config: config(m), Tokenizer: tokenizer(m.Parts[0]), Settings: settings(m.Parts[0])} {
		if err := WriteJSON(dir, name, content); err != nil {
			return err
		}
	}
	_, err := WriteWeights(dir, Weights, m, func(string) bool { return true })
	return err
}

// WriteJSON writes a file of JSON.
func WriteJSON(dir, name string, content any) error {
	b, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), b, 0o644)
}

// WriteWeights writes those tensors of m that pick picks by their names in the folder, and returns the names.
func WriteWeights(dir, file string, m *gguf.Model, pick func(name string) bool) ([]string, error) {
	var tensors []hf.TensorData
	var names []string
	for _, t := range m.Tensors {
		dot := strings.LastIndexByte(t.Name, '.')
		module, ok := hf.ModuleOf(t.Name[:dot])
		if !ok {
			continue // made when it is converted
		}
		name := module + t.Name[dot:]
		if !pick(name) {
			continue
		}
		data, err := io.ReadAll(m.Data(t))
		if err != nil {
			return nil, err
		}
		shape := slices.Clone(t.Dims)
		slices.Reverse(shape)
		if heads := hf.Heads(m.Summary, t.Name); heads > 0 {
			if data, err = hf.Separate(data, heads, shape[0]); err != nil {
				return nil, err
			}
		}
		names = append(names, name)
		tensors = append(tensors, hf.TensorData{Name: name, Type: t.Type, Shape: shape, Write: gguf.Copy(bytes.NewReader(data))})
	}
	f, err := os.Create(filepath.Join(dir, file))
	if err != nil {
		return nil, err
	}
	return names, errors.Join(hf.WriteSafetensors(f, tensors), f.Close())
}

// Shard spreads the weights of a folder of m over two files.
func Shard(dir string, m *gguf.Model) error {
	said := map[string]string{}
	for i := range 2 {
		file := fmt.Sprintf("model-%05d-of-00002.safetensors", i+1)
		names, err := WriteWeights(dir, file, m, func(name string) bool { return (len(name)%2 == 0) == (i == 0) })
		if err != nil {
			return err
		}
		for _, name := range names {
			said[name] = file
		}
	}
	if err := WriteJSON(dir, Index, map[string]any{"metadata": map[string]any{"total_size": 1}, "weight_map": said}); err != nil {
		return err
	}
	return os.Remove(filepath.Join(dir, Weights))
}

func config(m *gguf.Model) map[string]any {
	s, f := m.Summary, m.Parts[0]
	base, _ := gguf.Get[float32](f, s.Architecture+".rope.freq_base")
	eps, _ := gguf.Get[float32](f, s.Architecture+".attention.layer_norm_rms_epsilon")
	class := map[string]string{"qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}
	return map[string]any{
		"architectures": []string{class[s.Architecture]}, "model_type": s.Architecture, "hidden_act": "silu", "hidden_size": s.Embedding,
		"num_hidden_layers": s.Layers, "intermediate_size": s.FeedForward, "num_attention_heads": s.Heads,
		"num_key_value_heads": s.KVHeads, "max_position_embeddings": s.Context, "vocab_size": s.VocabSize, "rms_norm_eps": eps,
		"rope_theta": base, "rope_scaling": nil, "sliding_window": nil, "tie_word_embeddings": s.Tied, "torch_dtype": "float32",
		"bos_token_id": gguf.ByteEndOfText, "eos_token_id": []int{gguf.ByteIMEnd, gguf.ByteEndOfText},
	}
}

// tokenizer says what a file says of its tokens.
func tokenizer(f *gguf.File) map[string]any {
	const normal, control, userDefined = 1, 3, 4
	texts, _ := f.Strings("tokenizer.ggml.tokens")
	merges, _ := f.Strings("tokenizer.ggml.merges")
	types, _ := f.Value("tokenizer.ggml.token_type")
	vocab, added := map[string]int{}, []map[string]any{}
	for id, typ := range types.Any().([]int32) {
		switch typ {
		case normal:
			vocab[texts[id]] = id
		case control, userDefined:
			added = append(added, map[string]any{"id": id, "content": texts[id], "special": typ == control, "normalized": false})
		}
	}
	bytes := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}
	return map[string]any{
		"version": "1.0", "added_tokens": added, "normalizer": map[string]any{"type": "NFC"},
		"pre_tokenizer": map[string]any{"type": "Sequence", "pretokenizers": []any{
			map[string]any{"type": "Split", "pattern": map[string]any{"Regex": QwenSplit}, "behavior": "Isolated", "invert": false}, bytes,
		}},
		"post_processor": bytes, "decoder": bytes,
		"model": map[string]any{
			"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": "", "end_of_word_suffix": "",
			"fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges,
		},
	}
}

func settings(f *gguf.File) map[string]any {
	template, _ := f.String("tokenizer.chat_template")
	return map[string]any{
		"chat_template": template, "eos_token": "<|im_end|>", "bos_token": nil, "add_bos_token": false,
		"pad_token": map[string]any{"content": "<|endoftext|>", "lstrip": false}, "tokenizer_class": "Qwen2Tokenizer",
	}
}
