package convert

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
)

// vocabulary is a tokenizer as a GGUF file has it.
type vocabulary struct {
	model  string // "gpt2" for pairs of bytes, "llama" for SentencePiece
	pre    string // how text is cut before pairs are joined
	tokens []token
	merges []string // of gpt2
	prefix *bool    // whether llama puts a space before a text; nil if that is not said
	first  string   // the special token that every text begins with, if any
	last   string   // and ends with
	keys   []gguf.KV
}

// token is one token; without a type, it is not in use.
type token struct {
	text  string
	typ   int32
	score float32 // of llama
}

// Token types, as in tokenizer.ggml.token_type.
const (
	tokenNormal      = 1
	tokenUnknown     = 2
	tokenControl     = 3
	tokenUserDefined = 4
	tokenUnused      = 5
	tokenByte        = 6
)

// readVocabulary reads tokenizer.json, or tokenizer.model where the former is of SentencePiece or not there.
func readVocabulary(src *folder, c config) (vocabulary, error) {
	v := vocabulary{tokens: make([]token, c.shape.VocabSize)}
	settings, err := src.optional(tokensFile, maxTokenizer)
	if err != nil {
		return v, err
	}
	f, err := src.object(tokenizerFile, maxTokenizer)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return v, err
	}
	switch {
	case !missing && !ofPieces(f):
		err = v.readPairs(f)
	case c.shape.Architecture != "llama":
		err = noTokenizer(src, missing)
	default:
		err = v.readPieces(src, settings)
		if errors.Is(err, fs.ErrNotExist) {
			err = noTokenizer(src, missing)
		}
	}
	if err != nil {
		return v, err
	}
	v.fill()
	return v, v.special(src, settings, c.tokens)
}

// noTokenizer says what is there in place of a tokenizer that can be converted.
func noTokenizer(src *folder, missing bool) error {
	if !missing {
		return unsupported("%s is made of a SentencePiece tokenizer, which is converted from its %s, for the architecture of llama", src.path(tokenizerFile), piecesFile).
			WithHint("Download %s too.", piecesFile)
	}
	hint := fmt.Sprintf("Download it too. For a model of llama, %s will do.", piecesFile)
	if src.has("vocab.json") {
		hint = "There is a vocab.json. AutoTokenizer.from_pretrained and then save_pretrained make " + tokenizerFile + " of it."
	}
	return centram.Errorf(centram.NotFound, "%s has no %s", src.dir, tokenizerFile).WithHint("%s", hint)
}

// set puts a token where its id says. An id that is taken, or beyond the vocabulary, is an error.
func (v *vocabulary) set(file string, id int, t token) error {
	if id < 0 || id >= len(v.tokens) {
		return bad("%s: the token %.50q has the id %d, but %s says that there are %d tokens", file, t.text, id, configFile, len(v.tokens))
	}
	if have := v.tokens[id]; have.typ != 0 && have.text != t.text {
		return bad("%s: the tokens %.50q and %.50q have the same id %d", file, have.text, t.text, id)
	}
	v.tokens[id] = t
	return nil
}

// fill names the ids that no token has: rows of the embedding that were added to make a round number.
func (v *vocabulary) fill() {
	for id := range v.tokens {
		if v.tokens[id].typ == 0 {
			v.tokens[id] = token{fmt.Sprintf("[PAD%d]", id), tokenUnused, -10000}
		}
	}
}

// id finds a token by its text, or returns -1.
func (v *vocabulary) id(text string) int {
	for id, t := range v.tokens {
		if t.text == text && t.typ != tokenUnused {
			return id
		}
	}
	return -1
}

// metadata are the keys of the tokenizer.
func (v *vocabulary) metadata() []gguf.KV {
	texts, types, scores := make([]string, len(v.tokens)), make([]int32, len(v.tokens)), make([]float32, len(v.tokens))
	for id, t := range v.tokens {
		texts[id], types[id], scores[id] = t.text, t.typ, t.score
	}
	out := []gguf.KV{
		{Key: "tokenizer.ggml.model", Value: gguf.Of(v.model)},
		{Key: "tokenizer.ggml.pre", Value: gguf.Of(v.pre)},
		{Key: "tokenizer.ggml.tokens", Value: gguf.List(texts)},
		{Key: "tokenizer.ggml.token_type", Value: gguf.List(types)},
	}
	if v.model == "gpt2" {
		out = append(out, gguf.KV{Key: "tokenizer.ggml.merges", Value: gguf.List(v.merges)})
	} else {
		out = append(out, gguf.KV{Key: "tokenizer.ggml.scores", Value: gguf.List(scores)})
	}
	if v.prefix != nil {
		out = append(out, gguf.KV{Key: "tokenizer.ggml.add_space_prefix", Value: gguf.Of(*v.prefix)})
	}
	return append(out, v.keys...)
}

// looksSpecial reports whether a token that was added is one for control, though the folder does not say so. Some do not.
func looksSpecial(text string) bool {
	for _, ends := range [][2]string{{"<|", "|>"}, {"<｜", "｜>"}, {"<unused", ">"}} {
		if strings.HasPrefix(text, ends[0]) && strings.HasSuffix(text, ends[1]) {
			return true
		}
	}
	return text == "<pad>" || text == "<mask>" || text == "<2mass>" || text == "[@BOS@]"
}

// added is the token that was put into a vocabulary afterwards.
func added(text string, special bool) token {
	if special || looksSpecial(text) {
		return token{text, tokenControl, -1000}
	}
	return token{strings.ReplaceAll(text, "▁", " "), tokenUserDefined, -1000}
}

// id32 is an id as a file has it.
func id32(id int) gguf.Value { return gguf.Of(uint32(min(id, math.MaxUint32))) }
