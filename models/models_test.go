package models

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/store"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// toy is a real, very small model file.
var toy = sync.OnceValue(func() []byte {
	shape := gguf.Toy()
	shape.Layers, shape.Embedding, shape.FeedForward = 1, 64, 64
	var b bytes.Buffer
	if err := gguf.Generate(&b, shape, 1); err != nil {
		panic(err)
	}
	return b.Bytes()
})

type fixture struct {
	*Library
	dir     string // the data directory; the models folder is in it
	changes []Change
}

func open(t *testing.T, dir string, check func(string) (Checked, error)) *fixture {
	t.Helper()
	db, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	f := &fixture{dir: dir}
	f.Library, err = New(t.Context(), Config{
		DB: db.DB, Dir: filepath.Join(dir, "models"), AdapterDir: filepath.Join(dir, "adapters"), Check: check,
		Changed: func(c Change) { f.changes = append(f.changes, c) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func write(t *testing.T, content []byte, elements ...string) string {
	t.Helper()
	path := filepath.Join(elements...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func (f *fixture) names(t *testing.T) []string {
	t.Helper()
	list, err := f.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, m := range list {
		names = append(names, m.Name+" "+string(m.State))
	}
	return names
}

func (f *fixture) wantNames(t *testing.T, want ...string) {
	t.Helper()
	if got := f.names(t); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func code(_ Model, err error) centram.Code { return centram.CodeOf(err) }

func TestImportLeavesTheFileInPlace(t *testing.T) {
	f := open(t, t.TempDir(), nil)
	path := write(t, toy(), t.TempDir(), "My Model (Q8_0).gguf")
	m, err := f.Import(t.Context(), path, "")
	if err != nil {
		t.Fatal(err)
	}
	if m.Name != "my-model-q8_0" || m.Path != path || m.SizeBytes != int64(len(toy())) || m.Architecture != "qwen2" ||
		m.Layers != 1 || m.Embedding != 64 || m.State != Ready || m.Parameters == 0 || m.Context == 0 {
		t.Errorf("got %+v", m)
	}
	again, err := f.Import(t.Context(), path, "")
	if err != nil || again.Name != m.Name {
		t.Errorf("again: got %q, %v; want the same model", again.Name, err)
	}
	for _, name := range []string{"my-model-q8_0", "MY-Model-Q8_0", "my-model-q8_0:latest"} {
		if got, err := f.Resolve(t.Context(), name); err != nil || got.Path != path || got.Name != m.Name {
			t.Errorf("resolve %s: got %q at %s (%v)", name, got.Name, got.Path, err)
		}
	}
	if got := code(f.Import(t.Context(), path, "other")); got != centram.Conflict {
		t.Errorf("under another name: got %s, want a conflict", got)
	}
	if want := []Change{{m.Name, Imported}}; !slices.Equal(f.changes, want) {
		t.Errorf("got %v, want %v", f.changes, want)
	}
}

func TestNames(t *testing.T) {
	f := open(t, t.TempDir(), nil)
	dir := t.TempDir()
	for i, row := range []struct {
		asked, want string
		code        centram.Code
	}{
		{"", "toy", ""},
		{"", "toy-2", ""},
		{"qwen:7b", "qwen:7b", ""},
		{"a.b_c-d", "a.b_c-d", ""},
		{"x:latest", "x", ""},
		{"toy", "", centram.Conflict},
		{"Upper", "", centram.Invalid},
		{"a/b", "", centram.Invalid},
		{"../x", "", centram.Invalid},
		{"-x", "", centram.Invalid},
		{"a b", "", centram.Invalid},
		{":x", "", centram.Invalid},
		{"a:", "", centram.Invalid},
		{strings.Repeat("a", 200), "", centram.Invalid},
		{"ä", "", centram.Invalid},
	} {
		m, err := f.Import(t.Context(), write(t, toy(), dir, string(rune('a'+i)), "Toy.gguf"), row.asked)
		if centram.CodeOf(err) != row.code || m.Name != row.want {
			t.Errorf("%q: got %q, %v; want %q, %s", row.asked, m.Name, err, row.want, row.code)
		}
	}
	m, err := f.Import(t.Context(), write(t, toy(), dir, "x", "ggml-model-f16.gguf"), "")
	if err != nil || m.Name != "centram-toy" {
		t.Errorf("got %q, %v; want the name that the model gives itself", m.Name, err)
	}
}

func TestImportRefusesWhatIsNoModel(t *testing.T) {
	f := open(t, t.TempDir(), nil)
	dir := t.TempDir()
	for name, row := range map[string]struct {
		path string
		want centram.Code
	}{
		"nothing":     {filepath.Join(dir, "none.gguf"), centram.NotFound},
		"a directory": {filepath.Dir(write(t, nil, dir, "dir.gguf", "x")), centram.Invalid},
		"not .gguf":   {write(t, toy(), dir, "passwd"), centram.Invalid},
		"empty":       {write(t, nil, dir, "empty.gguf"), centram.Invalid},
		"a web page":  {write(t, []byte("<html>"), dir, "page.gguf"), centram.Invalid},
		"half":        {write(t, toy()[:len(toy())/2], dir, "half.gguf"), centram.Invalid},
	} {
		if got := code(f.Import(t.Context(), row.path, "")); got != row.want {
			t.Errorf("%s: got %q, want %q", name, got, row.want)
		}
	}
	f.wantNames(t)
}

func TestWhatHuggingFaceKeepsIsToBeConverted(t *testing.T) {
	f := open(t, t.TempDir(), nil)
	weights := write(t, nil, t.TempDir(), "Model", "model.safetensors")
	for _, path := range []string{weights, filepath.Dir(weights)} {
		_, err := f.Import(t.Context(), path, "")
		if want := "centram model import " + filepath.Dir(weights); centram.CodeOf(err) != centram.Invalid || !strings.HasSuffix(centram.HintOf(err), want) {
			t.Errorf("%s: got %v (%s), want Invalid and %q", path, err, centram.HintOf(err), want)
		}
	}
}

func TestTheFileOfANameGivesThatName(t *testing.T) {
	for _, row := range []struct{ name, file, back string }{
		{"qwen2.5-0.5b", "qwen2.5-0.5b.gguf", "qwen2.5-0.5b"},
		{"Small:latest", "", ""},
		{"small:latest", "small.gguf", "small"},
		{"small:bf16", "small-bf16.gguf", "small-bf16"},
		{"../small", "", ""},
		{"a/b", "", ""},
		{NameAfter("Qwen2.5 (0.5B) Instruct"), "qwen2.5-0.5b-instruct.gguf", "qwen2.5-0.5b-instruct"},
		{NameAfter("../../etc"), "etc.gguf", "etc"},
		{NameAfter("模型"), "model.gguf", "model"},
	} {
		file, err := FileFor(row.name)
		if file != row.file || (err != nil) != (row.file == "") {
			t.Errorf("%q: got %q, %v, want %q", row.name, file, err, row.file)
		}
		if got := NameFor(file, ""); row.file != "" && got != row.back {
			t.Errorf("%s is listed as %q, want %q", file, got, row.back)
		}
	}
}

func TestTheModelsFolderIsTheList(t *testing.T) {
	dir := t.TempDir()
	write(t, toy(), dir, "models", "before.gguf")
	f := open(t, dir, nil)
	f.wantNames(t, "before ready")
	write(t, toy(), dir, "models", "sub", "later.gguf")
	write(t, toy(), dir, "models", ".hidden", "no.gguf")
	write(t, toy(), dir, "models", "loading.gguf.part")
	copied := write(t, toy()[:1000], dir, "models", "copied.gguf")
	f.wantNames(t, "before ready", "copied failed", "later ready")
	if got := code(f.Resolve(t.Context(), "copied")); got != centram.Invalid {
		t.Errorf("a failed model: got %q, want invalid", got)
	}
	write(t, toy(), copied)
	f.wantNames(t, "before ready", "copied ready", "later ready")

	if err := os.Rename(copied, filepath.Join(dir, "models", "sub", "copied.gguf")); err != nil {
		t.Fatal(err)
	}
	f.wantNames(t, "before ready", "copied ready", "later ready")
	if err := os.Remove(filepath.Join(dir, "models", "before.gguf")); err != nil {
		t.Fatal(err)
	}
	f.wantNames(t, "before missing", "copied ready", "later ready")
	if got := code(f.Resolve(t.Context(), "before")); got != centram.NotFound {
		t.Errorf("a missing model: got %q, want not found", got)
	}
}

func TestSplitModelsAreOne(t *testing.T) {
	checks := 0
	f := open(t, t.TempDir(), func(path string) (Checked, error) {
		checks++
		if filepath.Base(path) != "big-00001-of-00003.gguf" {
			t.Errorf("checked %s, want the first part", path)
		}
		if !present(fingerprint(Parts(path))) {
			return Checked{}, centram.Errorf(centram.NotFound, "A part is missing.")
		}
		return Checked{}, nil
	})
	dir := t.TempDir()
	first := write(t, []byte("1"), dir, "big-00001-of-00003.gguf")
	second := write(t, []byte("22"), dir, "big-00002-of-00003.gguf")
	if got := code(f.Import(t.Context(), second, "")); got != centram.NotFound {
		t.Errorf("incomplete: got %q, want not found", got)
	}
	write(t, []byte("333"), dir, "big-00003-of-00003.gguf")
	m, err := f.Import(t.Context(), second, "")
	if err != nil || m.Name != "big" || m.Path != first || m.SizeBytes != 6 {
		t.Errorf("got %+v, %v", m, err)
	}
	checks = 0
	f.wantNames(t, "big ready")
	if checks != 0 {
		t.Errorf("an unchanged model was checked %d times", checks)
	}
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	f.wantNames(t, "big missing")
}

func TestDeleteKeepsItsHandsOff(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	outside := write(t, toy(), elsewhere, "outside.gguf")
	inside := write(t, toy(), dir, "models", "inside.gguf")
	kept := write(t, toy(), dir, "models", "kept.gguf")
	link := filepath.Join(dir, "models", "link.gguf")
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	f := open(t, dir, nil)
	if _, err := f.Import(t.Context(), outside, "outside"); err != nil {
		t.Fatal(err)
	}
	f.wantNames(t, "inside ready", "kept ready", "link ready", "outside ready")
	if err := f.Delete(t.Context(), "outside", true); centram.CodeOf(err) != centram.Forbidden {
		t.Errorf("a file outside: got %v, want forbidden", err)
	}
	for _, name := range []string{"inside", "link"} {
		if err := f.Delete(t.Context(), name, true); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := f.Delete(t.Context(), "KEPT:latest", false); err != nil {
		t.Error(err)
	}
	if err := f.Delete(t.Context(), "kept", false); centram.CodeOf(err) != centram.NotFound {
		t.Errorf("again: got %v, want not found", err)
	}
	for path, want := range map[string]bool{outside: true, kept: true, inside: false, link: false} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s: got %v, want it there: %v", path, err, want)
		}
	}
	f.wantNames(t, "outside ready") // the file that was kept does not come back
	if _, err := f.Import(t.Context(), kept, ""); err != nil {
		t.Error(err)
	}
	f.wantNames(t, "kept ready", "outside ready")
}

func TestDeleteDoesNotFollowALinkedDirectory(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	victim := write(t, toy(), elsewhere, "victim.gguf")
	f := open(t, dir, nil)
	if err := os.Symlink(elsewhere, filepath.Join(dir, "models", "sub")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Import(t.Context(), filepath.Join(dir, "models", "sub", "victim.gguf"), ""); err != nil {
		t.Fatal(err)
	}
	if err := f.Delete(t.Context(), "victim", true); centram.CodeOf(err) != centram.Forbidden {
		t.Errorf("got %v, want forbidden", err)
	}
	if _, err := os.Stat(victim); err != nil {
		t.Errorf("the file behind the link: %v", err)
	}
}

func TestListOutlivesTheProcessAndDigestsCome(t *testing.T) {
	dir := t.TempDir()
	path := write(t, toy(), dir, "models", "toy.gguf")
	f := open(t, dir, nil)
	f.DB.Close()
	f = open(t, dir, func(string) (Checked, error) { panic("an unchanged file is checked again") })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	sum := sha256.Sum256(toy())
	want := hex.EncodeToString(sum[:])
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		m, err := f.Get(t.Context(), "toy")
		if err != nil || m.Path != path || m.State != Ready {
			t.Fatalf("got %+v, %v", m, err)
		}
		if m.Digest == want {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("got digest %q, want %q", m.Digest, want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestNoFileIsOpenedByItsPath(t *testing.T) {
	f := open(t, t.TempDir(), nil)
	path := write(t, toy(), t.TempDir(), "loose.gguf")
	for _, name := range []string{path, "nothing", "/nowhere.gguf", "/etc/passwd", "loose.gguf", "../loose.gguf", ""} {
		if got := code(f.Resolve(t.Context(), name)); got != centram.NotFound {
			t.Errorf("%q: got %q, want %s", name, got, centram.NotFound)
		}
	}
}
