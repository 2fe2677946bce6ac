package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/server/wire"
)

// remoteTalker lets the daemon answer, over its OpenAI API.
type remoteTalker struct {
	*client
	model string
}

// newRemoteTalker fails with centram.NotFound if the daemon does not know the model. An empty one is the daemon's choice.
func newRemoteTalker(ctx context.Context, c *client, model string) (*remoteTalker, error) {
	if model == "" {
		return &remoteTalker{c, ""}, nil
	}
	var known struct {
		ID string `json:"id"`
	}
	if err := c.do(ctx, http.MethodGet, "/v1/models/"+url.PathEscape(model), nil, &known); err != nil {
		return nil, err
	}
	return &remoteTalker{c, known.ID}, nil
}

func (t *remoteTalker) Model() string { return t.model }
func (t *remoteTalker) Close() error  { return nil }

// chatBody is a request for either kind of completion.
type chatBody struct {
	Model     string           `json:"model,omitempty"`
	Prompt    *string          `json:"prompt,omitempty"`
	Messages  []engine.Message `json:"messages,omitempty"`
	MaxTokens int              `json:"max_tokens"` // 0 means no limit
	Stop      []string         `json:"stop,omitempty"`
	Stream    bool             `json:"stream"`
	wire.Sampling
}

// chunk is a piece of either kind of completion, or an error.
type chunk struct {
	Model   string `json:"model"`
	Choices []struct {
		Text  string `json:"text"`
		Delta struct {
			Content string `json:"content"`
		} `json:"delta"`
		Finish *string `json:"finish_reason"`
	} `json:"choices"`
	Timings *struct {
		CacheN      int     `json:"cache_n"`
		PromptN     int     `json:"prompt_n"`
		PromptMS    float64 `json:"prompt_ms"`
		PredictedN  int     `json:"predicted_n"`
		PredictedMS float64 `json:"predicted_ms"`
		PerSecond   float64 `json:"predicted_per_second"`
	} `json:"timings"`
	Error json.RawMessage `json:"error"`
}

func (t *remoteTalker) Answer(ctx context.Context, q question, emit func(string) error) (answer, error) {
	path, body := "/v1/chat/completions", chatBody{
		Model: t.model, Messages: q.Messages, MaxTokens: q.MaxTokens, Stop: q.Stop, Stream: true, Sampling: q.Sampling,
	}
	if q.Raw {
		path, body.Messages, body.Prompt = "/v1/completions", nil, &q.Prompt
	}
	resp, err := t.send(ctx, http.MethodPost, path, body)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	out := answer{Model: t.model}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		if string(data) == "[DONE]" {
			return out, nil
		}
		if err := out.take(data, emit); err != nil {
			return out, err
		}
	}
	if err := lines.Err(); err != nil {
		return out, err
	}
	return out, centram.Errorf(centram.Unavailable, "The daemon ended while it answered.").WithHint("Start it again with: centram serve")
}

// take adds one event of the stream to the answer.
func (a *answer) take(data []byte, emit func(string) error) error {
	var c chunk
	if err := json.Unmarshal(data, &c); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	if c.Error != nil {
		message, _, _ := refusalText(data)
		return centram.Errorf(centram.Unavailable, "%s", strings.TrimSpace(message)).WithHint("Look for the cause with: centram doctor")
	}
	if c.Model != "" {
		a.Model = c.Model
	}
	if t := c.Timings; t != nil {
		a.PromptTokens, a.CachedTokens, a.GeneratedTokens = t.CacheN+t.PromptN, t.CacheN, t.PredictedN
		a.PromptMS, a.GenerateMS, a.TokensPerSecond = t.PromptMS, t.PredictedMS, t.PerSecond
	}
	for _, choice := range c.Choices {
		text := choice.Text + choice.Delta.Content
		a.Content += text
		if choice.Finish != nil {
			a.Finish = *choice.Finish
		}
		if text == "" {
			continue
		}
		if err := emit(text); err != nil {
			return err
		}
	}
	return nil
}
