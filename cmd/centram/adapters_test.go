package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/centram/centram/gguf"
)

// near is how far log probabilities may lie apart that are the same but for the order of sums.
const near = 0.02

// adapted is a daemon in this process with the model toy, and adapters of it.
type adapted struct {
	t                 *testing.T
	url, token, model string
}

func startAdapted(t *testing.T) *adapted {
	t.Helper()
	a := &adapted{t: t}
	a.url, a.token, a.model = startDaemon(t)
	return a
}

func (n *adapted) write(path string, seed uint64) string {
	n.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		n.t.Fatal(err)
	}
	var b bytes.Buffer
	if err := gguf.GenerateAdapter(&b, gguf.Toy(), seed); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// send wants a status, and decodes the answer into into unless that is nil.
func (n *adapted) send(want int, method, path, body string, into any) string {
	n.t.Helper()
	r, err := http.NewRequestWithContext(n.t.Context(), method, n.url+path, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+n.token)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	if resp.StatusCode != want {
		n.t.Fatalf("%s %s %.200s: got %d %s, want %d", method, path, body, resp.StatusCode, raw, want)
	}
	if into != nil {
		if err := json.Unmarshal(raw, into); err != nil {
			n.t.Fatalf("%v in %s", err, raw)
		}
	}
	return string(raw)
}

func (n *adapted) add(path, name string) {
	n.t.Helper()
	n.send(201, "POST", "/api/v1/adapters", fmt.Sprintf(`{"path":%q,"base":"toy","name":%q}`, path, name), nil)
}

// likeliest is the log probability of the likeliest token after a text.
func (n *adapted) likeliest(model string) float64 {
	n.t.Helper()
	var got struct {
		Choices []struct {
			Logprobs struct {
				Token []float64 `json:"token_logprobs"`
			} `json:"logprobs"`
		} `json:"choices"`
	}
	raw := n.send(200, "POST", "/v1/completions", fmt.Sprintf(`{"model":%q,"prompt":"the quick brown fox","max_tokens":1,"temperature":0,"logprobs":1}`, model), &got)
	if len(got.Choices) != 1 || len(got.Choices[0].Logprobs.Token) != 1 {
		n.t.Fatalf("%s: got %s", model, raw)
	}
	return got.Choices[0].Logprobs.Token[0]
}

// said is what a model says over each of the three APIs.
func (n *adapted) said(model string) (openai, ollama, native string) {
	n.t.Helper()
	const messages = `"messages":[{"role":"user","content":"hello"}]`
	var first struct {
		Choices []struct{ Message struct{ Content string } }
	}
	n.send(200, "POST", "/v1/chat/completions", fmt.Sprintf(`{"model":%q,%s,"max_tokens":6,"temperature":0}`, model, messages), &first)
	var second struct{ Message struct{ Content string } }
	n.send(200, "POST", "/api/chat", fmt.Sprintf(`{"model":%q,%s,"stream":false,"options":{"num_predict":6,"temperature":0}}`, model, messages), &second)
	var chat struct {
		ID       string
		Messages []struct{ Content, State, Model string }
	}
	n.send(201, "POST", "/api/v1/chats", fmt.Sprintf(`{"model":%q,"sampling":{"temperature":0,"max_tokens":6}}`, model), &chat)
	n.send(201, "POST", "/api/v1/chats/"+chat.ID+"/messages", `{"content":"hello"}`, nil)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		n.send(200, "GET", "/api/v1/chats/"+chat.ID, "", &chat)
		last := chat.Messages[len(chat.Messages)-1]
		if last.State == "done" && last.Model == model {
			return first.Choices[0].Message.Content, second.Message.Content, last.Content
		}
		if last.State != "generating" || time.Now().After(deadline) {
			n.t.Fatalf("%s: got %+v", model, last)
		}
	}
}

