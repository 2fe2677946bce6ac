package models

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/centram/centram"
)

func TestANameSaysWhichAdapters(t *testing.T) {
	for _, row := range []struct {
		text string
		want []Use
	}{
		{"notes", []Use{{Name: "notes", Scale: 1}}},
		{"notes@1", []Use{{Name: "notes", Scale: 1}}},
		{"a+b", []Use{{Name: "a", Scale: 1}, {Name: "b", Scale: 1}}},
		{"b@0.5+a@-1.25", []Use{{Name: "b", Scale: 0.5}, {Name: "a", Scale: -1.25}}},
		{"a@100+b@-100+c@0.000001", []Use{{Name: "a", Scale: 100}, {Name: "b", Scale: -100}, {Name: "c", Scale: 0.000001}}},
		{"1.5b-instruct_x", []Use{{Name: "1.5b-instruct_x", Scale: 1}}},
		{"a+b+c+d+e+f+g+h", []Use{{Name: "a", Scale: 1}, {Name: "b", Scale: 1}, {Name: "c", Scale: 1}, {Name: "d", Scale: 1}, {Name: "e", Scale: 1}, {Name: "f", Scale: 1}, {Name: "g", Scale: 1}, {Name: "h", Scale: 1}}},
	} {
		got, err := parseUses(row.text)
		if err != nil || !slices.Equal(got, row.want) {
			t.Errorf("%q: got %v, %v; want %v", row.text, got, err, row.want)
		}
	}
	for text, want := range map[string]string{
		"":                  `"" cannot be the name`,
		"a+":                `"" cannot be the name`,
		"+a":                `"" cannot be the name`,
		"a++b":              `"" cannot be the name`,
		"@1":                `"" cannot be the name`,
		"A":                 `"A" cannot be the name`,
		"a b":               `"a b" cannot be the name`,
		"../a":              "cannot be the name",
		"latest":            "cannot be the name",
		"a@":                `"" is no scale`,
		"a@b":               `"b" is no scale`,
		"a@0":               `"0" is no scale`,
		"a@0.0":             "is no scale",
		"a@-0":              "is no scale",
		"a@100.1":           "is no scale",
		"a@1e1":             "is no scale",
		"a@.5":              "is no scale",
		"a@+1":              `"" is no scale`, // a plus joins
		"a@nan":             "is no scale",
		"a@0x1":             "is no scale",
		"a@0.0000001":       "is no scale",
		"a@1@1":             "is no scale",
		"a@1,5":             "is no scale",
		"a+b+a":             "a is named twice",
		"a+b+c+d+e+f+g+h+i": "9 adapters",
	} {
		if got, err := parseUses(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v; want an error with %q", text, got, err, want)
		}
	}
}

// TestEveryBeginningOfAName holds what parseUses makes of it against what the parts are.
func TestEveryBeginningOfAName(t *testing.T) {
	const name = "notes@0.5+style@-12.25+x"
	good := []string{
		"n", "no", "not", "note", "notes", "notes@0.5", "notes@0.5+s", "notes@0.5+st", "notes@0.5+sty", "notes@0.5+styl", "notes@0.5+style",
		"notes@0.5+style@-1", "notes@0.5+style@-12", "notes@0.5+style@-12.2", "notes@0.5+style@-12.25", name,
	}
	for i := range len(name) + 1 {
		_, err := parseUses(name[:i])
		if want := slices.Contains(good, name[:i]); (err == nil) != want {
			t.Errorf("%q: got %v, want it read: %t", name[:i], err, want)
		}
	}
}

func FuzzParseUses(f *testing.F) {
	for _, seed := range []string{"notes", "a+b", "a@0.5+b@-1", "a@", "+", "@", "a@1e9", "a+a", "latest", "qwen:7b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		uses, err := parseUses(text)
		if err != nil {
			return
		}
		again, err := parseUses(formatUses(uses))
		if err != nil || !slices.Equal(again, uses) {
			t.Errorf("%q became %v, which is written %q and read as %v, %v", text, uses, formatUses(uses), again, err)
		}
		for _, u := range uses {
			if !fitAdapterName(u.Name) || u.Scale == 0 || u.Scale > maxScale || u.Scale < -maxScale {
				t.Errorf("%q: got %v", text, u)
			}
		}
	})
}

