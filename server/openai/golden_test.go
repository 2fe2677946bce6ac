package openai

import (
	"errors"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/server/wire/wiretest"
)

const (
	hello       = `"model":"test","messages":[{"role":"user","content":"Hi"}]`
	weatherTool = `"tools":[{"type":"function","function":{"name":"weather","description":"The weather.","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}]`
)

func TestTranscripts(t *testing.T) {
	type script = func(engine.Request) []wiretest.Step
	slow := []wiretest.Step{{Sleep: 40 * time.Second, Event: engine.Event{Text: "at last"}}}
	reading := []wiretest.Step{
		{Event: engine.Event{Progress: &engine.Progress{Total: 12, Cached: 4, Processed: 4}}},
		{Sleep: 2 * time.Second, Event: engine.Event{Progress: &engine.Progress{Total: 12, Cached: 4, Processed: 12}}},
		{Event: engine.Event{Text: "Read."}},
	}
	lost := append(wiretest.Text("Hel"), wiretest.Step{Err: centram.Errorf(centram.Unavailable, "The model was unloaded.")})
	secret := append(wiretest.Text("Hel"), wiretest.Step{Err: errors.New("/home/ann/key: no such file")})
	tooLong := centram.Errorf(centram.TooLong, "The prompt has 5000 tokens; the context has room for 4096.")
	tooLong.Details = map[string]any{"n_prompt_tokens": 5000, "n_ctx": 4096}
	twoCalls := wiretest.Say(wiretest.Calls(
		engine.ToolCall{ID: "call_1", Name: "weather", Arguments: `{"city":"Oslo"}`},
		engine.ToolCall{ID: "call_2", Name: "weather", Arguments: `{"city":"Rome"}`})...)
	html := wiretest.Say(wiretest.Text("<b>&</b> é\u2028", "\n\ndata: x\n")...)

	for _, row := range []struct {
		name, method, path, body string
		script                   script
	}{
		{"models", "GET", "/v1/models", "", nil},
		{"model", "GET", "/v1/models/org%2Fmodel:tag", "", nil},
		{"model-unknown", "GET", "/v1/models/a/b:c", "", nil},
		{"model-gone", "GET", "/v1/models/gone", "", nil},
		{"chat", "POST", "/v1/chat/completions", `{` + hello + `}`, nil},
		{"chat-stream", "POST", "/v1/chat/completions", `{` + hello + `,"stream":true}`, nil},
		{"chat-stream-usage", "POST", "/v1/chat/completions", `{` + hello + `,"stream":true,"stream_options":{"include_usage":true}}`, nil},
		{"chat-stream-ping", "POST", "/v1/chat/completions", `{` + hello + `,"stream":true}`, wiretest.Say(slow...)},
		{"chat-stream-progress", "POST", "/v1/chat/completions", `{` + hello + `,"stream":true,"return_progress":true}`, wiretest.Say(reading...)},
		{"chat-stream-lost", "POST", "/v1/chat/completions", `{` + hello + `,"stream":true}`, wiretest.Say(lost...)},
		{"chat-stream-internal", "POST", "/v1/chat/completions", `{` + hello + `,"stream":true}`, wiretest.Say(secret...)},
		{
			"chat-stream-late-refusal", "POST", "/v1/chat/completions", `{` + hello + `,"stream":true}`,
			wiretest.Say(wiretest.Step{Sleep: 20 * time.Second, Err: tooLong}),
		},
		{"chat-stream-refused", "POST", "/v1/chat/completions", `{` + hello + `,"stream":true}`, wiretest.Say(wiretest.Step{Err: tooLong})},
		{"chat-internal", "POST", "/v1/chat/completions", `{` + hello + `}`, wiretest.Say(secret...)},
		{"chat-unknown-model", "POST", "/v1/chat/completions", `{"model":"nobody","messages":[{"role":"user","content":"Hi"}]}`, nil},
		{"chat-tools", "POST", "/v1/chat/completions", `{` + hello + `,` + weatherTool + `}`, twoCalls},
		{"chat-stream-tools", "POST", "/v1/chat/completions", `{` + hello + `,"stream":true,` + weatherTool + `}`, twoCalls},
		{"chat-json", "POST", "/v1/chat/completions", `{` + hello + `,"response_format":{"type":"json_object"}}`, nil},
		{"chat-logprobs", "POST", "/v1/chat/completions", `{` + hello + `,"logprobs":true,"top_logprobs":2}`, nil},
		{"chat-stream-logprobs", "POST", "/v1/chat/completions", `{` + hello + `,"stream":true,"logprobs":true,"max_tokens":1}`, nil},
		{"chat-stream-escapes", "POST", "/v1/chat/completions", `{` + hello + `,"stream":true}`, html},
		{"chat-n", "POST", "/v1/chat/completions", `{` + hello + `,"n":3,"max_tokens":1}`, nil},
		{"text", "POST", "/v1/completions", `{"model":"test","prompt":"Once"}`, nil},
		{"text-stream", "POST", "/v1/completions", `{"model":"test","prompt":"Once","stream":true,"stream_options":{"include_usage":true}}`, nil},
		{"text-many", "POST", "/v1/completions", `{"model":"test","prompt":["Once","Twice"],"n":2}`, nil},
		{"text-logprobs", "POST", "/v1/completions", `{"model":"test","prompt":[1,2,3],"logprobs":2}`, nil},
		{"text-stream-logprobs", "POST", "/v1/completions", `{"model":"test","prompt":[1,2],"stream":true,"logprobs":0}`, nil},
		{"embeddings", "POST", "/v1/embeddings", `{"model":"test","input":["a","b c"]}`, nil},
		{"embeddings-base64", "POST", "/v1/embeddings", `{"model":"test","input":"a","encoding_format":"base64"}`, nil},
		{"embeddings-short", "POST", "/v1/embeddings", `{"model":"test","input":[[1,2],[3]],"dimensions":2}`, nil},
		{"unknown-route", "POST", "/v1/audio/speech", `{}`, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := &wiretest.Engine{Script: row.script}
			got := wiretest.Transcript(t, api(config(e)), row.method, row.path, row.body)
			wiretest.Golden(t, row.name+".txt", got)
		})
	}
}
