package gguf

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxTokenBytes bounds one token. The longest in use are runs of a few hundred spaces.
const MaxTokenBytes = 4096

// maxTextGrowth bounds what llama.cpp writes while it decodes tokens: for each character that stands for no byte it
// appends the whole token once more.
const maxTextGrowth = 64 << 20

// Token types, as in tokenizer.ggml.token_type.
const (
	tokenNormal  = 1
	tokenControl = 3
	tokenUnused  = 5
	tokenByte    = 6
	maxTokenType = 6
)

// noToken is how converters write that there is no such token: -1, read as u32. llama.cpp then keeps its default.
const noToken = math.MaxUint32

const (
	tokenizerModel = "tokenizer.ggml.model"
	noVocab        = "no_vocab" // its value in a slice: llama.cpp then makes up as many tokens as vocab_size says
)

// tokenizer is a value of tokenizer.ggml.model that is allowed.
type tokenizer struct {
	merges   bool  // it needs tokenizer.ggml.merges
	defaults []int // the ids that llama.cpp takes for the beginning and the end if the file names none
	byteText bool  // its tokens are spelt in the characters of GPT-2's byte table
}

var tokenizers = map[string]tokenizer{
	"gpt2":  {merges: true, defaults: []int{11, 11}, byteText: true},
	"llama": {defaults: []int{1, 2}},
}

// preTokenizers are the values of tokenizer.ggml.pre that are allowed for gpt2: those of models of our architectures,
// and among them only such as turn text into byte characters before it meets the merges. For others llama.cpp asserts
// that no word has a space in it, which a text can break.
var preTokenizers = []string{
	"", "default", "qwen2", "deepseek-r1-qwen", "megrez", "llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral",
	"gpt-2", "gpt-4o", "smollm", "tekken", "deepseek-llm", "deepseek-coder", "smaug-bpe", "starcoder", "dbrx",
	"superbpe", "seed-coder", "refact", "command-r", "olmo",
}

// tokenKeys are the keys that name a token. llama.cpp reads them as u32; a negative number in another kind would pass
// its range check, being converted.
var tokenKeys = []string{
	"bos_token_id", "eos_token_id", "eot_token_id", "eom_token_id", "unknown_token_id", "seperator_token_id",
	"separator_token_id", "padding_token_id", "cls_token_id", "mask_token_id", "prefix_token_id", "suffix_token_id",
	"middle_token_id", "fim_pre_token_id", "fim_suf_token_id", "fim_mid_token_id", "fim_pad_token_id",
	"fim_rep_token_id", "fim_sep_token_id",
}

var tokenizerFlags = []string{
	"add_bos_token", "add_eos_token", "add_sep_token", "add_space_prefix", "remove_extra_whitespaces",
	"normalizer.lowercase", "normalizer.strip_accents",
}

// checkVocab checks the tokenizer keys of f and returns how many tokens there are.
func checkVocab(f *File) (int, error) {
	model, ok := f.String(tokenizerModel)
	if !ok {
		return 0, unusable(f, "it has no tokenizer")
	}
	kind, ok := tokenizers[model]
	if !ok {
		return 0, unsupported(f, "its tokenizer %q is not supported", printable(model))
	}
	if pre, ok := f.Value("tokenizer.ggml.pre"); ok {
		name, isText := pre.v.(string)
		if !isText {
			return 0, unusable(f, "its key tokenizer.ggml.pre is a %v, not a string", pre.Kind())
		}
		if kind.byteText && !slices.Contains(preTokenizers, name) {
			return 0, unsupported(f, "its pre-tokenizer %q is not supported", printable(name))
		}
	}
	tokens, ok := f.Strings("tokenizer.ggml.tokens")
	if !ok || len(tokens) == 0 {
		return 0, unusable(f, "it has no list of tokens")
	}
	types, err := checkTypes(f, len(tokens))
	if err != nil {
		return 0, err
	}
	for _, step := range []func() error{
		func() error { return checkTokens(f, tokens, types, kind) },
		func() error { return checkScores(f, len(tokens)) },
		func() error { return checkMerges(f, kind) },
		func() error { return checkIDs(f, len(tokens), kind) },
	} {
		if err := step(); err != nil {
			return 0, err
		}
	}
	return len(tokens), nil
}

func checkTypes(f *File, n int) ([]int32, error) {
	const key = "tokenizer.ggml.token_type"
	v, ok := f.Value(key)
	if !ok {
		return nil, nil
	}
	types, ok := v.v.([]int32)
	if !ok {
		return nil, unusable(f, "its key %s is not a list of i32", key)
	}
	if len(types) != n {
		return nil, unusable(f, "it has %d tokens but %d token types", n, len(types))
	}
	for id, t := range types {
		if t < 0 || t > maxTokenType {
			return nil, unusable(f, "its token %d is of unknown type %d", id, t)
		}
	}
	return types, nil
}

