package download

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/models/catalogue"
	"github.com/centram/centram/models/hub"
	"github.com/centram/centram/models/hub/hubtest"
)

// The list that comes with Centram is asked about on a hub that has newer files of two of its models, an old one of another,
// and no others.
func TestWhatTheHubHasNewerIsDownloadedFromThenOn(t *testing.T) {
	s := hubtest.New(t, 1, hubtest.Faults{})
	h, err := hub.New(hub.Config{Endpoint: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	own, refreshed := filepath.Join(dir, "own.json"), filepath.Join(dir, "refreshed.json")
	load := func() Orders {
		t.Helper()
		c, err := catalogue.Load(refreshed, own)
		if err != nil {
			t.Fatal(err)
		}
		return Orders{Catalogue: c, Hub: h, Refreshed: refreshed, Licenses: filepath.Join(dir, "licenses")}
	}
	o := load()
	if _, err := o.Refresh(t.Context()); centram.CodeOf(err) != centram.NotFound {
		t.Errorf("got %v of a hub that has nothing, want that it has not", err)
	}
	put := func(name, content string) (sum string) {
		t.Helper()
		e, err := o.Catalogue.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range e.Files {
			sum = s.Add(e.Repo, f.Path, []byte(content))
		}
		return sum
	}
	newer := put("qwen2.5-0.5b", "newer")
	put("qwen2.5-7b", "newer, in two parts")
	mine := catalogue.Entry{Name: "mine", Repo: "me/models", License: "mit", Files: []catalogue.File{{Path: "a.gguf", Size: 1, SHA256: s.Add("me/models", "a.gguf", []byte("x"))}}}
	b, err := json.Marshal(map[string]any{"models": []catalogue.Entry{mine}})
	if err == nil {
		err = os.WriteFile(own, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // also when it was asked before
		o = load()
		news, err := o.Refresh(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range news {
			known := map[string]bool{"qwen2.5-0.5b": true, "qwen2.5-7b": true, "mine": true}[n.Entry.Name]
			if (n.Err == nil) != known {
				t.Errorf("%s: got %v", n.Entry.Name, n.Err)
			}
			if n.Newer && n.Entry.Revision != s.Commit {
				t.Errorf("%s: got the revision %s, want the commit", n.Entry.Name, n.Entry.Revision)
			}
		}
		m, err := load().Take(t.Context(), "qwen2.5-0.5b", false)
		if err != nil || m.Files[0].SHA256 != newer || m.Files[0].Size != 5 || m.Revision != s.Commit {
			t.Errorf("got %+v, %v, want the newer file", m, err)
		}
		if m, err := load().Take(t.Context(), "qwen2.5-7b", false); err != nil || len(m.Files) != 2 || m.Bytes() != 2*19 {
			t.Errorf("got %+v, %v, want both newer parts", m, err)
		}
		if m, err := load().Take(t.Context(), "qwen2.5-1.5b", false); err != nil || m.Bytes() != 1117320736 {
			t.Errorf("got %+v, %v, want it as it was", m, err)
		}
	}
	if b, err := os.ReadFile(refreshed); err != nil || len(b) == 0 || json.Valid(b) == false {
		t.Errorf("got %s, %v", b, err)
	}
}
