package openai

import (
	"encoding/json"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/server/wire"
	"github.com/labstack/echo/v4"
)

type textRequest struct {
	common
	Prompt   prompts  `json:"prompt"`
	Logprobs *float64 `json:"logprobs"`

	// What follows is refused if it would change the answer.
	Echo           bool            `json:"echo"`
	BestOf         *float64        `json:"best_of"`
	Suffix         string          `json:"suffix"`
	ResponseFormat responseFormat  `json:"response_format"`
	JSONSchema     json.RawMessage `json:"json_schema"`
}

func (h *handler) completions(c echo.Context) error {
	var r textRequest
	if err := wire.Decode(c, &r); err != nil {
		return atPrompt(err, "prompt")
	}
	requests, err := r.engine()
	if err != nil {
		return err
	}
	j, err := h.newJob(c.Request().Context(), r.common, newTextForm(r.Logprobs), requests...)
	if err != nil {
		return err
	}
	return h.answer(c, j)
}

// engine returns one request for each prompt.
func (r textRequest) engine() ([]engine.Request, error) {
	if err := r.refusal(); err != nil {
		return nil, err
	}
	if err := r.Prompt.check("prompt", maxPrompts); err != nil {
		return nil, err
	}
	request, err := r.common.request(defaultText)
	if err != nil {
		return nil, err
	}
	logprobs := wire.Number{Param: "logprobs", Value: r.Logprobs, Min: 0, Max: maxLogprobs, Whole: true}
	if err := logprobs.Check(); err != nil {
		return nil, err
	}
	request.TopLogprobs = logprobs.Int(-1)
	request.Grammar = engine.Grammar{GBNF: r.Grammar}

	var requests []engine.Request
	for _, text := range r.Prompt.texts {
		request.Text = text
		requests = append(requests, request)
	}
	for _, tokens := range r.Prompt.tokens {
		request.Tokens = tokens
		requests = append(requests, request)
	}
	return requests, nil
}

func (r textRequest) refusal() error {
	format := r.ResponseFormat.Type
	for _, row := range []struct {
		param   string
		refused bool
		instead string
	}{
		{"echo", r.Echo, "Put the prompt before the answer yourself."},
		{"best_of", r.BestOf != nil && *r.BestOf != 1, "Ask for \"n\" answers with \"logprobs\" and choose."},
		{"suffix", r.Suffix != "", "Write the model's fill-in-the-middle tokens into the prompt."},
		{"response_format", format != "" && format != "text", "Use /v1/chat/completions, or \"grammar\"."},
		{"json_schema", !wire.IsNull(r.JSONSchema), "Use /v1/chat/completions, or \"grammar\"."},
	} {
		if row.refused {
			return wire.Invalid(row.param, "%q is not supported for text completions.", row.param).WithHint("%s", row.instead)
		}
	}
	return nil
}
