// Package openai answers the OpenAI API: models, chat and text completions, embeddings. It adds llama.cpp's extensions
// (top_k, min_p, grammar, return_progress, timings and so on), whose names do not collide with OpenAI's.
//
// A stream is the role, the content, the finish reason, the usage if it was asked for, and [DONE]. Its status is sent with
// the first piece or, if the model is still being loaded, with the first keep-alive; an error before that is an HTTP
// error, and one after it is an event, which ends the stream without [DONE].
package openai

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/models"
	"github.com/labstack/echo/v4"
)

// Engine answers and embeds. A model that is not resident is loaded first.
type Engine interface {
	engine.Generator
	Embed(context.Context, engine.EmbedRequest) (engine.EmbedResult, error)
}

// Models knows the models of this node, and what each is with its adapters. Get fails with centram.NotFound.
type Models interface {
	Choices(context.Context) ([]models.Model, error)
	Get(ctx context.Context, name string) (models.Model, error)
}

// Config is what the API works with.
type Config struct {
	Engine Engine
	Models Models
	// DefaultModel names the model for a request that names none. Nil, or an empty name, means that it is refused.
	DefaultModel func(context.Context) string
	// Version is the daemon's and becomes the system fingerprint. Empty means none.
	Version string
	// PingEvery is how long a stream may be silent before a keep-alive. Zero means 15 seconds.
	PingEvery time.Duration
	// Now dates answers. Nil means time.Now.
	Now func() time.Time
	// Rand makes the ids of answers. Nil means crypto/rand.
	Rand io.Reader
	// Log receives what clients are not told. Nil means slog.Default.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.DefaultModel == nil {
		c.DefaultModel = func(context.Context) string { return "" }
	}
	if c.PingEvery == 0 {
		c.PingEvery = 15 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

type handler struct{ Config }

var routes = []struct {
	method, path string
	serve        func(*handler, echo.Context) error
}{
	{http.MethodGet, "/models", (*handler).models},
	{http.MethodGet, "/models/*", (*handler).model}, // a wildcard, because names may contain slashes
	{http.MethodPost, "/chat/completions", (*handler).chat},
	{http.MethodPost, "/completions", (*handler).completions},
	{http.MethodPost, "/embeddings", (*handler).embeddings},
}

// prefixes has the API's place, and where clients look for it that add /v1 to a base URL that has it, or that were
// pointed at the Ollama alias.
var prefixes = []string{"/v1", "/v1/v1", "/ollama/v1"}

// Register adds the API's routes to e. What is below them and is not known is answered in OpenAI's error shape.
func Register(e *echo.Echo, cfg Config) {
	h := &handler{cfg.withDefaults()}
	for _, prefix := range prefixes {
		for _, r := range routes {
			e.Add(r.method, prefix+r.path, func(c echo.Context) error {
				if err := r.serve(h, c); err != nil {
					return h.fail(c, err)
				}
				return nil
			})
		}
	}
	e.RouteNotFound("/v1/*", unknownRoute)
}

func unknownRoute(c echo.Context) error {
	return WriteError(c, centram.Errorf(centram.NotFound, "There is no %s %s.", c.Request().Method, c.Request().URL.Path))
}

// modelName is the model that a request means.
func (h *handler) modelName(ctx context.Context, asked string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	if name := h.DefaultModel(ctx); name != "" {
		return name, nil
	}
	return "", errNoModel
}

// id makes the id of one answer.
func (h *handler) id(prefix string) (string, error) {
	var b [12]byte
	if _, err := io.ReadFull(h.Rand, b[:]); err != nil {
		return "", err
	}
	return prefix + hex.EncodeToString(b[:]), nil
}

// pathTail is what the route's wildcard matched. The router matches the escaped path if there is one.
func pathTail(c echo.Context) (string, error) {
	tail := c.Param("*")
	if c.Request().URL.RawPath == "" {
		return tail, nil
	}
	return url.PathUnescape(tail)
}
