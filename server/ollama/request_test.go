package ollama

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/server/wire/wiretest"
)

// asked is what the engine is asked when body is posted to path.
func asked(t *testing.T, cfg Config, e *wiretest.Engine, path, body string) engine.Request {
	t.Helper()
	if got := wiretest.Do(api(cfg), "POST", path, body); got.Code != 200 {
		t.Fatalf("%d %s", got.Code, got.Body)
	}
	return e.Requests()[0]
}

func TestChatReachesTheEngineWhole(t *testing.T) {
	e := &wiretest.Engine{}
	got := asked(t, config(e), e, "/api/chat", `{
		"model": "test:latest",
		"messages": [
			{"role":"system","content":"Be brief."},
			{"role":"user","content":"Weather?"},
			{"role":"assistant","content":"","tool_calls":[{"function":{"name":"weather","arguments":{"city":"Oslo"}}},{"function":{"name":"now"}}]},
			{"role":"tool","content":"rain","tool_name":"weather"},
			{"role":"tool","content":"noon","tool_name":"now"}
		],
		`+weatherTool+`,
		"format": {"type":"object"}, "keep_alive": "5m", "think": false, "unknown": 1,
		"options": {"num_ctx":2048,"num_predict":9,"temperature":0,"top_k":10,"top_p":0.5,"min_p":0,"repeat_penalty":1.1,"repeat_last_n":-1,
			"frequency_penalty":0.5,"presence_penalty":0.25,"seed":5,"stop":["\n"],"mirostat":0,"num_gpu":99}
	}`)
	seed := uint32(5)
	want := engine.Request{
		Model: "test",
		Chat: &engine.Chat{
			Messages: []engine.Message{
				{Role: "system", Content: "Be brief."},
				{Role: "user", Content: "Weather?"},
				{Role: "assistant", ToolCalls: []engine.ToolCall{
					{ID: "call_1", Name: "weather", Arguments: `{"city":"Oslo"}`},
					{ID: "call_2", Name: "now", Arguments: `{}`},
				}},
				{Role: "tool", Content: "rain", Name: "weather", ToolCallID: "call_1"},
				{Role: "tool", Content: "noon", Name: "now", ToolCallID: "call_2"},
			},
			Tools: []engine.Tool{{
				Name: "weather", Description: "The weather.",
				Parameters: json.RawMessage(`{"type":"object","properties":{"city":{"type":"string"}}}`),
			}},
			ParallelToolCalls: true,
			JSONSchema:        json.RawMessage(`{"type":"object"}`),
		},
		Sampling: engine.Sampling{TopK: 10, TopP: 0.5, RepeatPenalty: 1.1, RepeatLastN: -1, FrequencyPenalty: 0.5, PresencePenalty: 0.25, Seed: &seed},
		Stop:     []string{"\n"}, MaxTokens: 9, TopLogprobs: -1, KeepAlive: 5 * time.Minute,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v %+v\nwant %+v %+v", got, *got.Chat, want, *want.Chat)
	}
}

func TestPromptIsAChatOnlyWithATemplate(t *testing.T) {
	for _, row := range []struct {
		name, body string
		models     shelf
		text       string
		messages   int
	}{
		{"with a template", `{"model":"test","prompt":"Hi","system":"Be brief."}`, shelved, "", 2},
		{"raw", `{"model":"test","prompt":"<|user|>Hi","raw":true}`, shelved, "<|user|>Hi", 0},
		{"without a template", `{"model":"test","prompt":"Once","system":"A tale."}`, plain(), "A tale.\n\nOnce", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := &wiretest.Engine{}
			cfg := config(e)
			cfg.Models = row.models
			got := asked(t, cfg, e, "/api/generate", row.body)
			messages := 0
			if got.Chat != nil {
				messages = len(got.Chat.Messages)
			}
			if got.Text != row.text || messages != row.messages {
				t.Errorf("got %q and %d messages, want %q and %d", got.Text, messages, row.text, row.messages)
			}
		})
	}
}

func TestKeepAlive(t *testing.T) {
	for text, want := range map[string]time.Duration{
		`null`: 0, `300`: 5 * time.Minute, `"5m"`: 5 * time.Minute, `"300"`: 5 * time.Minute, `1.5`: 1500 * time.Millisecond,
		`0`: time.Nanosecond, `"0s"`: time.Nanosecond, `-1`: -time.Second, `"-1m"`: -time.Minute, `1e300`: -1,
	} {
		e := &wiretest.Engine{}
		got := asked(t, config(e), e, "/api/chat", `{`+hello+`,"keep_alive":`+text+`}`)
		if got.KeepAlive != want {
			t.Errorf("%s: got %v, want %v", text, got.KeepAlive, want)
		}
	}
}

