package job

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/centram/centram"
)

// TestMain can be the program that trains, in a process of its own, where a test wants one that dies at will. The real one
// is in the tests of cmd/centram.
func TestMain(m *testing.M) {
	if os.Getenv("CENTRAM_DYING") == "" {
		os.Exit(m.Run())
	}
	out := ""
	for _, arg := range os.Args {
		if path, ok := strings.CutPrefix(arg, "--out="); ok {
			out = path
		}
	}
	saved := out + ".training"
	b, _ := os.ReadFile(saved)         // there is none at first
	from, _ := strconv.Atoi(string(b)) // and that is 0
	gain, _ := strconv.Atoi(os.Getenv("CENTRAM_DYING"))
	const steps = 9
	for step := from + 1; step <= steps; step++ {
		_ = json.NewEncoder(os.Stdout).Encode(Progress{Stage: "train", Step: step, Steps: steps, Loss: 1})
		if gain > 0 && step == from+gain {
			_ = os.WriteFile(saved, []byte(strconv.Itoa(step)), 0o600)
			fmt.Fprint(os.Stderr, "out of luck")
			os.Exit(3)
		}
		if gain == 0 && step == 2 {
			fmt.Fprint(os.Stderr, "out of luck")
			os.Exit(3)
		}
	}
	fmt.Println(`{"stage":"done","step":9,"steps":9}`)
	os.Exit(0)
}

func start(t *testing.T, cfg Config) *Queue {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Command = []string{self}
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	q, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return q
}

func teach(t *testing.T, q *Queue, name string) Job {
	t.Helper()
	j, err := q.Start(Draft{Plan: Plan{Name: name, Model: "m", File: "m.gguf", Data: []string{"/texts, and more"}}})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func ends(t *testing.T, q *Queue, id string) Job {
	t.Helper()
	for range 2000 {
		if j, err := q.Get(id); err != nil || j.State == Done || j.State == Failed {
			return j
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the training did not end in time")
	return Job{}
}

func TestATrainingThatDiesGoesOnAsLongAsItComesFurther(t *testing.T) {
	further := start(t, Config{Env: []string{"CENTRAM_DYING=2"}})
	if j := ends(t, further, teach(t, further, "a").ID); j.State != Done || len(j.Curve) != 9 {
		t.Errorf("one that comes further each time: got %s, %+v with %d points; want it done with 9", j.State, j.Problem, len(j.Curve))
	}
	stuck := start(t, Config{Env: []string{"CENTRAM_DYING=0"}})
	j := ends(t, stuck, teach(t, stuck, "a").ID)
	if j.State != Failed || !strings.Contains(j.Problem.Message, "out of luck") || j.Problem.Hint == "" {
		t.Errorf("one that dies at the same step again: got %s, %+v; want it failed, with its last words", j.State, j.Problem)
	}
	if _, err := stuck.Resume(j.ID); err != nil {
		t.Error(err)
	}
	if j := ends(t, stuck, j.ID); j.State != Failed {
		t.Errorf("resumed, it is %s, want it tried again and failed", j.State)
	}
}

func TestWhatCannotBePutToUseIsDoneAllTheSame(t *testing.T) {
	q := start(t, Config{Env: []string{"CENTRAM_DYING=9"}, Done: func(Job) error {
		return centram.Errorf(centram.Conflict, "the name is taken").WithHint("Choose another.")
	}})
	if j := ends(t, q, teach(t, q, "a").ID); j.State != Done || j.Problem == nil || j.Problem.Hint != "Choose another." {
		t.Errorf("got %s, %+v; want it done, and why it cannot be used", j.State, j.Problem)
	}
}

func TestWhatIsLeftOfUploadsIsRemovedWithTheNextDaemon(t *testing.T) {
	dir := t.TempDir()
	q, err := New(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	id, n, err := q.Upload(t.Context(), `..\..\.evil/..`, strings.NewReader("text"))
	if err != nil || n != 4 {
		t.Fatalf("got %d bytes (%v)", n, err)
	}
	if files, err := filepath.Glob(filepath.Join(dir, "uploads", id, "*")); err != nil || len(files) != 1 {
		t.Errorf("got %v (%v), want one file in the upload's folder", files, err)
	}
	if _, _, err := q.Upload(t.Context(), "cut.txt", io.MultiReader(strings.NewReader("te"), failing{})); err == nil {
		t.Error("an upload that broke off was kept")
	}
	if folders, err := os.ReadDir(filepath.Join(dir, "uploads")); err != nil || len(folders) != 1 {
		t.Errorf("got %d uploads (%v), want only the one that is whole", len(folders), err)
	}
	for _, id := range []string{"..", "../" + id, "", "nothing"} {
		if _, err := q.Start(Draft{Plan: Plan{Name: "a", Model: "m"}, Uploads: []string{id}}); centram.CodeOf(err) != centram.NotFound {
			t.Errorf("upload %q: got %v, want it not found", id, err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, newID()), 0o700); err != nil { // a training whose making was cut off
		t.Fatal(err)
	}
	if q, err = New(Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 || len(q.List()) > 0 {
		t.Errorf("got %v (%v), want nothing left", left, err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the line broke") }

func TestATrainingIsReadAsItWasWritten(t *testing.T) {
	dir := t.TempDir()
	q, err := New(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	j := teach(t, q, "a")
	whole, err := os.ReadFile(filepath.Join(dir, j.ID, jobFile))
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole { // a file that was cut off is said so, and left alone
		if err := os.WriteFile(filepath.Join(dir, j.ID, jobFile), whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readJob(filepath.Join(dir, j.ID)); err == nil {
			t.Fatalf("the first %d bytes were taken for the whole", n)
		}
	}
	running := bytes.Replace(whole, []byte(`"state":"queued"`), []byte(`"state":"running"`), 1)
	if err := os.WriteFile(filepath.Join(dir, j.ID, jobFile), running, 0o600); err != nil {
		t.Fatal(err)
	}
	if q, err = New(Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if got := q.List(); len(got) != 1 || got[0].State != Queued || got[0].Name != "a" || !got[0].Queued.Equal(j.Queued) {
		t.Errorf("got %+v, want what ran queued again in its place", got)
	}
}
