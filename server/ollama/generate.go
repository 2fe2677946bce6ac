package ollama

import (
	"encoding/json"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/models"
	"github.com/centram/centram/server/wire"
	"github.com/labstack/echo/v4"
)

type generateRequest struct {
	common
	Prompt string `json:"prompt"`
	System string `json:"system"`
	Raw    bool   `json:"raw"`

	// What follows is refused unless it is empty.
	Suffix   string            `json:"suffix"`
	Images   []json.RawMessage `json:"images"`
	Template string            `json:"template"`
	Context  []json.RawMessage `json:"context"`
}

func (h *handler) generate(c echo.Context) error {
	var r generateRequest
	if err := wire.Decode(c, &r); err != nil {
		return err
	}
	if err := r.refusal(); err != nil {
		return err
	}
	ctx := c.Request().Context()
	m, err := h.find(ctx, r.Model)
	if err != nil {
		return err
	}
	reply := h.newReply(c, r.Model, generateLine)
	if r.Prompt == "" {
		return reply.residence(ctx, m, r.KeepAlive, r.streams())
	}
	request, err := h.request(ctx, r.common, m)
	if err != nil {
		return err
	}
	if err := r.prompt(m, &request); err != nil {
		return err
	}
	return reply.answer(c, request, r.streams())
}

func (r generateRequest) refusal() error {
	for _, row := range []struct {
		param   string
		refused bool
		instead string
	}{
		{"suffix", r.Suffix != "", "Send \"raw\": true and write the model's fill-in-the-middle tokens into the prompt."},
		{"images", len(r.Images) > 0, "Centram's models read text only."},
		{"template", r.Template != "", "Send \"raw\": true and a prompt that has been put into the template."},
		{"context", len(r.Context) > 0, "Use /api/chat, which takes the whole conversation."},
	} {
		if row.refused {
			return wire.Unsupported(row.param, "%q is not supported.", row.param).WithHint("%s", row.instead)
		}
	}
	return nil
}

// prompt puts the prompt into a request to m: as a conversation, or as it is if that was asked for or m has no template.
func (r generateRequest) prompt(m models.Model, request *engine.Request) error {
	schema, err := r.schema()
	if err != nil {
		return err
	}
	plain := r.Raw || !m.ChatTemplate
	switch {
	case plain && schema != nil:
		return wire.Unsupported("format", "\"format\" needs a model with a chat template, and \"raw\" not to be set.")
	case plain && r.System != "" && !r.Raw:
		request.Text = r.System + "\n\n" + r.Prompt
	case plain:
		request.Text = r.Prompt
	default:
		request.Chat = &engine.Chat{Messages: r.messages(), JSONSchema: schema}
	}
	return nil
}

func (r generateRequest) messages() []engine.Message {
	user := engine.Message{Role: "user", Content: r.Prompt}
	if r.System == "" {
		return []engine.Message{user}
	}
	return []engine.Message{{Role: "system", Content: r.System}, user}
}
