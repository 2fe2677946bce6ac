package server

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/models"
	"github.com/centram/centram/store"
)

// startWithToy runs a server whose models are real files, among them toy, and returns the file of an adapter of it.
func startWithToy(t *testing.T) (n *node, adapter string) {
	t.Helper()
	dir := t.TempDir()
	shape := gguf.Toy()
	shape.Layers, shape.Embedding, shape.FeedForward = 1, 64, 64
	var model, lora bytes.Buffer
	if err := gguf.Generate(&model, shape, 1); err != nil {
		t.Fatal(err)
	}
	if err := gguf.GenerateAdapter(&lora, shape, 1); err != nil {
		t.Fatal(err)
	}
	adapter = filepath.Join(dir, "adapters", "toy", "made.gguf")
	for path, b := range map[string][]byte{adapter: lora.Bytes(), filepath.Join(dir, "real", "toy.gguf"): model.Bytes()} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return start(t, func(c *Config) {
		if err := c.Models.Delete(t.Context(), "toy", false); err != nil { // the one that start has made is no model
			t.Fatal(err)
		}
		var err error
		c.Models, err = models.New(t.Context(), models.Config{
			DB: c.Settings.(store.Settings).DB, Dir: filepath.Join(dir, "real"), AdapterDir: filepath.Join(dir, "adapters"), Changed: c.Events.Library,
		})
		if err != nil {
			t.Fatal(err)
		}
	}), adapter
}

func TestAdaptersOverREST(t *testing.T) {
	n, path := startWithToy(t)
	news := n.view("/api/v1/events")
	a := as[Adapter](t, n.send(201, "POST", "/api/v1/adapters", `{"path":"`+path+`","base":"toy","name":"Notes","about":{"held_after":1.5}}`))
	if a.Model != "toy:notes" || a.Base != "toy" || a.Name != "notes" || a.Path != path || a.Rank != 4 || a.State != "ready" || a.About["held_after"] != 1.5 || len(a.SHA256) != 64 {
		t.Errorf("got %+v", a)
	}
	if name, data := news.next(); name != "model" || data != `{"name":"toy:notes","change":"imported"}` {
		t.Errorf("got the news %s %s", name, data)
	}
	n.send(404, "POST", "/api/v1/adapters", `{"path":"`+path+`","base":"none"}`)
	n.send(404, "POST", "/api/v1/adapters", `{"path":"/nowhere.gguf","base":"toy"}`)
	n.send(400, "POST", "/api/v1/adapters", `{"path":"`+path+`","base":"toy","name":"a:b"}`)
	n.send(400, "POST", "/api/v1/adapters", `{"path":"`+path+`"}`)
	n.send(400, "POST", "/api/v1/adapters", `{"path":"`+path+`","base":"toy","about":[]}`)
	got := as[Failure](t, n.send(400, "POST", "/api/v1/adapters", `{"path":"`+filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(path))), "real", "toy.gguf")+`","base":"toy"}`)).Problem
	if !strings.Contains(got.Message, "not an adapter") || got.Hint == "" {
		t.Errorf("a model: got %+v", got)
	}
	type list struct{ Adapters []Adapter }
	for _, query := range []string{"", "?base=toy", "?base=TOY:latest"} {
		if got := as[list](t, n.send(200, "GET", "/api/v1/adapters"+query, "")).Adapters; len(got) != 1 || got[0].Model != "toy:notes" {
			t.Errorf("%q: got %+v", query, got)
		}
	}
	n.send(404, "GET", "/api/v1/adapters?base=none", "")
	m := as[Model](t, n.send(200, "GET", "/api/v1/models/toy:notes", ""))
	if m.Name != "toy:notes" || len(m.Adapters) != 1 || m.Adapters[0].Model != "toy:notes" {
		t.Errorf("got %+v", m)
	}

	// A model whose adapter is named is not deleted with it, nor an adapter with its model.
	if got := n.send(400, "DELETE", "/api/v1/models/toy:notes?file=true", ""); !strings.Contains(string(got.body), "centram lora remove toy:notes") {
		t.Errorf("got %s", got.body)
	}
	n.send(204, "DELETE", "/api/v1/models/toy", "")
	if got := as[list](t, n.send(200, "GET", "/api/v1/adapters", "")).Adapters; len(got) != 1 || got[0].State != "missing" || !strings.Contains(got[0].Error, "no model toy") {
		t.Errorf("of a model that is gone: got %+v", got)
	}
	n.send(404, "DELETE", "/api/v1/adapters/toy/none", "")
	n.send(204, "DELETE", "/api/v1/adapters/toy/NOTES?file=true", "")
	for _, want := range []string{`{"name":"toy","change":"deleted"}`, `{"name":"toy:notes","change":"deleted"}`} {
		if name, data := news.next(); name != "model" || data != want {
			t.Errorf("got the news %s %s, want %s", name, data, want)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("its file is still there")
	}
}

func TestAChatWithAnAdapterShowsHowItsModelIsLoaded(t *testing.T) {
	n, path := startWithToy(t)
	n.send(201, "POST", "/api/v1/adapters", `{"path":"`+path+`","base":"toy","name":"notes"}`)
	goOn := make(chan struct{})
	n.engine.does(func(ctx context.Context, _ engine.Request, emit func(engine.Event) error) error {
		n.engine.events.Engine(engine.Change{Name: "toy", Kind: engine.Loading, Progress: 0.25})
		select {
		case <-goOn:
		case <-ctx.Done():
		}
		return emit(engine.Event{Text: "there"})
	})
	chat := n.newChat()
	n.send(200, "PATCH", "/api/v1/chats/"+chat.ID, `{"model":"TOY:notes@0.5"}`)
	answer, m := n.ask(chat.ID, "", "hello")
	if m.Model != "toy:notes@0.5" {
		t.Errorf("the answer is by %q, want the name as it is written", m.Model)
	}
	v := n.view(answer + "/stream")
	for {
		name, data := v.next()
		if name == "" {
			t.Fatal("loading was not shown")
		}
		if name == "loading" && data == `{"model":"toy:notes@0.5","progress":0.25}` {
			break
		}
	}
	close(goOn)
	for name := ""; name != "done"; {
		if name, _ = v.next(); name == "" {
			t.Fatal("the answer did not end")
		}
	}
	if got := n.engine.last().Model; got != "toy:notes@0.5" {
		t.Errorf("the engine was asked for %q", got)
	}
	n.send(200, "PATCH", "/api/v1/chats/"+chat.ID, `{"model":"toy:none"}`)
	if got := n.send(404, "POST", "/api/v1/chats/"+chat.ID+"/messages", `{"content":"x"}`); got.code(t) != centram.NotFound || !strings.Contains(string(got.body), "toy has these: notes") {
		t.Errorf("got %s", got.body)
	}
}
