package ollama

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/centram/centram/server/wire/wiretest"
)

func TestSuiteWithScriptedEngine(t *testing.T) {
	suite(t, wiretest.Serve(t, api(config(&wiretest.Engine{}))), wiretest.Model)
}

func TestSuiteWithDaemon(t *testing.T) {
	url := os.Getenv("CENTRAM_URL")
	if url == "" {
		t.Skip("CENTRAM_URL is not set, such as http://127.0.0.1:9740; CENTRAM_MODEL names the model, CENTRAM_TOKEN the token")
	}
	suite(t, url, os.Getenv("CENTRAM_MODEL"))
}

// suite is what clients of Ollama may expect of the server at baseURL. An empty model is the first one.
func suite(t *testing.T, baseURL, model string) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	s := &session{base: strings.TrimSuffix(baseURL, "/"), model: model, http: &http.Client{Transport: transport}}
	if model == "" {
		s.model = s.firstModel(t)
	}
	for _, row := range []struct {
		name string
		run  func(*session, *testing.T)
	}{
		{"Open WebUI connects", (*session).connect},
		{"Continue asks about the model", (*session).show},
		{"a model is loaded, listed and unloaded", (*session).residence},
		{"a stream adds up to the answer", (*session).stream},
		{"the limit ends an answer", (*session).limit},
		{"a prompt is completed as it is", (*session).raw},
		{"an answer can have to fit a schema", (*session).schema},
		{"embeddings", (*session).embeddings},
		{"an unknown model is not found", (*session).unknown},
		{"a context that is too large is refused", (*session).context},
	} {
		t.Run(row.name, func(t *testing.T) { row.run(s, t) })
	}
}

type session struct {
	base, model string
	http        *http.Client
}

// got is whatever of an answer a test looks at.
type got struct {
	Error      string
	Done       bool
	DoneReason string `json:"done_reason"`
	Response   string
	Message    struct{ Role, Content string }
	CreatedAt  time.Time `json:"created_at"`

	TotalDuration      int64 `json:"total_duration"`
	PromptEvalCount    int   `json:"prompt_eval_count"`
	PromptEvalDuration int64 `json:"prompt_eval_duration"`
	EvalCount          int   `json:"eval_count"`
}

func (s *session) do(t *testing.T, method, path string, body any) *http.Response {
	t.Helper()
	var reader io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		reader = bytes.NewReader(b)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, s.base+path, reader)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+cmp.Or(os.Getenv("CENTRAM_TOKEN"), "none"))
	response, err := s.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

// call wants the status and reads the body into out.
func (s *session) call(t *testing.T, method, path string, body any, status int, out any) {
	t.Helper()
	response := s.do(t, method, path, body)
	b, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != status {
		t.Fatalf("%s %s: %d %s, want %d: %v", method, path, response.StatusCode, b, status, err)
	}
	if err := json.Unmarshal(b, out); err != nil {
		t.Fatalf("%s %s: %v in %s", method, path, err, b)
	}
}

// object is a JSON object.
type object = map[string]any

// request asks for a short answer that is the same each time.
func (s *session) request(more object) object {
	r := object{
		"model":    s.model,
		"messages": []object{{"role": "user", "content": "Say hello."}},
		"options":  object{"temperature": 0, "seed": 7, "num_predict": 32},
	}
	for k, v := range more {
		r[k] = v
	}
	return r
}

type listing struct {
	Models []struct {
		Name, Model, Digest string
		Details             struct{ Format string }
		Expires             time.Time `json:"expires_at"`
		Context             int       `json:"context_length"`
	}
}

func (s *session) list(t *testing.T, path string) listing {
	t.Helper()
	var l listing
	s.call(t, "GET", path, nil, http.StatusOK, &l)
	return l
}

func (s *session) firstModel(t *testing.T) string {
	t.Helper()
	l := s.list(t, "/api/tags")
	if len(l.Models) == 0 {
		t.Skip("the daemon has no models")
	}
	return l.Models[0].Model
}

func (s *session) connect(t *testing.T) {
	for _, path := range []string{"/", "/api/version"} {
		if response := s.do(t, "HEAD", path, nil); response.StatusCode != http.StatusOK {
			t.Errorf("HEAD %s: %s", path, response.Status)
		}
	}
	var version struct{ Version string }
	s.call(t, "GET", "/api/version", nil, http.StatusOK, &version)
	if version.Version == "" {
		t.Error("no version")
	}
	for _, m := range s.list(t, "/api/tags").Models {
		if m.Model == "" || m.Name != m.Model || len(m.Digest) < 12 || m.Details.Format != "gguf" || !strings.Contains(m.Model, ":") {
			t.Errorf("got %+v", m)
		}
	}
}

