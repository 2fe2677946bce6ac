package convert

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hf"
)

// twin is a model of random weights, as a GGUF file and as a folder of Hugging Face.
type twin struct {
	t    testing.TB
	path string // of the GGUF file
	dir  string
	*gguf.Model
}

// small is a shape with everything: two layers, grouped heads, rows of the vocabulary that no token has.
func small() gguf.Shape {
	return gguf.Shape{
		Name: "small", Layers: 2, Embedding: 64, Heads: 4, KVHeads: 2, FeedForward: 96, Context: 128, VocabSize: 300, RopeBase: 10000,
	}
}

// newTwin makes a model of an architecture, and the folder that it might have come from.
func newTwin(t testing.TB, architecture string, s gguf.Shape) *twin {
	t.Helper()
	w := &twin{t: t, dir: filepath.Join(t.TempDir(), "twin"), path: filepath.Join(t.TempDir(), "twin.gguf")}
	w.file(w.path, func(out io.Writer) error { return gguf.Generate(out, s, 1) })
	w.open()
	if architecture == "llama" {
		w.asLlama()
	}
	w.writeFolder(s)
	return w
}

func (w *twin) file(path string, write func(io.Writer) error) {
	w.t.Helper()
	f, err := os.Create(path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	if err := write(f); err != nil {
		w.t.Fatal(err)
	}
}

func (w *twin) open() {
	w.t.Helper()
	m, err := gguf.OpenModel(w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { m.Close() })
	w.Model = m
}

// asLlama makes the file one of the llama architecture, which has no biases here.
func (w *twin) asLlama() {
	var metadata []gguf.KV
	for _, kv := range w.Parts[0].Metadata {
		if rest, ok := strings.CutPrefix(kv.Key, "qwen2."); ok {
			kv.Key = "llama." + rest
		}
		if kv.Key == "general.architecture" {
			kv.Value = gguf.Of("llama")
		}
		metadata = append(metadata, kv)
	}
	var tensors []gguf.TensorData
	for _, tensor := range w.Tensors {
		if !strings.HasSuffix(tensor.Name, ".bias") {
			tensors = append(tensors, gguf.TensorData{Name: tensor.Name, Type: tensor.Type, Dims: tensor.Dims, Write: gguf.Copy(w.Data(tensor))})
		}
	}
	w.path = filepath.Join(w.t.TempDir(), "llama.gguf")
	w.file(w.path, func(out io.Writer) error { return gguf.Write(out, metadata, tensors) })
	w.open()
}

// writeFolder writes what Hugging Face would have of the model.
func (w *twin) writeFolder(s gguf.Shape) {
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	sum := w.Summary
	class, act := map[string]string{"qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}[sum.Architecture], "silu"
	w.json(configFile, map[string]any{
		"architectures": []string{class}, "model_type": sum.Architecture, "hidden_act": act, "hidden_size": sum.Embedding,
		"num_hidden_layers": sum.Layers, "intermediate_size": sum.FeedForward, "num_attention_heads": sum.Heads,
		"num_key_value_heads": sum.KVHeads, "max_position_embeddings": sum.Context, "vocab_size": sum.VocabSize,
		"rms_norm_eps": 1e-6, "rope_theta": s.RopeBase, "tie_word_embeddings": sum.Tied, "bos_token_id": gguf.ByteEndOfText,
		"eos_token_id": []int{gguf.ByteIMEnd, gguf.ByteEndOfText}, "rope_scaling": nil, "sliding_window": nil, "torch_dtype": "float32",
	})
	w.json(tokenizerFile, w.tokenizer())
	template, _ := w.Parts[0].String("tokenizer.chat_template")
	w.json(tokensFile, map[string]any{
		"chat_template": template, "eos_token": "<|im_end|>", "pad_token": map[string]any{"content": "<|endoftext|>", "lstrip": false},
		"bos_token": nil, "add_bos_token": false, "tokenizer_class": "Qwen2Tokenizer",
	})
	w.weights(weightsFile, func(string) bool { return true })
}

func (w *twin) json(name string, v any) {
	w.t.Helper()
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, name), b, 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// change sets fields of a JSON file of the folder; nil removes one.
func (w *twin) change(name string, set map[string]any) {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		w.t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(b, &all); err != nil {
		w.t.Fatal(err)
	}
	for key, value := range set {
		if all[key] = value; value == nil {
			delete(all, key)
		}
	}
	w.json(name, all)
}

// tokenizer is what a tokenizer.json says of the tokens that the GGUF file has.
func (w *twin) tokenizer() map[string]any {
	f := w.Parts[0]
	texts, _ := f.Strings("tokenizer.ggml.tokens")
	merges, _ := f.Strings("tokenizer.ggml.merges")
	value, _ := f.Value("tokenizer.ggml.token_type")
	types := value.Any().([]int32)
	vocab, more := map[string]int{}, []map[string]any{}
	for id, text := range texts {
		switch types[id] {
		case tokenNormal:
			vocab[text] = id
		case tokenControl, tokenUserDefined:
			more = append(more, map[string]any{"id": id, "content": text, "special": types[id] == tokenControl, "normalized": false})
		}
	}
	qwen := strings.TrimPrefix(splitQwen, "split ")
	return map[string]any{
		"version": "1.0", "added_tokens": more, "normalizer": map[string]any{"type": "NFC"}, "decoder": map[string]any{"type": "ByteLevel"},
		"pre_tokenizer": map[string]any{"type": "Sequence", "pretokenizers": []any{
			map[string]any{"type": "Split", "pattern": map[string]any{"Regex": qwen}, "behavior": "Isolated", "invert": false},
			map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
		}},
		"post_processor": map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
		"model": map[string]any{
			"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": "", "end_of_word_suffix": "",
			"fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges,
		},
	}
}

// weights writes those tensors that pick picks to a file of safetensors, and returns their names.
func (w *twin) weights(file string, pick func(name string) bool) []string {
	w.t.Helper()
	var tensors []hf.TensorData
	var names []string
	for _, tensor := range w.Tensors {
		name := hfName(tensor.Name)
		if !pick(name) {
			continue
		}
		names = append(names, name)
		data, err := io.ReadAll(w.Data(tensor))
		if err != nil {
			w.t.Fatal(err)
		}
		shape := reversed(tensor.Dims)
		if heads := hf.Heads(w.Summary, tensor.Name); heads > 0 {
			if data, err = hf.Separate(data, heads, shape[0]); err != nil {
				w.t.Fatal(err)
			}
		}
		tensors = append(tensors, hf.TensorData{Name: name, Type: tensor.Type, Shape: shape, Write: gguf.Copy(bytes.NewReader(data))})
	}
	w.file(filepath.Join(w.dir, file), func(out io.Writer) error { return hf.WriteSafetensors(out, tensors) })
	return names
}

// shard spreads the weights over two files.
func (w *twin) shard() {
	w.t.Helper()
	said := map[string]string{}
	for i := range 2 {
		file := fmt.Sprintf("model-%05d-of-00002.safetensors", i+1)
		for _, name := range w.weights(file, func(name string) bool { return (len(name)%2 == 0) == (i == 0) }) {
			said[name] = file
		}
	}
	w.json(indexFile, map[string]any{"metadata": map[string]any{"total_size": 1}, "weight_map": said})
	if err := os.Remove(filepath.Join(w.dir, weightsFile)); err != nil {
		w.t.Fatal(err)
	}
}

// addTensor writes a file of one tensor.
func (w *twin) addTensor(file, name string, typ gguf.Type, shape []uint64, data func(io.Writer) error) {
	w.t.Helper()
	w.file(filepath.Join(w.dir, file), func(out io.Writer) error {
		return hf.WriteSafetensors(out, []hf.TensorData{{Name: name, Type: typ, Shape: shape, Write: data}})
	})
}
