package gguf

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/centram/centram"
)

// Vocab is the tokenizer of a model to be generated.
type Vocab struct {
	metadata []KV // the keys under "tokenizer."
	size     int
}

// Size is the number of tokens.
func (v *Vocab) Size() int { return v.size }

// The special tokens of ByteVocab by id; the other 30 are reserved.
const (
	ByteEndOfText = 256 // <|endoftext|>
	ByteIMStart   = 257 // <|im_start|>
	ByteIMEnd     = 258 // <|im_end|>

	byteSpecials = 33
)

// chatML is the chat template of ByteVocab: the messages as they are, with no system prompt of its own.
const chatML = `{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\n' + (message.content or '') + '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}
`

// ByteVocab has the 256 bytes, each with its value for id, and 33 special tokens, ChatML's among them. To llama.cpp it
// is a BPE vocabulary without merges: nothing joins the bytes, so "jumps " is [106, 117, 109, 112, 115, 32].
func ByteVocab() *Vocab {
	var tokens []string
	var types []int32
	for b := range 256 {
		tokens = append(tokens, string(byteChar[b]))
		types = append(types, tokenNormal)
	}
	tokens = append(tokens, "<|endoftext|>", "<|im_start|>", "<|im_end|>")
	for i := range byteSpecials - 3 {
		tokens = append(tokens, fmt.Sprintf("<|reserved_%d|>", i))
	}
	for range byteSpecials {
		types = append(types, tokenControl)
	}
	return &Vocab{size: len(tokens), metadata: []KV{
		{"tokenizer.ggml.model", Of("gpt2")},
		{"tokenizer.ggml.pre", Of("qwen2")},
		{"tokenizer.ggml.tokens", List(tokens)},
		{"tokenizer.ggml.token_type", List(types)},
		{"tokenizer.ggml.merges", List([]string{})},
		{"tokenizer.ggml.bos_token_id", Of(uint32(ByteEndOfText))},
		{"tokenizer.ggml.eos_token_id", Of(uint32(ByteIMEnd))},
		// Named, since llama.cpp would otherwise take whichever of the two enders its hash table yields first.
		{"tokenizer.ggml.eot_token_id", Of(uint32(ByteIMEnd))},
		{"tokenizer.ggml.padding_token_id", Of(uint32(ByteEndOfText))},
		{"tokenizer.ggml.add_bos_token", Of(false)},
		{"tokenizer.chat_template", Of(chatML)},
	}}
}

// VocabFrom takes over the tokenizer of f, which may be a file that has nothing but one.
func VocabFrom(f *File) (*Vocab, error) {
	n, err := checkVocab(f)
	if err != nil {
		return nil, err
	}
	v := &Vocab{size: n}
	for _, kv := range f.Metadata {
		if strings.HasPrefix(kv.Key, "tokenizer.") {
			v.metadata = append(v.metadata, kv)
		}
	}
	return v, nil
}

// pad returns v with unused tokens up to size, as converters add them to models whose embedding has spare rows.
func (v *Vocab) pad(size int) (*Vocab, error) {
	if size == v.size {
		return v, nil
	}
	if size < v.size {
		return nil, centram.Errorf(centram.Invalid, "a vocabulary of %d tokens does not fit into %d", v.size, size)
	}
	more := size - v.size
	out := &Vocab{size: size}
	typed := false
	for _, kv := range v.metadata {
		switch list := kv.Value.v.(type) {
		case []string:
			if kv.Key == "tokenizer.ggml.tokens" {
				list = slices.Clone(list)
				for i := v.size; i < size; i++ {
					list = append(list, fmt.Sprintf("[PAD%d]", i))
				}
				kv.Value = List(list)
			}
		case []int32:
			if kv.Key == "tokenizer.ggml.token_type" {
				typed = true
				kv.Value = List(append(slices.Clone(list), slices.Repeat([]int32{tokenUnused}, more)...))
			}
			if kv.Key == "tokenizer.ggml.scores" {
				kv.Value = List(append(slices.Clone(list), make([]int32, more)...))
			}
		case []float32:
			if kv.Key == "tokenizer.ggml.scores" {
				kv.Value = List(append(slices.Clone(list), make([]float32, more)...))
			}
		}
		out.metadata = append(out.metadata, kv)
	}
	if !typed {
		types := append(slices.Repeat([]int32{tokenNormal}, v.size), slices.Repeat([]int32{tokenUnused}, more)...)
		out.metadata = append(out.metadata, KV{"tokenizer.ggml.token_type", List(types)})
	}
	return out, nil
}

// byteChar is GPT-2's table: the character that stands for a byte in the text of a token. A byte that Latin-1 prints
// stands for itself; the others take the characters from U+0100 on, in order.
var byteChar, charByte = func() (to [256]rune, from map[rune]byte) {
	from = map[rune]byte{}
	next := rune(256)
	for b := range 256 {
		c := rune(b)
		if !bytes.ContainsRune(latin1, c) {
			c = next
			next++
		}
		to[b], from[c] = c, byte(b)
	}
	return to, from
}()

// latin1 holds the bytes from ! to ~, ¡ to ¬ and ® to ÿ, as characters.
var latin1 = func() (out []byte) {
	for _, r := range [][2]rune{{'!', '~'}, {'¡', '¬'}, {'®', 'ÿ'}} {
		for c := r[0]; c <= r[1]; c++ {
			out = append(out, string(c)...)
		}
	}
	return out
}()
