package openai

import (
	"github.com/centram/centram/engine"
)

// chatForm writes answers of /v1/chat/completions.
type chatForm struct{}

func (chatForm) names() (id, object, chunk string) {
	return "chatcmpl-", "chat.completion", "chat.completion.chunk"
}

type chatChoice struct {
	Index        int                  `json:"index"`
	Message      answerMessage        `json:"message"`
	Logprobs     *chatLogprobs        `json:"logprobs"`
	FinishReason *engine.FinishReason `json:"finish_reason"`
}

type answerMessage struct {
	Role      string     `json:"role"`
	Content   *string    `json:"content"` // null if there are only tool calls
	Refusal   *string    `json:"refusal"`
	ToolCalls []toolCall `json:"tool_calls,omitempty"`
}

type toolCall struct {
	Index    *int         `json:"index,omitempty"` // in a stream
	ID       string       `json:"id,omitempty"`
	Type     string       `json:"type,omitempty"`
	Function functionCall `json:"function"`
}

type functionCall struct {
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments"` // JSON as text
}

func (chatForm) whole(index int, r engine.Result, tokens []engine.TokenInfo) any {
	message := answerMessage{Role: "assistant"}
	if r.Message.Content != "" || len(r.Message.ToolCalls) == 0 {
		message.Content = &r.Message.Content
	}
	for _, call := range r.Message.ToolCalls {
		message.ToolCalls = append(message.ToolCalls,
			toolCall{ID: call.ID, Type: "function", Function: functionCall{call.Name, call.Arguments}})
	}
	return chatChoice{index, message, chatLogprobsOf(tokens), &r.Reason}
}

func (chatForm) chunks(index int) chunks { return chatChunks(index) }

// chatChunks is a choice's index; its chunks need no state.
type chatChunks int

type chatChunk struct {
	Index        int                  `json:"index"`
	Delta        delta                `json:"delta"`
	Logprobs     *chatLogprobs        `json:"logprobs"`
	FinishReason *engine.FinishReason `json:"finish_reason"`
}

type delta struct {
	Role      string     `json:"role,omitempty"`
	Content   *string    `json:"content,omitempty"`
	ToolCalls []toolCall `json:"tool_calls,omitempty"`
}

func (i chatChunks) opening() any {
	empty := ""
	return chatChunk{Index: int(i), Delta: delta{Role: "assistant", Content: &empty}}
}

func (i chatChunks) piece(e engine.Event) any {
	chunk := chatChunk{Index: int(i), Logprobs: chatLogprobsOf(e.Tokens)}
	if e.Text != "" || len(e.ToolCalls) == 0 {
		chunk.Delta.Content = &e.Text
	}
	for _, call := range e.ToolCalls {
		d := toolCall{Index: &call.Index, Function: functionCall{call.Name, call.Arguments}}
		if call.Name != "" {
			d.ID, d.Type = call.ID, "function"
		}
		chunk.Delta.ToolCalls = append(chunk.Delta.ToolCalls, d)
	}
	return chunk
}

func (i chatChunks) nothing() any { return chatChunk{Index: int(i)} }

func (i chatChunks) closing(reason engine.FinishReason) any {
	return chatChunk{Index: int(i), FinishReason: &reason}
}
