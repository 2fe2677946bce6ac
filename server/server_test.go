package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/chats"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/models"
	"github.com/centram/centram/store"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testToken = "the-permanent-token-of-the-tests"

// scripted is an engine whose answers are written by a test.
type scripted struct {
	mu       sync.Mutex // guards what follows
	answer   func(ctx context.Context, r engine.Request, emit func(engine.Event) error) error
	requests []engine.Request
	resident []engine.Resident
	loadErr  error
	events   *Events
}

// says has the engine answer in these pieces, and wait for go on before each if it is not nil.
func (e *scripted) says(goOn <-chan struct{}, pieces ...string) {
	e.does(func(ctx context.Context, _ engine.Request, emit func(engine.Event) error) error {
		for _, piece := range pieces {
			if goOn != nil {
				select {
				case <-goOn:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			if err := emit(engine.Event{Text: piece}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (e *scripted) does(answer func(context.Context, engine.Request, func(engine.Event) error) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

func (e *scripted) Generate(ctx context.Context, r engine.Request, emit func(engine.Event) error) (engine.Result, error) {
	e.mu.Lock()
	answer := e.answer
	e.requests = append(e.requests, r)
	e.mu.Unlock()
	result := engine.Result{
		Reason: engine.FinishStop, PromptTokens: 7, CachedTokens: 2, GeneratedTokens: 3, ContextSize: 4096,
		PromptTime: 10 * time.Millisecond, GenerateTime: 1500 * time.Millisecond,
	}
	return result, answer(ctx, r, emit)
}

func (e *scripted) last() engine.Request {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.requests[len(e.requests)-1]
}

func (e *scripted) Load(_ context.Context, name string, _ time.Duration) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.loadErr != nil {
		e.events.Engine(engine.Change{Name: name, Kind: engine.Failed, Err: e.loadErr})
		return e.loadErr
	}
	e.events.Engine(engine.Change{Name: name, Kind: engine.Loading, Progress: 0.5})
	e.resident = []engine.Resident{{
		Name: name, Loading: 1, MemoryBytes: 1000, Info: engine.Info{Context: 4096, Sequences: 4, GPU: true},
	}}
	e.events.Engine(engine.Change{Name: name, Kind: engine.Loaded})
	return nil
}

func (e *scripted) Unload(_ context.Context, name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.resident) == 0 {
		return centram.Errorf(centram.NotFound, "%s is not in memory", name)
	}
	e.resident = nil
	e.events.Engine(engine.Change{Name: name, Kind: engine.Unloaded})
	return nil
}

func (e *scripted) Resident() []engine.Resident {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.resident
}

// node is a running server with real storage in a temporary directory, and the model "toy".
type node struct {
	t      *testing.T
	dir    string
	url    string
	engine *scripted
	chats  *chats.Store
	db     *store.DB
	client *http.Client
	stop   func() error // ends the server and waits for it
}

func start(t *testing.T, change func(*Config)) *node { return startIn(t, t.TempDir(), change) }

func startIn(t *testing.T, dir string, change func(*Config)) *node {
	t.Helper()
	db, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	n := &node{t: t, dir: dir, db: db, chats: chats.New(chats.Config{DB: db.DB}), client: &http.Client{
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	events := NewEvents()
	n.engine = &scripted{events: events}
	n.engine.says(nil, "Hello", ", ", "world", ".")
	if err := os.MkdirAll(filepath.Join(dir, "models"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "models", "toy.gguf"), []byte("toy"), 0o600); err != nil {
		t.Fatal(err)
	}
	library, err := models.New(t.Context(), models.Config{
		DB: db.DB, Dir: filepath.Join(dir, "models"), Changed: events.Library,
		Check: func(string) (models.Checked, error) { return models.Checked{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Addr: "127.0.0.1:0", Token: testToken, Engine: n.engine, Models: library, Chats: n.chats,
		Settings: store.Settings{DB: db.DB}, Events: events, SaveEvery: 5 * time.Millisecond, Grace: 100 * time.Millisecond,
		Version: Version{Version: "1.2.3", Go: "go"}, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	n.run(cfg)
	return n
}

func (n *node) run(cfg Config) {
	n.t.Helper()
	s, err := New(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.url = "http://" + s.Address().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	n.stop = sync.OnceValue(func() error {
		cancel()
		n.client.CloseIdleConnections()
		return <-ended
	})
	n.t.Cleanup(func() {
		if err := n.stop(); err != nil {
			n.t.Errorf("Run: got %v, want nil", err)
		}
	})
}

// request prepares one with the token. Headers come as name, value pairs; an empty value removes one.
func (n *node) request(method, path string, body io.Reader, headers ...string) *http.Request {
	n.t.Helper()
	r, err := http.NewRequestWithContext(n.t.Context(), method, n.url+path, body)
	if err != nil {
		n.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+testToken)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		switch {
		case headers[i] == "Host":
			r.Host = headers[i+1]
		case headers[i+1] == "":
			r.Header.Del(headers[i])
		default:
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	return r
}

type reply struct {
	status int
	header http.Header
	body   []byte
}

func (n *node) do(r *http.Request) reply {
	n.t.Helper()
	response, err := n.client.Do(r)
	if err != nil {
		n.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return reply{response.StatusCode, response.Header, body}
}

// send sends a JSON body, or none if it is empty, and wants a status.
func (n *node) send(want int, method, path, body string, headers ...string) reply {
	n.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	got := n.do(n.request(method, path, reader, headers...))
	if got.status != want {
		n.t.Fatalf("%s %s: got %d, want %d: %s", method, path, got.status, want, got.body)
	}
	return got
}

func (r reply) code(t *testing.T) centram.Code {
	t.Helper()
	return as[Failure](t, r).Problem.Code
}

func as[T any](t *testing.T, r reply) T {
	t.Helper()
	var v T
	decoder := json.NewDecoder(bytes.NewReader(r.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, r.body)
	}
	return v
}

func (n *node) newChat() chats.Chat {
	n.t.Helper()
	return as[chats.Chat](n.t, n.send(201, "POST", "/api/v1/chats", `{}`))
}

// ask begins an answer and returns its path.
func (n *node) ask(chat, parent, content string) (path string, answer chats.Message) {
	n.t.Helper()
	body, err := json.Marshal(map[string]string{"parent": parent, "content": content})
	if err != nil {
		n.t.Fatal(err)
	}
	r := n.send(201, "POST", "/api/v1/chats/"+chat+"/messages", string(body))
	pair := as[struct{ User, Assistant chats.Message }](n.t, r)
	return "/api/v1/chats/" + chat + "/messages/" + pair.Assistant.ID, pair.Assistant
}

// viewer reads a stream of events.
type viewer struct {
	t      *testing.T
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

func (n *node) view(path string) *viewer { return n.viewBy("GET", path, "") }

func (n *node) viewBy(method, path, body string) *viewer {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute) // what never comes shall not hold up all tests
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	response, err := n.client.Do(n.request(method, path, reader).WithContext(ctx))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { cancel(); response.Body.Close() })
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "text/event-stream" {
		n.t.Fatalf("%s: got %d %s", path, response.StatusCode, response.Header.Get("Content-Type"))
	}
	return &viewer{n.t, bufio.NewScanner(response.Body), cancel}
}

// next returns the next event, or an empty name at the end.
func (v *viewer) next() (name, data string) {
	for v.lines.Scan() {
		line := v.lines.Text()
		switch {
		case strings.HasPrefix(line, "event: "):
			name = line[len("event: "):]
		case strings.HasPrefix(line, "data: "):
			data = line[len("data: "):]
		case line == "" && name != "":
			return name, data
		}
	}
	return "", ""
}

// until reads until a number of code points of the text is known.
func (v *viewer) until(text string) string {
	v.t.Helper()
	got := ""
	for got != text {
		name, data := v.next()
		switch name {
		case "delta":
			got += delta(v.t, data).Text
		case "", "done":
			v.t.Fatalf("the stream ended with %q, want %q", got, text)
		}
	}
	return got
}

// rest reads to the end.
func (v *viewer) rest() (text string, final chats.Message) {
	v.t.Helper()
	for {
		name, data := v.next()
		switch name {
		case "delta":
			text += delta(v.t, data).Text
		case "done":
			final = as[chats.Message](v.t, reply{body: []byte(data)})
			if name, _ := v.next(); name != "" {
				v.t.Errorf("got %s after done", name)
			}
			return text, final
		case "":
			v.t.Fatalf("the stream ended without done, after %q", text)
		}
	}
}

// on reads to the end and returns the text: what the viewer had, with each piece put where it belongs. It may be called
// from any goroutine.
func (v *viewer) on(had string) string {
	text := []rune(had)
	for {
		name, data := v.next()
		switch name {
		case "delta":
			var d deltaEvent
			if err := json.Unmarshal([]byte(data), &d); err != nil || d.From > len(text) {
				return fmt.Sprintf("%s and then %s (%v)", string(text), data, err)
			}
			text = append(text[:d.From], []rune(d.Text)...)
		case "done":
			return string(text)
		case "":
			return string(text) + " without done"
		}
	}
}

func delta(t *testing.T, data string) deltaEvent {
	t.Helper()
	return as[deltaEvent](t, reply{body: []byte(data)})
}

// eventually waits for something that another goroutine does.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for: %s", what)
		}
	}
}

var errBoom = errors.New("boom: secret detail")

func TestAServerThatIsToEndBeforeItHasBegunIsNoError(t *testing.T) {
	for range 20 {
		n := start(t, nil)
		if err := n.stop(); err != nil { // before Run has done anything, or in the middle of its first thing
			t.Errorf("got %v, want nil", err)
		}
	}
}
