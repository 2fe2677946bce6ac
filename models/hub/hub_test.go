package hub_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/models/hub"
	"github.com/centram/centram/models/hub/hubtest"
)

func open(t *testing.T, cfg hub.Config) *hub.Hub {
	t.Helper()
	h, err := hub.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestTheHubSaysWhatAFileIs(t *testing.T) {
	s := hubtest.New(t, 1, hubtest.Faults{})
	sum := s.Add("a/b", "c/d.gguf", []byte("hello"))
	h := open(t, hub.Config{Endpoint: s.URL + "/"})
	found, err := h.Head(t.Context(), hub.File{Repo: "a/b", Revision: "main", Path: "c/d.gguf"})
	if want := (hub.Found{Commit: s.Commit, Size: 5, SHA256: sum}); err != nil || found != want {
		t.Errorf("got %+v, %v, want %+v", found, err, want)
	}
	list, err := h.Tree(t.Context(), "a/b", "main")
	if err != nil || len(list) != 2 || list[1] != (hub.Listed{Path: "c/d.gguf", Size: 5, SHA256: sum}) {
		t.Errorf("got %+v, %v", list, err)
	}
	_, err = h.Head(t.Context(), hub.File{Repo: "a/b", Revision: "main", Path: "none.gguf"})
	if centram.CodeOf(err) != centram.NotFound || !strings.Contains(err.Error(), "a/b/none.gguf") || centram.HintOf(err) == "" {
		t.Errorf("got %v (%s), want that there is no such file", err, centram.HintOf(err))
	}
	if _, err := h.Tree(t.Context(), "no/thing", "main"); centram.CodeOf(err) != centram.NotFound {
		t.Errorf("got %v, want that there is no such repository", err)
	}
}

func TestALinkIsUsedUntilItExpires(t *testing.T) {
	s := hubtest.New(t, 1, hubtest.Faults{})
	s.Add("a/b", "d.gguf", []byte("hello world"))
	h, f := open(t, hub.Config{Endpoint: s.URL}), hub.File{Repo: "a/b", Revision: "main", Path: "d.gguf"}
	get := func(from, to int64) string {
		t.Helper()
		r, err := h.Open(t.Context(), f, 11, from, to)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := get(0, 5) + get(5, 6) + get(6, 11); got != "hello world" {
		t.Errorf("got %q", got)
	}
	if n := len(s.Asked()); n != 1 {
		t.Errorf("the hub was asked %d times for three parts, want once", n)
	}
	s.Set(hubtest.Faults{Expire: 1})
	if _, err := h.Open(t.Context(), f, 11, 0, 5); centram.CodeOf(err) != centram.Unavailable {
		t.Errorf("got %v, want that it may be tried again", err)
	}
	if n := len(s.Asked()); n != 2 {
		t.Errorf("the hub was asked %d times, want once more for a new link", n)
	}
	s.Set(hubtest.Faults{})
	if got := get(0, 5); got != "hello" {
		t.Errorf("got %q", got)
	}
}

func TestTheTokenIsForTheHubAlone(t *testing.T) {
	s := hubtest.New(t, 1, hubtest.Faults{})
	s.Add("gated/b", "d.gguf", []byte("hello"))
	f := hub.File{Repo: "gated/b", Revision: "main", Path: "d.gguf"}
	for token, code := range map[string]centram.Code{"": centram.Unauthorized, "hf_other": centram.Forbidden, hubtest.Token: ""} {
		h := open(t, hub.Config{Endpoint: s.URL, Token: token})
		r, err := h.Open(t.Context(), f, 5, 0, 5)
		if err == nil {
			r.Close()
		}
		if centram.CodeOf(err) != code || err != nil && !strings.Contains(centram.HintOf(err), "HF_TOKEN") {
			t.Errorf("token %q: got %v (%s), want %q", token, err, centram.HintOf(err), code)
		}
	}
	if s.Leaked() {
		t.Error("the token came to another host")
	}
}

// A redirect within the hub keeps the token, one to a plain address from an encrypted one is not followed.
func TestWhereItIsRedirectedTo(t *testing.T) {
	var tokens []string
	mux := http.NewServeMux()
	mux.HandleFunc("GET /a/b/resolve/main/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/there", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("GET /a/b/resolve/main/circle", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) })
	mux.HandleFunc("GET /a/b/resolve/main/file", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "file:///etc/passwd")
		w.WriteHeader(http.StatusFound)
	})
	mux.HandleFunc("GET /a/b/resolve/main/plain", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "http://127.0.0.1:1/x")
		w.WriteHeader(http.StatusFound)
	})
	mux.HandleFunc("GET /there", func(w http.ResponseWriter, r *http.Request) {
		tokens = append(tokens, r.Header.Get("Authorization"))
		http.ServeContent(w, r, "x", time.Time{}, strings.NewReader("hello"))
	})
	s := httptest.NewTLSServer(mux)
	defer s.Close()
	h := open(t, hub.Config{Endpoint: s.URL, Token: "hf_x", Transport: s.Client().Transport})
	get := func(path string) error {
		r, err := h.Open(t.Context(), hub.File{Repo: "a/b", Revision: "main", Path: path}, 5, 0, 5)
		if err == nil {
			r.Close()
		}
		return err
	}
	if err := get("moved"); err != nil || len(tokens) != 1 || tokens[0] != "Bearer hf_x" {
		t.Errorf("got %v, with the tokens %q, want it followed with the hub's", err, tokens)
	}
	for path, reason := range map[string]string{"circle": "circle", "file": "no address of the web", "plain": "not encrypted"} {
		if err := get(path); centram.CodeOf(err) != centram.Unavailable || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: got %v, want %q", path, err, reason)
		}
	}
}

