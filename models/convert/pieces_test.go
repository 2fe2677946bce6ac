package convert

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama"
)

// pieces writes a tokenizer.model: the unknown token, two control tokens, the bytes, letters and some words.
func pieces(model uint64) []byte {
	field := func(b []byte, number int, content []byte) []byte {
		b = binary.AppendUvarint(b, uint64(number)<<3|2)
		return append(binary.AppendUvarint(b, uint64(len(content))), content...)
	}
	var out []byte
	piece := func(text string, score float32, typ uint64) {
		p := field(nil, 1, []byte(text))
		p = binary.LittleEndian.AppendUint32(append(p, 2<<3|5), math.Float32bits(score))
		if typ != tokenNormal {
			p = binary.AppendUvarint(append(p, 3<<3), typ)
		}
		out = field(out, 1, p)
	}
	piece("<unk>", 0, tokenUnknown)
	piece("<s>", 0, tokenControl)
	piece("</s>", 0, tokenControl)
	for b := range 256 {
		piece(fmt.Sprintf("<0x%02X>", b), 0, tokenByte)
	}
	for i, text := range []string{"▁t", "▁th", "▁the", "he", "▁", "t", "h", "e", "s", "k", "y"} {
		piece(text, -float32(i), tokenNormal)
	}
	out = field(out, 2, binary.AppendUvarint([]byte{3 << 3}, model))
	return field(out, 3, []byte{3 << 3, 1})
}

func TestATokenizerOfSentencePieceIsConverted(t *testing.T) {
	w := newTwin(t, "llama", small())
	w.remove(tokenizerFile)
	w.remove(tokensFile)
	w.text(piecesFile, string(pieces(modelBPE)))
	w.change(configFile, map[string]any{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": -1})
	w.json(addedFile, map[string]any{"<extra>": 270})
	m := converted(t, w.dir, Config{})
	f := m.Parts[0]
	tokens, _ := f.Strings("tokenizer.ggml.tokens")
	types, _ := f.Value("tokenizer.ggml.token_type")
	scores, _ := f.Value("tokenizer.ggml.scores")
	for id, want := range map[int]token{
		0: {"<unk>", tokenUnknown, 0}, 1: {"<s>", tokenControl, 0}, 68: {"<0x41>", tokenByte, 0}, 261: {"▁the", tokenNormal, -2},
		270: {"<extra>", tokenUserDefined, -1000}, 299: {"[PAD299]", tokenUnused, -10000},
	} {
		if got := (token{tokens[id], types.Any().([]int32)[id], scores.Any().([]float32)[id]}); got != want {
			t.Errorf("token %d is %v, want %v", id, got, want)
		}
	}
	for key, want := range map[string]any{
		"tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default", "tokenizer.ggml.bos_token_id": uint32(1),
		"tokenizer.ggml.eos_token_id": uint32(2), "tokenizer.ggml.add_bos_token": true, "tokenizer.ggml.add_space_prefix": true,
	} {
		if got, _ := f.Value(key); got.Any() != want {
			t.Errorf("%s is %v, want %v", key, got.Any(), want)
		}
	}
	lm, err := llama.LoadModel(t.Context(), []string{m.Path()}, llama.ModelConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer lm.Close()
	got, err := lm.Tokenize("the sky", true, true)
	if want := []llama.Token{1, 261, 263, 267, 268, 269}; err != nil || !slices.Equal(got, want) {
		t.Errorf("\"the sky\" is %v, %v, want %v", got, err, want)
	}
}

func TestATokenizerOfSentencePieceMayHaveBothFiles(t *testing.T) {
	w := newTwin(t, "llama", small())
	all := tokenizerOf(t, w)
	all["model"].(map[string]any)["byte_fallback"] = true
	w.json(tokenizerFile, all)
	refused(t, "without tokenizer.model", w.dir, centram.Unsupported, "Download tokenizer.model too")
	w.text(piecesFile, string(pieces(modelBPE)))
	w.json(tokensFile, map[string]any{
		"bos_token": "<s>", "eos_token": map[string]any{"content": "</s>"}, "add_bos_token": true, "add_prefix_space": false,
		"added_tokens_decoder": map[string]any{
			"0": map[string]any{"content": "<unk>", "special": true}, "271": map[string]any{"content": "<|user|>", "special": false},
		},
	})
	f := converted(t, w.dir, Config{}).Parts[0]
	types, _ := f.Value("tokenizer.ggml.token_type")
	if got := types.Any().([]int32); got[0] != tokenUnknown || got[271] != tokenControl {
		t.Errorf("got types %d and %d, want unknown and control", got[0], got[271])
	}
	if prefix, ok := gguf.Get[bool](f, "tokenizer.ggml.add_space_prefix"); prefix || !ok {
		t.Errorf("a space before a text: got %v, %v, want false", prefix, ok)
	}
	if id, _ := gguf.Get[uint32](f, "tokenizer.ggml.eos_token_id"); id != 2 {
		t.Errorf("texts end with %d, want 2", id)
	}
}

func TestDamagedPiecesAreRefused(t *testing.T) {
	whole := pieces(modelBPE)
	for n := range len(whole) {
		v := vocabulary{tokens: make([]token, 300)}
		err := v.parsePieces("the file", whole[:n])
		if err == nil || centram.CodeOf(err) == centram.Internal {
			t.Fatalf("%d of %d bytes: got %v, want an error that says what is wrong", n, len(whole), err)
		}
	}
	for what, row := range map[string]struct {
		b    []byte
		code centram.Code
		says string
	}{
		"another model":            {pieces(1), centram.Unsupported, "another sort than BPE"},
		"a group":                  {[]byte{1<<3 | 3}, centram.Invalid, "damaged"},
		"a length beyond the file": {[]byte{1<<3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, centram.Invalid, "damaged"},
		"a field of number 0":      {[]byte{0, 0}, centram.Invalid, "damaged"},
		"a type that is none":      {[]byte{1<<3 | 2, 2, 3 << 3, 9}, centram.Invalid, "damaged"},
		"too many":                 {bytes.Repeat([]byte{1<<3 | 2, 0}, 301), centram.Invalid, "300 tokens"},
	} {
		v := vocabulary{tokens: make([]token, 300)}
		err := v.parsePieces("the file", row.b)
		if centram.CodeOf(err) != row.code || !strings.Contains(fmt.Sprint(err), row.says) {
			t.Errorf("%s: got %v, want code %s and %q", what, err, row.code, row.says)
		}
	}
}
