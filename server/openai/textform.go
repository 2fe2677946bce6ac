package openai

import (
	"unicode/utf8"

	"github.com/centram/centram/engine"
)

// textForm writes answers of /v1/completions.
type textForm struct{ top bool } // top says that rivals were asked for

func newTextForm(logprobs *float64) textForm {
	return textForm{top: logprobs != nil && *logprobs > 0}
}

func (textForm) names() (id, object, chunk string) {
	return "cmpl-", "text_completion", "text_completion"
}

type textChoice struct {
	Index        int                  `json:"index"`
	Text         string               `json:"text"`
	Logprobs     *textLogprobs        `json:"logprobs"`
	FinishReason *engine.FinishReason `json:"finish_reason"`
}

func (f textForm) whole(index int, r engine.Result, tokens []engine.TokenInfo) any {
	return textChoice{index, r.Message.Content, textLogprobsOf(tokens, 0, f.top), &r.Reason}
}

func (f textForm) chunks(index int) chunks { return &textChunks{form: f, index: index} }

type textChunks struct {
	form   textForm
	index  int
	offset int // characters written so far
}

func (t *textChunks) opening() any { return nil }

func (t *textChunks) piece(e engine.Event) any {
	chunk := textChoice{Index: t.index, Text: e.Text, Logprobs: textLogprobsOf(e.Tokens, t.offset, t.form.top)}
	t.offset += utf8.RuneCountInString(e.Text)
	return chunk
}

func (t *textChunks) nothing() any { return textChoice{Index: t.index} }

func (t *textChunks) closing(reason engine.FinishReason) any {
	return textChoice{Index: t.index, FinishReason: &reason}
}