func TestKeepAliveOfRequestsThatGenerateNothing(t *testing.T) {
	for path, body := range map[string]string{
		"/api/generate":   `{"model":"test","prompt":"","keep_alive":"7m"}`,
		"/api/chat":       `{"model":"test","messages":[],"keep_alive":"7m"}`,
		"/api/embed":      `{"model":"test","input":[],"keep_alive":"7m"}`,
		"/api/embeddings": `{"model":"test","prompt":"","keep_alive":"7m"}`,
	} {
		e := &wiretest.Engine{}
		got := wiretest.Do(api(config(e)), "POST", path, body)
		if kept := e.Kept(); got.Code != 200 || len(kept) != 1 || kept[0] != 7*time.Minute {
			t.Errorf("%s: %d %s, and the model was loaded for %v, want 7m", path, got.Code, got.Body, kept)
		}
	}
	for path, input := range map[string]string{"/api/embed": "input", "/api/embeddings": "prompt"} {
		e := &wiretest.Engine{}
		got := wiretest.Do(api(config(e)), "POST", path, `{"model":"test","`+input+`":"a","keep_alive":0}`)
		if embeds := e.Embeds(); got.Code != 200 || len(embeds) != 1 || embeds[0].KeepAlive != time.Nanosecond {
			t.Errorf("%s: %d %s, asked the engine for %+v, want the shortest keep-alive", path, got.Code, got.Body, embeds)
		}
		got = wiretest.Do(api(config(e)), "POST", path, `{"model":"test","`+input+`":"","keep_alive":0}`)
		if got.Code != 200 || len(e.Kept()) != 0 {
			t.Errorf("%s: %d %s, and an unload loaded the model", path, got.Code, got.Body)
		}
	}
}

func TestRefusals(t *testing.T) {
	chat := func(field string) string { return `{` + hello + `,` + field + `}` }
	prompt := func(field string) string { return `{"model":"test","prompt":"Once",` + field + `}` }
	const chats, generates = "/api/chat", "/api/generate"

	for _, row := range []struct {
		path, body string
		status     int
		says       string
	}{
		{chats, ``, 400, "no body"},
		{chats, `[]`, 400, "an object"},
		{chats, `{}`, 400, `"model" is required`},
		{chats, `{"model":"nobody"}`, 404, `"nobody"`},
		{chats, `{"model":"nobody","messages":[{"role":"user","content":"Hi"}]}`, 404, `"nobody"`},
		{chats, `{"model":"test","messages":[{"role":"king","content":"Hi"}]}`, 400, "king"},
		{chats, `{"model":"test","messages":[{"role":"user","content":["Hi"]}]}`, 400, "messages.content"},
		{chats, `{"model":"test","messages":[{"role":"user","content":"Hi","images":["aGk="]}]}`, 501, "images"},
		{chats, `{"model":"test","messages":[{"role":"assistant","tool_calls":[{"function":{}}]}]}`, 400, "name"},
		{chats, `{"model":"test","messages":[{"role":"assistant","tool_calls":[{"function":{"name":"a","arguments":"{}"}}]}]}`, 400, "an object"},
		{chats, chat(`"options":{"temperature":-1}`), 400, "temperature"},
		{chats, chat(`"options":{"temperature":"hot"}`), 400, "options.temperature"},
		{chats, chat(`"options":{"num_ctx":8192}`), 400, "4096 tokens"},
		{chats, chat(`"options":{"num_predict":0.5}`), 400, "num_predict"},
		{chats, chat(`"format":"xml"`), 400, "format"},
		{chats, chat(`"keep_alive":"soon"`), 400, "keep_alive"},
		{chats, chat(`"tools":[{"type":"function","function":{}}]`), 400, "function name"},
		{generates, prompt(`"suffix":"}"`), 501, "suffix"},
		{generates, prompt(`"images":["aGk="]`), 501, "images"},
		{generates, prompt(`"template":"{{ .Prompt }}"`), 501, "template"},
		{generates, prompt(`"context":[1,2]`), 501, "/api/chat"},
		{generates, prompt(`"raw":true,"format":"json"`), 501, "format"},
		{"/api/embed", `{"model":"test","input":["a",""]}`, 400, "empty"},
		{"/api/embed", `{"model":"test","input":5}`, 400, "input"},
		{"/api/embed", `{"model":"test","input":"a","dimensions":99}`, 400, "dimensions"},
		{"/api/embeddings", `{"model":"nobody","prompt":"a"}`, 404, "nobody"},
		{"/api/show", `{}`, 400, "model"},
		{"/api/pull", `{}`, 501, "centram model"},
		{"/api/delete", `{}`, 501, "centram model"},
		{"/api/copy", `{}`, 501, "centram model"},
		{"/api/create", `{}`, 501, "centram model"},
		{"/api/push", `{}`, 501, "centram model"},
	} {
		t.Run(row.path+row.body[:min(len(row.body), 90)], func(t *testing.T) {
			got := wiretest.Do(api(config(&wiretest.Engine{})), "POST", row.path, row.body)
			var body errorBody
			if err := json.Unmarshal(got.Body.Bytes(), &body); err != nil {
				t.Fatalf("%v in %s", err, got.Body)
			}
			if got.Code != row.status || !strings.Contains(body.Error, row.says) {
				t.Errorf("got %d %q\nwant %d and %q", got.Code, body.Error, row.status, row.says)
			}
		})
	}
}

func TestHeadAndAliases(t *testing.T) {
	for _, row := range []struct{ method, path string }{
		{"HEAD", "/"},
		{"GET", "/ollama"},
		{"HEAD", "/ollama/"},
		{"HEAD", "/api/version"},
		{"HEAD", "/api/tags"},
		{"GET", "/ollama/api/tags"},
		{"GET", "/ollama/api/api/tags"},
	} {
		if got := wiretest.Do(api(config(&wiretest.Engine{})), row.method, row.path, ""); got.Code != http.StatusOK {
			t.Errorf("%s %s: got %d", row.method, row.path, got.Code)
		}
	}
}
