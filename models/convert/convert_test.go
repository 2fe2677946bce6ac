package convert

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hf/hftest"
	"github.com/centram/centram/llama"
)

// converted converts a folder, and opens what came out.
func converted(t testing.TB, dir string, cfg Config) *gguf.Model {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.gguf")
	sum, err := Folder(t.Context(), dir, path, cfg)
	if err != nil {
		t.Fatalf("%v (%s)", err, centram.HintOf(err))
	}
	m, err := gguf.OpenModel(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	if sum != m.Summary {
		t.Errorf("Folder says %+v, the file %+v", sum, m.Summary)
	}
	return m
}

// logits are what llama.cpp computes with a file, for each token of a text.
func logits(t testing.TB, path string) []float32 {
	t.Helper()
	m, err := llama.LoadModel(t.Context(), []string{path}, llama.ModelConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	c, err := m.NewContext(llama.ContextConfig{Size: 64})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tokens, err := m.Tokenize("Why is the sky blue?<|im_end|>", false, true)
	if err != nil {
		t.Fatal(err)
	}
	var b llama.Batch
	for i, token := range tokens {
		b.Add(token, i, 0, true)
	}
	if err := c.Decode(&b); err != nil {
		t.Fatal(err)
	}
	var out []float32
	for i := range tokens {
		row, err := c.Logits(i)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, row...)
	}
	return out
}

func sameLogits(t *testing.T, what, got, want string) {
	t.Helper()
	a, b := logits(t, got), logits(t, want)
	if len(a) != len(b) || len(a) == 0 {
		t.Fatalf("%s: got %d logits, want %d", what, len(a), len(b))
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			t.Fatalf("%s: logit %d of %d is %v, want %v", what, i, len(a), a[i], b[i])
		}
	}
}

func TestAConvertedModelComputesTheSameToTheBit(t *testing.T) {
	for _, architecture := range []string{"qwen2", "llama"} {
		for _, typ := range []gguf.Type{gguf.F32, gguf.F16, gguf.BF16} {
			for _, tied := range []bool{true, false} {
				s := small()
				s.Type, s.Tied = typ, tied
				w := newTwin(t, architecture, s)
				what := fmt.Sprintf("%s in %v, tied %v", architecture, typ, tied)
				m := converted(t, w.dir, Config{})
				sameLogits(t, what, m.Path(), w.path)
				w.must(hftest.Shard(w.dir, w.Model))
				m = converted(t, w.dir, Config{})
				sameLogits(t, what+", in two files", m.Path(), w.path)
				if m.Summary.Tied != tied || m.Summary.Quantization != typ.String() || m.Summary.Architecture != architecture {
					t.Errorf("%s: got %+v", what, m.Summary)
				}
			}
		}
	}
}

func TestWithoutTheRightOrderOfRowsLlamaComputesSomethingElse(t *testing.T) {
	s := small()
	w := newTwin(t, "llama", s)
	swapped := newTwin(t, "llama", s)
	swapped.Summary.Architecture = "qwen2" // whose rows stay where they are
	swapped.weights(weightsFile, func(string) bool { return true })
	if slices.Equal(logits(t, converted(t, swapped.dir, Config{}).Path()), logits(t, w.path)) {
		t.Error("the order of rows makes no difference, so the other tests show nothing")
	}
}

func TestBiasesOfLlamaAreKept(t *testing.T) {
	w := newTwin(t, "qwen2", small())
	s := w.Summary
	var more []gguf.TensorData
	for l := range s.Layers {
		for name, n := range map[string]int{"attn_output": s.Embedding, "ffn_gate": s.FeedForward, "ffn_up": s.FeedForward, "ffn_down": s.Embedding} {
			values := make([]float32, n)
			for i := range values {
				values[i] = float32(math.Sin(float64(i + l)))
			}
			more = append(more, gguf.TensorData{
				Name: fmt.Sprintf("blk.%d.%s.bias", l, name), Type: gguf.F32, Dims: []uint64{uint64(n)}, Write: gguf.Floats(values),
			})
		}
	}
	w.asLlama(true, more...)
	w.must(hftest.WriteFolder(w.dir, w.Model))
	w.change(configFile, map[string]any{"attention_bias": true, "mlp_bias": true})
	sameLogits(t, "with biases", converted(t, w.dir, Config{}).Path(), w.path)

	w.change(configFile, map[string]any{"mlp_bias": false})
	refused(t, "biases that the configuration denies", w.dir, centram.Unsupported, "has no place")
}

func TestHeadsMayBeOfAnotherSize(t *testing.T) {
	w := newTwin(t, "llama", small())
	w.change(configFile, map[string]any{"head_dim": 16}) // what 64/4 is; said, it is written
	m := converted(t, w.dir, Config{})
	sameLogits(t, "with head_dim", m.Path(), w.path)
	for _, key := range []string{"llama.attention.key_length", "llama.attention.value_length", "llama.rope.dimension_count"} {
		if got, _ := gguf.Get[uint32](m.Parts[0], key); got != 16 {
			t.Errorf("%s is %d, want 16", key, got)
		}
	}
}