func TestAnAdapterAnswersByItsNameInAllAPIs(t *testing.T) {
	n := startAdapted(t)
	dir := t.TempDir()
	plain, _, _ := n.said("toy")
	n.add(n.write(filepath.Join(dir, "a.gguf"), 1), "")
	n.add(n.write(filepath.Join(dir, "b.gguf"), 2), "style")
	answers := map[string]string{}
	for _, model := range []string{"toy", "toy:a", "toy:style", "toy:a+style"} {
		openai, ollama, native := n.said(model)
		if openai != ollama || openai != native {
			t.Errorf("%s said %q, %q and %q, want the same over all APIs", model, openai, ollama, native)
		}
		if other, ok := answers[openai]; ok {
			t.Errorf("%s and %s both said %q", model, other, openai)
		}
		answers[openai] = model
	}
	if answers[plain] != "toy" {
		t.Errorf("alone the model said %q before there were adapters, and now %v", plain, answers)
	}

	var list struct {
		Data []struct{ ID, Parent string }
	}
	n.send(200, "GET", "/v1/models", "", &list)
	if got, want := fmt.Sprint(list.Data), "[{toy } {toy:a toy} {toy:style toy}]"; got != want {
		t.Errorf("/v1/models: got %s, want %s", got, want)
	}
	if got := n.send(200, "GET", "/v1/models/toy:a@0.5", "", nil); !strings.Contains(got, `"id":"toy:a@0.5"`) {
		t.Errorf("/v1/models/toy:a@0.5: got %s", got)
	}
	var tags struct{ Models []struct{ Name string } }
	n.send(200, "GET", "/api/tags", "", &tags)
	if got, want := fmt.Sprint(tags.Models), "[{toy:latest} {toy:a} {toy:style}]"; got != want {
		t.Errorf("/api/tags: got %s, want %s", got, want)
	}
	if got := n.send(200, "POST", "/api/show", `{"model":"toy:a"}`, nil); !strings.Contains(got, `ADAPTER a.gguf`) || !strings.Contains(got, `"parent_model":"toy"`) {
		t.Errorf("/api/show: got %s", got)
	}
	var models struct {
		Models []struct {
			Name     string
			Loaded   bool
			Adapters []struct{ Model, State string }
		}
	}
	n.send(200, "GET", "/api/v1/models", "", &models)
	if got, want := fmt.Sprint(models.Models), "[{toy true [{toy:a ready} {toy:style ready}]}]"; got != want {
		t.Errorf("/api/v1/models: got %s, want %s", got, want)
	}
	if got := n.send(200, "GET", "/api/v1/ps", "", nil); strings.Count(got, `"name"`) != 1 || !strings.Contains(got, `"name":"toy"`) {
		t.Errorf("/api/v1/ps: got %s, want toy once", got)
	}

	embed := func(model string) string {
		var got struct{ Embeddings [][]float64 }
		n.send(200, "POST", "/api/embed", fmt.Sprintf(`{"model":%q,"input":"x"}`, model), &got)
		return fmt.Sprint(got.Embeddings)
	}
	if with, alone := embed("toy:a"), embed("toy"); with != alone {
		t.Error("embeddings with an adapter are not those of the model")
	}
	n.send(200, "POST", "/api/v1/models/toy:a/unload", `{}`, nil)
	if got := n.send(200, "GET", "/api/v1/ps", "", nil); strings.Contains(got, `"name"`) {
		t.Errorf("after unload /api/v1/ps: got %s, want none", got)
	}
	n.send(200, "POST", "/api/chat", `{"model":"toy:a","messages":[],"stream":false}`, nil)
	if got := n.send(200, "GET", "/api/ps", "", nil); !strings.Contains(got, `"name":"toy:latest"`) {
		t.Errorf("after it was loaded /api/ps: got %s, want toy", got)
	}
}

