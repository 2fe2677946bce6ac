package openai

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"net/http"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/server/wire"
	"github.com/labstack/echo/v4"
)

const (
	maxInputs     = 2048 // OpenAI's limit
	maxDimensions = 1 << 20
)

type embeddingRequest struct {
	Model          string   `json:"model"`
	Input          prompts  `json:"input"`
	EncodingFormat string   `json:"encoding_format"`
	Dimensions     *float64 `json:"dimensions"`
}

type embeddingObject struct {
	Object    string `json:"object"`
	Index     int    `json:"index"`
	Embedding any    `json:"embedding"` // []float32, or a string
}

type embeddingAnswer struct {
	Object string            `json:"object"`
	Data   []embeddingObject `json:"data"`
	Model  string            `json:"model"`
	Usage  embeddingUsage    `json:"usage"`
}

type embeddingUsage struct {
	PromptTokens int `json:"prompt_tokens"`
	TotalTokens  int `json:"total_tokens"`
}

// encodings are the ways to write a vector. OpenAI's clients ask for base64 unless told otherwise.
var encodings = map[string]func([]float32) any{
	"":       func(v []float32) any { return v },
	"float":  func(v []float32) any { return v },
	"base64": func(v []float32) any { return littleEndian(v) },
}

func (h *handler) embeddings(c echo.Context) error {
	var r embeddingRequest
	if err := wire.Decode(c, &r); err != nil {
		return atPrompt(err, "input")
	}
	encode, known := encodings[r.EncodingFormat]
	if !known {
		return wire.Invalid("encoding_format", "\"encoding_format\" is %q; float and base64 are known.", r.EncodingFormat)
	}
	if err := r.Input.check("input", maxInputs); err != nil {
		return err
	}
	dimensions := wire.Number{Param: "dimensions", Value: r.Dimensions, Min: 1, Max: maxDimensions, Whole: true}
	if err := dimensions.Check(); err != nil {
		return err
	}
	ctx := c.Request().Context()
	model, err := h.modelName(ctx, r.Model)
	if err != nil {
		return err
	}
	result, err := h.Engine.Embed(ctx, engine.EmbedRequest{Model: model, Texts: r.Input.texts, Tokens: r.Input.tokens})
	if err != nil {
		return atModel(err)
	}
	vectors, err := wire.Shorten(result.Vectors, dimensions.Int(0))
	if err != nil {
		return err
	}
	out := embeddingAnswer{
		Object: "list", Data: make([]embeddingObject, len(vectors)), Model: model,
		Usage: embeddingUsage{result.PromptTokens, result.PromptTokens},
	}
	for i, v := range vectors {
		out.Data[i] = embeddingObject{"embedding", i, encode(v)}
	}
	return wire.JSON(c, http.StatusOK, out)
}

// littleEndian is a vector as base64 of its float32 values.
func littleEndian(v []float32) string {
	b := make([]byte, 0, 4*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return base64.StdEncoding.EncodeToString(b)
}
