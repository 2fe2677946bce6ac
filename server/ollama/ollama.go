// Package ollama answers Ollama's API, so that clients that speak it work with Centram: chat, generate, embed, and what
// they ask about models. What would change the models is answered with the centram command that does it.
//
// A stream is one JSON object a line. The last one has "done": true, or it is {"error": "..."}.
package ollama

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/models"
	"github.com/centram/centram/server/wire"
	"github.com/labstack/echo/v4"
)

// Engine answers, embeds, and holds models in memory. Unload fails with centram.NotFound if the model is not there.
type Engine interface {
	engine.Generator
	Embed(context.Context, engine.EmbedRequest) (engine.EmbedResult, error)
	Load(ctx context.Context, name string, keepAlive time.Duration) error
	Unload(ctx context.Context, name string) error
	Resident() []engine.Resident
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
	// Version is what GET /api/version says.
	Version string
	// Now dates answers. Nil means time.Now.
	Now func() time.Time
	// Log receives what clients are not told. Nil means slog.Default.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

type handler struct{ Config }

type serve func(*handler, echo.Context) error

var routes = []struct {
	methods []string
	path    string
	serve   serve
}{
	{[]string{http.MethodGet, http.MethodHead}, "/version", (*handler).version},
	{[]string{http.MethodGet, http.MethodHead}, "/tags", (*handler).tags},
	{[]string{http.MethodGet}, "/ps", (*handler).ps},
	{[]string{http.MethodPost}, "/show", (*handler).show},
	{[]string{http.MethodPost}, "/chat", (*handler).chat},
	{[]string{http.MethodPost}, "/generate", (*handler).generate},
	{[]string{http.MethodPost}, "/embed", (*handler).embed},
	{[]string{http.MethodPost}, "/embeddings", (*handler).embeddings},
	{[]string{http.MethodPost}, "/pull", instead("centram model download")},
	{[]string{http.MethodDelete, http.MethodPost}, "/delete", instead("centram model rm")},
	{[]string{http.MethodPost}, "/copy", instead("centram model import --name")},
	{[]string{http.MethodPost}, "/create", instead("centram model import")},
	{[]string{http.MethodPost}, "/push", instead("centram model import")},
}

// prefixes has the API's place, the alias tree, and the latter with the doubled part of clients that add /api to a base
// URL that has it.
var prefixes = []string{"/api", "/ollama/api", "/ollama/api/api"}

// Register adds the API's routes to e, Root at / and /ollama among them. A server with a page of its own at / registers
// that afterwards, which replaces ours, and calls Root for whoever is not a browser.
func Register(e *echo.Echo, cfg Config) {
	h := &handler{cfg.withDefaults()}
	for _, path := range []string{"/", "/ollama", "/ollama/"} {
		e.GET(path, Root)
		e.HEAD(path, Root)
	}
	for _, prefix := range prefixes {
		for _, r := range routes {
			for _, method := range r.methods {
				e.Add(method, prefix+r.path, h.route(r.serve))
			}
		}
	}
}

// Root answers a client that looks whether this is Ollama.
func Root(c echo.Context) error { return c.String(http.StatusOK, "Ollama is running") }

// WriteError answers with err in Ollama's shape. It is for what the server refuses before a request gets here.
func WriteError(c echo.Context, err error) error {
	return wire.JSON(c, wire.Status(err), errorBody{wire.Text(err)})
}

type errorBody struct {
	Error string `json:"error"`
}

// route answers with the error of serve, if anybody is still there to read it.
func (h *handler) route(serve serve) echo.HandlerFunc {
	return func(c echo.Context) error {
		err := serve(h, c)
		ctx := c.Request().Context()
		if err == nil || ctx.Err() != nil || c.Response().Committed {
			return nil
		}
		wire.Log(ctx, h.Log, c.Path(), err)
		return WriteError(c, err)
	}
}

// instead refuses an operation and names the command that does it.
func instead(command string) serve {
	return func(*handler, echo.Context) error {
		return centram.Errorf(centram.Unsupported, "Centram does not do this over the Ollama API.").
			WithHint("Use the command %q.", command)
	}
}

func (h *handler) version(c echo.Context) error {
	return wire.JSON(c, http.StatusOK, struct {
		Version string `json:"version"`
	}{h.Version})
}
