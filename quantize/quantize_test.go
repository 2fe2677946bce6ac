package quantize

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama"
)

// TestMain can be the process that quantises, and one that has started that and is going to be killed.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || strings.HasPrefix(os.Args[1], "-") {
		os.Exit(m.Run())
	}
	var err error
	switch os.Args[1] {
	case "work":
		signal.Ignore(syscall.SIGPIPE)
		err = Work(os.Stdin, os.Stdout)
	case "ask":
		var t Type
		if t, err = ParseType(os.Args[4]); err == nil {
			err = write(context.Background(), Config{In: os.Args[2], Out: os.Args[3], Type: t, Threads: 1}, func(Progress) {})
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func workCommand() []string { return []string{os.Args[0], "work"} }

func write(ctx context.Context, c Config, tell func(Progress)) error {
	p, err := c.Plan()
	if err != nil {
		return err
	}
	return p.Write(ctx, workCommand(), tell)
}

// small is a model that every type fits: rows of 256 and 512 numbers.
func small(typ gguf.Type) gguf.Shape {
	return gguf.Shape{Layers: 4, Embedding: 256, Heads: 4, KVHeads: 2, FeedForward: 512, Context: 512, Type: typ}
}

// slow is one that takes about a second.
func slow() gguf.Shape {
	return gguf.Shape{Layers: 3, Embedding: 1024, Heads: 4, FeedForward: 2048, Context: 512, Tied: true}
}

func generate(t testing.TB, shape gguf.Shape) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := gguf.Generate(f, shape, 1); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func typeOf(t testing.TB, name string) Type {
	t.Helper()
	typ, err := ParseType(name)
	if err != nil {
		t.Fatal(err)
	}
	return typ
}

// files are the names in a folder.
func files(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestEveryTypeGivesTheBytesOfLlamaCppsQuantiserAndThePlannedSize(t *testing.T) {
	for _, source := range []gguf.Type{gguf.F32, gguf.F16} {
		in := generate(t, small(source))
		for _, typ := range Types {
			dir := t.TempDir()
			want, got := filepath.Join(dir, "want.gguf"), filepath.Join(dir, "got.gguf")
			if err := llama.Quantize(in, want, typ.to, 1); err != nil {
				t.Fatal(err)
			}
			p, err := Config{In: in, Out: got, Type: typ, Threads: 2}.Plan()
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Write(t.Context(), workCommand(), func(Progress) {}); err != nil {
				t.Fatalf("%v to %s: %v", source, typ.Name, err)
			}
			a, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(got)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(a, b) {
				t.Errorf("%v to %s: got %d bytes that are not the %d of llama.cpp", source, typ.Name, len(b), len(a))
			}
			if uint64(len(b)) > p.Bytes+4096 || uint64(len(b))+4096 < p.Bytes {
				t.Errorf("%v to %s: got %d bytes, planned %d", source, typ.Name, len(b), p.Bytes)
			}
			m, err := gguf.OpenModel(got)
			if err != nil {
				t.Fatal(err)
			}
			if q := strings.ToLower(m.Summary.Quantization); q != typ.Name {
				t.Errorf("the file says that it is %s, want %s", q, typ.Name)
			}
			m.Close()
			if len(p.Misfits) != 0 {
				t.Errorf("%s: got misfits %v of rows that all fit", typ.Name, p.Misfits)
			}
		}
	}
}

func TestProgressNeverFallsAndEndsWithAllBytes(t *testing.T) {
	in, out := generate(t, slow()), filepath.Join(t.TempDir(), "out.gguf")
	var all []Progress
	if err := write(t.Context(), Config{In: in, Out: out, Type: typeOf(t, "q4_k_m"), Threads: 1}, func(p Progress) { all = append(all, p) }); err != nil {
		t.Fatal(err)
	}
	order := map[Stage]int{Weights: 1, Saving: 2, Whole: 3}
	var before Progress
	weights := 0
	for _, p := range all {
		if p.Written < before.Written || p.Number < before.Number || order[p.Stage] < order[before.Stage] || p.Part() < before.Part() || p.Part() > 1 || order[p.Stage] == 0 {
			t.Errorf("got %+v after %+v", p, before)
		}
		if p.Stage == Weights {
			weights++
			if p.Tensor == "" || p.Of == 0 {
				t.Errorf("got %+v, which does not say what is written", p)
			}
		}
		before = p
	}
	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	if before.Stage != Whole || before.Written != uint64(info.Size()) || before.Part() < 0.999 {
		t.Errorf("got %+v at last of a file of %d bytes", before, info.Size())
	}
	if weights < 2 {
		t.Errorf("got %d reports while a second's work was done, want some: %+v", weights, all)
	}
}
