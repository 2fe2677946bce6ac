package models

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
)

// lora is a real adapter of toy.
func lora(seed uint64) []byte { return loraOf(seed, 64) }

func loraOf(seed uint64, embedding int) []byte {
	shape := gguf.Toy()
	shape.Layers, shape.Embedding, shape.FeedForward = 1, embedding, 64
	var b bytes.Buffer
	if err := gguf.GenerateAdapter(&b, shape, seed); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// withToy is a library with the model toy, and its data directory.
func withToy(t *testing.T) *fixture {
	t.Helper()
	dir := t.TempDir()
	write(t, toy(), dir, "models", "toy.gguf")
	return open(t, dir, nil)
}

func (f *fixture) addAdapter(t *testing.T, path, base, name string) Adapter {
	t.Helper()
	a, err := f.AddAdapter(t.Context(), AdapterDraft{Path: path, Base: base, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (f *fixture) wantAdapters(t *testing.T, base string, want ...string) {
	t.Helper()
	list, err := f.Adapters(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, a := range list {
		got = append(got, a.Called()+" "+string(a.State))
	}
	if !slices.Equal(got, want) {
		t.Errorf("adapters of %q: got %q, want %q", base, got, want)
	}
}

func TestAnAdapterIsListedWithWhatItIs(t *testing.T) {
	f := withToy(t)
	f.changes = nil
	path := write(t, lora(1), t.TempDir(), "My Notes.gguf")
	about := `{"held_before":3.5,"held_after":1.5}`
	a, err := f.AddAdapter(t.Context(), AdapterDraft{Path: path, Base: "TOY:latest", About: []byte(about)})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(lora(1))
	if a.Called() != "toy:my-notes" || a.Path != path || a.SizeBytes != int64(len(lora(1))) || a.Rank != 4 || a.Alpha != 4 ||
		a.Matrices != 3 || a.Parameters == 0 || a.Digest != hex.EncodeToString(sum[:]) || a.Title != "random 1" || a.State != Ready {
		t.Errorf("got %+v", a)
	}
	got, err := f.Adapter(t.Context(), "toy", "MY-notes")
	if err != nil || string(got.About) != about || got.Digest != a.Digest || got.AddedAt.IsZero() {
		t.Errorf("got %+v, %v; want what was added", got, err)
	}
	// Adding it again is no second one, with or without its name, and keeps what was said about it.
	for _, name := range []string{"", "my-notes", "My-Notes"} {
		if again := f.addAdapter(t, path, "toy", name); again.Name != "my-notes" || string(again.About) != about {
			t.Errorf("again as %q: got %s about %s", name, again.Called(), again.About)
		}
	}
	f.addAdapter(t, path, "toy", "copy")
	if _, err := f.AddAdapter(t.Context(), AdapterDraft{Path: path, Base: "toy", Name: "copy", About: []byte(`{"a":1}`)}); err != nil {
		t.Fatal(err)
	}
	f.addAdapter(t, write(t, lora(2), t.TempDir(), "my-notes.gguf"), "toy", "")
	f.wantAdapters(t, "toy", "toy:copy ready", "toy:my-notes ready", "toy:my-notes-2 ready")
	want := []Change{{"toy:my-notes", Imported}, {"toy:copy", Imported}, {"toy:copy", Imported}, {"toy:my-notes-2", Imported}}
	if !slices.Equal(f.changes, want) {
		t.Errorf("got the news %v, want %v", f.changes, want)
	}
}

func TestAddAdapterRefusesWhatDoesNotFit(t *testing.T) {
	f := withToy(t)
	dir := t.TempDir()
	good := write(t, lora(1), dir, "good.gguf")
	f.addAdapter(t, good, "toy", "taken")
	if _, err := f.Import(t.Context(), write(t, toy(), dir, "tagged.gguf"), "toy:tag"); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		draft AdapterDraft
		want  centram.Code
		text  string
	}{
		"no such model":    {AdapterDraft{Path: good, Base: "none"}, centram.NotFound, `no model "none"`},
		"an adapter's":     {AdapterDraft{Path: good, Base: "toy:taken"}, centram.NotFound, "no model"},
		"no such file":     {AdapterDraft{Path: filepath.Join(dir, "none.gguf"), Base: "toy"}, centram.NotFound, "no file"},
		"a folder":         {AdapterDraft{Path: dir, Base: "toy"}, centram.Invalid, ".gguf"},
		"another ending":   {AdapterDraft{Path: write(t, lora(1), dir, "good.bin"), Base: "toy"}, centram.Invalid, ".gguf"},
		"a model":          {AdapterDraft{Path: write(t, toy(), dir, "model.gguf"), Base: "toy"}, centram.Invalid, "not an adapter"},
		"another shape":    {AdapterDraft{Path: write(t, loraOf(1, 128), dir, "wide.gguf"), Base: "toy"}, centram.Invalid, "shapes"},
		"half":             {AdapterDraft{Path: write(t, lora(1)[:2000], dir, "half.gguf"), Base: "toy"}, centram.Invalid, "half.gguf"},
		"text":             {AdapterDraft{Path: write(t, []byte("hello"), dir, "text.gguf"), Base: "toy"}, centram.Invalid, "text.gguf"},
		"a taken name":     {AdapterDraft{Path: write(t, lora(2), dir, "b.gguf"), Base: "toy", Name: "Taken"}, centram.Conflict, "good.gguf"},
		"a model's name":   {AdapterDraft{Path: good, Base: "toy", Name: "tag"}, centram.Conflict, "a model toy:tag"},
		"a colon":          {AdapterDraft{Path: good, Base: "toy", Name: "a:b"}, centram.Invalid, "name of an adapter"},
		"a slash":          {AdapterDraft{Path: good, Base: "toy", Name: "a/b"}, centram.Invalid, "name of an adapter"},
		"a plus":           {AdapterDraft{Path: good, Base: "toy", Name: "a+b"}, centram.Invalid, "name of an adapter"},
		"a dot before":     {AdapterDraft{Path: good, Base: "toy", Name: ".."}, centram.Invalid, "name of an adapter"},
		"latest":           {AdapterDraft{Path: good, Base: "toy", Name: "latest"}, centram.Invalid, "name of an adapter"},
		"a long name":      {AdapterDraft{Path: good, Base: "toy", Name: strings.Repeat("a", 65)}, centram.Invalid, "name of an adapter"},
		"about a list":     {AdapterDraft{Path: good, Base: "toy", About: []byte(`[1]`)}, centram.Invalid, "JSON object"},
		"about broken":     {AdapterDraft{Path: good, Base: "toy", About: []byte(`{"a":`)}, centram.Invalid, "JSON object"},
		"about everything": {AdapterDraft{Path: good, Base: "toy", About: []byte(`{"a":"` + strings.Repeat("x", 16<<10) + `"}`)}, centram.Invalid, "16 KiB"},
	} {
		a, err := f.AddAdapter(t.Context(), row.draft)
		if centram.CodeOf(err) != row.want || !strings.Contains(err.Error(), row.text) {
			t.Errorf("%s: got %+v, %v; want %s and %q", name, a, err, row.want, row.text)
		}
		if row.want != centram.Invalid && centram.HintOf(err) == "" && name != "no such file" {
			t.Errorf("%s: %v has no next step", name, err)
		}
	}
	f.wantAdapters(t, "", "toy:taken ready")
	if _, err := f.Import(t.Context(), write(t, toy(), dir, "x.gguf"), "toy:taken"); centram.CodeOf(err) != centram.Conflict {
		t.Errorf("a model called like an adapter: got %v, want a conflict", err)
	}
	if _, err := f.Adapters(t.Context(), "none"); centram.CodeOf(err) != centram.NotFound {
		t.Errorf("adapters of no model: got %v, want not found", err)
	}
}

func TestAnAdapterFollowsItsFileAndItsModel(t *testing.T) {
	f := withToy(t)
	dir := t.TempDir()
	path := write(t, lora(1), dir, "a.gguf")
	first := f.addAdapter(t, path, "toy", "")
	check := func(state State, code centram.Code) {
		t.Helper()
		f.wantAdapters(t, "toy", "toy:a "+string(state))
		if _, err := f.Resolve(t.Context(), "toy:a"); centram.CodeOf(err) != code {
			t.Errorf("resolve: got %v, want %q", err, code)
		}
	}
	check(Ready, "")

	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	check(Missing, centram.NotFound)
	write(t, lora(1)[:3000], path)
	check(Failed, centram.Invalid)
	write(t, lora(2), path)
	check(Ready, "")
	if now, err := f.Adapter(t.Context(), "toy", "a"); err != nil || now.Digest == first.Digest || now.Title != "random 2" || !now.AddedAt.Equal(first.AddedAt.Truncate(1e6)) {
		t.Errorf("got %+v, %v; want what is in the file now, added when it was", now, err)
	}

	// Its model goes and comes back, as another one and as itself.
	models := filepath.Join(f.dir, "models")
	if err := os.Remove(filepath.Join(models, "toy.gguf")); err != nil {
		t.Fatal(err)
	}
	check(Missing, centram.NotFound)
	write(t, toy(), models, "toy.gguf")
	check(Ready, "")
	if err := f.Delete(t.Context(), "toy", false); err != nil {
		t.Fatal(err)
	}
	f.wantAdapters(t, "", "toy:a missing")
	check(Missing, centram.NotFound)
	if _, err := f.Get(t.Context(), "toy:a"); !strings.Contains(err.Error(), "no model toy, which the adapter a is for") {
		t.Errorf("got %v, want what is missing", err)
	}
	shape := gguf.Toy()
	shape.Layers, shape.Embedding, shape.FeedForward = 1, 128, 64
	var wide bytes.Buffer
	if err := gguf.Generate(&wide, shape, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Import(t.Context(), write(t, wide.Bytes(), dir, "wide.gguf"), "toy"); err != nil {
		t.Fatal(err)
	}
	check(Failed, centram.Invalid)
	if err := f.Delete(t.Context(), "toy", false); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Import(t.Context(), filepath.Join(models, "toy.gguf"), "toy"); err != nil {
		t.Fatal(err)
	}
	check(Ready, "")
}

func TestRemoveAdapterDeletesNoFileOfOthers(t *testing.T) {
	f := withToy(t)
	outside := write(t, lora(1), t.TempDir(), "outside.gguf")
	made := write(t, lora(2), f.dir, "adapters", "toy", "made.gguf")
	f.addAdapter(t, outside, "toy", "outside")
	f.addAdapter(t, made, "toy", "made")
	f.addAdapter(t, made, "toy", "kept")
	for _, row := range []struct {
		base, name string
		file       bool
		want       centram.Code
	}{
		{"toy", "none", false, centram.NotFound},
		{"none", "made", false, centram.NotFound},
		{"toy", "outside", true, centram.Forbidden},
		{"toy", "OUTSIDE", false, ""},
		{"toy", "outside", false, centram.NotFound},
		{"toy", "kept", false, ""},
	} {
		if err := f.RemoveAdapter(t.Context(), row.base, row.name, row.file); centram.CodeOf(err) != row.want {
			t.Errorf("%s:%s, file %t: got %v, want %q", row.base, row.name, row.file, err, row.want)
		}
	}
	for path, want := range map[string]bool{outside: true, made: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: got %v, want it there: %t", path, err, want)
		}
	}
	if err := f.Delete(t.Context(), "toy", false); err != nil {
		t.Fatal(err)
	}
	if err := f.RemoveAdapter(t.Context(), "toy", "made", true); err != nil { // of a model that has gone
		t.Error(err)
	}
	if _, err := os.Stat(made); err == nil {
		t.Errorf("%s is still there", made)
	}
	f.wantAdapters(t, "")
}

func TestAdapterPathStaysInItsFolder(t *testing.T) {
	f := withToy(t)
	for names, want := range map[[2]string]string{
		{"toy", "Made"}: "toy/made.gguf", {"TOY:latest", "x"}: "toy/x.gguf", {"qwen:7b", "x.y"}: "qwen+7b/x.y.gguf",
	} {
		if got, err := f.AdapterPath(names[0], names[1]); err != nil || got != filepath.Join(f.dir, "adapters", want) {
			t.Errorf("%q: got %s, %v; want %s", names, got, err, want)
		}
	}
	for _, names := range [][2]string{{"toy", "../x"}, {"toy", ""}, {"toy", "a/b"}, {"toy", "a:b"}, {"..", "x"}, {"a/b", "x"}, {"../toy", "x"}} {
		if got, err := f.AdapterPath(names[0], names[1]); centram.CodeOf(err) != centram.Invalid {
			t.Errorf("%q: got %s, %v; want it refused", names, got, err)
		}
	}
}

func TestAdaptersOutliveTheProcess(t *testing.T) {
	f := withToy(t)
	f.addAdapter(t, write(t, lora(1), f.dir, "a.gguf"), "toy", "")
	f.DB.Close()
	f = open(t, f.dir, func(string) (Checked, error) { panic("an unchanged file is checked again") })
	f.wantAdapters(t, "", "toy:a ready")
}

func TestAKeptAdapterDoesWithoutTheFileItWasCopiedFrom(t *testing.T) {
	f := withToy(t)
	path := write(t, lora(1), t.TempDir(), "trained.gguf")
	draft := AdapterDraft{Path: path, Base: "toy", Name: "kept"}
	for range 2 { // the second finds the copy
		a, err := f.KeepAdapter(t.Context(), draft)
		if err != nil || a.Path == path {
			t.Fatalf("got %s, %v, want a copy of its own", a.Path, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	f.wantAdapters(t, "toy", "toy:kept ready")
	draft.Path = write(t, lora(2), t.TempDir(), "other.gguf")
	if _, err := f.KeepAdapter(t.Context(), draft); centram.CodeOf(err) != centram.Conflict {
		t.Errorf("another file under that name: got %v, want Conflict", err)
	}
	f.wantAdapters(t, "toy", "toy:kept ready")
}
