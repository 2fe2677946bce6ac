package server

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/server/wire"
	"github.com/centram/centram/store"
	"github.com/danielgtaylor/huma/v2"
	"github.com/labstack/echo/v4"
)

// codes says what a status means that is not in an answer of ours, or is finer than our codes.
var codes = map[int]centram.Code{
	http.StatusBadRequest:            centram.Invalid,
	http.StatusUnauthorized:          centram.Unauthorized,
	http.StatusForbidden:             centram.Forbidden,
	http.StatusNotFound:              centram.NotFound,
	http.StatusMethodNotAllowed:      centram.Unsupported,
	http.StatusNotAcceptable:         centram.Invalid,
	http.StatusRequestTimeout:        centram.Invalid,
	http.StatusConflict:              centram.Conflict,
	http.StatusRequestEntityTooLarge: centram.TooLarge,
	http.StatusUnsupportedMediaType:  centram.Invalid,
	http.StatusUnprocessableEntity:   centram.Invalid,
	http.StatusNotImplemented:        centram.Unsupported,
	http.StatusServiceUnavailable:    centram.Unavailable,
}

// CodeOfStatus is the code that an HTTP status stands for.
func CodeOfStatus(status int) centram.Code {
	if code, ok := codes[status]; ok {
		return code
	}
	return centram.Internal
}

// Failure is the body of every answer that says no.
type Failure struct {
	Problem Refusal `json:"error"`

	status int
}

// Refusal is what went wrong, for a person and for a program.
type Refusal struct {
	Code    centram.Code   `json:"code" enum:"internal,invalid,context_exceeded,too_large,unauthorized,forbidden,not_found,conflict,unsupported,unavailable"`
	Message string         `json:"message"`
	Hint    string         `json:"hint,omitempty" doc:"What to do next."`
	Details map[string]any `json:"details,omitempty"`
}

// Error and GetStatus make a Failure an error of huma.
func (f *Failure) Error() string  { return f.Problem.Message }
func (f *Failure) GetStatus() int { return f.status }

// problemOf is what a client may know of err. The text of an internal error is not for it.
func problemOf(err error) Refusal {
	e, ok := errors.AsType[*centram.Error](err)
	if !ok || e.Code == centram.Internal {
		return Refusal{
			Code: centram.Internal, Message: "Something went wrong inside Centram.", Hint: "The log of the daemon says what.",
		}
	}
	return Refusal{Code: e.Code, Message: e.Message, Hint: e.Hint, Details: e.Details}
}

// textOf is problemOf in a line.
func textOf(err error) string {
	p := problemOf(err)
	return strings.TrimSpace(p.Message + " " + p.Hint)
}

// statusError gives an error a status that is finer than its code.
type statusError struct {
	err    *centram.Error
	status int
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

func statusOf(err error) int {
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.status
	}
	return wire.StatusOf(centram.CodeOf(err))
}

// known turns errors of the libraries below us into ours.
func known(err error) error {
	if _, ok := errors.AsType[*centram.Error](err); ok {
		return err
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(e.Limit)
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return &statusError{centram.Errorf(centram.Invalid, "The request took too long to arrive."), http.StatusRequestTimeout}
	}
	if e, ok := errors.AsType[*echo.HTTPError](err); ok {
		code := CodeOfStatus(e.Code)
		if code == centram.Internal {
			return err
		}
		return &statusError{centram.Errorf(code, "%s.", http.StatusText(e.Code)), e.Code}
	}
	if e := store.Unwritable(err); e != nil {
		return e
	}
	return err
}

func tooLarge(limit int64) error {
	return centram.Errorf(centram.TooLarge, "The request is larger than the %d bytes that are allowed here.", limit)
}

func init() { // huma has no other way than its package variables
	huma.DefaultArrayNullable = false
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		return failure(status, message, errs)
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, message string, errs ...error) huma.StatusError {
		f, err := failure(status, message, errs), errors.Join(errs...)
		if f.Problem.Code == centram.Internal || store.Unwritable(err) != nil { // huma knows no logger of ours
			slog.ErrorContext(ctx.Context(), "Request failed", "path", ctx.Operation().Path, "err", err)
		}
		return f
	}
}

// failure makes one of what huma, or a handler below it, has to say.
func failure(status int, message string, errs []error) *Failure {
	for _, err := range errs {
		err = known(err)
		if centram.CodeOf(err) != centram.Internal {
			return &Failure{problemOf(err), statusOf(err)}
		}
	}
	if status == http.StatusUnprocessableEntity || status == http.StatusBadRequest {
		return &Failure{invalidFields(message, errs), http.StatusBadRequest}
	}
	code := CodeOfStatus(status)
	if code == centram.Internal {
		return &Failure{problemOf(nil), http.StatusInternalServerError}
	}
	return &Failure{Refusal{Code: code, Message: sentence(message)}, status}
}

// invalidFields names the fields of a request that are wrong.
func invalidFields(message string, errs []error) Refusal {
	p := Refusal{Code: centram.Invalid, Message: sentence(message)}
	var said []string
	for _, err := range errs {
		detail, ok := err.(*huma.ErrorDetail)
		if !ok {
			continue
		}
		field := detail.Location
		for _, place := range []string{"body.", "query.", "path.", "header."} {
			field = strings.TrimPrefix(field, place)
		}
		if p.Details == nil {
			p.Details = map[string]any{"param": field}
		}
		said = append(said, fmt.Sprintf("%s: %s", field, detail.Message))
	}
	if len(said) > 0 {
		p.Message = sentence(strings.Join(said, "; "))
	}
	return p
}

func sentence(text string) string {
	if text == "" {
		return "The request is not understood."
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// refuse answers with an error that no handler has answered with, in the words of the API whose path was called.
func (s *Server) refuse(err error, c echo.Context) {
	if c.Response().Committed || c.Request().Context().Err() != nil {
		return
	}
	err = known(err)
	status := statusOf(err)
	if centram.CodeOf(err) == centram.Internal || store.Unwritable(err) != nil {
		s.Log.ErrorContext(c.Request().Context(), "Request failed", "path", c.Path(), "err", cause(err))
	}
	if e, ok := errors.AsType[*centram.Error](err); ok && c.Path() == "" && e.Code == centram.NotFound {
		err = centram.Errorf(centram.NotFound, "There is nothing at %s.", c.Request().URL.Path)
	}
	if status == http.StatusUnauthorized {
		c.Response().Header().Set(echo.HeaderWWWAuthenticate, "Bearer")
	}
	c.Response().Before(func() { c.Response().Status = status }) // other APIs know our codes only
	if writeErr := s.wording(c.Request().URL.Path)(c, err); writeErr != nil {
		s.Log.DebugContext(c.Request().Context(), "Error not delivered", "err", writeErr)
	}
}

// cause is what the log says of an error: more than a person is told of a disk that is full.
func cause(err error) error {
	if e, ok := errors.AsType[*centram.Error](err); ok && e.Err != nil {
		return e.Err
	}
	return err
}

// wording finds who words the errors of a path.
func (s *Server) wording(path string) func(echo.Context, error) error {
	best := ""
	for prefix := range maps.Keys(s.Errors) {
		if below(path, prefix) && len(prefix) > len(best) {
			best = prefix
		}
	}
	if best == "" || below(path, nativePrefix) && len(best) < len(nativePrefix) {
		return func(c echo.Context, err error) error {
			return c.JSON(statusOf(err), &Failure{Problem: problemOf(err)})
		}
	}
	return s.Errors[best]
}

// below reports whether path is prefix or lies below it.
func below(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}