// checkTokens checks the tokens' texts. Two equal texts make llama.cpp abort.
func checkTokens(f *File, tokens []string, types []int32, kind tokenizer) error {
	seen := make(map[string]int, len(tokens))
	growth := 0
	for id, text := range tokens {
		typ := int32(tokenNormal)
		if types != nil {
			typ = types[id]
		}
		if text == "" {
			text = fmt.Sprintf("[EMPTY_%d]", id) // as llama.cpp has it
		}
		if first, twice := seen[text]; twice {
			return unusable(f, "its tokens %d and %d are the same", first, id)
		}
		seen[text] = id
		switch {
		case len(text) > MaxTokenBytes:
			return unusable(f, "its token %d is %d bytes long, more than the %d allowed", id, len(text), MaxTokenBytes)
		case strings.Contains(text, "\x00"):
			return unusable(f, "its token %d has a zero byte in it", id)
		case typ == tokenByte && !isByteToken(text):
			return unusable(f, "its token %d is of the byte type but is not written like <0x0A>", id)
		case kind.byteText && !utf8.ValidString(text):
			return unusable(f, "its token %d is not UTF-8", id)
		}
		if kind.byteText && typ == tokenNormal {
			for _, r := range text {
				if _, ok := charByte[r]; !ok {
					growth += len(text)
				}
			}
		}
	}
	if name, _ := f.String("general.name"); phi3.MatchString(name) {
		for _, text := range []string{"</s>", "<s>", "<unk>", "<|endoftext|>"} {
			if _, ok := seen[text]; !ok {
				return unusable(f, "it is named after Phi-3, for which llama.cpp wants the token %s", text)
			}
		}
	}
	if growth > maxTextGrowth {
		return unusable(f, "its tokens are not spelt in the byte characters of its tokenizer")
	}
	if kind.byteText {
		return nil
	}
	// This tokenizer falls back to bytes, and llama.cpp throws out of its C interface if one is missing.
	for b := range 256 {
		_, spelt := seen[fmt.Sprintf("<0x%02X>", b)]
		_, raw := seen[string([]byte{byte(b)})]
		if !spelt && !raw {
			return unusable(f, "its vocabulary has no token for the byte %#02x", b)
		}
	}
	return nil
}

// phi3 matches the model names by which llama.cpp, whatever the architecture, treats some tokens specially.
var phi3 = regexp.MustCompile(`(?i)phi-?3`)

func isByteToken(s string) bool {
	if len(s) != 6 || s[:3] != "<0x" || s[5] != '>' {
		return false
	}
	return strings.Trim(s[3:5], "0123456789abcdefABCDEF") == ""
}

func checkScores(f *File, n int) error {
	const key = "tokenizer.ggml.scores"
	v, ok := f.Value(key)
	if !ok {
		return nil
	}
	switch scores := v.v.(type) {
	case []int32:
	case []float32:
		// llama.cpp sorts by score, and NaN has no order.
		for id, s := range scores {
			if math.IsNaN(float64(s)) || math.IsInf(float64(s), 0) {
				return unusable(f, "the score of its token %d is %v", id, s)
			}
		}
	default:
		return unusable(f, "its key %s is not a list of f32 or i32", key)
	}
	if v.Len() != n {
		return unusable(f, "it has %d tokens but %d scores", n, v.Len())
	}
	return nil
}

// checkMerges checks the pairs. llama.cpp demands the list for gpt2, but it may be empty: then every character is a
// token of its own.
func checkMerges(f *File, kind tokenizer) error {
	const key = "tokenizer.ggml.merges"
	v, ok := f.Value(key)
	if !ok {
		if kind.merges {
			return unusable(f, "its key %s is missing", key)
		}
		return nil
	}
	merges, ok := v.v.([]string)
	if !ok {
		return unusable(f, "its key %s is not a list of strings", key)
	}
	seen := make(map[string]int, len(merges))
	for i, m := range merges {
		left, right, ok := strings.Cut(m, " ")
		if !ok || left == "" || right == "" || len(m) > 2*MaxTokenBytes || strings.ContainsAny(right, " \x00") ||
			strings.Contains(left, "\x00") {
			return unusable(f, "its merge %d is not a pair of two texts", i)
		}
		if first, twice := seen[m]; twice {
			return unusable(f, "its merges %d and %d are the same", first, i)
		}
		seen[m] = i
	}
	return nil
}

func checkIDs(f *File, n int, kind tokenizer) error {
	for _, name := range tokenKeys {
		key := "tokenizer.ggml." + name
		v, ok := f.Value(key)
		if !ok {
			continue
		}
		id, ok := v.v.(uint32)
		if !ok {
			return unusable(f, "its key %s is a %v, not a u32", key, v.Kind())
		}
		if uint64(id) >= uint64(n) && id != noToken {
			return unusable(f, "its key %s is %d, but it has %d tokens", key, id, n)
		}
	}
	for _, name := range tokenizerFlags {
		key := "tokenizer.ggml." + name
		if v, ok := f.Value(key); ok && v.Kind() != KindBool {
			return unusable(f, "its key %s is a %v, not a bool", key, v.Kind())
		}
	}
	// llama.cpp asserts that there is a token to begin or end a text with when it adds one.
	for i, name := range []string{"bos_token_id", "eos_token_id"} {
		id, ok := Get[uint32](f, "tokenizer.ggml."+name)
		if (!ok || id == noToken) && kind.defaults[i] >= n {
			return unusable(f, "it has only %d tokens and does not name one in tokenizer.ggml.%s", n, name)
		}
	}
	if v, ok := f.Value("tokenizer.ggml.token_type_count"); ok && v.Kind() != KindUint32 {
		return unusable(f, "its key tokenizer.ggml.token_type_count is a %v, not a u32", v.Kind())
	}
	v, ok := f.Value("tokenizer.ggml.suppress_tokens")
	if !ok {
		return nil
	}
	suppressed, ok := v.v.([]int32)
	if !ok || slices.ContainsFunc(suppressed, func(id int32) bool { return id < 0 || int(id) >= n }) {
		return unusable(f, "its key tokenizer.ggml.suppress_tokens is not a list of its tokens")
	}
	return nil
}
