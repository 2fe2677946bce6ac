package openai

import (
	"encoding/json"
	"strings"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/server/wire"
	"github.com/labstack/echo/v4"
)

type chatRequest struct {
	common
	Messages            []chatMessage  `json:"messages"`
	MaxCompletionTokens *float64       `json:"max_completion_tokens"`
	Tools               []wire.Tool    `json:"tools"`
	ToolChoice          toolChoice     `json:"tool_choice"`
	ParallelToolCalls   *bool          `json:"parallel_tool_calls"`
	ResponseFormat      responseFormat `json:"response_format"`
	Logprobs            bool           `json:"logprobs"`
	TopLogprobs         *float64       `json:"top_logprobs"`
	AddGenerationPrompt bool           `json:"add_generation_prompt"`
	ContinueFinal       *bool          `json:"continue_final_message"`
}

func (h *handler) chat(c echo.Context) error {
	var r chatRequest
	if err := wire.Decode(c, &r); err != nil {
		return err
	}
	request, err := r.engine()
	if err != nil {
		return err
	}
	j, err := h.newJob(c.Request().Context(), r.common, chatForm{}, request)
	if err != nil {
		return err
	}
	return h.answer(c, j)
}

func (r chatRequest) engine() (engine.Request, error) {
	request, err := r.common.request(0)
	if err != nil {
		return engine.Request{}, err
	}
	limit, err := maxTokens("max_completion_tokens", r.MaxCompletionTokens, request.MaxTokens)
	if err != nil {
		return engine.Request{}, err
	}
	request.MaxTokens = limit
	if request.TopLogprobs, err = r.topLogprobs(); err != nil {
		return engine.Request{}, err
	}
	chat, err := r.conversation()
	if err != nil {
		return engine.Request{}, err
	}
	request.Chat = &chat
	request.Background = request.Background || isChore(chat.Messages)
	return request, nil
}

func (r chatRequest) topLogprobs() (int, error) {
	n := wire.Number{Param: "top_logprobs", Value: r.TopLogprobs, Min: 0, Max: maxLogprobs, Whole: true}
	if err := n.Check(); err != nil {
		return 0, err
	}
	if r.Logprobs {
		return n.Int(0), nil
	}
	if n.Int(0) > 0 {
		return 0, wire.Invalid("top_logprobs", "\"top_logprobs\" needs \"logprobs\" to be true.")
	}
	return -1, nil
}

func (r chatRequest) conversation() (engine.Chat, error) {
	messages, err := engineMessages(r.Messages)
	if err != nil {
		return engine.Chat{}, err
	}
	tools, err := wire.Tools(r.Tools)
	if err != nil {
		return engine.Chat{}, err
	}
	tools, choice, err := r.ToolChoice.apply(tools)
	if err != nil {
		return engine.Chat{}, err
	}
	schema, err := r.ResponseFormat.jsonSchema()
	if err != nil {
		return engine.Chat{}, err
	}
	switch {
	case r.Grammar != "" && schema != nil:
		return engine.Chat{}, wire.Invalid("grammar", "\"grammar\" and a JSON \"response_format\" exclude each other.")
	case r.Grammar != "" && len(tools) > 0 && choice != engine.ToolNone:
		return engine.Chat{}, wire.Invalid("grammar", "\"grammar\" and \"tools\" exclude each other.")
	}
	return engine.Chat{
		Messages:          messages,
		Tools:             tools,
		ToolChoice:        choice,
		ParallelToolCalls: r.ParallelToolCalls == nil || *r.ParallelToolCalls,
		JSONSchema:        schema,
		GBNF:              r.Grammar,
		Continue:          r.continues(messages),
	}, nil
}

// continues reports whether the answer goes on with the last message. As in llama.cpp it does if that is the
// assistant's, unless the client says otherwise in vLLM's words.
func (r chatRequest) continues(messages []engine.Message) bool {
	last := messages[len(messages)-1]
	if last.Role != "assistant" || len(last.ToolCalls) > 0 || r.AddGenerationPrompt {
		return false
	}
	return r.ContinueFinal == nil || *r.ContinueFinal
}

// isChore recognises the requests by which Open WebUI finds titles, tags and follow-up questions. Nobody waits for them.
func isChore(messages []engine.Message) bool {
	return len(messages) == 1 && messages[0].Role == "user" && strings.HasPrefix(messages[0].Content, "### Task:\n")
}

// toolChoice is auto, none or required, or an object that names the function to be called.
type toolChoice struct {
	mode     engine.ToolChoice
	function string
}

func (t *toolChoice) UnmarshalJSON(b []byte) error {
	if wire.IsNull(b) {
		return nil
	}
	var mode string
	if json.Unmarshal(b, &mode) == nil {
		t.mode = engine.ToolChoice(mode)
		return nil
	}
	var named struct {
		Type     string `json:"type"`
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	}
	if json.Unmarshal(b, &named) != nil || named.Type != "function" || named.Function.Name == "" {
		return errToolChoice
	}
	*t = toolChoice{engine.ToolRequired, named.Function.Name}
	return nil
}

var errToolChoice = wire.Invalid("tool_choice", "\"tool_choice\" must be \"auto\", \"none\", \"required\" or {\"type\":\"function\",\"function\":{\"name\":...}}.")

// apply returns the tools that may be called. Naming a function is to leave it as the only one.
func (t toolChoice) apply(tools []engine.Tool) ([]engine.Tool, engine.ToolChoice, error) {
	switch t.mode {
	case "", engine.ToolAuto, engine.ToolNone:
		return tools, t.mode, nil
	case engine.ToolRequired:
	default:
		return nil, "", errToolChoice
	}
	if len(tools) == 0 {
		return nil, "", wire.Invalid("tool_choice", "\"tool_choice\" asks for a call, but there are no \"tools\".")
	}
	if t.function == "" {
		return tools, t.mode, nil
	}
	for _, tool := range tools {
		if tool.Name == t.function {
			return []engine.Tool{tool}, t.mode, nil
		}
	}
	return nil, "", wire.Invalid("tool_choice", "\"tool_choice\" names the function %q, which is not among the \"tools\".", t.function)
}

// responseFormat is text, json_object with or without a schema, or json_schema.
type responseFormat struct {
	Type       string          `json:"type"`
	Schema     json.RawMessage `json:"schema"`
	JSONSchema struct {
		Schema json.RawMessage `json:"schema"`
	} `json:"json_schema"`
}

// jsonSchema is what the answer has to fit: nil for text, {} for any object.
func (f responseFormat) jsonSchema() (json.RawMessage, error) {
	var schema json.RawMessage
	param := "response_format"
	switch f.Type {
	case "", "text":
		return nil, nil
	case "json_object":
		schema, param = f.Schema, param+".schema"
	case "json_schema":
		schema, param = f.JSONSchema.Schema, param+".json_schema.schema"
	default:
		return nil, wire.Invalid(param+".type", "\"response_format\" has the type %q; text, json_object and json_schema are known.", f.Type)
	}
	if wire.IsNull(schema) {
		return json.RawMessage("{}"), nil
	}
	if !wire.IsObject(schema) {
		return nil, wire.Invalid(param, "%q must be a JSON schema object.", param)
	}
	return schema, nil
}
