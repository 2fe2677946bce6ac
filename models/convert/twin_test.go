package convert

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hf"
	"github.com/centram/centram/hf/hftest"
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
	w := &twin{t: t, dir: filepath.Join(t.TempDir(), "twin")}
	w.write(func(out io.Writer) error { return gguf.Generate(out, s, 1) })
	if architecture == "llama" {
		w.asLlama(false)
	}
	w.must(hftest.WriteFolder(w.dir, w.Model))
	return w
}

func (w *twin) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// write writes the GGUF file and opens it.
func (w *twin) write(write func(io.Writer) error) {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "twin.gguf")
	f, err := os.Create(path)
	w.must(err)
	w.must(write(f))
	w.must(f.Close())
	m, err := gguf.OpenModel(path)
	w.must(err)
	w.t.Cleanup(func() { m.Close() })
	w.path, w.Model = path, m
}

// asLlama makes the file one of the llama architecture, with the biases that it has and more besides, or with none.
func (w *twin) asLlama(biases bool, more ...gguf.TensorData) {
	w.t.Helper()
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
	tensors := more
	for _, x := range w.Tensors {
		if biases || !strings.HasSuffix(x.Name, ".bias") {
			tensors = append(tensors, gguf.TensorData{Name: x.Name, Type: x.Type, Dims: x.Dims, Write: gguf.Copy(w.Data(x))})
		}
	}
	w.write(func(out io.Writer) error { return gguf.Write(out, metadata, tensors) })
}

// change sets fields of a JSON file of the folder; nil removes one.
func (w *twin) change(name string, set map[string]any) {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, name))
	w.must(err)
	var all map[string]any
	w.must(json.Unmarshal(b, &all))
	for key, value := range set {
		if all[key] = value; value == nil {
			delete(all, key)
		}
	}
	w.must(hftest.WriteJSON(w.dir, name, all))
}

func (w *twin) json(name string, content any) {
	w.t.Helper()
	w.must(hftest.WriteJSON(w.dir, name, content))
}

func (w *twin) text(name, content string) {
	w.t.Helper()
	w.must(os.WriteFile(filepath.Join(w.dir, name), []byte(content), 0o644))
}

func (w *twin) remove(name string) {
	w.t.Helper()
	w.must(os.Remove(filepath.Join(w.dir, name)))
}

// weights writes those tensors that pick picks, and returns their names.
func (w *twin) weights(file string, pick func(name string) bool) []string {
	w.t.Helper()
	names, err := hftest.WriteWeights(w.dir, file, w.Model, pick)
	w.must(err)
	return names
}

// tensor writes a file of one tensor.
func (w *twin) tensor(file, name string, typ gguf.Type, shape []uint64, values []float32) {
	w.t.Helper()
	f, err := os.Create(filepath.Join(w.dir, file))
	w.must(err)
	w.must(hf.WriteSafetensors(f, []hf.TensorData{{Name: name, Type: typ, Shape: shape, Write: func(out io.Writer) error {
		_, err := out.Write(gguf.Encode(nil, typ, values))
		return err
	}}}))
	w.must(f.Close())
}