func TestAnotherTypeIsRoundedToTheNearest(t *testing.T) {
	for _, from := range []gguf.Type{gguf.F32, gguf.F16, gguf.BF16} {
		s := small()
		s.Type = from
		w := newTwin(t, "llama", s)
		for to, typ := range map[Type]gguf.Type{F32: gguf.F32, F16: gguf.F16, BF16: gguf.BF16} {
			m := converted(t, w.dir, Config{Type: to})
			for _, x := range w.Tensors {
				y, ok := m.Tensor(x.Name)
				if !ok {
					t.Fatalf("%v to %s: no %s", from, to, x.Name)
				}
				want, err := io.ReadAll(w.Data(x))
				if err != nil {
					t.Fatal(err)
				}
				wantType := gguf.F32
				if len(x.Dims) > 1 {
					wantType = typ
				}
				want = gguf.Encode(nil, wantType, gguf.Decode(nil, x.Type, want))
				got, err := io.ReadAll(m.Data(y))
				if err != nil {
					t.Fatal(err)
				}
				if y.Type != wantType || !bytes.Equal(got, want) {
					t.Errorf("%v to %s: %s is in %v and differs", from, to, x.Name, y.Type)
				}
			}
			if got := m.Summary.Quantization; got != typ.String() {
				t.Errorf("%v to %s: the file says %s", from, to, got)
			}
		}
	}
	_, err := Folder(t.Context(), t.TempDir(), filepath.Join(t.TempDir(), "x"), Config{Type: "q4"})
	if centram.CodeOf(err) != centram.Unsupported || !strings.Contains(centram.HintOf(err), "bf16") {
		t.Errorf("an unknown type: got %v, want Unsupported that says which there are", err)
	}
}

func TestVectorsInHalfPrecisionBecomeF32(t *testing.T) {
	w := newTwin(t, "qwen2", small())
	names := w.weights("model-rest.safetensors", func(name string) bool { return name != "model.norm.weight" })
	size := w.Summary.Embedding
	w.tensor("model-extra.safetensors", "model.norm.weight", gguf.F16, []uint64{uint64(size)}, slices.Repeat([]float32{1.5}, size))
	said := map[string]string{"model.norm.weight": "model-extra.safetensors"}
	for _, name := range names {
		said[name] = "model-rest.safetensors"
	}
	w.remove(weightsFile)
	w.json(indexFile, map[string]any{"weight_map": said})
	m := converted(t, w.dir, Config{})
	norm, _ := m.Tensor("output_norm.weight")
	got := make([]float32, w.Summary.Embedding)
	if err := binary.Read(m.Data(norm), binary.LittleEndian, got); err != nil {
		t.Fatal(err)
	}
	if norm.Type != gguf.F32 || got[0] != 1.5 || got[63] != 1.5 {
		t.Errorf("got %v %v, want 1.5 in F32", norm.Type, got)
	}
}

func TestTheMetadataAreThoseOfTheTwin(t *testing.T) {
	for _, architecture := range []string{"qwen2", "llama"} {
		w := newTwin(t, architecture, small())
		w.json(generationFile, map[string]any{"temperature": 0.75, "top_p": 0.5, "top_k": 20, "repetition_penalty": 1.25, "do_sample": true})
		w.text(cardFile, "---\nlicense: apache-2.0\nlicense_link: \"https://example.org/l\"\ntags:\n- chat\n---\n\nlicense: of the text\n")
		m := converted(t, w.dir, Config{})
		want := map[string]any{
			"general.name": "twin", "general.type": "model", "general.size_label": sizeLabelOf(m), "general.license": "apache-2.0",
			"general.license.link": "https://example.org/l", "general.sampling.temp": float32(0.75), "general.sampling.top_p": float32(0.5),
			"general.sampling.top_k": int32(20), "general.sampling.penalty_repeat": float32(1.25), "tokenizer.ggml.add_eos_token": false,
		}
		for _, kv := range w.Parts[0].Metadata {
			want[kv.Key] = kv.Value.Any()
		}
		want["general.name"] = "twin"
		delete(want, "tokenizer.ggml.eot_token_id") // which a folder does not say
		if architecture == "llama" {
			want["llama.vocab_size"], want["llama.rope.dimension_count"] = uint32(300), uint32(16)
		}
		got := map[string]any{}
		for _, kv := range m.Parts[0].Metadata {
			got[kv.Key] = kv.Value.Any()
		}
		for key := range want {
			if !reflect.DeepEqual(got[key], want[key]) {
				t.Errorf("%s: %s is %.200v, want %.200v", architecture, key, got[key], want[key])
			}
			delete(got, key)
		}
		for key, value := range got {
			t.Errorf("%s: there is %s as well: %.200v", architecture, key, value)
		}
	}
}

func sizeLabelOf(m *gguf.Model) string {
	return fmt.Sprintf("%.0fK", float64(m.Summary.Parameters)/1e3)
}

func TestWhatIsConvertedTwiceIsTheSameFile(t *testing.T) {
	w := newTwin(t, "llama", small())
	var files [2][]byte
	for i := range files {
		b, err := os.ReadFile(converted(t, w.dir, Config{}).Path())
		if err != nil {
			t.Fatal(err)
		}
		files[i] = b
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("the two files differ")
	}
}

// refused converts a folder and wants an error.
func refused(t *testing.T, what, dir string, code centram.Code, says string) {
	t.Helper()
	out := t.TempDir()
	_, err := Folder(t.Context(), dir, filepath.Join(out, "out.gguf"), Config{})
	if centram.CodeOf(err) != code || !strings.Contains(fmt.Sprint(err)+" "+centram.HintOf(err), says) {
		t.Errorf("%s: got %v (%s), want code %s and %q", what, err, centram.HintOf(err), code, says)
	}
	if centram.HintOf(err) == "" && code != centram.NotFound {
		t.Errorf("%s: the error says nothing of what to do: %v", what, err)
	}
	if left, _ := os.ReadDir(out); len(left) != 0 {
		t.Errorf("%s: %v was left behind", what, left)
	}
}
