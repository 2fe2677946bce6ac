// Package wiretest is for the tests of the packages that answer foreign APIs: an engine that follows a script, and golden
// transcripts of what went over the wire.
package wiretest

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/labstack/echo/v4"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// Golden compares got with testdata/name, or writes it there if the test runs with -update.
func Golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (run the test with -update)", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (run with -update if that is meant)\n--- got\n%s\n--- want\n%s", path, got, want)
	}
}

// Transcript is the status, the content type and the body of the answer to one request. It runs in a bubble of fake time,
// which begins with the year 2000, so waiting costs nothing and dates are the same each time. setup makes the server.
func Transcript(t *testing.T, setup func(*echo.Echo), method, path, body string) []byte {
	t.Helper()
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		recorder := Do(setup, method, path, body)
		fmt.Fprintf(&out, "%d %s\n\n", recorder.Code, recorder.Header().Get("Content-Type"))
		out.Write(recorder.Body.Bytes())
		if !bytes.HasSuffix(recorder.Body.Bytes(), []byte("\n")) {
			out.WriteString("\n")
		}
	})
	return out.Bytes()
}

// Do answers one request without a network.
func Do(setup func(*echo.Echo), method, path, body string) *httptest.ResponseRecorder {
	e := echo.New()
	setup(e)
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	e.ServeHTTP(recorder, request)
	return recorder
}

// Serve answers on a real port until the test ends.
func Serve(t *testing.T, setup func(*echo.Echo)) (baseURL string) {
	t.Helper()
	e := echo.New()
	setup(e)
	server := httptest.NewServer(e)
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		server.Close()
	})
	return server.URL
}
