package convert

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hf/hftest"
)

func TestFoldersThatAreNoModelSayWhatToDo(t *testing.T) {
	empty := t.TempDir()
	refused(t, "an empty folder", empty, centram.NotFound, "has no config.json")
	refused(t, "no folder", filepath.Join(empty, "none"), centram.NotFound, "there is no folder")
	w := newTwin(t, "qwen2", small())
	refused(t, "a file", filepath.Join(w.dir, configFile), centram.Invalid, "Name the folder")

	adapter := t.TempDir()
	for _, name := range []string{"adapter_config.json", "adapter_model.safetensors"} {
		if err := os.WriteFile(filepath.Join(adapter, name), []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, "a PEFT adapter", adapter, centram.Invalid, "centram lora import "+adapter)

	w.remove(weightsFile)
	refused(t, "no weights", w.dir, centram.NotFound, "has no model.safetensors")
	w.text("pytorch_model.bin", "x")
	refused(t, "pickled weights", w.dir, centram.Unsupported, "have to be safetensors")
	w.text("adapter_model.safetensors", "x")
	w.remove("pytorch_model.bin")
	refused(t, "an adapter with the configuration of its model", w.dir, centram.Invalid, "centram lora import")

	for _, row := range []struct{ file, says string }{{tokenizerFile, "has no tokenizer.json"}, {configFile, "has no config.json"}} {
		w = newTwin(t, "qwen2", small())
		w.remove(row.file)
		refused(t, "without "+row.file, w.dir, centram.NotFound, row.says)
	}
	w.text("vocab.json", "{}")
	refused(t, "still without the configuration", w.dir, centram.NotFound, "has no config.json")
	w = newTwin(t, "qwen2", small())
	w.remove(tokenizerFile)
	w.text("vocab.json", "{}")
	refused(t, "a slow tokenizer", w.dir, centram.NotFound, "AutoTokenizer.from_pretrained")
}

func TestModelsThatCannotBeKeptAreRefused(t *testing.T) {
	for _, row := range []struct {
		architecture, what string
		config             map[string]any
		code               centram.Code
		says               string
	}{
		{"qwen2", "another architecture", map[string]any{"architectures": []string{"MambaForCausalLM"}}, centram.Unsupported, `"MambaForCausalLM"`},
		{"qwen2", "no architecture", map[string]any{"architectures": nil}, centram.Unsupported, `"qwen2"`},
		{"qwen2", "GPTQ", map[string]any{"quantization_config": map[string]any{"quant_method": "gptq", "bits": 4}}, centram.Unsupported, `"gptq"`},
		{"llama", "AWQ", map[string]any{"quantization_config": map[string]any{"quant_method": "awq"}}, centram.Unsupported, `"awq"`},
		{"llama", "an unknown quantisation", map[string]any{"quantization_config": map[string]any{}}, centram.Unsupported, "quantised already"},
		{"llama", "another activation", map[string]any{"hidden_act": "gelu"}, centram.Unsupported, "SiLU"},
		{"qwen2", "a sliding window", map[string]any{"use_sliding_window": true, "sliding_window": 32, "max_window_layers": 1}, centram.Unsupported, "sliding window"},
		{"qwen2", "a sliding layer", map[string]any{"layer_types": []string{"full_attention", "sliding_attention"}}, centram.Unsupported, "sliding window"},
		{"llama", "half a rope", map[string]any{"partial_rotary_factor": 0.5}, centram.Unsupported, "a part of each head"},
		{"llama", "a draft model", map[string]any{"draft_vocab_size": 100}, centram.Unsupported, "draft"},
		{"llama", "dynamic scaling", map[string]any{"rope_scaling": map[string]any{"type": "dynamic", "factor": 2}}, centram.Unsupported, `"dynamic"`},
		{"llama", "longrope", map[string]any{"rope_scaling": map[string]any{"rope_type": "longrope", "factor": 2}}, centram.Unsupported, `"longrope"`},
		{"qwen2", "llama3 of qwen2", map[string]any{"rope_scaling": map[string]any{"rope_type": "llama3", "factor": 2}}, centram.Unsupported, `"llama3"`},
		{"qwen2", "sections", map[string]any{"rope_scaling": map[string]any{"type": "default", "mrope_section": []int{1, 1, 1}}}, centram.Unsupported, "mrope_section"},
		{"qwen2", "another yarn", map[string]any{"rope_scaling": map[string]any{"type": "yarn", "factor": 2, "beta_fast": 16}}, centram.Unsupported, "beta_fast"},
		{"qwen2", "yarn of another strength", map[string]any{"rope_scaling": map[string]any{"type": "yarn", "factor": 2, "attention_factor": 1}}, centram.Unsupported, "attention_factor"},
		{"llama", "a factor of 0", map[string]any{"rope_scaling": map[string]any{"type": "linear", "factor": 0}}, centram.Invalid, "make no sense"},
		{"llama", "waves the wrong way", map[string]any{"rope_scaling": map[string]any{"type": "llama3", "low_freq_factor": 4, "high_freq_factor": 1}}, centram.Invalid, "make no sense"},
		{"llama", "rope that is a list", map[string]any{"rope_scaling": []int{1}}, centram.Invalid, "rope_scaling"},
		{"llama", "a base of 0", map[string]any{"rope_theta": 0}, centram.Invalid, "freq_base"},
		{"llama", "layers missing", map[string]any{"num_hidden_layers": nil}, centram.Invalid, "no num_hidden_layers"},
		{"llama", "layers negative", map[string]any{"num_hidden_layers": -1}, centram.Invalid, "-1, not from 1"},
		{"llama", "layers a fraction", map[string]any{"num_hidden_layers": 2.5}, centram.Invalid, "not a whole number"},
		{"llama", "layers a text", map[string]any{"num_hidden_layers": "two"}, centram.Invalid, `"two"`},
		{"llama", "a million layers", map[string]any{"num_hidden_layers": 1000000}, centram.Invalid, "not from 1 to 512"},
		{"llama", "more layers than there are", map[string]any{"num_hidden_layers": 3}, centram.Invalid, "no tensor model.layers.2."},
		{"llama", "fewer layers than there are", map[string]any{"num_hidden_layers": 1}, centram.Unsupported, "has no place"},
		{"llama", "heads that do not divide", map[string]any{"num_attention_heads": 5, "num_key_value_heads": 5}, centram.Invalid, "does not divide"},
		{"llama", "more heads than numbers", map[string]any{"num_attention_heads": 4096}, centram.Invalid, "does not divide"},
		{"llama", "KV heads that do not divide", map[string]any{"num_key_value_heads": 3, "head_dim": 16}, centram.Invalid, "k_proj.weight has the shape"},
		{"llama", "another width", map[string]any{"hidden_size": 128}, centram.Invalid, "has the shape"},
		{"llama", "another vocabulary", map[string]any{"vocab_size": 310}, centram.Invalid, "embed_tokens.weight has the shape [300 64]"},
		{"llama", "a vocabulary beyond all", map[string]any{"vocab_size": 1 << 40}, centram.Invalid, "vocab_size"},
		{"llama", "an odd head", map[string]any{"head_dim": 15}, centram.Invalid, "has the shape"},
		{"llama", "biases that are not there", map[string]any{"attention_bias": true}, centram.Invalid, "no tensor model.layers.0.self_attn.q_proj.bias"},
		{"llama", "epsilon of 0", map[string]any{"rms_norm_eps": 0}, centram.Invalid, "epsilon"},
		{"llama", "a beginning that is no token", map[string]any{"bos_token_id": 5000}, centram.Invalid, "bos_token_id 5000"},
		{"llama", "an end that is no number", map[string]any{"bos_token_id": "x"}, centram.Invalid, "not a whole number"},
	} {
		w := newTwin(t, row.architecture, small())
		w.change(configFile, row.config)
		refused(t, row.what, w.dir, row.code, row.says)
	}
}

func TestWeightsThatDoNotFitAreRefused(t *testing.T) {
	index := func(said map[string]any) func(*twin) {
		return func(w *twin) {
			w.must(hftest.Shard(w.dir, w.Model))
			w.change(indexFile, map[string]any{"weight_map": said})
		}
	}
	for _, row := range []struct {
		what  string
		spoil func(*twin)
		code  centram.Code
		says  string
	}{
		{"a tensor missing", func(w *twin) {
			w.weights(weightsFile, func(name string) bool { return name != "model.layers.1.mlp.up_proj.weight" })
		}, centram.Invalid, "no tensor model.layers.1.mlp.up_proj.weight"},
		{"an output that is not there", func(w *twin) {
			w.weights(weightsFile, func(name string) bool { return name != "lm_head.weight" })
		}, centram.Invalid, "no tensor lm_head.weight"},
		{"a cut file", func(w *twin) {
			b, err := os.ReadFile(filepath.Join(w.dir, weightsFile))
			w.must(err)
			w.text(weightsFile, string(b[:len(b)-1]))
		}, centram.Invalid, "model.safetensors"},
		{"one tensor too many", func(w *twin) {
			w.must(hftest.Shard(w.dir, w.Model))
			w.tensor("model-00001-of-00002.safetensors", "mtp.fc.weight", gguf.F32, []uint64{2}, []float32{1, 2})
		}, centram.Invalid, "but it is not"},
		{"a path out of the folder", index(map[string]any{"lm_head.weight": "../model.safetensors"}), centram.Invalid, "../model.safetensors"},
		{"a path from the root", index(map[string]any{"lm_head.weight": "/etc/x.safetensors"}), centram.Invalid, "not the name of a file"},
		{"a path below", index(map[string]any{"lm_head.weight": "sub/model.safetensors"}), centram.Invalid, "not the name of a file"},
		{"a path of Windows", index(map[string]any{"lm_head.weight": `..\model.safetensors`}), centram.Invalid, "not the name of a file"},
		{"another kind of file", index(map[string]any{"lm_head.weight": "config.json"}), centram.Invalid, "not the name of a file"},
		{"no name", index(map[string]any{"lm_head.weight": ""}), centram.Invalid, "not the name of a file"},
		{"a number for a name", index(map[string]any{"lm_head.weight": 5}), centram.Invalid, "not the name of a file"},
		{"an index of nothing", index(map[string]any{}), centram.Invalid, "0 files"},
		{"a shard that is missing", index(map[string]any{"lm_head.weight": "model-00003-of-00003.safetensors"}), centram.NotFound, "model-00003-of-00003.safetensors"},
		{"an index that is no object", func(w *twin) {
			w.remove(weightsFile)
			w.text(indexFile, `{"weight_map":[]}`)
		}, centram.Invalid, "weight_map"},
		{"a tensor in both parts", func(w *twin) {
			w.must(hftest.Shard(w.dir, w.Model))
			w.weights("model-00001-of-00002.safetensors", func(string) bool { return true })
		}, centram.Invalid, "which is also in"},
		{"a tensor that the index does not have", func(w *twin) {
			w.must(hftest.Shard(w.dir, w.Model))
			w.weights("model-00001-of-00002.safetensors", func(name string) bool { return len(name)%2 == 0 || name == "model.norm.weight" })
			w.weights("model-00002-of-00002.safetensors", func(name string) bool { return len(name)%2 == 1 && name != "model.norm.weight" })
		}, centram.Invalid, "but it is not"},
		{"a link out of the folder", func(w *twin) {
			outside := filepath.Join(w.t.TempDir(), weightsFile)
			w.must(os.Rename(filepath.Join(w.dir, weightsFile), outside))
			w.must(os.Symlink(outside, filepath.Join(w.dir, weightsFile)))
		}, centram.Invalid, "escapes"},
		{"a folder for a file", func(w *twin) {
			w.remove(weightsFile)
			w.must(os.Mkdir(filepath.Join(w.dir, weightsFile), 0o755))
		}, centram.Invalid, "not a regular file"},
		{"numbers of another type", func(w *twin) {
			header := `{"model.layers.0.self_attn.q_proj.qweight":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}`
			w.text(weightsFile, string([]byte{byte(len(header)), 0, 0, 0, 0, 0, 0, 0})+header+"abcd")
		}, centram.Unsupported, `q_proj.qweight" in "I32", but F32, F16 and BF16 are supported If the weights were quantised`},
	} {
		w := newTwin(t, "qwen2", small())
		row.spoil(w)
		refused(t, row.what, w.dir, row.code, row.says)
	}
}

func TestEveryPrefixOfTheFilesIsRefused(t *testing.T) {
	w := newTwin(t, "llama", small())
	w.must(hftest.Shard(w.dir, w.Model))
	out := filepath.Join(t.TempDir(), "out.gguf")
	for _, name := range []string{configFile, indexFile, tokensFile, tokenizerFile, "model-00001-of-00002.safetensors"} {
		whole, err := os.ReadFile(filepath.Join(w.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		whole = compact(whole)
		step := max(1, len(whole)/400) // a tokenizer's every byte would take a minute
		for n := 0; n < len(whole); n += step {
			w.text(name, string(whole[:n]))
			if _, err := Folder(t.Context(), w.dir, out, Config{}); err == nil || centram.CodeOf(err) == centram.Internal {
				t.Fatalf("%d of %d bytes of %s: got %v, want an error that says what is wrong", n, len(whole), name, err)
			}
		}
		w.text(name, string(whole))
	}
	if _, err := Folder(t.Context(), w.dir, out, Config{}); err != nil {
		t.Fatal(err)
	}
}

// compact takes the white space out of JSON, of which a prefix might be whole.
func compact(b []byte) []byte {
	var all any
	if json.Unmarshal(b, &all) != nil {
		return b
	}
	out, err := json.Marshal(all)
	if err != nil {
		return b
	}
	return out
}

func TestHostileJSONIsRefused(t *testing.T) {
	deep := strings.Repeat("[", 1<<20)
	for _, row := range []struct{ what, file, content, says string }{
		{"deep", configFile, `{"a":` + deep, "not JSON"},
		{"deep in a field", tokenizerFile, `{"model":{"vocab":` + deep, "not JSON"},
		{"a key twice", configFile, `{"vocab_size":1,"vocab_size":2}`, "twice"},
		{"a list", configFile, `[]`, "not a JSON object"},
		{"followed", configFile, `{}{}`, "followed"},
		{"a pointer", tokenizerFile, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"},
		{"not UTF-8", configFile, "{\"\xff\":1}", "UTF-8"},
		{"huge", configFile, `{"a":"` + strings.Repeat("x", maxSettings) + `"}`, "longer than"},
		{"a template of another type", tokensFile, `{"chat_template":5}`, "chat_template"},
		{"a template that is too long", templateFile, strings.Repeat("x", gguf.MaxChatTemplateBytes+1), "longer than"},
		{"a template with a zero byte", templateFile, "a\x00b", "chat_template"},
		{"a template that is not UTF-8", templateFile, "a\xff", "UTF-8"},
		{"sampling of another type", generationFile, `{"temperature":"hot"}`, "temperature"},
	} {
		w := newTwin(t, "qwen2", small())
		w.text(row.file, row.content)
		refused(t, row.what, w.dir, centram.Invalid, row.says)
	}
}

func TestAFolderOfTheCacheIsReadThroughItsLinks(t *testing.T) {
	w := newTwin(t, "qwen2", small())
	repo := filepath.Join(t.TempDir(), "models--somebody--Small-0.1B")
	blobs, snapshot := filepath.Join(repo, "blobs"), filepath.Join(repo, "snapshots", "0123abcd")
	w.must(os.MkdirAll(snapshot, 0o755))
	w.must(os.Rename(w.dir, blobs))
	for _, name := range []string{configFile, tokenizerFile, tokensFile, weightsFile} {
		w.must(os.Symlink(filepath.Join("..", "..", "blobs", name), filepath.Join(snapshot, name)))
	}
	m := converted(t, snapshot, Config{})
	if got, want := m.Summary.Name, "Small-0.1B"; got != want {
		t.Errorf("the model is called %q, want %q", got, want)
	}
	outside := filepath.Join(t.TempDir(), configFile)
	w.must(os.Rename(filepath.Join(blobs, configFile), outside))
	w.must(os.Symlink(outside, filepath.Join(blobs, configFile)))
	refused(t, "a link out of the cache", snapshot, centram.Invalid, configFile)
}

func TestWhatHuggingFacePassesOverIsPassedOver(t *testing.T) {
	s := small()
	s.Tied = true
	w := newTwin(t, "llama", s)
	size := uint64(w.Summary.Embedding)
	w.must(hftest.Shard(w.dir, w.Model))
	w.tensor("model-more.safetensors", "lm_head.weight", gguf.F32, []uint64{300, size}, make([]float32, 300*size))
	w.tensor("model-old.safetensors", "model.layers.0.self_attn.rotary_emb.inv_freq", gguf.F32, []uint64{8}, make([]float32, 8))
	said := readJSON(t, filepath.Join(w.dir, indexFile))["weight_map"].(map[string]any)
	said["lm_head.weight"] = "model-more.safetensors"
	said["model.layers.0.self_attn.rotary_emb.inv_freq"] = "model-old.safetensors"
	w.change(indexFile, map[string]any{"weight_map": said})
	sameLogits(t, "tied, with an output matrix of zeros that nobody reads", converted(t, w.dir, Config{}).Path(), w.path)
}

func TestErrorsNameTheFile(t *testing.T) {
	w := newTwin(t, "llama", small())
	w.change(configFile, map[string]any{"hidden_size": "wide"})
	_, err := Folder(t.Context(), w.dir, filepath.Join(t.TempDir(), "x.gguf"), Config{})
	if want := filepath.Join(w.dir, configFile); !strings.Contains(fmt.Sprint(err), want) {
		t.Errorf("got %v, want it to name %s", err, want)
	}
}
