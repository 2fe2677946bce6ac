package ollama

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
	slow := wiretest.Text("slow", "ly")
	slow[0].Sleep, slow[1].Sleep = 20*time.Second, time.Second
	lost := append(wiretest.Text("Hel"), wiretest.Step{Err: centram.Errorf(centram.Unavailable, "The model was unloaded.")})
	secret := append(wiretest.Text("Hel"), wiretest.Step{Err: errors.New("/home/ann/key: no such file")})
	full := centram.Errorf(centram.Unavailable, "Too many requests are waiting.").WithHint("Try again in a moment.")
	calls := wiretest.Say(append(wiretest.Text("Let me look."), wiretest.Calls(
		engine.ToolCall{ID: "call_1", Name: "weather", Arguments: `{"city":"Oslo"}`},
		engine.ToolCall{ID: "call_2", Name: "now"})...)...)
	const chat, generate = "/api/chat", "/api/generate"

	for _, row := range []struct {
		name, method, path, body string
		script                   script
	}{
		{"root", "GET", "/", "", nil},
		{"version", "GET", "/api/version", "", nil},
		{"tags", "GET", "/api/tags", "", nil},
		{"ps-empty", "GET", "/api/ps", "", nil},
		{"show", "POST", "/api/show", `{"model":"test"}`, nil},
		{"show-unknown", "POST", "/api/show", `{"name":"nobody:latest"}`, nil},
		{"chat-stream", "POST", chat, `{` + hello + `}`, wiretest.Say(slow...)},
		{"chat", "POST", chat, `{` + hello + `,"stream":false}`, nil},
		{"chat-length", "POST", chat, `{` + hello + `,"stream":false,"options":{"num_predict":1}}`, nil},
		{"chat-load", "POST", chat, `{"model":"test"}`, nil},
		{"chat-unload", "POST", chat, `{"model":"test:latest","messages":[],"keep_alive":0,"stream":false}`, nil},
		{"chat-json", "POST", chat, `{` + hello + `,"stream":false,"format":"json"}`, nil},
		{"chat-tools", "POST", chat, `{` + hello + `,"stream":false,` + weatherTool + `}`, calls},
		{"chat-stream-tools", "POST", chat, `{` + hello + `,` + weatherTool + `}`, calls},
		{"chat-stream-lost", "POST", chat, `{` + hello + `}`, wiretest.Say(lost...)},
		{"chat-stream-internal", "POST", chat, `{` + hello + `}`, wiretest.Say(secret...)},
		{"chat-refused", "POST", chat, `{` + hello + `}`, wiretest.Say(wiretest.Step{Err: full})},
		{"chat-internal", "POST", chat, `{` + hello + `,"stream":false}`, wiretest.Say(secret...)},
		{"generate-stream", "POST", generate, `{"model":"test","prompt":"Once"}`, nil},
		{"generate", "POST", generate, `{"model":"test","prompt":"Once","stream":false}`, nil},
		{"generate-load", "POST", generate, `{"model":"test"}`, nil},
		{"generate-unload", "POST", generate, `{"model":"test","keep_alive":"0s"}`, nil},
		{"embed", "POST", "/api/embed", `{"model":"test","input":["a","b c"]}`, nil},
		{"embed-one", "POST", "/api/embed", `{"model":"test","input":"a","dimensions":2}`, nil},
		{"embed-none", "POST", "/api/embed", `{"model":"test","input":""}`, nil},
		{"embeddings", "POST", "/api/embeddings", `{"model":"test","prompt":"a"}`, nil},
		{"pull", "POST", "/api/pull", `{"model":"test"}`, nil},
		{"delete", "DELETE", "/api/delete", `{"model":"test"}`, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := &wiretest.Engine{Script: row.script}
			got := wiretest.Transcript(t, api(config(e)), row.method, row.path, row.body)
			wiretest.Golden(t, row.name+".txt", got)
		})
	}
}

func TestLoadedModelIsListed(t *testing.T) {
	e := &wiretest.Engine{}
	if err := e.Load(t.Context(), wiretest.Model, 0); err != nil {
		t.Fatal(err)
	}
	wiretest.Golden(t, "ps.txt", wiretest.Transcript(t, api(config(e)), "GET", "/api/ps", ""))
	wiretest.Golden(t, "show-loaded.txt", wiretest.Transcript(t, api(config(e)), "POST", "/api/show", `{"name":"test:latest"}`))
}