func (s *session) show(t *testing.T) {
	var shown struct {
		Modelfile    string
		Details      struct{ Family string }
		Info         map[string]any `json:"model_info"`
		Capabilities []string
	}
	s.call(t, "POST", "/api/show", object{"name": s.model}, http.StatusOK, &shown)
	architecture, _ := shown.Info["general.architecture"].(string)
	if context, _ := shown.Info[architecture+".context_length"].(float64); context <= 0 || len(shown.Capabilities) == 0 {
		t.Errorf("got %+v", shown)
	}
}

func (s *session) residence(t *testing.T) {
	var g got
	s.call(t, "POST", "/api/generate", object{"model": s.model, "stream": false}, http.StatusOK, &g)
	if !g.Done || g.DoneReason != "load" {
		t.Errorf("got %+v", g)
	}
	loaded := s.list(t, "/api/ps").Models
	if len(loaded) == 0 || loaded[0].Context == 0 || time.Until(loaded[0].Expires) <= 0 {
		t.Errorf("got %+v", loaded)
	}
	s.call(t, "POST", "/api/generate", object{"model": s.model, "stream": false, "keep_alive": 0}, http.StatusOK, &g)
	if g.DoneReason != "unload" {
		t.Errorf("got %+v", g)
	}
	for _, m := range s.list(t, "/api/ps").Models {
		if m.Model == s.model {
			t.Errorf("%s is still loaded", m.Model)
		}
	}
}

func (s *session) stream(t *testing.T) {
	var whole got
	s.call(t, "POST", "/api/chat", s.request(object{"stream": false}), http.StatusOK, &whole)
	if whole.Message.Content == "" || whole.TotalDuration < 0 || whole.PromptEvalCount == 0 || whole.CreatedAt.IsZero() {
		t.Errorf("got %+v", whole)
	}
	response := s.do(t, "POST", "/api/chat", s.request(nil))
	if kind := response.Header.Get("Content-Type"); kind != "application/x-ndjson" {
		t.Errorf("the content type is %q", kind)
	}
	text, last := "", got{}
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		last = got{}
		if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
			t.Fatal(err)
		}
		text += last.Message.Content
	}
	if text != whole.Message.Content || !last.Done || last.EvalCount != whole.EvalCount {
		t.Errorf("streamed %q %+v\nwhole    %q %+v", text, last, whole.Message.Content, whole)
	}
}

func (s *session) limit(t *testing.T) {
	var g got
	s.call(t, "POST", "/api/chat", s.request(object{"stream": false, "options": object{"num_predict": 1}}), http.StatusOK, &g)
	if g.DoneReason != "length" || g.EvalCount != 1 {
		t.Errorf("got %+v", g)
	}
}

func (s *session) raw(t *testing.T) {
	var g got
	s.call(t, "POST", "/api/generate", object{
		"model": s.model, "prompt": "Once upon a time", "raw": true, "stream": false,
		"options": object{"num_predict": 4},
	}, http.StatusOK, &g)
	if g.Response == "" || !g.Done {
		t.Errorf("got %+v", g)
	}
}

func (s *session) schema(t *testing.T) {
	var g got
	s.call(t, "POST", "/api/chat", s.request(object{"stream": false, "options": object{"num_predict": 256}, "format": object{
		"type": "object", "required": []string{"answer"}, "additionalProperties": false,
		"properties": object{"answer": object{"type": "integer", "minimum": 0, "maximum": 99}},
	}}), http.StatusOK, &g)
	var answer struct{ Answer *int }
	if err := json.Unmarshal([]byte(g.Message.Content), &answer); err != nil || answer.Answer == nil {
		t.Errorf("got %q: %v", g.Message.Content, err)
	}
}

func (s *session) embeddings(t *testing.T) {
	var many struct{ Embeddings [][]float64 }
	s.call(t, "POST", "/api/embed", object{"model": s.model, "input": []string{"one", "number two"}}, http.StatusOK, &many)
	var one struct{ Embedding []float64 }
	s.call(t, "POST", "/api/embeddings", object{"model": s.model, "prompt": "one"}, http.StatusOK, &one)
	if len(many.Embeddings) != 2 || len(one.Embedding) == 0 || len(one.Embedding) != len(many.Embeddings[0]) {
		t.Errorf("got %d vectors and one of %d values", len(many.Embeddings), len(one.Embedding))
	}
}

func (s *session) unknown(t *testing.T) {
	for _, path := range []string{"/api/chat", "/api/generate", "/api/show", "/api/embed"} {
		var g got
		s.call(t, "POST", path, object{"model": "no-such-model", "input": "a", "prompt": "a"}, http.StatusNotFound, &g)
		if g.Error == "" {
			t.Errorf("%s: no error text", path)
		}
	}
}

func (s *session) context(t *testing.T) {
	var g got
	s.call(t, "POST", "/api/chat", s.request(object{"options": object{"num_ctx": 1 << 30}}), http.StatusBadRequest, &g)
	if !strings.Contains(g.Error, "num_ctx") {
		t.Errorf("got %q", g.Error)
	}
}
