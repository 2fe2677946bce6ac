package convert

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/centram/centram"
)

// FuzzFolder converts a folder with sound weights whose other files say whatever they like.
func FuzzFolder(f *testing.F) {
	w := newTwin(f, "llama", small())
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(w.dir, name))
		if err != nil {
			f.Fatal(err)
		}
		return compact(b)
	}
	config, tokenizer, settings := read(configFile), read(tokenizerFile), read(tokensFile)
	f.Add(config, tokenizer, settings, []byte(`{"temperature":0.5,"eos_token_id":[1]}`), pieces(modelBPE))
	f.Add([]byte(`{"rope_scaling":{"type":"yarn","factor":2},`+string(config[1:])), []byte(`{"model":{"byte_fallback":true}}`),
		[]byte(`{"added_tokens_decoder":{"3":{"content":"a"}},"chat_template":[{"name":"default","template":"x"}]}`), []byte(`{}`), pieces(1))
	f.Add([]byte(`{"architectures":["LlamaForCausalLM"],"rope_scaling":{"type":"llama3"},`+string(config[1:])), tokenizer, []byte(`[]`), []byte(``), []byte{8, 1})
	f.Fuzz(func(t *testing.T, config, tokenizer, settings, generation, pieces []byte) {
		for name, b := range map[string][]byte{
			configFile: config, tokenizerFile: tokenizer, tokensFile: settings, generationFile: generation, piecesFile: pieces,
		} {
			if err := os.WriteFile(filepath.Join(w.dir, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		src, err := openFolder(w.dir)
		if err != nil {
			t.Fatal(err)
		}
		defer src.close()
		m, err := readModel(t.Context(), src, nil)
		if err == nil {
			_, err = m.draft(t.Context(), "fuzzed")
		}
		if err != nil && centram.CodeOf(err) == centram.Internal {
			t.Errorf("got %v, want an error with a code", err)
		}
	})
}

// FuzzIndex looks for names of files that lead out of the folder.
func FuzzIndex(f *testing.F) {
	for _, name := range []string{"model-00001-of-00002.safetensors", "../x.safetensors", "/x.safetensors", `a\b.safetensors`, ".safetensors", "..safetensors"} {
		f.Add([]byte(`{"weight_map":{"a":"` + name + `"}}`))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, indexFile), b, 0o644); err != nil {
			t.Fatal(err)
		}
		src, err := openFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer src.close()
		index, err := src.object(indexFile, maxTokenizer)
		if err != nil {
			return
		}
		said, err := weightMap(index)
		if err != nil {
			return
		}
		for _, name := range said {
			if filepath.Dir(filepath.Join(dir, name)) != dir || filepath.Base(name) != name {
				t.Errorf("%q leads out of the folder", name)
			}
		}
	})
}
