package ollama

import (
	"context"
	"net/http"
	"time"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/server/wire"
	"github.com/labstack/echo/v4"
)

const (
	maxInputs     = 2048
	maxDimensions = 1 << 20
)

type embedAnswer struct {
	Model           string        `json:"model"`
	Embeddings      [][]float32   `json:"embeddings"`
	TotalDuration   time.Duration `json:"total_duration"`
	LoadDuration    time.Duration `json:"load_duration"`
	PromptEvalCount int           `json:"prompt_eval_count"`
}

// embed never shortens an input that is too long, whatever "truncate" says: it would answer for a text that nobody sent.
func (h *handler) embed(c echo.Context) error {
	var r struct {
		Model      string       `json:"model"`
		Input      wire.Strings `json:"input"`
		Dimensions *float64     `json:"dimensions"`
		KeepAlive  keepAlive    `json:"keep_alive"`
	}
	if err := wire.Decode(c, &r); err != nil {
		return err
	}
	dimensions := wire.Number{Param: "dimensions", Value: r.Dimensions, Min: 0, Max: maxDimensions, Whole: true}
	if err := dimensions.Check(); err != nil {
		return err
	}
	if len(r.Input) > maxInputs {
		return wire.Invalid("input", "\"input\" has %d texts; at most %d are allowed.", len(r.Input), maxInputs)
	}
	started := h.Now()
	result, err := h.vectors(c.Request().Context(), r.Model, r.Input, r.KeepAlive)
	if err != nil {
		return err
	}
	vectors, err := wire.Shorten(result.Vectors, dimensions.Int(0))
	if err != nil {
		return err
	}
	return wire.JSON(c, http.StatusOK, embedAnswer{r.Model, vectors, h.Now().Sub(started), result.LoadTime, result.PromptTokens})
}

// embeddings is the older form, of one text.
func (h *handler) embeddings(c echo.Context) error {
	var r struct {
		Model     string    `json:"model"`
		Prompt    string    `json:"prompt"`
		KeepAlive keepAlive `json:"keep_alive"`
	}
	if err := wire.Decode(c, &r); err != nil {
		return err
	}
	result, err := h.vectors(c.Request().Context(), r.Model, []string{r.Prompt}, r.KeepAlive)
	if err != nil {
		return err
	}
	vector := []float32{}
	if len(result.Vectors) > 0 {
		vector = result.Vectors[0]
	}
	return wire.JSON(c, http.StatusOK, struct {
		Embedding []float32 `json:"embedding"`
	}{vector})
}

// vectors embeds the texts. Without any text it only loads the model, or unloads it, as Ollama does.
func (h *handler) vectors(ctx context.Context, model string, texts []string, keep keepAlive) (engine.EmbedResult, error) {
	m, err := h.find(ctx, model)
	if err != nil {
		return engine.EmbedResult{}, err
	}
	if len(texts) == 0 || len(texts) == 1 && texts[0] == "" {
		return engine.EmbedResult{Vectors: [][]float32{}}, h.reside(ctx, m, keep)
	}
	for i, text := range texts {
		if text == "" {
			return engine.EmbedResult{}, wire.Invalid("input", "Text %d of \"input\" is empty.", i)
		}
	}
	return h.Engine.Embed(ctx, engine.EmbedRequest{Model: m.Name, Texts: texts, KeepAlive: keep.engine()})
}