func TestWhyTheHubCannotBeReached(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	f := hub.File{Repo: "a/b", Revision: "main", Path: "c"}
	for _, c := range []struct {
		cfg         hub.Config
		error, hint string
	}{
		{hub.Config{Endpoint: "http://127.0.0.1:1"}, "refused", "HF_ENDPOINT"},
		{hub.Config{Endpoint: "http://nowhere.invalid"}, "nowhere.invalid", "online"},
		{hub.Config{Endpoint: s.URL}, "certificate", "clock"},
		{hub.Config{Endpoint: s.URL, Offline: true}, "HF_HUB_OFFLINE", "Unset"},
	} {
		_, err := open(t, c.cfg).Head(t.Context(), f)
		if centram.CodeOf(err) != centram.Unavailable || !strings.Contains(err.Error(), c.error) || !strings.Contains(centram.HintOf(err), c.hint) {
			t.Errorf("%+v: got %v (%s), want %q and %q", c.cfg, err, centram.HintOf(err), c.error, c.hint)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(t, hub.Config{Endpoint: s.URL}).Head(ctx, f); centram.CodeOf(err) == centram.Unavailable {
		t.Errorf("got %v for what was cancelled", err)
	}
	for _, endpoint := range []string{"huggingface.co", "ftp://x", "https://user:secret@x", "https://", "http://a b"} {
		if _, err := hub.New(hub.Config{Endpoint: endpoint}); centram.CodeOf(err) != centram.Invalid {
			t.Errorf("%q: got %v, want it refused", endpoint, err)
		}
	}
}

func TestTheEnvironmentIsThatOfHuggingFace(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "huggingface"), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, token := range map[string]string{"huggingface/token": "hf_home\n", "other": " hf_path "} {
		if err := os.WriteFile(filepath.Join(dir, path), []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		env  map[string]string
		want hub.Config
	}{
		{nil, hub.Config{}},
		{map[string]string{"HOME": "/h"}, hub.Config{Cache: "/h/.cache/huggingface/hub"}},
		{map[string]string{"XDG_CACHE_HOME": dir}, hub.Config{Cache: dir + "/huggingface/hub", Token: "hf_home"}},
		{map[string]string{"XDG_CACHE_HOME": dir, "HF_TOKEN_PATH": dir + "/other", "HF_HUB_OFFLINE": "1"}, hub.Config{Cache: dir + "/huggingface/hub", Token: "hf_path", Offline: true}},
		{map[string]string{"HF_HOME": "/x", "HF_HUB_CACHE": "/y", "HF_TOKEN": "hf_t", "HF_ENDPOINT": "https://mirror"}, hub.Config{Cache: "/y", Token: "hf_t", Endpoint: "https://mirror"}},
	} {
		got := hub.FromEnvironment(func(key string) (string, bool) { v, ok := c.env[key]; return v, ok })
		if got != c.want {
			t.Errorf("%v: got %+v, want %+v", c.env, got, c.want)
		}
	}
}

func TestWhatOtherProgramsHaveOfTheHubIsFound(t *testing.T) {
	dir := t.TempDir()
	snapshot := filepath.Join(dir, "models--a--b", "snapshots", strings.Repeat("0", 40))
	if err := os.MkdirAll(snapshot, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "blob"), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "blob"), filepath.Join(snapshot, "c.gguf")); err != nil {
		t.Fatal(err)
	}
	h := open(t, hub.Config{Cache: dir})
	if path, ok := h.Cached(hub.File{Repo: "a/b", Path: "c.gguf"}, 5); !ok || path != filepath.Join(snapshot, "c.gguf") {
		t.Errorf("got %q, %v", path, ok)
	}
	for _, f := range []hub.File{{Repo: "a/b", Path: "d.gguf"}, {Repo: "a/c", Path: "c.gguf"}, {Repo: "a/b", Path: "../../../../blob"}, {Repo: "../x", Path: "c.gguf"}} {
		if path, ok := h.Cached(f, 5); ok {
			t.Errorf("%+v: got %q, want nothing", f, path)
		}
	}
	if path, ok := h.Cached(hub.File{Repo: "a/b", Path: "c.gguf"}, 6); ok {
		t.Errorf("got %q, which is of another size", path)
	}
}
