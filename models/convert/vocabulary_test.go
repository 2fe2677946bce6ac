package convert

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hf/hftest"
	"github.com/centram/centram/llama"
)

// learn makes a BPE vocabulary of a text: the bytes, then what joins the most frequent pair, and so on.
func learn(text string, n int) (tokens, merges []string) {
	var word []string
	for i := range len(text) {
		word = append(word, byteText(text[i]))
	}
	for b := range 256 {
		tokens = append(tokens, byteText(byte(b)))
	}
	for len(merges) < n {
		count := map[[2]string]int{}
		for i := range len(word) - 1 {
			count[[2]string{word[i], word[i+1]}]++
		}
		var best [2]string
		for pair, c := range count {
			if c > count[best] || c == count[best] && slices.Compare(pair[:], best[:]) < 0 {
				best = pair
			}
		}
		var next []string
		for i := 0; i < len(word); i++ {
			if i+1 < len(word) && word[i] == best[0] && word[i+1] == best[1] {
				next = append(next, best[0]+best[1])
				i++
			} else {
				next = append(next, word[i])
			}
		}
		word = next
		tokens = append(tokens, best[0]+best[1])
		merges = append(merges, best[0]+" "+best[1])
	}
	return tokens, merges
}

// byteText is the character of GPT-2's table for a byte.
func byteText(b byte) string {
	next := rune(256)
	for c := range 256 {
		printed := c >= '!' && c <= '~' || c >= 0xa1 && c <= 0xac || c >= 0xae
		switch {
		case c == int(b) && printed:
			return string(rune(c))
		case c == int(b):
			return string(next)
		case !printed:
			next++
		}
	}
	panic("no byte")
}

