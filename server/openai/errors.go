package openai

import (
	"errors"

	"github.com/centram/centram"
	"github.com/centram/centram/server/wire"
	"github.com/labstack/echo/v4"
)

var errNoModel = wire.Invalid("model", "\"model\" is required: the name of one of the models that GET /v1/models lists.")

// kinds are llama.cpp's error types, which tell more than OpenAI's own, with OpenAI's codes where it has one.
var kinds = map[centram.Code]struct{ kind, code string }{
	centram.Internal:     {"server_error", ""},
	centram.Invalid:      {"invalid_request_error", ""},
	centram.TooLong:      {"exceed_context_size_error", "context_length_exceeded"},
	centram.TooLarge:     {"invalid_request_error", "request_too_large"},
	centram.Unauthorized: {"authentication_error", "invalid_api_key"},
	centram.Forbidden:    {"permission_error", ""},
	centram.NotFound:     {"not_found_error", ""},
	centram.Conflict:     {"invalid_request_error", "conflict"},
	centram.Unsupported:  {"not_supported_error", ""},
	centram.Unavailable:  {"unavailable_error", ""},
}

var modelNotFound = "model_not_found"

type errorBody struct {
	Error errorFields `json:"error"`
}

type errorFields struct {
	Message      string  `json:"message"`
	Type         string  `json:"type"`
	Param        *string `json:"param"`
	Code         *string `json:"code"`
	PromptTokens any     `json:"n_prompt_tokens,omitempty"`
	Context      any     `json:"n_ctx,omitempty"`
}

func bodyOf(err error) errorBody {
	kind := kinds[centram.CodeOf(err)]
	f := errorFields{Message: wire.Text(err), Type: kind.kind}
	if kind.code != "" {
		f.Code = &kind.code
	}
	if e, ok := errors.AsType[*centram.Error](err); ok {
		if param, ok := e.Details["param"].(string); ok {
			f.Param = &param
			if e.Code == centram.NotFound && param == "model" {
				f.Code = &modelNotFound
			}
		}
		if e.Code == centram.TooLong {
			f.PromptTokens, f.Context = e.Details["n_prompt_tokens"], e.Details["n_ctx"]
		}
	}
	return errorBody{f}
}

// WriteError answers with err in OpenAI's shape. It is for what the server refuses before a request gets here.
func WriteError(c echo.Context, err error) error {
	return wire.JSON(c, wire.Status(err), bodyOf(err))
}

// fail answers with err, if anybody is still there to read it.
func (h *handler) fail(c echo.Context, err error) error {
	ctx := c.Request().Context()
	if ctx.Err() != nil || c.Response().Committed {
		return nil
	}
	wire.Log(ctx, h.Log, c.Path(), err)
	return WriteError(c, err)
}
