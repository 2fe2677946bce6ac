package lora

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama"
	"github.com/centram/centram/lora/dataset"
)

// Templates that rewrite what was said before cannot be learnt from a conversation of several answers: what the model would
// see at the second is not what it saw at the first. They leave out earlier thoughts or tool calls.
func TestConversationsAreEncodedWithTheTemplatesOfRealModels(t *testing.T) {
	files, err := filepath.Glob("../build/native/src/models/templates/*.jinja")
	if err != nil || len(files) < 20 {
		t.Fatalf("found %d templates, %v, want those of llama.cpp", len(files), err)
	}
	dir := t.TempDir()
	generate(t, filepath.Join(dir, "model.gguf"), 1)
	conversation := dataset.Item{File: "talk.jsonl", Line: 1, Messages: []dataset.Message{
		{Role: dataset.User, Content: "What is seven?"},
		{Role: dataset.Assistant, Content: "A number."},
		{Role: dataset.User, Content: "And eight?"},
		{Role: dataset.Assistant, Content: "Another one."},
	}}
	learnt, refused := 0, 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".jinja")
		tok := withTemplate(t, filepath.Join(dir, "model.gguf"), filepath.Join(dir, name+".gguf"), file)
		d, err := dataset.Encode(conversation, tok)
		switch {
		case err == nil:
			learnt++
			var said []string
			for i, supervised := range d.Supervised {
				switch {
				case supervised && (i == 0 || !d.Supervised[i-1]):
					said = append(said, tok.text(d.Tokens[i]))
				case supervised:
					said[len(said)-1] += tok.text(d.Tokens[i])
				}
			}
			if len(said) != 2 || !strings.Contains(said[0], "A number.") || !strings.Contains(said[1], "Another one.") ||
				strings.Contains(strings.Join(said, ""), "seven") || strings.Contains(strings.Join(said, ""), "eight") {
				t.Errorf("%s: learnt is %q, want the two answers and nothing of the questions", name, said)
			}
		case centram.CodeOf(err) == centram.Unsupported || centram.CodeOf(err) == centram.Invalid:
			refused++
			t.Logf("%s: %v", name, err)
		default:
			t.Errorf("%s: %v, want it learnt or refused with a reason", name, err)
		}
		if strings.HasPrefix(name, "Qwen-Qwen2.5") && err != nil {
			t.Errorf("%s: %v, want it learnt", name, err)
		}
	}
	t.Logf("%d templates learnt, %d refused", learnt, refused)
	if learnt < len(files)/2 {
		t.Errorf("%d of %d templates can be learnt with, want at least half", learnt, len(files))
	}
}

// templated is the toy's tokenizer with another template.
type templated struct{ tokenizer }

func (m templated) text(token int32) string { return string(m.Piece(token, true)) }

func withTemplate(t *testing.T, base, out, template string) templated {
	t.Helper()
	text, err := os.ReadFile(template)
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var metadata []gguf.KV
	for _, kv := range f.Metadata {
		if kv.Key == "tokenizer.chat_template" {
			kv.Value = gguf.Of(string(text))
		}
		metadata = append(metadata, kv)
	}
	var tensors []gguf.TensorData
	for _, tensor := range f.Tensors {
		tensors = append(tensors, gguf.TensorData{Name: tensor.Name, Type: tensor.Type, Dims: tensor.Dims, Write: gguf.Copy(f.Data(tensor))})
	}
	w, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := gguf.Write(w, metadata, tensors); err != nil {
		t.Fatal(err)
	}
	m, err := llama.LoadModel(t.Context(), []string{out}, llama.ModelConfig{VocabOnly: true})
	if err != nil {
		t.Fatalf("%s: %v", template, err)
	}
	t.Cleanup(func() { m.Close() })
	return templated{tokenizer{m}}
}
