package models

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/store"
)

// withBuiltIn opens the library of a program that brings these models.
func withBuiltIn(t *testing.T, dir string, brought ...BuiltIn) *Library {
	t.Helper()
	db, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	l, err := New(t.Context(), Config{DB: db.DB, Dir: filepath.Join(dir, "models"), BuiltIn: brought, BuiltInDir: filepath.Join(dir, "builtin")})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func names(t *testing.T, l *Library) (out []string) {
	t.Helper()
	list, err := l.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		out = append(out, m.Name)
	}
	return out
}

func TestAModelThatComesWithTheProgramIsThereFromTheStart(t *testing.T) {
	dir := t.TempDir()
	l := withBuiltIn(t, dir, BuiltIn{"tiny", toy()})
	m, err := l.Resolve(t.Context(), "tiny")
	if err != nil || !m.BuiltIn {
		t.Fatalf("got %+v, %v, want a built-in model", m, err)
	}
	if got, err := l.Only(t.Context()); got != "tiny" || err != nil {
		t.Errorf("without any other the one to use is %q, %v, want tiny", got, err)
	}
	if err := l.Delete(t.Context(), "tiny", true); centram.CodeOf(err) != centram.Forbidden || !strings.Contains(centram.HintOf(err), m.Path) {
		t.Errorf("deleting its file: got %v, want Forbidden with the way back", err)
	}

	path := write(t, toy(), dir, "mine.gguf")
	if _, err := l.Import(t.Context(), path, "mine"); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Only(t.Context()); got != "mine" || err != nil {
		t.Errorf("with one of a person the one to use is %q, %v, want mine", got, err)
	}
}

func TestAModelThatComesWithTheProgramStaysAwayOnceRemovedAndComesBackWhenAskedFor(t *testing.T) {
	dir := t.TempDir()
	l := withBuiltIn(t, dir, BuiltIn{"tiny", toy()})
	m, err := l.Get(t.Context(), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Delete(t.Context(), "tiny", false); err != nil {
		t.Fatal(err)
	}
	l = withBuiltIn(t, dir, BuiltIn{"tiny", newer(t)}) // of a later program, too
	if got := names(t, l); len(got) > 0 {
		t.Errorf("after it was removed and the program started anew there are %v, want none", got)
	}
	if _, err := l.Import(t.Context(), m.Path, ""); err != nil {
		t.Fatal(err)
	}
	l = withBuiltIn(t, dir, BuiltIn{"tiny", newer(t)})
	if got, want := names(t, l), []string{"tiny"}; !slices.Equal(got, want) {
		t.Errorf("after it was asked for there are %v, want %v", got, want)
	}
}

// newer is the model of another program.
func newer(t *testing.T) []byte {
	t.Helper()
	shape := gguf.Toy()
	shape.Layers, shape.Embedding, shape.FeedForward = 2, 64, 64
	var b bytes.Buffer
	if err := gguf.Generate(&b, shape, 2); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAModelThatComesWithTheProgramIsThatOfThisProgram(t *testing.T) {
	dir := t.TempDir()
	withBuiltIn(t, dir, BuiltIn{"tiny", toy()})
	path := filepath.Join(dir, "builtin", "tiny.gguf")
	for name, spoil := range map[string]func() error{
		"damaged": func() error { return os.WriteFile(path, []byte("GGUF"), 0o600) },
		"gone":    func() error { return os.Remove(path) },
		"older":   func() error { return os.WriteFile(path, newer(t), 0o600) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		m, err := withBuiltIn(t, dir, BuiltIn{"tiny", toy()}).Resolve(t.Context(), "tiny")
		if err != nil || m.Layers != 1 {
			t.Errorf("%s: got %d layers, %v, want this program's model of 1", name, m.Layers, err)
		}
	}
	if got := names(t, withBuiltIn(t, dir)); len(got) > 0 {
		t.Errorf("a program that brings none lists %v", got)
	}

	if err := os.RemoveAll(filepath.Join(dir, "builtin")); err != nil {
		t.Fatal(err)
	}
	write(t, nil, dir, "builtin") // a file where the folder should be
	if got := names(t, withBuiltIn(t, dir, BuiltIn{"tiny", toy()})); len(got) > 0 {
		t.Errorf("where it cannot be written there are %v, want none and no failure", got)
	}
}
