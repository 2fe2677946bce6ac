package openai

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/server/wire/wiretest"
	"github.com/labstack/echo/v4"
)

func TestChoicesAreInterleavedInOneStream(t *testing.T) {
	// Each piece waits, so that no choice can end before the others have begun.
	steps := wiretest.Text("a", "b", "c")
	for i := range steps {
		steps[i].Sleep = time.Second
	}
	e := &wiretest.Engine{Script: wiretest.Say(steps...)}
	body := wiretest.Transcript(t, api(config(e)), "POST", "/v1/chat/completions", `{`+hello+`,"stream":true,"n":3}`)

	var order []int
	text := map[int]string{}
	for line := range strings.Lines(string(body)) {
		data, ok := strings.CutPrefix(line, "data: {")
		if !ok {
			continue
		}
		var chunk struct {
			Choices []struct {
				Index int
				Delta struct{ Role, Content string }
			}
		}
		if err := json.Unmarshal([]byte("{"+data), &chunk); err != nil {
			t.Fatal(err)
		}
		c := chunk.Choices[0]
		if first := !slices.Contains(order, c.Index); first != (c.Delta.Role == "assistant") {
			t.Errorf("the role must come with the first chunk of choice %d and no other: %s", c.Index, line)
		}
		order = append(order, c.Index)
		text[c.Index] += c.Delta.Content
	}
	for i := range 3 {
		if text[i] != "abc" {
			t.Errorf("choice %d is %q, want abc", i, text[i])
		}
	}
	if n := strings.Count(string(body), `"timings"`); n != 1 {
		t.Errorf("timings came %d times, want once", n)
	}
	if half := order[:len(order)/2]; !slices.Contains(half, 0) || !slices.Contains(half, 1) || !slices.Contains(half, 2) {
		t.Errorf("the choices came one after the other: %v", order)
	}
}

func TestOneFailedChoiceEndsTheOthers(t *testing.T) {
	var asked atomic.Int32
	e := &wiretest.Engine{Script: func(engine.Request) []wiretest.Step {
		if asked.Add(1) == 2 {
			return []wiretest.Step{{Err: errors.New("lost")}}
		}
		return []wiretest.Step{{Block: true}}
	}}
	got := wiretest.Do(api(config(e)), "POST", "/v1/chat/completions", `{`+hello+`,"n":4}`)
	if got.Code != http.StatusInternalServerError || e.Running() != 0 {
		t.Errorf("got %d with %d answers under way", got.Code, e.Running())
	}
}

func TestClientThatLeavesEndsTheAnswer(t *testing.T) {
	for name, stream := range map[string]string{"stream": "true", "whole": "false"} {
		t.Run(name, func(t *testing.T) {
			e := &wiretest.Engine{Script: wiretest.Say(append(wiretest.Text("Hel"), wiretest.Step{Block: true})...)}
			base := wiretest.Serve(t, api(config(e)))
			ctx, cancel := context.WithCancel(t.Context())
			request, _ := http.NewRequestWithContext(ctx, "POST", base+"/v1/chat/completions",
				strings.NewReader(`{`+hello+`,"stream":`+stream+`}`))
			left := make(chan struct{})
			go func() {
				defer close(left)
				response, err := http.DefaultClient.Do(request)
				if err != nil {
					return // the answer that is not streamed has no beginning
				}
				defer response.Body.Close()
				_, _ = bufio.NewReader(response.Body).ReadString('\n')
				cancel()
			}()
			eventually(t, func() bool { return len(e.Requests()) == 1 })
			if stream == "false" {
				cancel()
			}
			<-left
			cancel()
			eventually(t, func() bool { return e.Running() == 0 })
		})
	}
}

// eventually waits for what another goroutine is about to do.
func eventually(t *testing.T, done func() bool) {
	t.Helper()
	for range 500 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it did not happen within 5 s")
}

// deaf is a client to which nothing can be written any more.
type deaf struct{ *httptest.ResponseRecorder }

func (deaf) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestWriteThatFailsEndsTheAnswer(t *testing.T) {
	e := &wiretest.Engine{Script: wiretest.Say(append(wiretest.Text("Hel"), wiretest.Step{Block: true})...)}
	server := echo.New()
	Register(server, config(e))
	request := httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(`{`+hello+`,"stream":true}`))
	server.ServeHTTP(deaf{httptest.NewRecorder()}, request) // returns: the engine was told
	if e.Running() != 0 {
		t.Error("the answer goes on")
	}
}

func TestPanicOfTheEngineIsAnError(t *testing.T) {
	e := &wiretest.Engine{Script: func(engine.Request) []wiretest.Step { panic("index out of range") }}
	got := wiretest.Do(api(config(e)), "POST", "/v1/chat/completions", `{`+hello+`}`)
	if got.Code != http.StatusInternalServerError || strings.Contains(got.Body.String(), "index") {
		t.Errorf("got %d %s", got.Code, got.Body)
	}
}

func TestConnectionOutlivesItsStreams(t *testing.T) {
	base := wiretest.Serve(t, api(config(&wiretest.Engine{})))
	for range 3 {
		response, err := http.Post(base+"/v1/chat/completions", "application/json", strings.NewReader(`{`+hello+`,"stream":true}`))
		if err != nil {
			t.Fatal(err)
		}
		scanner := bufio.NewScanner(response.Body)
		last := ""
		for scanner.Scan() {
			if scanner.Text() != "" {
				last = scanner.Text()
			}
		}
		response.Body.Close()
		if last != "data: [DONE]" {
			t.Errorf("the stream ended with %q", last)
		}
	}
}
