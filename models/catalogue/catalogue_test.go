package catalogue

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/centram/centram"
)

func TestWhatComesWithCentramIsWhole(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b", "qwen2.5-7b", "qwen2.5-coder-7b", "qwen2.5-vl-3b"} {
		e, err := c.Find(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(e.Revision) != 40 {
			t.Errorf("%s is at revision %q, want a commit", name, e.Revision)
		}
		if e.Draft != "" {
			if _, err := c.Find(e.Draft); err != nil {
				t.Errorf("the draft of %s: %v", name, err)
			}
		}
	}
	seven, _ := c.Find("qwen2.5-7b")
	if got, want := seven.Bytes(), int64(3993201344+689872288); len(seven.Files) != 2 || got != want {
		t.Errorf("the 7B has %d files of %d bytes, want 2 of %d", len(seven.Files), got, want)
	}
	if got := seven.Memory(8192) - seven.Memory(0); got != 8192*56*1024 {
		t.Errorf("8192 tokens of the 7B take %d bytes of cache, want %d", got, 8192*56*1024)
	}
}

func TestOnlyWhatMayBeUsedToEarnMoneyIsSaidToBe(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for name, commercial := range map[string]bool{
		"qwen2.5-0.5b": true, "qwen2.5-1.5b": true, "qwen2.5-3b": false, "qwen2.5-7b": true,
		"qwen2.5-coder-1.5b": true, "qwen2.5-coder-3b": false, "qwen2.5-coder-7b": true, "qwen2.5-vl-3b": false, "qwen2.5-vl-7b": true,
	} {
		e, err := c.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		if l := c.License(e); l.Commercial != commercial || l.URL == "" || l.Title == "" {
			t.Errorf("%s: got licence %+v, want commercial %v, with a title and an address", name, l, commercial)
		}
	}
}

func TestAModelIsFoundHoweverItIsWritten(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"qwen2.5-3b", "Qwen2.5-3B", "qwen2.5:3b", "qwen2.5-3b:latest", " qwen2.5-3b "} {
		if e, err := c.Find(name); err != nil || e.Name != "qwen2.5-3b" {
			t.Errorf("%q: got %q, %v", name, e.Name, err)
		}
	}
	_, err = c.Find("qwen2.5-coder")
	if centram.CodeOf(err) != centram.NotFound || !strings.Contains(centram.HintOf(err), "qwen2.5-coder-1.5b") {
		t.Errorf("got %v (%s), want a hint at what was meant", err, centram.HintOf(err))
	}
	if found := c.Search("CODER", "research"); len(found) != 1 || found[0].Name != "qwen2.5-coder-3b" {
		t.Errorf("got %v, want the coder with the research licence alone", found)
	}
}

func TestAnOwnersListAddsAndReplaces(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	list := `{"licenses": {"own": {"title": "Mine", "url": "https://example.org"}}, "models": [
		{"name": "mine", "repo": "me/models", "files": [{"path": "a/b.gguf", "size": 5, "sha256": "` + sum + `"}], "license": "own"},
		{"name": "qwen2.5-3b", "repo": "me/other", "files": [{"path": "c.gguf", "size": 6, "sha256": "` + sum + `"}], "license": "apache-2.0"}]}`
	path := filepath.Join(t.TempDir(), "catalogue.json")
	if err := os.WriteFile(path, []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := c.Find("mine"); err != nil || e.Files[0].Name() != "b.gguf" || c.License(e).ID != "own" {
		t.Errorf("got %+v, %v", e, err)
	}
	if e, err := c.Find("qwen2.5-3b"); err != nil || e.Repo != "me/other" {
		t.Errorf("got %+v, %v, want the owner's", e, err)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.json")); err != nil {
		t.Errorf("without a list: %v", err)
	}
}

func TestAListThatCannotBeIsRefusedWithTheReason(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	file := func(path, sum string) string {
		return `{"models": [{"name": "x", "repo": "a/b", "license": "mit", "files": [{"path": "` + path + `", "size": 5, "sha256": "` + sum + `"}]}]}`
	}
	for list, reason := range map[string]string{
		`{`:                           "EOF",
		`{"modells": []}`:             "modells",
		`{"models": [{"name": "X"}]}`: "name",
		`{"models": [{"name": "x", "repo": "../.."}]}`:        "repository",
		`{"models": [{"name": "x", "repo": "a/b"}]}`:          "files",
		file("../x.gguf", sum):                                "path",
		file("/x.gguf", sum):                                  "path",
		file("a//x.gguf", sum):                                "path",
		file(".x.gguf", sum):                                  "path",
		file("x.gguf", "12"):                                  "sha256",
		file("x.gguf", strings.ToUpper(sum)):                  "sha256",
		strings.Replace(file("x.gguf", sum), "5", "-5", 1):    "bytes",
		strings.Replace(file("x.gguf", sum), "mit", "own", 1): "licence",
	} {
		path := filepath.Join(t.TempDir(), "catalogue.json")
		if err := os.WriteFile(path, []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if centram.CodeOf(err) != centram.Invalid || !strings.Contains(err.Error(), reason) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want it refused for its %s, naming the file", list, err, reason)
		}
	}
}
