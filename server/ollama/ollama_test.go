package ollama

import (
	"context"
	"log/slog"
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
	{
		Name: wiretest.Model, State: models.Ready, ImportedAt: time.Unix(1_700_000_000, 0), Path: "/home/ann/models/test.gguf", SizeBytes: 397_808_192,
		Digest: "74a4da8c9fdbcd15bd1f6d01d621410d31c6fc00986f5eb687824e7b93d7a9db", Architecture: "qwen2", Parameters: 494_032_768,
		Layers: 24, Embedding: 896, Context: 32768, Quantization: "Q4_K_M", ChatTemplate: true,
		Template: "{% for m in messages %}{{ m }}{% endfor %}{{ tools }}", License: "Apache-2.0",
	},
	{Name: "org/base:1b", State: models.Ready, Architecture: "llama", Parameters: 1_543_714_304},
	{Name: "gone", State: models.Missing},
}

// plain is the model of the tests as one without a chat template.
func plain() shelf {
	m := shelved[0]
	m.ChatTemplate = false
	return shelf{m}
}

func config(e *wiretest.Engine) Config {
	return Config{Engine: e, Models: shelved, Version: "1.2.3", Log: slog.New(slog.DiscardHandler)}
}

func api(cfg Config) func(*echo.Echo) {
	return func(e *echo.Echo) { Register(e, cfg) }
}
