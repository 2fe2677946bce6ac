package engine

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/centram/centram"
)

// naming serves the oracle as the model m, whose name may have adapters behind a colon.
func naming(t *testing.T, opened *[]string) *Engine {
	t.Helper()
	e := New(Config{
		KeepAlive: -1,
		Open: func(_ context.Context, name string, _ func(float64)) (Model, error) {
			*opened = append(*opened, name)
			return newOracle(4, 200), nil
		},
		Resolve: func(_ context.Context, name string) (string, []AdapterScale, error) {
			base, adapter, ok := strings.Cut(name, ":")
			switch {
			case !ok:
				return base, nil, nil
			case adapter == "none":
				return "", nil, centram.Errorf(centram.NotFound, "there is no adapter none")
			}
			return base, []AdapterScale{{Path: adapter, Scale: 1}}, nil
		},
	})
	t.Cleanup(func() { e.Close() })
	return e
}

func TestOneModelServesAllItsAdaptersAtOnce(t *testing.T) {
	var opened []string
	e := naming(t, &opened)
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			r := ask("tell me", 20)
			var want []AdapterScale
			r.Model = "m"
			if name := []string{"", "a", "b"}[i%3]; name != "" {
				r.Model, want = "m:"+name, []AdapterScale{{Path: name, Scale: 1}}
			}
			if i%2 == 0 { // one that the request itself asks for comes behind
				r.Adapters = []AdapterScale{{Path: "own", Scale: 0.5}}
				want = append(want, r.Adapters...)
			}
			res, err := e.Generate(t.Context(), r, nil)
			if wanted := oracle(r.Text, want, r.MaxTokens, 200); err != nil || res.Message.Content != wanted {
				t.Errorf("%s with %v: got %q, %v; want %q", r.Model, r.Adapters, res.Message.Content, err, wanted)
			}
		})
	}
	wg.Wait()
	if len(opened) != 1 || opened[0] != "m" || len(e.Resident()) != 1 || e.Resident()[0].Name != "m" {
		t.Errorf("opened %q, in memory are %v; want m once", opened, e.Resident())
	}
}

func TestANameWithAdaptersLoadsAndUnloadsItsModel(t *testing.T) {
	var opened []string
	e := naming(t, &opened)
	if err := e.Load(t.Context(), "m:a", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Tokenize(t.Context(), "m:b", "x", false, false); err != nil {
		t.Error(err)
	}
	alone, err := e.Embed(t.Context(), EmbedRequest{Model: "m", Texts: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	with, err := e.Embed(t.Context(), EmbedRequest{Model: "m:a", Texts: []string{"x"}})
	if err != nil || len(with.Vectors) != 1 || len(with.Vectors[0]) != len(alone.Vectors[0]) {
		t.Errorf("got %v, %v; want the vector of the model", with.Vectors, err)
	}
	if len(opened) != 1 || opened[0] != "m" {
		t.Errorf("opened %q, want m once", opened)
	}
	_, err = e.Generate(t.Context(), Request{Model: "m:none", Text: "x"}, nil)
	if centram.CodeOf(err) != centram.NotFound {
		t.Errorf("got %v, want not found", err)
	}
	if err := e.Unload(t.Context(), "m:b"); err != nil || len(e.Resident()) != 0 {
		t.Errorf("got %v, in memory are %v; want none", err, e.Resident())
	}
}