func TestWrongNamesOfAdaptersAreRefusedWithThoseThereAre(t *testing.T) {
	n := startAdapted(t)
	n.add(n.write(filepath.Join(t.TempDir(), "a.gguf"), 1), "notes")
	for name, want := range map[string]int{"toy:b": 404, "toy:notes+b": 404, "toy:notes@x": 400, "toy:notes+notes": 400, "toy:": 400} {
		for path, body := range map[string]string{
			"/v1/chat/completions": `{"model":%q,"messages":[{"role":"user","content":"x"}]}`,
			"/v1/embeddings":       `{"model":%q,"input":"x"}`,
			"/api/chat":            `{"model":%q,"messages":[{"role":"user","content":"x"}]}`,
			"/api/show":            `{"model":%q}`,
		} {
			if got := n.send(want, "POST", path, fmt.Sprintf(body, name), nil); !strings.Contains(got, "notes") {
				t.Errorf("%s of %s: got %s, want the adapters that there are", path, name, got)
			}
		}
	}
	n.send(400, "DELETE", "/api/v1/models/toy:notes", "", nil)
	n.send(200, "GET", "/api/v1/models/toy", "", nil)
}

func TestRequestsWithDifferentAdaptersDoNotMix(t *testing.T) {
	n := startAdapted(t)
	dir := t.TempDir()
	n.add(n.write(filepath.Join(dir, "a.gguf"), 1), "a")
	n.add(n.write(filepath.Join(dir, "b.gguf"), 2), "b")
	names := []string{"toy", "toy:a", "toy:b", "toy:a+b", "toy:a@0.5"}
	want := map[string]float64{}
	for i, name := range names {
		want[name] = n.likeliest(name)
		for _, other := range names[:i] {
			if math.Abs(want[name]-want[other]) < 2*near {
				t.Fatalf("%s gives %v, and %s %v: these cannot be told apart", name, want[name], other, want[other])
			}
		}
	}
	var wg sync.WaitGroup
	for i := range 25 {
		wg.Go(func() {
			if name := names[i%len(names)]; math.Abs(n.likeliest(name)-want[name]) > near {
				t.Errorf("%s beside the others gave another answer than alone", name)
			}
		})
	}
	wg.Wait()
	if got := n.likeliest("toy:a@0.000001"); math.Abs(got-want["toy"]) > near {
		t.Errorf("next to nothing of an adapter gave %v, want the plain %v", got, want["toy"])
	}
	// Another content under the same path is another adapter.
	n.write(filepath.Join(dir, "a.gguf"), 2)
	if got := n.likeliest("toy:a"); math.Abs(got-want["toy:b"]) > near {
		t.Errorf("after its file was replaced toy:a gave %v, want %v", got, want["toy:b"])
	}
}

func TestAnAdapterThatIsRemovedServesWhoeverHasBegunWithIt(t *testing.T) {
	n := startAdapted(t)
	path := n.write(filepath.Join(filepath.Dir(n.model), "data", "adapters", "toy", "a.gguf"), 1)
	n.add(path, "a")
	ask := func() (io.ReadCloser, int) {
		body := `{"model":"toy:a","prompt":"once","max_tokens":200,"temperature":0,"stream":true,"ignore_eos":true}`
		resp, err := http.Post(n.url+"/v1/completions", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		return resp.Body, resp.StatusCode
	}
	stream, _ := ask()
	defer stream.Close()
	begin := make([]byte, 64)
	if _, err := io.ReadFull(stream, begin); err != nil {
		t.Fatal(err)
	}
	n.send(204, "DELETE", "/api/v1/adapters/toy/a?file=true", "", nil)
	if _, err := os.Stat(path); err == nil {
		t.Error("its file is still there")
	}
	rest, err := io.ReadAll(stream)
	if text := string(begin) + string(rest); err != nil || !strings.Contains(text, "[DONE]") || strings.Contains(text, `"error"`) {
		t.Errorf("what had begun ended with %v: %.500s", err, text)
	}
	if later, status := ask(); later.Close() != nil || status != 404 {
		t.Errorf("a later request got %d, want 404", status)
	}
	n.likeliest("toy")
}
