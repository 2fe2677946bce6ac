package openai

import (
	"strings"
	"unicode/utf8"

	"github.com/centram/centram/engine"
)

type chatLogprobs struct {
	Content []tokenLogprob `json:"content"`
	Refusal []tokenLogprob `json:"refusal"` // always null
}

type tokenLogprob struct {
	rival
	Top []rival `json:"top_logprobs"`
}

type rival struct {
	Token   string  `json:"token"`
	Logprob float32 `json:"logprob"`
	Bytes   []int   `json:"bytes"` // a token may be part of a character; []byte would become base64
}

// chatLogprobsOf is nil, JSON's null, if there are no tokens.
func chatLogprobsOf(tokens []engine.TokenInfo) *chatLogprobs {
	if len(tokens) == 0 {
		return nil
	}
	content := make([]tokenLogprob, len(tokens))
	for i, t := range tokens {
		content[i] = tokenLogprob{rivalOf(t), make([]rival, len(t.Top))}
		for k, top := range t.Top {
			content[i].Top[k] = rivalOf(top)
		}
	}
	return &chatLogprobs{Content: content}
}

func rivalOf(t engine.TokenInfo) rival {
	bytes := make([]int, len(t.Text))
	for i, b := range t.Text {
		bytes[i] = int(b)
	}
	return rival{tokenText(t), finite(t.Logprob), bytes}
}

func tokenText(t engine.TokenInfo) string { return strings.ToValidUTF8(string(t.Text), "\uFFFD") }

// finite keeps what JSON cannot hold out of it. -9999 is OpenAI's way to say "next to impossible".
func finite(logprob float32) float32 {
	if logprob >= -9999 && logprob <= 0 {
		return logprob
	}
	if logprob > 0 {
		return 0
	}
	return -9999
}

// textLogprobs is the shape of the older API: parallel lists.
type textLogprobs struct {
	Tokens        []string             `json:"tokens"`
	TokenLogprobs []float32            `json:"token_logprobs"`
	TopLogprobs   []map[string]float32 `json:"top_logprobs"` // null if no rivals were asked for
	TextOffset    []int                `json:"text_offset"`  // in characters of the answer
}

func textLogprobsOf(tokens []engine.TokenInfo, offset int, top bool) *textLogprobs {
	if len(tokens) == 0 {
		return nil
	}
	var l textLogprobs
	for _, t := range tokens {
		l.Tokens = append(l.Tokens, tokenText(t))
		l.TokenLogprobs = append(l.TokenLogprobs, finite(t.Logprob))
		l.TextOffset = append(l.TextOffset, offset)
		offset += characters(t.Text)
		if top {
			rivals := make(map[string]float32, len(t.Top))
			for _, r := range t.Top {
				rivals[tokenText(r)] = finite(r.Logprob)
			}
			l.TopLogprobs = append(l.TopLogprobs, rivals)
		}
	}
	return &l
}

// characters counts those that begin in b, so that a character that is spread over tokens counts once.
func characters(b []byte) int {
	n := 0
	for _, x := range b {
		if utf8.RuneStart(x) {
			n++
		}
	}
	return n
}