// learnt is a shape whose vocabulary was learnt.
func learnt(t *testing.T) gguf.Shape {
	t.Helper()
	tokens, merges := learn(strings.Repeat("the sky is blue and the sea is blue, too; ", 3), 30)
	types := slices.Repeat([]int32{tokenNormal}, len(tokens))
	for _, special := range []string{"<|endoftext|>", "<|im_start|>", "<|im_end|>"} {
		tokens, types = append(tokens, special), append(types, tokenControl)
	}
	tokens, types = append(tokens, "<tool_call>"), append(types, tokenUserDefined)
	var b bytes.Buffer
	err := gguf.Write(&b, []gguf.KV{
		{Key: "general.architecture", Value: gguf.Of("qwen2")},
		{Key: "tokenizer.ggml.model", Value: gguf.Of("gpt2")},
		{Key: "tokenizer.ggml.pre", Value: gguf.Of("qwen2")},
		{Key: "tokenizer.ggml.tokens", Value: gguf.List(tokens)},
		{Key: "tokenizer.ggml.token_type", Value: gguf.List(types)},
		{Key: "tokenizer.ggml.merges", Value: gguf.List(merges)},
		{Key: "tokenizer.ggml.eos_token_id", Value: gguf.Of(uint32(len(tokens) - 2))},
		{Key: "tokenizer.ggml.add_bos_token", Value: gguf.Of(false)},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Read(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	s := small()
	s.VocabSize = 320
	if s.Vocab, err = gguf.VocabFrom(f); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestALearntVocabularyIsTheSame(t *testing.T) {
	w := newTwin(t, "qwen2", learnt(t))
	want := w.Parts[0]
	for _, pairs := range []bool{false, true} {
		if pairs {
			merges, _ := want.Strings("tokenizer.ggml.merges")
			var lists [][]string
			for _, m := range merges {
				lists = append(lists, strings.Split(m, " "))
			}
			model := tokenizerOf(t, w)["model"].(map[string]any)
			model["merges"] = lists
			w.change(tokenizerFile, map[string]any{"model": model})
		}
		m := converted(t, w.dir, Config{})
		for _, key := range []string{"tokenizer.ggml.tokens", "tokenizer.ggml.merges"} {
			a, _ := m.Parts[0].Strings(key)
			b, _ := want.Strings(key)
			if !slices.Equal(a, b) || len(a) < 30 {
				t.Errorf("merges in lists %v: %s is %q, want %q", pairs, key, a, b)
			}
		}
		a, _ := m.Parts[0].Value("tokenizer.ggml.token_type")
		b, _ := want.Value("tokenizer.ggml.token_type")
		if !slices.Equal(a.Any().([]int32), b.Any().([]int32)) {
			t.Errorf("the types are %v, want %v", a.Any(), b.Any())
		}
		sameTokens(t, m.Path(), w.path, "the sky is blue, too.<|im_end|><tool_call> 12 l'été")
	}
}

func sameTokens(t *testing.T, got, want, text string) {
	t.Helper()
	var lists [2][]llama.Token
	for i, path := range []string{got, want} {
		m, err := llama.LoadModel(t.Context(), []string{path}, llama.ModelConfig{VocabOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		lists[i], err = m.Tokenize(text, true, true)
		m.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(lists[0], lists[1]) || len(lists[0]) == 0 || len(lists[0]) >= len(text) {
		t.Errorf("%q is %v, want %v", text, lists[0], lists[1])
	}
}

func tokenizerOf(t *testing.T, w *twin) map[string]any {
	t.Helper()
	return readJSON(t, filepath.Join(w.dir, tokenizerFile))
}

// cutters are pre_tokenizers as they are in the folders of models that are known.
func cutters() map[string]map[string]any {
	bytes := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
	words := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
	sequence := func(parts ...any) map[string]any { return map[string]any{"type": "Sequence", "pretokenizers": parts} }
	split := func(regex string) any {
		return map[string]any{"type": "Split", "pattern": map[string]any{"Regex": regex}, "behavior": "Isolated", "invert": false}
	}
	llama3 := strings.Replace(hftest.QwenSplit, `|\p{N}|`, `|\p{N}{1,3}|`, 1)
	return map[string]map[string]any{
		"qwen2":     sequence(split(hftest.QwenSplit), bytes),
		"llama-bpe": sequence(split(llama3), bytes),
		"smollm":    sequence(map[string]any{"type": "Digits", "individual_digits": true}, words),
		"gpt-2":     words,
		"removed": sequence(map[string]any{
			"type": "Split", "pattern": map[string]any{"Regex": hftest.QwenSplit}, "behavior": "Removed", "invert": true,
		}, bytes),
		"newlines as they are": sequence(split(strings.NewReplacer(`\r`, "\r", `\n`, "\n").Replace(hftest.QwenSplit)), bytes),
		"merged":               sequence(map[string]any{"type": "Split", "pattern": map[string]any{"Regex": hftest.QwenSplit}, "behavior": "MergedWithNext", "invert": false}, bytes),
		"text":                 sequence(map[string]any{"type": "Split", "pattern": map[string]any{"String": " "}, "behavior": "Isolated", "invert": false}, bytes),
		"many digits":          sequence(map[string]any{"type": "Digits", "individual_digits": false}, words),
		"a space first":        {"type": "ByteLevel", "add_prefix_space": true},
		"Metaspace":            {"type": "Metaspace", "replacement": "▁"},
		"nearly":               sequence(split(hftest.QwenSplit+" "), bytes),
	}
}

func TestHowTextsAreCutIsRecognised(t *testing.T) {
	for _, row := range []struct {
		cutter string
		ignore bool
		want   string // or empty
	}{
		{"qwen2", false, "qwen2"},
		{"removed", false, "qwen2"},
		{"newlines as they are", false, "qwen2"},
		{"llama-bpe", true, "llama-bpe"},
		{"llama-bpe", false, "smaug-bpe"},
		{"smollm", false, "smollm"},
		{"gpt-2", false, "gpt-2"},
		{"qwen2", true, ""},
		{"merged", false, ""},
		{"text", false, ""},
		{"many digits", false, ""},
		{"a space first", false, ""},
		{"Metaspace", false, ""},
		{"nearly", false, ""},
	} {
		w := newTwin(t, "llama", small())
		tokenizer := tokenizerOf(t, w)
		model := tokenizer["model"].(map[string]any)
		model["ignore_merges"] = row.ignore
		w.change(tokenizerFile, map[string]any{"pre_tokenizer": cutters()[row.cutter], "model": model})
		if row.want == "" {
			refused(t, row.cutter, w.dir, centram.Unsupported, "qwen2, llama-bpe, smaug-bpe")
			continue
		}
		m := converted(t, w.dir, Config{})
		if got, _ := m.Parts[0].String("tokenizer.ggml.pre"); got != row.want {
			t.Errorf("%s, ignore_merges %v: got %q, want %q", row.cutter, row.ignore, got, row.want)
		}
		logits(t, m.Path()) // llama.cpp knows the name
	}
}

func TestEveryNameOfACutterIsKnownToTheChecks(t *testing.T) {
	// A file with the name has to pass the checks, whatever the tokenizer.
	for _, p := range preTokenizers {
		w := newTwin(t, "llama", small())
		m := readModelOf(t, w)
		m.vocab.pre = p.name
		if _, err := m.draft(t.Context(), "x"); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
	}
}

func readModelOf(t *testing.T, w *twin) *model {
	t.Helper()
	src, err := openFolder(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(src.close)
	m, err := readModel(t.Context(), src, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTokensThatDoNotFitAreRefused(t *testing.T) {
	entry := func(key string, value any) func(all, model map[string]any) {
		return func(_, model map[string]any) { model[key] = value }
	}
	added := func(id int, content string) func(all, model map[string]any) {
		return func(all, _ map[string]any) {
			all["added_tokens"] = append(all["added_tokens"].([]any), map[string]any{"id": id, "content": content, "special": true})
		}
	}
	for _, row := range []struct {
		what  string
		spoil func(all, model map[string]any)
		code  centram.Code
		says  string
	}{
		{"a unigram model", entry("type", "Unigram"), centram.Unsupported, "SentencePiece"},
		{"words", entry("type", "WordLevel"), centram.Unsupported, `"WordLevel"`},
		{"bytes that are fallen back to", entry("byte_fallback", true), centram.Unsupported, "SentencePiece"},
		{"a prefix", entry("continuing_subword_prefix", "##"), centram.Unsupported, "##"},
		{"no tokens", entry("vocab", map[string]any{}), centram.Invalid, "no vocab"},
		{"tokens in a list", entry("vocab", []any{"a"}), centram.Invalid, "vocab"},
		{"an id twice", entry("vocab", map[string]any{"a": 1, "b": 1}), centram.Invalid, "the same id 1"},
		{"an id that is no number", entry("vocab", map[string]any{"a": "1"}), centram.Invalid, "not a whole number"},
		{"an id below 0", entry("vocab", map[string]any{"a": -1}), centram.Invalid, "the id -1"},
		{"an id beyond", entry("vocab", map[string]any{"a": 300}), centram.Invalid, "there are 300 tokens"},
		{"an added token beyond", added(300, "<new>"), centram.Invalid, "there are 300 tokens"},
		{"an added token in another's place", added(65, "<new>"), centram.Invalid, "the same id 65"},
		{"a text twice", added(295, "A"), centram.Invalid, "are the same"},
		{"a merge of three", entry("merges", []any{[]string{"a", "b", "c"}}), centram.Invalid, "merge 0"},
		{"a merge that is a number", entry("merges", []any{7}), centram.Invalid, "merge 0"},
		{"a merge of one", entry("merges", []any{"ab"}), centram.Invalid, "merge 0"},
		{"a merge twice", entry("merges", []any{"a b", "a b"}), centram.Invalid, "merges 0 and 1"},
		{"lower case", func(all, _ map[string]any) { all["normalizer"] = map[string]any{"type": "Lowercase"} }, centram.Unsupported, `"Lowercase"`},
		{"a change of texts that is a number", func(all, _ map[string]any) { all["normalizer"] = map[string]any{"type": 5} }, centram.Invalid, "its type is 5, not a text"},
		{"an ending that is a number", func(all, _ map[string]any) { all["post_processor"] = map[string]any{"type": 5} }, centram.Invalid, "its type is 5, not a text"},
		{"an added token that is a number", func(all, _ map[string]any) { all["added_tokens"] = []any{5} }, centram.Invalid, "an entry of its added_tokens"},
		{"a model that is a list", func(all, _ map[string]any) { all["model"] = []any{} }, centram.Invalid, "its model is not a JSON object"},
		{"an unknown ending", func(all, _ map[string]any) { all["post_processor"] = map[string]any{"type": "BertProcessing"} }, centram.Unsupported, `"BertProcessing"`},
	} {
		w := newTwin(t, "qwen2", small())
		all := tokenizerOf(t, w)
		row.spoil(all, all["model"].(map[string]any))
		w.json(tokenizerFile, all)
		refused(t, row.what, w.dir, row.code, row.says)
	}
}

func readJSON(t *testing.T, path string) map[string]any {
	t.Helper()
	var all map[string]any
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}