func TestAModelIsCalledWithItsAdapters(t *testing.T) {
	f := withToy(t)
	dir := t.TempDir()
	if _, err := f.Import(t.Context(), write(t, toy(), dir, "q.gguf"), "qwen2.5:3b"); err != nil {
		t.Fatal(err)
	}
	a := f.addAdapter(t, write(t, lora(1), dir, "a.gguf"), "toy", "")
	b := f.addAdapter(t, write(t, lora(2), dir, "b.gguf"), "toy", "")
	q := f.addAdapter(t, write(t, lora(3), dir, "q-a.gguf"), "qwen2.5:3b", "a")
	use := func(a Adapter, scale float32) Use { return Use{a.Name, a.Path, a.Digest, scale} }
	for _, row := range []struct {
		name, want, base string
		uses             []Use
	}{
		{"toy", "toy", "", nil},
		{"toy:latest", "toy", "", nil},
		{"qwen2.5:3b", "qwen2.5:3b", "", nil},
		{"toy:a", "toy:a", "toy", []Use{use(a, 1)}},
		{"TOY:A:latest", "toy:a", "toy", []Use{use(a, 1)}},
		{"toy:latest:a", "toy:a", "toy", []Use{use(a, 1)}},
		{"toy:b@1.0+a@0.50", "toy:b+a@0.5", "toy", []Use{use(b, 1), use(a, 0.5)}},
		{"qwen2.5:3b:a@-2", "qwen2.5:3b:a@-2", "qwen2.5:3b", []Use{use(q, -2)}},
	} {
		m, err := f.Resolve(t.Context(), row.name)
		if err != nil || m.Name != row.want || m.Base != row.base || !slices.Equal(m.Adapters, row.uses) {
			t.Errorf("%q: got %q of %q with %v, %v; want %+v", row.name, m.Name, m.Base, m.Adapters, err, row)
		}
		if base := strings.TrimSuffix(row.name, ":latest"); row.base == "" && m.Alone() != base || row.base != "" && m.Alone() != row.base {
			t.Errorf("%q: alone it is %q", row.name, m.Alone())
		}
	}
	for _, row := range []struct {
		name string
		want centram.Code
		hint string
	}{
		{"toy:c", centram.NotFound, "toy has these: a, b."},
		{"toy:a+c", centram.NotFound, "toy has these: a, b."},
		{"toy:a@", centram.Invalid, "toy has these: a, b."},
		{"toy:a@x", centram.Invalid, "toy has these: a, b."},
		{"toy:a+a", centram.Invalid, "toy has these: a, b."},
		{"toy:", centram.Invalid, "toy has these: a, b."},
		{"qwen2.5:7b", centram.NotFound, "centram model list"},
		{"none:a", centram.NotFound, "centram model list"},
		{"none:a@@", centram.NotFound, "centram model list"},
		{":a", centram.NotFound, "centram model list"},
		{"toy:/etc/passwd", centram.Invalid, "toy has these"},
	} {
		_, err := f.Resolve(t.Context(), row.name)
		if centram.CodeOf(err) != row.want || !strings.Contains(centram.HintOf(err), row.hint) {
			t.Errorf("%q: got %v (%s), want %s and the hint %q", row.name, err, centram.HintOf(err), row.want, row.hint)
		}
		if e, _ := errors.AsType[*centram.Error](err); e.Details["param"] != "model" {
			t.Errorf("%q: got the details %v, want the parameter", row.name, e.Details)
		}
	}
	if err := f.Delete(t.Context(), "toy:a", false); centram.CodeOf(err) != centram.Invalid || centram.HintOf(err) != "Remove an adapter with: centram lora remove toy:a" {
		t.Errorf("deleting a model by the name with an adapter: got %v, want how to remove that", err)
	}
}

func TestChoicesAreModelsAndEachWithEachAdapter(t *testing.T) {
	f := withToy(t)
	dir := t.TempDir()
	path := write(t, lora(1), dir, "a.gguf")
	f.addAdapter(t, path, "toy", "")
	f.addAdapter(t, write(t, lora(2), dir, "b.gguf"), "toy", "")
	write(t, toy(), f.dir, "models", "z.gguf")
	write(t, nil, path)
	list, err := f.Choices(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range list {
		got = append(got, m.Name+" of "+m.Base+" "+string(m.State))
	}
	want := []string{"toy of  ready", "toy:a of toy failed", "toy:b of toy ready", "z of  ready"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
