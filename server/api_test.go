package server

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/centram/centram"
	"github.com/centram/centram/chats"
	"github.com/centram/centram/server/web"
)

func TestTheDescriptionIsAsPromised(t *testing.T) {
	n := start(t, nil)
	got := n.send(200, "GET", "/api/v1/openapi.json", "").body
	golden := filepath.Join("testdata", "openapi.json")
	if *update {
		if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != strings.TrimSuffix(string(want), "\n") {
		t.Errorf("the API differs from %s; run with -update and review", golden)
	}
}

func TestWrongFieldsAreNamed(t *testing.T) {
	n := start(t, nil)
	chat := n.newChat()
	for _, row := range []struct{ method, path, body, field string }{
		{"POST", "/api/v1/chats", `{"titel":"x"}`, "titel"},
		{"POST", "/api/v1/chats", `{"title":7}`, "title"},
		{"POST", "/api/v1/chats", `{"sampling":{"top_p":2}}`, "sampling.top_p"},
		{"POST", "/api/v1/chats", `{"sampling":{"topp":1}}`, "sampling.topp"},
		{"PATCH", "/api/v1/chats/" + chat.ID, `{"messages":[]}`, "messages"},
		{"POST", "/api/v1/chats/" + chat.ID + "/messages", `{"parent":""}`, "content"},
		{"POST", "/api/v1/chats/" + chat.ID + "/messages", `{"content":""}`, "content"},
		{"PUT", "/api/v1/settings", `{"theme":"pink"}`, "theme"},
		{"GET", "/api/v1/chats?limit=0", "", "limit"},
		{"GET", "/api/v1/chats?limit=x", "", "limit"},
		{"POST", "/api/v1/models/import", `{"name":"x"}`, "path"},
	} {
		failure := as[Failure](t, n.send(400, row.method, row.path, row.body)).Problem
		if failure.Code != centram.Invalid || failure.Details["param"] != row.field && !strings.Contains(failure.Message, row.field) {
			t.Errorf("%s %s: got %+v, want one that names %s", row.path, row.body, failure, row.field)
		}
	}
	for _, body := range []string{`{`, `[]`, `null`, `"x"`, `{}{}`} {
		if got := n.send(400, "POST", "/api/v1/chats", body).code(t); got != centram.Invalid {
			t.Errorf("%s: got %s", body, got)
		}
	}
}

func TestChatsOverREST(t *testing.T) {
	n := start(t, nil)
	news := n.view("/api/v1/events")
	chat := as[chats.Chat](t, n.send(201, "POST", "/api/v1/chats", `{"title":"Grüße","model":"toy","sampling":{"top_k":3}}`))
	path := "/api/v1/chats/" + chat.ID
	if name, data := news.next(); name != "chat" || data != `{"id":"`+chat.ID+`","change":"created"}` {
		t.Errorf("got %s %s", name, data)
	}
	message, answer := n.ask(chat.ID, "", "机器学习")
	n.view(message + "/stream").rest()
	var states []string
	for len(states) < 2 {
		if name, data := news.next(); name == "message" {
			states = append(states, data)
		}
	}
	if want := fmt.Sprintf(`[{"chat":"%[1]s","id":"%[2]s","state":"generating"} {"chat":"%[1]s","id":"%[2]s","state":"done"}]`,
		chat.ID, answer.ID); fmt.Sprint(states) != want {
		t.Errorf("got %s, want %s", states, want)
	}
	patched := as[chats.Chat](t, n.send(200, "PATCH", path, `{"title":"Neu","head":"`+answer.Parent+`"}`))
	if patched.Title != "Neu" || patched.Head != answer.Parent || patched.Model != "toy" || *patched.Sampling.TopK != 3 {
		t.Errorf("got %+v", patched)
	}
	type list struct {
		Chats []chats.Summary `json:"chats"`
		More  bool            `json:"more"`
	}
	n.newChat()
	if got := as[list](t, n.send(200, "GET", "/api/v1/chats?limit=1", "")); len(got.Chats) != 1 || !got.More {
		t.Errorf("got %+v", got)
	} else if got := as[list](t, n.send(200, "GET", "/api/v1/chats?before="+got.Chats[0].ID, "")); len(got.Chats) != 1 || got.More {
		t.Errorf("the second page: got %+v", got)
	}
	found := as[list](t, n.send(200, "GET", "/api/v1/chats?q=%E5%AD%A6%E4%B9%A0", ""))
	if len(found.Chats) != 1 || found.Chats[0].Snippet != "机器\uE000学习\uE001" {
		t.Errorf("got %+v", found)
	}
	if got := as[list](t, n.send(200, "GET", "/api/v1/chats?q=%22%28", "")); got.Chats == nil || len(got.Chats) != 0 {
		t.Errorf("a hostile query: got %+v", got)
	}
	n.send(204, "DELETE", path, "")
	n.send(404, "DELETE", path, "")
	n.send(404, "PATCH", path, `{}`)
	n.send(404, "POST", path+"/messages", `{"content":"x"}`)
	n.send(404, "GET", "/api/v1/chats?before="+chat.ID, "")
}

func TestModelsOverREST(t *testing.T) {
	n := start(t, nil)
	news := n.view("/api/v1/events")
	path := filepath.Join(t.TempDir(), "Other.gguf")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := as[Model](t, n.send(201, "POST", "/api/v1/models/import", `{"path":"`+path+`","name":"other:7b"}`))
	if m.Name != "other:7b" || m.Path != path || m.State != "ready" || m.Loaded || m.Loading != nil {
		t.Errorf("got %+v", m)
	}
	n.send(409, "POST", "/api/v1/models/import", `{"path":"`+path+`","name":"toy"}`)
	n.send(404, "POST", "/api/v1/models/import", `{"path":"/nowhere.gguf"}`)
	if list := as[struct{ Models []Model }](t, n.send(200, "GET", "/api/v1/models", "")); len(list.Models) != 2 {
		t.Errorf("got %+v", list)
	}
	n.send(202, "POST", "/api/v1/models/other%3A7b/load", `{}`)
	for _, want := range []string{
		`{"name":"other:7b","change":"imported"}`, `{"name":"other:7b","change":"loading","progress":0.5}`,
		`{"name":"other:7b","change":"loaded"}`,
	} {
		if name, data := news.next(); name != "model" || data != want {
			t.Errorf("got %s %s, want %s", name, data, want)
		}
	}
	if m := as[Model](t, n.send(200, "GET", "/api/v1/models/OTHER:7B", "")); !m.Loaded {
		t.Errorf("got %+v, want it loaded", m)
	}
	want := `{"models":[{"name":"other:7b","memory_bytes":1000,"context":4096,"sequences":4,"busy":0,"expires_at":null,"gpu":true}]}`
	if got := strings.TrimSpace(string(n.send(200, "GET", "/api/v1/ps", "").body)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if m := as[Model](t, n.send(200, "POST", "/api/v1/models/other:7b/unload", `{}`)); m.Loaded {
		t.Errorf("got %+v, want it unloaded", m)
	}
	n.send(200, "POST", "/api/v1/models/other:7b/unload", `{}`)
	n.send(403, "DELETE", "/api/v1/models/other:7b?file=true", "")
	n.send(204, "DELETE", "/api/v1/models/other:7b", "")
	n.send(204, "DELETE", "/api/v1/models/toy?file=true", "")
	n.send(404, "DELETE", "/api/v1/models/toy", "")
	n.send(404, "POST", "/api/v1/models/toy/load", `{}`)
	chat := n.newChat()
	if got := n.send(400, "POST", "/api/v1/chats/"+chat.ID+"/messages", `{"content":"x"}`); !strings.Contains(string(got.body), "no model") {
		t.Errorf("got %s", got.body)
	}
}

func TestSettingsAreKept(t *testing.T) {
	n := start(t, nil)
	if got, want := strings.TrimSpace(string(n.send(200, "GET", "/api/v1/settings", "").body)),
		`{"default_model":"","system":"","sampling":{},"language":"","theme":"system"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	body := `{"default_model":"toy","system":"S","sampling":{"temperature":0,"seed":4294967295},"language":"de","theme":"dark"}`
	for _, method := range []string{"PUT", "GET"} {
		if got := strings.TrimSpace(string(n.send(200, method, "/api/v1/settings", map[string]string{"PUT": body}[method]).body)); got != body {
			t.Errorf("%s: got %s, want %s", method, got, body)
		}
	}
}

func TestHealthVersionAndMetrics(t *testing.T) {
	ready := false
	n := start(t, func(c *Config) { c.Ready = func() bool { return ready } })
	for status, want := range map[int]string{503: `{"status":"loading"}`, 200: `{"status":"ok"}`} {
		ready = status == 200
		for _, path := range []string{"/health", "/v1/health", "/api/v1/health"} {
			if got := strings.TrimSpace(string(n.send(status, "GET", path, "").body)); got != want {
				t.Errorf("%s: got %s, want %s", path, got, want)
			}
		}
	}
	if got := as[Version](t, n.send(200, "GET", "/api/v1/version", "")); got.Version != "1.2.3" {
		t.Errorf("got %+v", got)
	}
	n.do(n.request("BREW", "/nothing/secret", nil))
	text := string(n.send(200, "GET", "/metrics", "").body)
	for _, want := range []string{
		`centram_http_requests_total{method="GET",route="/api/v1/version",status="200"} 1`,
		`centram_http_requests_total{method="other",route="none",status="404"} 1`, `centram_http_request_seconds_bucket`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	if strings.Contains(text, "secret") {
		t.Error("a path is in the metrics")
	}
}

func TestWebApps(t *testing.T) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	fmt.Fprint(w, "script")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	n := start(t, func(c *Config) {
		c.Web = fstest.MapFS{
			"detra/index.html": {Data: []byte("page")}, "detra/assets/index-C0ffee_-9.js": {Data: []byte("script")},
			"detra/assets/index-C0ffee_-9.js.gz": {Data: packed.Bytes()}, "icon.svg": {Data: []byte("<svg/>")}, ".built": {},
		}
	})
	n.client.Transport = &http.Transport{DisableCompression: true}
	for _, row := range []struct {
		path   string
		header []string
		status int
		want   map[string]string
		body   string
	}{
		{"/", []string{"Accept", "text/html,*/*"}, 302, map[string]string{"Location": "/detra/"}, ""},
		{"/detra", nil, 302, map[string]string{"Location": "/detra/"}, ""},
		{"/detra/", nil, 200, map[string]string{"Cache-Control": "no-cache", "Content-Type": "text/html; charset=utf-8"}, "page"},
		{"/detra/chat/some-id", nil, 200, map[string]string{"Cache-Control": "no-cache"}, "page"},
		{"/detra/assets/index-C0ffee_-9.js", nil, 200, map[string]string{
			"Cache-Control": "public, max-age=31536000, immutable", "Content-Type": "text/javascript; charset=utf-8",
			"Vary": "Accept-Encoding", "Content-Encoding": "",
		}, "script"},
		{"/detra/assets/index-C0ffee_-9.js", []string{"Accept-Encoding", "br, gzip"}, 200, map[string]string{
			"Content-Encoding": "gzip", "Content-Type": "text/javascript; charset=utf-8",
		}, packed.String()},
		{"/detra/assets/index-C0ffee_-9.js", []string{"Accept-Encoding", "gzip;q=0"}, 200, map[string]string{"Content-Encoding": ""}, "script"},
		{"/detra/assets/gone.js", nil, 404, nil, ""},
		{"/icon.svg", nil, 200, map[string]string{"Content-Type": "image/svg+xml"}, "<svg/>"},
		{"/.built", nil, 404, nil, ""},
		{"/detra/../../etc/passwd", nil, 200, nil, "page"},
		{"/detra/%2e%2e/icon.svg", nil, 404, nil, ""},
	} {
		got := n.do(n.request("GET", row.path, nil, row.header...))
		if got.status != row.status || row.body != "" && string(got.body) != row.body {
			t.Errorf("%s %v: got %d %q, want %d %q", row.path, row.header, got.status, got.body, row.status, row.body)
		}
		for name, want := range row.want {
			if h := got.header.Get(name); h != want {
				t.Errorf("%s %v: %s: got %q, want %q", row.path, row.header, name, h, want)
			}
		}
	}
	tag := n.send(200, "GET", "/detra/", "").header.Get("ETag")
	n.send(304, "GET", "/detra/", "", "If-None-Match", tag)
	n.send(200, "HEAD", "/detra/", "")
}

func TestTheProgramHasAPageWithoutAWebBuild(t *testing.T) {
	n := start(t, func(c *Config) { c.Web = web.Stub() })
	if got := n.send(200, "GET", "/detra/", ""); !strings.Contains(string(got.body), "Centram") {
		t.Errorf("got %s", got.body)
	}
}
