package llama

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"syscall"
	"testing"
)

func TestAModelWhoseFileIsCutShortFailsAndOthersGoOn(t *testing.T) {
	open := func(path string) (*Model, *Context) {
		m, err := LoadModel(context.Background(), []string{path}, ModelConfig{})
		if err != nil {
			t.Fatal(err)
		}
		c, err := m.NewContext(ContextConfig{Size: 64})
		if err != nil {
			t.Fatal(err)
		}
		return m, c
	}
	first, second := wide(t), wide(t)
	bad, badContext := open(first)
	again, againContext := open(first)
	good, goodContext := open(second)
	if len(bad.watched) == 0 || len(good.watched) == 0 {
		t.Fatalf("got %v and %v, want ranges that are watched", bad.watched, good.watched)
	}
	decode := func(c *Context, pos int) error {
		var b Batch
		b.Add(1, pos, 0, true)
		return c.Decode(&b)
	}
	for _, c := range []*Context{badContext, againContext, goodContext} {
		if err := decode(c, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(first, 0); err != nil {
		t.Fatal(err)
	}
	for pos := range 3 {
		if err := decode(badContext, 1+pos); !errors.Is(err, ErrLost) {
			t.Errorf("got %v, want ErrLost", err)
		}
		if err := decode(goodContext, 1+pos); err != nil {
			t.Errorf("the other model: %v", err)
		}
	}
	if err := decode(againContext, 1); !errors.Is(err, ErrLost) {
		t.Errorf("the model that was loaded twice: got %v, want ErrLost", err)
	}
	for _, c := range []*Context{badContext, againContext, goodContext} {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, m := range []*Model{bad, again, good} {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAFaultElsewhereIsStillGos(t *testing.T) {
	m, err := LoadModel(context.Background(), []string{wide(t)}, ModelConfig{}) // which has the handler installed
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	path := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(path, make([]byte, 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := syscall.Mmap(int(f.Fd()), 0, 1<<16, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Munmap(b); err != nil {
			t.Error(err)
		}
	}()
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause == nil || m.lost() {
			t.Errorf("got a panic of %v, and the model is lost: %t", cause, m.lost())
		}
	}()
	t.Errorf("read %d from a file that is gone", b[1<<15])
}

func TestWhereAFileIsMappedIsReadFromTheKernelsList(t *testing.T) {
	const maps = "7f0000000000-7f0000001000 r--s 00000000 08:01 42                         /a/model.gguf\n" +
		"7f0000002000-7f0000003000 r--s 00002000 08:01 42                         /a/model.gguf\n" +
		"7f0000004000-7f0000005000 r--s 00000000 08:01 43                         /b/a/model.gguf\n" +
		"7f0000006000-7f0000007000 r--s 00000000 08:01 44                         /a/model.gguf (deleted)\n" +
		"nonsense /a/model.gguf\n" +
		"7f0000008000-7f0000009000 rw-p 00000000 00:00 0\n" +
		`7f000000a000-7f000000b000 r--s 00000000 08:01 45                         /a b/c\012d` + "\n"
	for path, want := range map[string][][2]uint64{
		"/a/model.gguf": {{0x7f0000000000, 0x7f0000001000}, {0x7f0000002000, 0x7f0000003000}},
		"/a b/c\nd":     {{0x7f000000a000, 0x7f000000b000}},
		"/none":         nil,
	} {
		if got := mappedRanges(maps, path); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %x, want %x", path, got, want)
		}
	}
}
