package convert

import (
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
)

// template is a post_processor that puts special tokens around a text.
func template(ids ...string) map[string]any {
	var single []any
	for _, id := range ids {
		if id == "" {
			single = append(single, map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}})
		} else {
			single = append(single, map[string]any{"SpecialToken": map[string]any{"id": id, "type_id": 0}})
		}
	}
	return map[string]any{"type": "Sequence", "processors": []any{
		map[string]any{"type": "ByteLevel"}, map[string]any{"type": "TemplateProcessing", "single": single},
	}}
}

func TestWhatIsPutAroundTextsIsFound(t *testing.T) {
	const bos, eos = "<|endoftext|>", "<|im_end|>"
	for _, row := range []struct {
		what     string
		post     any
		settings map[string]any
		bos, eos bool
		refused  string
	}{
		{"nothing", nil, map[string]any{"bos_token": bos, "add_bos_token": nil}, false, false, ""},
		{"the beginning", template(bos, ""), map[string]any{"bos_token": bos, "add_bos_token": nil}, true, false, ""},
		{"both", template(bos, "", eos), map[string]any{"bos_token": bos, "add_bos_token": nil}, true, true, ""},
		{"the beginning, which is then denied", template(bos, ""), map[string]any{"bos_token": bos, "add_bos_token": false}, false, false, ""},
		{"the end by the settings", nil, map[string]any{"add_eos_token": true}, false, true, ""},
		{"another beginning", template("<|im_start|>", ""), map[string]any{"bos_token": bos}, false, false, "not its bos_token"},
		{"two beginnings", template(bos, bos, ""), map[string]any{"bos_token": bos}, false, false, "more than a token"},
		{"two texts", template("", ""), nil, false, false, "more than a token"},
	} {
		w := newTwin(t, "qwen2", small())
		w.change(tokenizerFile, map[string]any{"post_processor": row.post})
		w.change(tokensFile, row.settings)
		if row.refused != "" {
			refused(t, row.what, w.dir, centram.Unsupported, row.refused)
			continue
		}
		m := converted(t, w.dir, Config{})
		gotBOS, _ := gguf.Get[bool](m.Parts[0], "tokenizer.ggml.add_bos_token")
		gotEOS, _ := gguf.Get[bool](m.Parts[0], "tokenizer.ggml.add_eos_token")
		if gotBOS != row.bos || gotEOS != row.eos {
			t.Errorf("%s: got %v and %v, want %v and %v", row.what, gotBOS, gotEOS, row.bos, row.eos)
		}
	}
}

func TestSpecialTokensAreFoundByTextAndThenByNumber(t *testing.T) {
	for _, row := range []struct {
		what             string
		settings, config map[string]any
		generation       map[string]any
		want             any
	}{
		{"by text", map[string]any{"eos_token": "<|im_start|>"}, nil, nil, uint32(gguf.ByteIMStart)},
		{"by an object", map[string]any{"eos_token": map[string]any{"content": "<|im_start|>"}}, nil, nil, uint32(gguf.ByteIMStart)},
		{"by number", map[string]any{"eos_token": nil}, map[string]any{"eos_token_id": 7}, nil, uint32(7)},
		{"by the first of several", map[string]any{"eos_token": nil}, map[string]any{"eos_token_id": []int{9, 8}}, nil, uint32(9)},
		{"by what is generated", map[string]any{"eos_token": nil}, map[string]any{"eos_token_id": nil}, map[string]any{"eos_token_id": 6}, uint32(6)},
		{"none", map[string]any{"eos_token": nil}, map[string]any{"eos_token_id": -1}, nil, nil},
	} {
		w := newTwin(t, "qwen2", small())
		w.change(tokensFile, row.settings)
		w.change(configFile, row.config)
		if row.generation != nil {
			w.json(generationFile, row.generation)
		}
		m := converted(t, w.dir, Config{})
		if got, _ := m.Parts[0].Value("tokenizer.ggml.eos_token_id"); got.Any() != row.want {
			t.Errorf("%s: got %v, want %v", row.what, got.Any(), row.want)
		}
	}
}

func TestTheChatTemplateIsFoundWhereverItIs(t *testing.T) {
	for _, row := range []struct {
		what     string
		settings any
		files    map[string]string
		want     string
	}{
		{"in the settings", "one", nil, "one"},
		{"in a file of its own", nil, map[string]string{templateFile: "two"}, "two"},
		{"in both", "one", map[string]string{templateFile: "two"}, "two"},
		{"in JSON", nil, map[string]string{templateJSON: `{"chat_template":"three"}`}, "three"},
		{"one of several", []any{map[string]any{"name": "tool_use", "template": "no"}, map[string]any{"name": "default", "template": "four"}}, nil, "four"},
		{"nowhere", nil, nil, ""},
	} {
		w := newTwin(t, "qwen2", small())
		w.change(tokensFile, map[string]any{"chat_template": row.settings})
		for name, text := range row.files {
			w.text(name, text)
		}
		m := converted(t, w.dir, Config{})
		if got, _ := m.Parts[0].String("tokenizer.chat_template"); got != row.want {
			t.Errorf("%s: got %q, want %q", row.what, got, row.want)
		}
	}
}
