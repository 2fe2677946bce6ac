package ollama

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/server/wire/wiretest"
	"github.com/labstack/echo/v4"
)

func TestClientThatLeavesEndsTheAnswer(t *testing.T) {
	e := &wiretest.Engine{Script: wiretest.Say(append(wiretest.Text("Hel"), wiretest.Step{Block: true})...)}
	base := wiretest.Serve(t, api(config(e)))
	ctx, cancel := context.WithCancel(t.Context())
	request, _ := http.NewRequestWithContext(ctx, "POST", base+"/api/chat", strings.NewReader(`{`+hello+`}`))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if line, err := bufio.NewReader(response.Body).ReadString('\n'); err != nil || !strings.Contains(line, "Hel") {
		t.Fatalf("got %q, %v", line, err)
	}
	cancel()
	for range 500 {
		if e.Running() == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the answer goes on")
}

// deaf is a client to which nothing can be written any more.
type deaf struct{ *httptest.ResponseRecorder }

func (deaf) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestWriteThatFailsEndsTheAnswer(t *testing.T) {
	e := &wiretest.Engine{Script: wiretest.Say(append(wiretest.Text("Hel"), wiretest.Step{Block: true})...)}
	server := echo.New()
	Register(server, config(e))
	request := httptest.NewRequest("POST", "/api/chat", strings.NewReader(`{`+hello+`}`))
	server.ServeHTTP(deaf{httptest.NewRecorder()}, request) // returns: the engine was told
	if e.Running() != 0 {
		t.Error("the answer goes on")
	}
}

func TestCallThatWasCutOffIsNotMade(t *testing.T) {
	got := toolCalls([]engine.ToolCall{{Name: "rm", Arguments: `{"pa`}, {Name: "ls", Arguments: `[]`}, {Name: "pwd"}})
	if len(got) != 1 || got[0].Function.Name != "pwd" {
		t.Errorf("got %+v, want pwd alone", got)
	}
}

func TestPageOfTheServerReplacesRoot(t *testing.T) {
	got := wiretest.Do(func(e *echo.Echo) {
		Register(e, config(&wiretest.Engine{}))
		e.GET("/", func(c echo.Context) error { return c.String(http.StatusOK, "a page") })
	}, "GET", "/", "")
	if got.Body.String() != "a page" {
		t.Errorf("got %q", got.Body)
	}
}

var fuzzPaths = []string{"/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show"}

// FuzzRequest wants a client's nonsense to be the client's error. 501 is an answer to a right question.
func FuzzRequest(f *testing.F) {
	for _, body := range []string{
		``, `{}`, `null`, `[[]]`, `{"model":"test"}`, `{"name":"test:latest"}`,
		`{` + hello + `}`,
		`{` + hello + `,"stream":false,"format":"json","keep_alive":"5m",` + weatherTool + `}`,
		`{` + hello + `,"format":{"type":"object"},"keep_alive":-1,"options":{"num_ctx":10,"num_predict":-1,"stop":"a","seed":-1,"top_k":40.0}}`,
		`{"model":"test","messages":[{"role":"assistant","tool_calls":[{"function":{"name":"a","arguments":{}}}]},{"role":"tool","content":"x"}]}`,
		`{"model":"test","prompt":"a","raw":true,"system":"b","input":["a","b"],"dimensions":2}`,
		`{"model":"test","prompt":"a","suffix":"b","images":[],"context":[],"input":"a"}`,
		`{"model":"test","keep_alive":0,"stream":false}`,
	} {
		for i := range fuzzPaths {
			f.Add(i, body)
		}
	}
	f.Fuzz(func(t *testing.T, path int, body string) {
		got := wiretest.Do(api(config(&wiretest.Engine{})), "POST", fuzzPaths[uint(path)%uint(len(fuzzPaths))], body)
		if got.Code >= 500 && got.Code != http.StatusNotImplemented {
			t.Errorf("%d %s", got.Code, got.Body)
		}
	})
}
