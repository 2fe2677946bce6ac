package openai

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/models"
	"github.com/centram/centram/server/wire/wiretest"
	"github.com/labstack/echo/v4"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shelf is the models of the tests.
type shelf []models.Model

func (s shelf) Choices(context.Context) ([]models.Model, error) { return s, nil }

func (s shelf) Get(_ context.Context, name string) (models.Model, error) {
	for _, m := range s {
		if m.Name == name {
			return m, nil
		}
	}
	return models.Model{}, centram.Errorf(centram.NotFound, "There is no model %q.", name)
}

var shelved = shelf{
	{Name: wiretest.Model, State: models.Ready, ImportedAt: time.Unix(1_700_000_000, 0), Context: 32768, Embedding: 896, Parameters: 494_032_768, SizeBytes: 397_808_192},
	{Name: "org/model:tag", State: models.Ready},
	{Name: "gone", State: models.Missing},
}

// zeros is a source of randomness that makes the same id each time.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func config(e *wiretest.Engine) Config {
	return Config{Engine: e, Models: shelved, Version: "1.2.3", Rand: zeros{}, Log: slog.New(slog.DiscardHandler)}
}

func api(cfg Config) func(*echo.Echo) {
	return func(e *echo.Echo) { Register(e, cfg) }
}

// pingCounter counts the keep-alives that a client reads over.
type pingCounter struct{ pings int }

func (p *pingCounter) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		response.Body = countingBody{response.Body, p}
	}
	return response, err
}

type countingBody struct {
	io.ReadCloser
	counter *pingCounter
}

func (b countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.counter.pings += strings.Count(string(p[:n]), ping)
	return n, err
}
