package wire

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"strings"

	"github.com/centram/centram"
)

// Invalid is the refusal of one field. param is its path in the request, or empty if it is about the whole.
func Invalid(param, format string, args ...any) *centram.Error {
	return refuse(centram.Invalid, param, format, args...)
}

// Unsupported is the refusal of a field that is right but for which Centram has no answer.
func Unsupported(param, format string, args ...any) *centram.Error {
	return refuse(centram.Unsupported, param, format, args...)
}

func refuse(code centram.Code, param, format string, args ...any) *centram.Error {
	err := centram.Errorf(code, format, args...)
	if param != "" {
		err.Details = map[string]any{"param": param}
	}
	return err
}

// AtParam returns err, which some part of the engine may have made, with the name of the field that it is about.
func AtParam(err error, param string) error {
	e, ok := errors.AsType[*centram.Error](err)
	if !ok || e.Details["param"] != nil {
		return err
	}
	named := *e
	named.Details = maps.Clone(e.Details)
	if named.Details == nil {
		named.Details = map[string]any{}
	}
	named.Details["param"] = param
	return &named
}

// statuses says which HTTP status stands for which code.
var statuses = map[centram.Code]int{
	centram.Internal:     http.StatusInternalServerError,
	centram.Invalid:      http.StatusBadRequest,
	centram.TooLong:      http.StatusBadRequest,
	centram.TooLarge:     http.StatusRequestEntityTooLarge,
	centram.Unauthorized: http.StatusUnauthorized,
	centram.Forbidden:    http.StatusForbidden,
	centram.NotFound:     http.StatusNotFound,
	centram.Conflict:     http.StatusConflict,
	centram.Unsupported:  http.StatusNotImplemented,
	centram.Unavailable:  http.StatusServiceUnavailable,
}

// Status is the HTTP status of err.
func Status(err error) int { return StatusOf(centram.CodeOf(err)) }

// StatusOf is the HTTP status that stands for a code.
func StatusOf(code centram.Code) int {
	if status, ok := statuses[code]; ok {
		return status
	}
	return http.StatusInternalServerError
}

// Text is what a client may read of err. The text of an internal error is not for it.
func Text(err error) string {
	e, ok := errors.AsType[*centram.Error](err)
	if !ok || e.Code == centram.Internal {
		return "Something went wrong inside Centram. Its log says what."
	}
	if e.Hint == "" {
		return e.Message
	}
	message := e.Message
	if !strings.HasSuffix(message, ".") { // as in the middle of a log's line
		message += "."
	}
	return message + " " + e.Hint
}

// Log writes down an error that the client is not told.
func Log(ctx context.Context, log *slog.Logger, path string, err error) {
	if centram.CodeOf(err) == centram.Internal {
		log.ErrorContext(ctx, "Request failed", "path", path, "err", err)
	}
}
