package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/server/wire"
)

type chatMessage struct {
	Role       string          `json:"role"`
	Content    json.RawMessage `json:"content"`
	Name       string          `json:"name"`
	ToolCallID string          `json:"tool_call_id"`
	ToolCalls  []struct {
		ID       string `json:"id"`
		Function struct {
			Name      string          `json:"name"`
			Arguments json.RawMessage `json:"arguments"`
		} `json:"function"`
	} `json:"tool_calls"`
}

// roles maps a client's word to the engine's. "developer" is OpenAI's newer word for system.
var roles = map[string]string{
	"system":    "system",
	"developer": "system",
	"user":      "user",
	"assistant": "assistant",
	"tool":      "tool",
}

func engineMessages(messages []chatMessage) ([]engine.Message, error) {
	if len(messages) == 0 {
		return nil, wire.Invalid("messages", "\"messages\" is required and must not be empty.")
	}
	out := make([]engine.Message, len(messages))
	for i, m := range messages {
		var err error
		if out[i], err = m.engine(fmt.Sprintf("messages[%d]", i)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// engine converts the message that stands at param.
func (m chatMessage) engine(param string) (engine.Message, error) {
	role, known := roles[m.Role]
	if !known {
		return engine.Message{}, wire.Invalid(param+".role", "%q is %q; system, developer, user, assistant and tool are known.", param+".role", m.Role)
	}
	if wire.IsNull(m.Content) && role != "assistant" {
		return engine.Message{}, wire.Invalid(param+".content", "%q is required.", param+".content")
	}
	text, err := contentText(m.Content, param+".content")
	if err != nil {
		return engine.Message{}, err
	}
	out := engine.Message{Role: role, Content: text, ToolCallID: m.ToolCallID, Name: m.Name}
	for i, call := range m.ToolCalls {
		if call.Function.Name == "" {
			at := fmt.Sprintf("%s.tool_calls[%d].function.name", param, i)
			return engine.Message{}, wire.Invalid(at, "%q is required.", at)
		}
		out.ToolCalls = append(out.ToolCalls, engine.ToolCall{
			ID: call.ID, Name: call.Function.Name, Arguments: argumentsText(call.Function.Arguments),
		})
	}
	return out, nil
}

// contentText is a string, or the text parts of an array with a line break between them, as llama.cpp joins them.
func contentText(raw json.RawMessage, param string) (string, error) {
	if wire.IsNull(raw) {
		return "", nil
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text, nil
	}
	var parts []struct {
		Type    string `json:"type"`
		Text    string `json:"text"`
		Refusal string `json:"refusal"`
	}
	if json.Unmarshal(raw, &parts) != nil {
		return "", wire.Invalid(param, "%q must be a string or an array of parts.", param)
	}
	var texts []string
	for i, p := range parts {
		at := fmt.Sprintf("%s[%d]", param, i)
		switch p.Type {
		case "text":
			texts = append(texts, p.Text)
		case "refusal":
			texts = append(texts, p.Refusal)
		case "image_url", "input_audio", "input_video", "video_url", "file":
			return "", wire.Unsupported(at, "%q is of the type %s. Centram's models read text only.", at, p.Type)
		default:
			return "", wire.Invalid(at+".type", "%q is %q, which is not a known type of content.", at+".type", p.Type)
		}
	}
	return strings.Join(texts, "\n"), nil
}

// argumentsText is the JSON text that OpenAI puts into a string. Some clients send back the object itself.
func argumentsText(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var compact bytes.Buffer
	if json.Compact(&compact, raw) != nil {
		return ""
	}
	return compact.String()
}
