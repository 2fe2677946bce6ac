package centram

import (
	"errors"
	"fmt"
)

// Code says what kind of thing went wrong, in the terms of a caller. It maps to an HTTP status and to an exit code of
// the command line, and back, so that a remote error and a local one are the same value.
type Code string

const (
	Internal     Code = "internal"         // ours; its text is not shown to a client
	Invalid      Code = "invalid"          // the request is wrong and will stay wrong
	TooLong      Code = "context_exceeded" // the prompt does not fit the model's context
	TooLarge     Code = "too_large"        // the body or the file is over a limit
	Unauthorized Code = "unauthorized"     // a token is needed
	Forbidden    Code = "forbidden"        // no token would help
	NotFound     Code = "not_found"
	Conflict     Code = "conflict" // it exists already, or is in use
	Unsupported  Code = "unsupported"
	Unavailable  Code = "unavailable" // try again: still loading, queue full, shutting down
)

// Error is an error that a person is meant to read: what happened, and in Hint what to do next.
type Error struct {
	Code    Code
	Message string         // one sentence, no code, names the thing
	Hint    string         // the next step, or empty
	Details map[string]any // facts a program may branch on, such as n_ctx
	Err     error          // the cause, or nil
}

// Errorf returns an *Error. A %w in the format is kept as the cause.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// WithHint returns a copy of e that says what to do next.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the first *Error in err's chain, Internal if there is none, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}

// HintOf returns the hint of the first *Error in err's chain, or "".
func HintOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Hint
	}
	return ""
}
