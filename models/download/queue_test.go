package download

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/models/catalogue"
	"github.com/centram/centram/models/hub"
	"github.com/centram/centram/models/hub/hubtest"
)

// shop is a hub, and a queue that downloads from it.
type shop struct {
	hub    *hubtest.Hub
	queue  *Queue
	folder string

	mu   sync.Mutex
	done []string
	said []Job
}

func newShop(t *testing.T, faults hubtest.Faults) *shop {
	s := &shop{hub: hubtest.New(t, 1, faults), folder: t.TempDir()}
	s.open(t)
	return s
}

// open opens the queue of the folder, perhaps again.
func (s *shop) open(t *testing.T) {
	t.Helper()
	h, err := hub.New(hub.Config{Endpoint: s.hub.URL})
	if err != nil {
		t.Fatal(err)
	}
	s.queue, err = NewQueue(QueueConfig{
		Hub: h, Folder: s.folder, Fetch: Config{Wait: time.Millisecond, Tries: 3}, Every: time.Millisecond,
		Done: func(_ context.Context, m Model, path string) (string, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.done = append(s.done, path)
			return m.Name + "-here", nil
		},
		Changed: func(j Job) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.said = append(s.said, j)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// run runs the queue until the test or the returned function ends it.
func (s *shop) run(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	q := s.queue
	go func() { ended <- q.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// model puts a model of some files on the hub.
func (s *shop) model(name string, sizes ...int) Model {
	m := Model{Name: name, Repo: "open/" + name, Revision: "main"}
	for i, size := range sizes {
		path := fmt.Sprintf("%s-%d.gguf", name, i)
		sum := s.hub.Add(m.Repo, path, content(seedOf(name, i), size))
		m.Files = append(m.Files, catalogue.File{Path: path, Size: int64(size), SHA256: sum})
	}
	return m
}

// seedOf is another one for each file.
func seedOf(name string, i int) (seed uint64) {
	for _, c := range name {
		seed = seed*31 + uint64(c)
	}
	return seed + uint64(i)
}

// until waits for a download to be in a state.
func (s *shop) until(t *testing.T, name string, want State) Job {
	t.Helper()
	var j Job
	for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(time.Millisecond) {
		var err error
		if j, err = s.queue.Get(name); err == nil && j.State == want {
			return j
		}
	}
	t.Fatalf("%s is %s (%v), want %s", name, j.State, j.Problem, want)
	return j
}

func (s *shop) left(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.folder, Folder))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestModelsComeOneAfterTheOther(t *testing.T) {
	s := newShop(t, hubtest.Faults{})
	s.run(t)
	for _, m := range []Model{s.model("one", 3<<20, 1000), s.model("two", 5)} {
		if _, err := s.queue.Start(m); err != nil {
			t.Fatal(err)
		}
	}
	if j := s.until(t, "two", Ready); j.As != "two-here" {
		t.Errorf("it is called %q in the library, want two-here", j.As)
	}
	want := []string{filepath.Join(s.folder, "one-0.gguf"), filepath.Join(s.folder, "two-0.gguf")}
	if !slices.Equal(s.done, want) {
		t.Errorf("got %v, want %v", s.done, want)
	}
	if left := s.left(t); len(left) > 0 {
		t.Errorf("%v were left", left)
	}
	last := Job{}
	for _, j := range s.said {
		if j.Name == "one" && j.State == Running && j.Stage == last.Stage && j.Progress.Done < last.Progress.Done {
			t.Errorf("after %d of %d bytes came %d", last.Progress.Done, last.Progress.Total, j.Progress.Done)
		}
		last = j
	}
}

func TestAHundredDownloadsThatAreCancelledLeaveNothing(t *testing.T) {
	s := newShop(t, hubtest.Faults{Slow: time.Millisecond})
	s.run(t)
	for i := range 100 {
		if _, err := s.queue.Start(s.model(fmt.Sprint("m", i), 1<<20)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	for i := range 100 {
		if err := s.queue.Remove(t.Context(), fmt.Sprint("m", i)); err != nil {
			t.Errorf("m%d: %v", i, err)
		}
	}
	if list := s.queue.List(); len(list) > 0 {
		t.Errorf("%d downloads are left", len(list))
	}
	if left := s.left(t); len(left) > 0 {
		t.Errorf("%v were left", left)
	}
	if err := s.queue.Remove(t.Context(), "m0"); centram.CodeOf(err) != centram.NotFound {
		t.Errorf("got %v, want that there is none", err)
	}
}

func TestADownloadGoesOnWithTheNextDaemon(t *testing.T) {
	s := newShop(t, hubtest.Faults{Slow: time.Millisecond})
	stop := s.run(t)
	m := s.model("big", 12<<20)
	if _, err := s.queue.Start(m); err != nil {
		t.Fatal(err)
	}
	if _, err := s.queue.Start(s.model("waits", 1000)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.queue.Pause(t.Context(), "waits"); err != nil {
		t.Fatal(err)
	}
	for {
		if j, _ := s.queue.Get("big"); j.Progress.Done > 1<<20 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	stop()
	s.open(t)
	s.run(t)
	s.until(t, "big", Ready)
	if sent := s.hub.Sent(m.Repo, m.Files[0].Path); sent > 16<<20 {
		t.Errorf("%d bytes were sent of 12 MiB", sent)
	}
	if j, err := s.queue.Get("waits"); err != nil || j.State != Paused {
		t.Errorf("got %s, %v, want it paused as it was", j.State, err)
	}
	if _, err := s.queue.Resume("waits"); err != nil {
		t.Error(err)
	}
	s.until(t, "waits", Ready)
}

func TestWhatFailsSaysWhyAndMayBeTriedAgain(t *testing.T) {
	s := newShop(t, hubtest.Faults{Refuse: 1})
	s.run(t)
	m := s.model("bad", 1000)
	if _, err := s.queue.Start(m); err != nil {
		t.Fatal(err)
	}
	if _, err := s.queue.Start(m); centram.CodeOf(err) != centram.Conflict {
		t.Errorf("got %v, want that it is being downloaded", err)
	}
	if j := s.until(t, "bad", Failed); j.Problem.Code != centram.Unavailable || !strings.Contains(j.Problem.Message, "503") {
		t.Errorf("got %v, want the status", j.Problem)
	}
	s.hub.Set(hubtest.Faults{})
	if _, err := s.queue.Resume("bad"); err != nil {
		t.Fatal(err)
	}
	s.until(t, "bad", Ready)
}

func TestWhatIsInTheCacheOfAnotherProgramIsUsedThere(t *testing.T) {
	s := newShop(t, hubtest.Faults{})
	m := s.model("shared", 1000, 2000)
	cache := t.TempDir()
	snapshot := filepath.Join(cache, "models--open--shared", "snapshots", "abc")
	if err := os.MkdirAll(snapshot, 0o700); err != nil {
		t.Fatal(err)
	}
	h, err := hub.New(hub.Config{Endpoint: s.hub.URL, Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	write := func(i int, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(snapshot, m.Files[i].Path), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(0, content(seedOf("shared", 0), 1000))
	write(1, content(seedOf("shared", 1), 2000))
	if path, err := m.Fetch(t.Context(), h, s.folder, Config{}); err != nil || path != filepath.Join(snapshot, "shared-0.gguf") {
		t.Errorf("got %q, %v, want the file in the cache", path, err)
	}
	write(1, content(99, 2000)) // another content of the same size
	if path, err := m.Fetch(t.Context(), h, s.folder, Config{}); err != nil || path != filepath.Join(s.folder, "shared-0.gguf") {
		t.Errorf("got %q, %v, want it downloaded", path, err)
	}
}

func TestAFileThatIsInNoCatalogueIsAskedFor(t *testing.T) {
	s := newShop(t, hubtest.Faults{})
	h, err := hub.New(hub.Config{Endpoint: s.hub.URL})
	if err != nil {
		t.Fatal(err)
	}
	one := s.hub.Add("me/models", "sub/My-Model.Q4.gguf", []byte("hello"))
	m, err := Ask(t.Context(), h, "me/models/sub/My-Model.Q4.gguf")
	if err != nil || m.Name != "my-model.q4" || m.Revision != s.hub.Commit || len(m.Files) != 1 || m.Files[0].SHA256 != one {
		t.Errorf("got %+v, %v", m, err)
	}
	for i := range 2 {
		s.hub.Add("me/models", fmt.Sprintf("Big-0000%d-of-00002.gguf", i+1), []byte{byte(i)})
	}
	if m, err := Ask(t.Context(), h, "me/models/Big-00001-of-00002.gguf"); err != nil || m.Name != "big" || len(m.Files) != 2 {
		t.Errorf("got %+v, %v, want both parts", m, err)
	}
	s.hub.Set(hubtest.Faults{NoSizes: true})
	if _, err := Ask(t.Context(), h, "me/models/sub/My-Model.Q4.gguf"); centram.CodeOf(err) != centram.Invalid {
		t.Errorf("got %v, want that it cannot be checked", err)
	}
	for text, is := range map[string]bool{"a/b/c.gguf": true, "a/b/c.gguf@main": true, "qwen2.5-3b": false, "a/b": false, "/a/b.gguf": false, "a/b/c.bin": false} {
		if got := IsAddress(text); got != is {
			t.Errorf("%q is an address: got %v", text, got)
		}
	}
}
