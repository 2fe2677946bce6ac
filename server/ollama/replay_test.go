package ollama

import (
	"net/http"
	"strings"
	"testing"

	"github.com/centram/centram/server/wire/wiretest"
)

// TestClientsAreAnswered sends what clients send, field by field, and wants an answer with what they look for in it.
func TestClientsAreAnswered(t *testing.T) {
	for _, row := range []struct {
		name, method, path, body string
		want                     []string
	}{
		{"Open WebUI verifies the connection", "GET", "/api/version", "", []string{`{"version":"1.2.3"}`}},
		{"Open WebUI looks for models", "GET", "/api/tags", "", []string{`"model":"test:latest"`, `"modified_at":"`}},
		{"Open WebUI chats", "POST", "/api/chat", `{"model":"test:latest","messages":[{"role":"system","content":"S"},{"role":"user","content":"Hi"}],
			"options":{"temperature":0.7,"num_ctx":2048,"num_predict":128,"repeat_last_n":64,"stop":["<|end|>"],"mirostat":0,"tfs_z":1},
			"stream":true,"keep_alive":"5m","think":true}`, []string{`"model":"test:latest"`, `"content":"Hello"`, `"done":true,"done_reason":"stop"`}},
		{"Open WebUI unloads", "POST", "/api/generate", `{"model":"test:latest","keep_alive":0,"prompt":""}`, []string{`"done_reason":"unload"`}},
		{"Continue asks about the model", "POST", "/api/show", `{"name":"test"}`, []string{`"template":"`, `"qwen2.context_length":32768`}},
		{
			"Continue chats", "POST", "/api/chat", `{"model":"test","messages":[{"role":"user","content":"Hi"}],"options":{"temperature":0.5,"num_predict":2048,
			"stop":["\n\n"],"num_ctx":4096,"mirostat":null,"num_thread":null,"use_mmap":null,"min_p":null},"keep_alive":1800,"stream":true,
			"tools":[{"type":"function","function":{"name":"read_file","parameters":{"type":"object","properties":{"filepath":{"type":"string"}}}}}]}`,
			[]string{`"content":" world"`, `"done":true`},
		},
		{"Continue completes code", "POST", "/api/generate", `{"model":"test","prompt":"<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>","raw":true,
			"options":{"temperature":0.01,"num_predict":64,"stop":["<|endoftext|>"]},"keep_alive":1800,"suffix":""}`, []string{`"response":"Hello"`}},
		{"ollama-python sends nulls", "POST", "/api/chat", `{"model":"test","messages":[{"role":"user","content":"Hi"}],"tools":[],"stream":false,
			"format":"","options":{},"keep_alive":null}`, []string{`"content":"Hello world."`}},
		{"LangChain embeds", "POST", "/api/embed", `{"model":"test","input":["a"],"truncate":true,"options":{"num_ctx":2048},"keep_alive":-1}`, []string{`"embeddings":[[`}},
	} {
		t.Run(row.name, func(t *testing.T) {
			answer := wiretest.Do(api(config(&wiretest.Engine{})), row.method, row.path, row.body)
			if answer.Code != http.StatusOK {
				t.Fatalf("got %d %s", answer.Code, answer.Body)
			}
			for _, want := range row.want {
				if !strings.Contains(answer.Body.String(), want) {
					t.Errorf("got %s\nwithout %s", answer.Body, want)
				}
			}
		})
	}
}
