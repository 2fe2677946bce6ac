package quantize

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama"
)

func TestWhatIsStoppedLeavesNothing(t *testing.T) {
	in := generate(t, slow())
	for i := range 5 {
		dir := t.TempDir()
		ctx, stop := context.WithCancel(t.Context())
		at := rand.Float64()
		if i == 0 {
			at = 0
		}
		err := write(ctx, Config{In: in, Out: filepath.Join(dir, "out.gguf"), Type: typeOf(t, "q4_k_m"), Threads: 1}, func(p Progress) {
			if p.Part() >= at {
				stop()
			}
		})
		stop()
		if centram.CodeOf(err) != centram.Unavailable || centram.HintOf(err) == "" {
			t.Errorf("stopped at %.2f: got %v", at, err)
		}
		if left := files(t, dir); len(left) != 0 {
			t.Errorf("stopped at %.2f: got %v, want nothing", at, left)
		}
	}
}

func TestWhoeverIsKilledThereIsAWholeFileOrNone(t *testing.T) {
	in := generate(t, slow())
	want := filepath.Join(t.TempDir(), "want.gguf")
	if err := llama.Quantize(in, want, llama.Q8_0, 1); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := write(t.Context(), Config{In: in, Out: filepath.Join(t.TempDir(), "out.gguf"), Type: typeOf(t, "q8_0")}, func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	takes, done := time.Since(began), 0
	for i := range 14 {
		dir := t.TempDir()
		out := filepath.Join(dir, "out.gguf")
		asker := exec.Command(os.Args[0], "ask", in, out, "q8_0")
		if err := asker.Start(); err != nil {
			t.Fatal(err)
		}
		after := time.Duration(rand.Int64N(int64(takes * 3 / 2)))
		time.Sleep(after)
		if err := asker.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = asker.Wait()
		// The process that quantises sees that by itself.
		var left []string
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			if left = files(t, dir); len(left) == 0 || len(left) == 1 && left[0] == "out.gguf" {
				break
			}
		}
		switch {
		case len(left) == 1 && left[0] == "out.gguf":
			if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, whole) {
				t.Errorf("killed after %v: got a file of %d bytes that is not the whole of %d, %v", after, len(got), len(whole), err)
			}
			done++
		case len(left) != 0:
			t.Errorf("killed after %v, run %d: got %v", after, i, left)
		}
	}
	t.Logf("%d of 14 were whole", done)
}

func TestAProcessThatDiesLeavesNothingAndIsToldOf(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the process is found in /proc")
	}
	in, dir := generate(t, slow()), t.TempDir()
	out := filepath.Join(dir, "out.gguf")
	err := write(t.Context(), Config{In: in, Out: out, Type: typeOf(t, "q4_k_m"), Threads: 1}, func(p Progress) {
		if p.Part() > 0.2 && p.Stage == Weights {
			killHolder(t, out+suffix)
		}
	})
	if centram.CodeOf(err) != centram.Unavailable || !strings.Contains(err.Error(), "killed") {
		t.Errorf("got %v", err)
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("got %v, want nothing", left)
	}
}

// killHolder kills the process that has a file open.
func killHolder(t testing.TB, path string) {
	holders, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range holders {
		if to, err := os.Readlink(fd); err == nil && to == path {
			var pid int
			if _, err := fmt.Sscanf(fd, "/proc/%d/", &pid); err == nil && pid != os.Getpid() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
}

func TestWhatDeadProcessesLeftIsSweptAndWhatIsBeingWrittenIsNot(t *testing.T) {
	dir := t.TempDir()
	inner, hidden := filepath.Join(dir, "inner"), filepath.Join(dir, ".hidden")
	for _, d := range []string{inner, hidden} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{
		filepath.Join(dir, "dead.gguf.quantizing"), filepath.Join(inner, "dead.gguf.quantizing"),
		filepath.Join(dir, "other.quantizing"), filepath.Join(dir, "model.gguf"), filepath.Join(hidden, "x.gguf.quantizing"),
	} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	alive, err := begin(filepath.Join(dir, "alive.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	if n := Sweep(dir); n != 2 {
		t.Errorf("%d files were removed, want 2", n)
	}
	got := strings.Join(append(files(t, dir), files(t, inner)...), " ")
	if want := ".hidden alive.gguf.quantizing inner model.gguf other.quantizing"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err := alive.discard(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(files(t, dir), " "); strings.Contains(got, "alive") {
		t.Errorf("got %s", got)
	}
}

func TestTwoDoNotWriteOneFile(t *testing.T) {
	in, dir := generate(t, small(gguf.F32)), t.TempDir()
	out := filepath.Join(dir, "out.gguf")
	other, err := begin(out)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{In: in, Out: out, Type: typeOf(t, "q8_0")}
	err = write(t.Context(), c, func(Progress) {})
	if centram.CodeOf(err) != centram.Conflict || !strings.Contains(err.Error(), "another process") || centram.HintOf(err) == "" {
		t.Errorf("got %v, %s", err, centram.HintOf(err))
	}
	other.file.Close() // as when that process dies
	if err := os.WriteFile(filepath.Join(dir, "dead.gguf"+suffix), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := write(t.Context(), c, func(Progress) {}); err != nil {
		t.Errorf("what a dead process left is in the way: %v", err)
	}
	if got := strings.Join(files(t, dir), " "); got != "out.gguf" {
		t.Errorf("got %s", got)
	}
}

func TestAFileThatAppearsMeanwhileIsNotReplaced(t *testing.T) {
	in, out := generate(t, small(gguf.F32)), filepath.Join(t.TempDir(), "out.gguf")
	err := write(t.Context(), Config{In: in, Out: out, Type: typeOf(t, "q8_0")}, func(p Progress) {
		if p.Stage == Saving {
			if err := os.WriteFile(out, []byte("mine"), 0o600); err != nil {
				t.Error(err)
			}
		}
	})
	if centram.CodeOf(err) != centram.Conflict {
		t.Errorf("got %v", err)
	}
	if got, _ := os.ReadFile(out); string(got) != "mine" {
		t.Errorf("got %d bytes in place of what was there", len(got))
	}
	if got := files(t, filepath.Dir(out)); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}
