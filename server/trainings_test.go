package server

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/centram/centram/lora/job"
)

// school is a server with trainings that wait, since nobody runs them: cmd/centram's tests do.
func school(t *testing.T) (n *node, dir string) {
	t.Helper()
	dir = t.TempDir()
	n = start(t, func(c *Config) {
		q, err := job.New(job.Config{Dir: dir, Changed: c.Events.Training})
		if err != nil {
			t.Fatal(err)
		}
		c.Trainings = q
	})
	return n, dir
}

func TestAConversationIsLearntFromAnswerByAnswer(t *testing.T) {
	n, dir := school(t)
	n.send(200, "PUT", "/api/v1/settings", `{"system":"Be kind."}`)
	chat := n.newChat()
	n.send(400, "POST", "/api/v1/trainings", `{"model":"toy","name":"x","data":{"chat":"`+chat.ID+`"}}`)
	message, first := n.ask(chat.ID, "", "Is it \"you\"?")
	n.view(message + "/stream").rest()
	message, _ = n.ask(chat.ID, first.ID, "Not shown in the end.")
	n.view(message + "/stream").rest()
	message, second := n.ask(chat.ID, first.ID, "And who else?")
	n.view(message + "/stream").rest()
	n.send(200, "PATCH", "/api/v1/chats/"+chat.ID, `{"head":"`+second.ID+`","title":"Who"}`)

	news := n.view("/api/v1/events")
	made := as[Training](t, n.send(201, "POST", "/api/v1/trainings", `{"model":"TOY","name":"kind","data":{"chat":"`+chat.ID+`"}}`))
	if made.Model != "toy" || made.Adapted != "toy:kind" || made.About != "Who" || made.State != "queued" {
		t.Errorf("got %+v", made)
	}
	if name, data := news.next(); name != "training" || !strings.Contains(data, `"state":"queued"`) || strings.Contains(data, "curve") {
		t.Errorf("got the news %s %s", name, data)
	}
	got, err := os.ReadFile(filepath.Join(dir, made.ID, "data", "conversation.jsonl"))
	want := `{"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"Is it \"you\"?"},{"role":"assistant","content":"Hello, world."}]}
{"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"And who else?"},{"role":"assistant","content":"Hello, world."}]}
`
	if err != nil || string(got) != want {
		t.Errorf("got %s (%v), want %s", got, err, want)
	}
	n.send(200, "POST", "/api/v1/trainings/"+made.ID+"/pause", "{}")
	if name, data := news.next(); name != "training" || !strings.Contains(data, `"state":"paused"`) {
		t.Errorf("got the news %s %s", name, data)
	}
	n.send(409, "GET", "/api/v1/trainings/"+made.ID+"/adapter", "")
	n.send(204, "DELETE", "/api/v1/trainings/"+made.ID, "")
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("got %v (%v), want nothing left", left, err)
	}
}

func TestTrainingFilesAreTakenAsTheyAreAndOnlyWhereTheyBelong(t *testing.T) {
	n, dir := school(t)
	large := strings.Repeat("A page of text.\n", 8<<10) // more than other routes take
	send := func(path, kind, body string) reply {
		return n.do(n.request("POST", path, strings.NewReader(body), "Content-Type", kind, "Origin", n.url))
	}
	got := send("/api/v1/training-files?name=page.txt", "application/octet-stream", large)
	if got.status != http.StatusCreated {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	id := as[struct {
		ID   string `json:"id"`
		Size int64  `json:"size_bytes"`
	}](t, got).ID
	for _, kind := range []string{"text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"} {
		if got := send("/api/v1/training-files?name=x", kind, "x"); got.status != http.StatusUnsupportedMediaType {
			t.Errorf("%s: got %d, want 415, since a form elsewhere could send it", kind, got.status)
		}
	}
	if got := send("/api/v1/trainings", "application/octet-stream", "{}"); got.status != http.StatusUnsupportedMediaType {
		t.Errorf("bytes for another route: got %d, want 415", got.status)
	}
	made := as[Training](t, n.send(201, "POST", "/api/v1/trainings", `{"model":"toy","name":"x","data":{"uploads":["`+id+`"],"text":"`+strings.Repeat("word ", 20<<10)+`"}}`))
	if file, err := os.ReadFile(filepath.Join(dir, made.ID, "data", "page.txt")); err != nil || string(file) != large {
		t.Errorf("got %d bytes (%v), want the %d that were sent", len(file), err, len(large))
	}
	n.send(404, "POST", "/api/v1/trainings", `{"model":"gone","name":"y","data":{"text":"x"}}`)
	n.send(400, "POST", "/api/v1/trainings", `{"model":"toy","name":"y","data":{"paths":["relative"]}}`)
}

func TestANodeThatDoesNotTrainSaysSo(t *testing.T) {
	n := start(t, nil)
	n.send(503, "GET", "/api/v1/trainings", "")
	n.send(503, "POST", "/api/v1/trainings", `{"model":"toy","name":"y","data":{"text":"x"}}`)
}
