package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/centram/centram/config"
	"github.com/centram/centram/gguf"
)

// startDaemon runs the whole daemon in this process, in a home of its own, with the toy model loaded.
func startDaemon(t *testing.T) (url, token, model string) {
	t.Helper()
	home := t.TempDir()
	model = filepath.Join(home, "toy.gguf")
	f, err := os.Create(model)
	if err != nil {
		t.Fatal(err)
	}
	if err := gguf.Generate(f, gguf.Toy(), 1); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		"CENTRAM_HOME": home, "CENTRAM_LISTEN": "127.0.0.1:0", "CENTRAM_MODEL": model, "CENTRAM_CONTEXT": "256",
		"CENTRAM_P2P_LISTEN": "127.0.0.1:0", "CENTRAM_P2P_DISCOVERY": "off", "CENTRAM_TOY": "off",
	}
	a := &app{in: strings.NewReader(""), out: io.Discard, err: io.Discard, lookup: func(k string) (string, bool) { v, ok := env[k]; return v, ok }}
	if a.cfg, err = config.Load(a.lookup); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d, err := a.newDaemon(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the daemon ended with %v", err)
		}
		d.Close()
	})
	for !d.settled.Load() {
		time.Sleep(time.Millisecond)
	}
	raw, err := os.ReadFile(filepath.Join(a.cfg.Data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	return d.url(), strings.TrimSpace(string(raw)), model
}

func TestBadInputIsRefusedInWordsAndTheDaemonGoesOn(t *testing.T) {
	url, token, model := startDaemon(t)
	whole, err := os.ReadFile(model)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, content []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"path":%q}`, path)
	}
	hostile := func(old, new string) []byte { return bytes.Replace(whole, []byte(old), []byte(new), 1) }
	chat := func(rest string) string {
		return `{"model":"toy","max_tokens":2,"messages":[{"role":"user","content":"hi"}]` + rest + `}`
	}
	folder := filepath.Join(t.TempDir(), "folder.gguf")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	huge := strings.Repeat("x", 300<<20)
	for name, row := range map[string]struct {
		path, body string
		status     int
		says       string
	}{
		"a cut file":               {"/api/v1/models/import", file("cut.gguf", whole[:len(whole)-1000]), 400, "cut.gguf"},
		"an empty file":            {"/api/v1/models/import", file("empty.gguf", nil), 400, "empty"},
		"a wrong magic":            {"/api/v1/models/import", file("magic.gguf", append([]byte("GGXX"), whole[4:]...)), 400, "magic.gguf"},
		"a page saved as a model":  {"/api/v1/models/import", file("page.gguf", []byte("<!doctype html><html>")), 400, "page.gguf"},
		"another architecture":     {"/api/v1/models/import", file("arch.gguf", hostile("qwen2", "mamba")), 501, "mamba"},
		"a count that wraps":       {"/api/v1/models/import", file("wrap.gguf", append(append([]byte{}, whole[:8]...), bytes.Repeat([]byte{0xff}, 64)...)), 400, "wrap.gguf"},
		"no file":                  {"/api/v1/models/import", `{"path":"/nowhere/model.gguf"}`, 404, "model.gguf"},
		"a folder":                 {"/api/v1/models/import", fmt.Sprintf(`{"path":%q}`, folder), 400, "folder.gguf"},
		"an unknown field":         {"/api/v1/models/import", `{"path":"x","colour":"red"}`, 400, "colour"},
		"300 MB":                   {"/api/v1/models/import", huge, 413, ""},
		"300 MB of chat":           {"/v1/chat/completions", huge, 413, ""},
		"300 MB for Ollama":        {"/api/chat", huge, 413, ""},
		"no JSON":                  {"/v1/chat/completions", `{"model":`, 400, "JSON"},
		"no JSON for Ollama":       {"/api/generate", `nonsense`, 400, ""},
		"an unknown model":         {"/v1/chat/completions", strings.Replace(chat(""), "toy", "gpt-9", 1), 404, "gpt-9"},
		"a path for a model":       {"/v1/chat/completions", strings.Replace(chat(""), "toy", model, 1), 404, "toy.gguf"},
		"too long a prompt":        {"/v1/completions", `{"model":"toy","prompt":"` + strings.Repeat("y", 300) + `"}`, 400, "exceed_context_size_error"},
		"too long for Ollama":      {"/api/generate", `{"model":"toy","prompt":"` + strings.Repeat("y", 3000) + `"}`, 400, "context"},
		"a wrong temperature":      {"/v1/chat/completions", chat(`,"temperature":-7`), 400, "temperature"},
		"a broken grammar":         {"/v1/chat/completions", chat(`,"grammar":"root ::= ("`), 400, "grammar"},
		"a schema nobody can keep": {"/v1/chat/completions", chat(`,"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"not":{}}}}`), 400, "not"},
		"tokens of no vocabulary":  {"/v1/completions", `{"model":"toy","prompt":[99999]}`, 400, "99999"},
	} {
		status, body := post(t, url+row.path, token, row.body)
		if status != row.status || !strings.Contains(body, row.says) || !strings.Contains(body, `"error"`) {
			t.Errorf("%s: got %d %.300s, want %d and %q", name, status, body, row.status, row.says)
		}
		if status, body := post(t, url+"/v1/chat/completions", "", chat(`,"unknown_field":1`)); status != http.StatusOK {
			t.Fatalf("after %s a good request got %d %.300s", name, status, body)
		}
	}
}

func post(t *testing.T, url, token, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Expect", "100-continue") // a refusal arrives before the body is sent
	resp, err := (&http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Second, DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

func TestTheNameOfAFileStaysAsItIsAtTheBeginningOfAnError(t *testing.T) {
	for text, want := range map[string]string{
		"the model is gone\n":          "The model is gone",
		"model.gguf cannot be used":    "model.gguf cannot be used",
		"./a is there already":         "./a is there already",
		"qwen2.5 is not there":         "qwen2.5 is not there",
		"download: connection refused": "Download: connection refused",
		"o":                            "o",
		"":                             "",
		"übung macht den Meister":      "Übung macht den Meister",
	} {
		if got := sentence(text); got != want {
			t.Errorf("%q is printed as %q, want %q", text, got, want)
		}
	}
}
