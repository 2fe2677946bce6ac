package local

import (
	"encoding/json"
	"fmt"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/llama"
)

// wireMessage, wireCall and wireTool are OpenAI's JSON, which llama.cpp's template code reads and writes.
type wireMessage struct {
	Role       string     `json:"role"`
	Content    string     `json:"content"`
	ToolCalls  []wireCall `json:"tool_calls,omitempty"`
	ToolCallID string     `json:"tool_call_id,omitempty"`
	Name       string     `json:"name,omitempty"`
}

type wireCall struct {
	ID       string `json:"id,omitempty"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

type wireTool struct {
	Type     string `json:"type"`
	Function struct {
		Name        string          `json:"name"`
		Description string          `json:"description,omitempty"`
		Parameters  json.RawMessage `json:"parameters,omitempty"`
	} `json:"function"`
}

// RenderChat implements engine.Model.
func (t *Text) RenderChat(c engine.Chat) (engine.RenderedChat, error) {
	r, err := request(c)
	if err != nil {
		return engine.RenderedChat{}, err
	}
	p, err := t.model.ApplyTemplate(r)
	if err != nil {
		return engine.RenderedChat{}, centram.Errorf(centram.Invalid, "the conversation could not be put into the model's chat template: %w", err)
	}
	out := engine.RenderedChat{
		Prompt: p.Prompt, Stop: p.Stops, Preserve: tokens(p.Preserved),
		Grammar: engine.Grammar{GBNF: p.GBNF, Lazy: p.Lazy, Patterns: p.Patterns, Tokens: tokens(p.Tokens), Prefill: p.Prefill},
	}
	if r.GBNF != "" {
		out.Grammar = engine.Grammar{GBNF: r.GBNF} // about the answer alone; some templates would drop it
	}
	withTools := len(c.Tools) > 0 && c.ToolChoice != engine.ToolNone
	if withTools && !p.KnowsTools {
		return engine.RenderedChat{}, centram.Errorf(centram.Unsupported, "the model's chat template knows no tools").
			WithHint("Leave the tools out, or use a model that was trained with them, such as Qwen 2.5 Instruct.")
	}
	// Templates that think aloud have a parser too, but without tools their text is shown as it comes.
	if withTools {
		out.Parse = func(text string, partial bool) (engine.Message, error) { return parse(p, text, partial) }
	}
	return out, nil
}

func request(c engine.Chat) (llama.ChatRequest, error) {
	messages := make([]wireMessage, len(c.Messages))
	for i, msg := range c.Messages {
		messages[i] = wireMessage{Role: msg.Role, Content: msg.Content, ToolCallID: msg.ToolCallID, Name: msg.Name}
		for _, call := range msg.ToolCalls {
			if err := checkDepth("the arguments of a call of "+call.Name, call.Arguments); err != nil { // the template reads them
				return llama.ChatRequest{}, err
			}
			w := wireCall{ID: call.ID, Type: "function"}
			w.Function.Name, w.Function.Arguments = call.Name, call.Arguments
			messages[i].ToolCalls = append(messages[i].ToolCalls, w)
		}
	}
	r := llama.ChatRequest{
		ToolChoice: string(c.ToolChoice), ParallelToolCalls: c.ParallelToolCalls, JSONSchema: string(c.JSONSchema),
		GBNF: c.GBNF, Continue: c.Continue,
	}
	if r.ToolChoice == "" {
		r.ToolChoice = string(engine.ToolAuto)
	}
	var err error
	if r.Messages, err = json.Marshal(messages); err != nil {
		return r, fmt.Errorf("encode messages: %w", err)
	}
	if len(c.Tools) == 0 {
		return constrain(r)
	}
	tools := make([]wireTool, len(c.Tools))
	for i, t := range c.Tools {
		if err := checkNesting("the parameters of the tool "+t.Name, t.Parameters); err != nil {
			return r, err
		}
		tools[i].Type = "function"
		tools[i].Function.Name, tools[i].Function.Description, tools[i].Function.Parameters = t.Name, t.Description, t.Parameters
	}
	if r.Tools, err = json.Marshal(tools); err != nil {
		return r, centram.Errorf(centram.Invalid, "a tool's parameters are not JSON: %w", err)
	}
	return r, nil
}

// constrain makes the answer JSON and nothing else. Left to the template code, a schema may come in a Markdown fence.
func constrain(r llama.ChatRequest) (llama.ChatRequest, error) {
	if r.JSONSchema == "" {
		return r, nil
	}
	if r.JSONSchema == "{}" { // which as a schema would allow any value
		r.JSONSchema = `{"type":"object"}`
	}
	if err := checkSchema(json.RawMessage(r.JSONSchema)); err != nil {
		return r, err
	}
	gbnf, err := llama.SchemaToGrammar(r.JSONSchema)
	if err != nil {
		return r, centram.Errorf(centram.Invalid, "the JSON schema is not sound: %w", err)
	}
	r.GBNF, r.JSONSchema = gbnf, ""
	return r, nil
}

func parse(p *llama.ChatPrompt, text string, partial bool) (engine.Message, error) {
	if depth := deepest(text); depth > maxAnswerNesting {
		return engine.Message{}, centram.Errorf(centram.Invalid, "the answer nests brackets %d deep", depth)
	}
	raw, err := p.Parse(text, partial)
	if err != nil {
		return engine.Message{}, err
	}
	var w wireMessage
	if err := json.Unmarshal(raw, &w); err != nil {
		return engine.Message{}, fmt.Errorf("decode the parsed answer: %w", err)
	}
	msg := engine.Message{Role: "assistant", Content: w.Content}
	for _, call := range w.ToolCalls {
		msg.ToolCalls = append(msg.ToolCalls, engine.ToolCall{ID: call.ID, Name: call.Function.Name, Arguments: call.Function.Arguments})
	}
	return msg, nil
}

func tokens(raw []llama.Token) []engine.Token {
	out := make([]engine.Token, len(raw))
	for i, t := range raw {
		out[i] = engine.Token(t)
	}
	return out
}
