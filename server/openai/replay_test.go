package openai

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/server/wire/wiretest"
	client "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// TestClientsAreAnswered sends what clients send, field by field, and wants an answer with what they look for in it.
func TestClientsAreAnswered(t *testing.T) {
	for _, row := range []struct {
		name, method, path, body string
		want                     []string
	}{
		{"Open WebUI looks for models", "GET", "/v1/models", "", []string{`"data":[{"id":"test"`}},
		{
			"Open WebUI chats", "POST", "/v1/chat/completions", `{"stream":true,"model":"test","messages":[{"role":"user","content":"Hi"}],
			"stream_options":{"include_usage":true},"logit_bias":{},"reasoning_effort":"medium","stop":["<|end|>"],"temperature":0.7,
			"max_tokens":100,"top_k":40,"min_p":0.05,"repeat_penalty":1.1,"custom_param":{"x":1}}`,
			[]string{`"delta":{"role":"assistant"`, `"choices":[],"usage":{`, "data: [DONE]"},
		},
		{"Open WebUI finds a title", "POST", "/v1/chat/completions", `{"model":"test","messages":[{"role":"user","content":"### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history."}],
			"stream":false,"max_completion_tokens":1000}`, []string{`"finish_reason":"stop"`}},
		{
			"Continue chats", "POST", "/v1/chat/completions", `{"messages":[{"role":"system","content":"You are an IDE."},{"role":"user","content":[{"type":"text","text":"Explain"}]}],
			"model":"test","max_tokens":4096,"stream":true,"stream_options":{"include_usage":true},"parallel_tool_calls":false,
			"tools":[{"type":"function","function":{"name":"read_file","description":"Read","parameters":{"type":"object","required":["filepath"],"properties":{"filepath":{"type":"string"}}}}}]}`,
			[]string{`"content":"Hello"`, "data: [DONE]"},
		},
		{"Continue completes code", "POST", "/v1/completions", `{"prompt":"<|fim_prefix|>func a() {<|fim_suffix|>}<|fim_middle|>","model":"test","max_tokens":2048,
			"temperature":0.01,"stop":["<|endoftext|>","<|fim_prefix|>","\n\n"],"stream":true,"suffix":""}`, []string{`"text":"Hello"`, "data: [DONE]"}},
		{
			"LangChain embeds tokens", "POST", "/v1/embeddings", `{"input":[[101,102],[103]],"model":"test","encoding_format":"base64"}`,
			[]string{`"index":1,"embedding":"`},
		},
		{"LangChain JS streams", "POST", "/v1/chat/completions", `{"model":"test","temperature":1,"top_p":1,"frequency_penalty":0,"presence_penalty":0,"n":1,"stream":true,
			"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Hi"}]}`, []string{`"choices":[],"usage":{`}},
		{"LiteLLM with nulls", "POST", "/v1/chat/completions", `{"model":"test","messages":[{"role":"user","content":"Hi"}],"tools":null,"tool_choice":null,"response_format":null,
			"stream_options":null,"user":null,"functions":null,"seed":null}`, []string{`"content":"Hello world."`}},
		{
			"lm-evaluation-harness scores", "POST", "/v1/completions", `{"prompt":[[1,2,3],[4,5]],"model":"test","max_tokens":1,"logprobs":1,"seed":1234,"temperature":0,"echo":false}`,
			[]string{`"token_logprobs":[`, `"index":1`},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := wiretest.Do(api(config(&wiretest.Engine{})), row.method, row.path, row.body)
			if got.Code != http.StatusOK {
				t.Fatalf("got %d %s", got.Code, got.Body)
			}
			for _, want := range row.want {
				if !strings.Contains(got.Body.String(), want) {
					t.Errorf("got %s\nwithout %s", got.Body, want)
				}
			}
		})
	}
}

// TestClientSurvivesPings is about the one newline after a ping, see the constant.
func TestClientSurvivesPings(t *testing.T) {
	steps := wiretest.Text("slow", "ly")
	for i := range steps {
		steps[i].Sleep = 50 * time.Millisecond
	}
	text, pings, err := streamed(t, steps)
	if err != nil || text != "slowly" || pings < 2 {
		t.Errorf("got %q after %d pings: %v", text, pings, err)
	}
}

func TestClientHearsOfAFailureInTheMiddle(t *testing.T) {
	steps := append(wiretest.Text("Hel"), wiretest.Step{Err: centram.Errorf(centram.Unavailable, "The model was unloaded.")})
	text, _, err := streamed(t, steps)
	if err == nil || !strings.Contains(err.Error(), "The model was unloaded.") || text != "Hel" {
		t.Errorf("got %q and the error %v", text, err)
	}
}

// streamed is what OpenAI's client makes of a stream of the steps, and how many pings it got past.
func streamed(t *testing.T, steps []wiretest.Step) (text string, pings int, err error) {
	t.Helper()
	cfg := config(&wiretest.Engine{Script: func(engine.Request) []wiretest.Step { return steps }})
	cfg.PingEvery = 10 * time.Millisecond
	base := wiretest.Serve(t, api(cfg))
	counter := &pingCounter{}
	c := client.NewClient(option.WithBaseURL(base+"/v1"), option.WithAPIKey("none"), option.WithMaxRetries(0),
		option.WithHTTPClient(&http.Client{Transport: counter}))
	stream := c.Chat.Completions.NewStreaming(t.Context(), client.ChatCompletionNewParams{
		Model: wiretest.Model, Messages: []client.ChatCompletionMessageParamUnion{client.UserMessage("Hi")},
	})
	defer stream.Close()
	for stream.Next() {
		for _, choice := range stream.Current().Choices {
			text += choice.Delta.Content
		}
	}
	return text, counter.pings, stream.Err()
}
