package openai_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"go.uber.org/goleak"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/engine/local"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/models"
	"github.com/centram/centram/server/openai"
)

// oneModel is a library of the toy model.
type oneModel struct{}

func (oneModel) Choices(context.Context) ([]models.Model, error) {
	return []models.Model{{Name: "toy"}}, nil
}

func (oneModel) Get(_ context.Context, name string) (models.Model, error) {
	return models.Model{Name: name}, nil
}

// realServer answers with the real engine and llama.cpp on the toy model.
func realServer(t *testing.T) (url string, e *engine.Engine) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "toy.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := gguf.Generate(f, gguf.Toy(), 1); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	e = engine.New(engine.Config{Open: func(ctx context.Context, _ string, p func(float64)) (engine.Model, error) {
		return local.Open(ctx, path, local.Config{Context: 512, Sequences: 4, Progress: p})
	}})
	router := echo.New()
	openai.Register(router, openai.Config{Engine: e, Models: oneModel{}})
	srv := httptest.NewServer(router)
	t.Cleanup(func() {
		srv.Close()
		e.Close()
	})
	return srv.URL, e
}

// rss is the memory of this process, C's included, in MiB.
func rss(t *testing.T) float64 {
	t.Helper()
	runtime.GC()
	b, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		t.Skip("no /proc here:", err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Rss:" {
			var kib float64
			if err := json.Unmarshal([]byte(f[1]), &kib); err != nil {
				t.Fatal(err)
			}
			return kib / 1024
		}
	}
	t.Fatal("smaps_rollup has no Rss")
	return 0
}

func TestTwoHundredChatsOfEveryKindLeaveNothingBehind(t *testing.T) {
	if testing.Short() {
		t.Skip("runs 250 chats")
	}
	before := goleak.IgnoreCurrent()
	url, e := realServer(t)
	client := &http.Client{Transport: &http.Transport{}}
	chats := func(n int) {
		var wg sync.WaitGroup
		work := make(chan int)
		for range 8 {
			wg.Go(func() {
				for seed := range work {
					chatOnce(t, client, url, rand.New(rand.NewPCG(uint64(seed), 1)))
				}
			})
		}
		for i := range n {
			work <- i
		}
		close(work)
		wg.Wait()
	}
	chats(50) // fills every slot, cache and pool
	settled := rss(t)
	chats(200)
	if grown := rss(t) - settled; grown > 24 {
		t.Errorf("200 chats took %.1f MiB for good, want none to speak of", grown)
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		r := e.Resident()
		if len(r) == 1 && r[0].Busy == 0 && r[0].Queued == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after all chats the engine says %+v, want nobody busy or queued", r)
		}
		time.Sleep(time.Millisecond)
	}
	client.CloseIdleConnections()
	if err := e.Unload(t.Context(), "toy"); err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("net/http/httptest.(*Server).goServe.func1"), goleak.IgnoreAnyFunction("net/http.(*Server).Serve"))
}

// chatOnce asks for something random and reads it, or goes away in the middle.
func chatOnce(t *testing.T, client *http.Client, url string, r *rand.Rand) {
	body := map[string]any{
		"model": "toy", "stream": r.IntN(3) > 0, "max_tokens": 1 + r.IntN(60), "seed": r.IntN(1000), "temperature": r.Float64(),
		"messages": []map[string]string{{"role": "user", "content": strings.Repeat("word ", r.IntN(60)) + string(rune('a'+r.IntN(26)))}},
	}
	if r.IntN(3) == 0 {
		body["stop"] = []string{string(rune('a' + r.IntN(26))), "e"}
	}
	if r.IntN(5) == 0 {
		body["response_format"] = map[string]any{"type": "json_object"}
	}
	raw, err := json.Marshal(body)
	if err != nil {
		t.Error(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", bytes.NewReader(raw))
	if err != nil {
		t.Error(err)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	leaves := r.IntN(3) == 0
	if leaves {
		timer := time.AfterFunc(time.Duration(r.IntN(40))*time.Millisecond, cancel)
		defer timer.Stop()
	}
	resp, err := client.Do(req)
	if err != nil {
		if !leaves {
			t.Error(err)
		}
		return
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(bufio.NewReader(resp.Body))
	switch {
	case leaves:
	case err != nil:
		t.Error(err)
	case resp.StatusCode != http.StatusOK:
		t.Errorf("status %d: %s", resp.StatusCode, all)
	case body["stream"] == true && !bytes.HasSuffix(all, []byte("data: [DONE]\n\n")):
		t.Errorf("the stream ends with %q", all[max(0, len(all)-60):])
	}
}
