package ollama

import (
	"encoding/json"
	"fmt"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/server/wire"
	"github.com/labstack/echo/v4"
)

type chatRequest struct {
	common
	Messages []message   `json:"messages"`
	Tools    []wire.Tool `json:"tools"`
}

type message struct {
	Role       string            `json:"role"`
	Content    string            `json:"content"`
	Images     []json.RawMessage `json:"images,omitempty"`
	ToolCalls  []toolCall        `json:"tool_calls,omitempty"`
	ToolName   string            `json:"tool_name,omitempty"`
	ToolCallID string            `json:"tool_call_id,omitempty"`
}

type toolCall struct {
	ID       string       `json:"id,omitempty"`
	Function functionCall `json:"function"`
}

type functionCall struct {
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments"` // an object, unlike OpenAI's text
}

func (h *handler) chat(c echo.Context) error {
	var r chatRequest
	if err := wire.Decode(c, &r); err != nil {
		return err
	}
	ctx := c.Request().Context()
	m, err := h.find(ctx, r.Model)
	if err != nil {
		return err
	}
	reply := h.newReply(c, r.Model, chatLine)
	if len(r.Messages) == 0 {
		return reply.residence(ctx, m, r.KeepAlive, r.streams())
	}
	chat, err := r.conversation()
	if err != nil {
		return err
	}
	request, err := h.request(ctx, r.common, m)
	if err != nil {
		return err
	}
	request.Chat = &chat
	return reply.answer(c, request, r.streams())
}

func (r chatRequest) conversation() (engine.Chat, error) {
	schema, err := r.schema()
	if err != nil {
		return engine.Chat{}, err
	}
	tools, err := wire.Tools(r.Tools)
	if err != nil {
		return engine.Chat{}, err
	}
	chat := engine.Chat{Tools: tools, ParallelToolCalls: true, JSONSchema: schema}
	for i, m := range r.Messages {
		converted, err := m.engine(fmt.Sprintf("messages[%d]", i))
		if err != nil {
			return engine.Chat{}, err
		}
		chat.Messages = append(chat.Messages, converted)
	}
	pairCalls(chat.Messages)
	last := chat.Messages[len(chat.Messages)-1]
	chat.Continue = last.Role == "assistant" && len(last.ToolCalls) == 0 // as Ollama does
	return chat, nil
}

var roles = map[string]bool{"system": true, "user": true, "assistant": true, "tool": true}

// engine converts the message that stands at param.
func (m message) engine(param string) (engine.Message, error) {
	switch {
	case !roles[m.Role]:
		return engine.Message{}, wire.Invalid(param+".role", "%q is %q; system, user, assistant and tool are known.", param+".role", m.Role)
	case len(m.Images) > 0:
		return engine.Message{}, wire.Unsupported(param+".images", "%q has images. Centram's models read text only.", param)
	}
	out := engine.Message{Role: m.Role, Content: m.Content, Name: m.ToolName, ToolCallID: m.ToolCallID}
	for i, call := range m.ToolCalls {
		at := fmt.Sprintf("%s.tool_calls[%d].function", param, i)
		if call.Function.Name == "" {
			return engine.Message{}, wire.Invalid(at+".name", "%q is required.", at+".name")
		}
		arguments := call.Function.Arguments
		if wire.IsNull(arguments) {
			arguments = json.RawMessage("{}")
		}
		if !wire.IsObject(arguments) {
			return engine.Message{}, wire.Invalid(at+".arguments", "%q must be an object.", at+".arguments")
		}
		out.ToolCalls = append(out.ToolCalls, engine.ToolCall{ID: call.ID, Name: call.Function.Name, Arguments: string(arguments)})
	}
	return out, nil
}

// pairCalls gives ids to tool calls and to their results, which in Ollama's API usually have none: the results follow
// their calls in the same order.
func pairCalls(messages []engine.Message) {
	var open []string
	made := 0
	for i := range messages {
		m := &messages[i]
		for k := range m.ToolCalls {
			if m.ToolCalls[k].ID == "" {
				made++
				m.ToolCalls[k].ID = fmt.Sprintf("call_%d", made)
			}
			open = append(open, m.ToolCalls[k].ID)
		}
		if m.Role != "tool" || len(open) == 0 {
			continue
		}
		if m.ToolCallID == "" {
			m.ToolCallID = open[0]
		}
		open = open[1:]
	}
}
