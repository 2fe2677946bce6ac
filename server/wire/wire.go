// Package wire is what the OpenAI and the Ollama API have in common: how a JSON request is read, the names and bounds of
// sampling parameters, the shape of a tool, the HTTP status of an error. The order in which an answer is written differs
// between them and is not here.
//
// Every refusal is a *centram.Error with the code centram.Invalid whose Details name the offending field as "param".
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"

	"github.com/centram/centram"
	"github.com/labstack/echo/v4"
)

// MaxBody is the largest request body that Decode reads.
const MaxBody = 32 << 20

// Decode reads the request's body into v, a pointer to a struct. Fields that v does not have are ignored, because clients
// send parameters of services that we are not.
func Decode(c echo.Context, v any) error {
	body, err := io.ReadAll(http.MaxBytesReader(c.Response(), c.Request().Body, MaxBody))
	if tooLarge(err) {
		return centram.Errorf(centram.TooLarge, "The request is over the limit of %d MiB.", MaxBody>>20)
	}
	if err != nil {
		return centram.Errorf(centram.Invalid, "The request could not be read to its end.")
	}
	return Unmarshal(body, v)
}

// tooLarge also knows the error of echo's BodyLimit, which may have a lower limit than ours.
func tooLarge(err error) bool {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return true
	}
	e, ok := errors.AsType[*echo.HTTPError](err)
	return ok && e.Code == http.StatusRequestEntityTooLarge
}

// Unmarshal reads a JSON object into v, a pointer to a struct. An error says which field is wrong and what it must be.
func Unmarshal(body []byte, v any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return Invalid("", "The request has no body; a JSON object is expected.")
	}
	err := json.Unmarshal(body, v)
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*centram.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		param := goNames.Replace(e.Field)
		if param == "" {
			return Invalid("", "The request must be %s, not %s.", kindName(e.Type), e.Value)
		}
		return Invalid(param, "%q must be %s, not %s.", param, kindName(e.Type), e.Value)
	}
	return Invalid("", "The request is not valid JSON: %v.", err)
}

// goNames takes the names of embedded structs out of a field's path: a client knows the JSON names only.
var goNames = strings.NewReplacer("common.", "", "Sampling.", "")

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint32:
		return "a whole number"
	default:
		return "a number"
	}
}

// Marshal is json.Marshal without HTML escapes, so that code in an answer stays readable, and without a final newline.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// JSON answers with v. Unlike echo's own it encodes before it writes, so a value that cannot be encoded is still an error.
func JSON(c echo.Context, status int, v any) error {
	b, err := Marshal(v)
	if err != nil {
		return err
	}
	return c.Blob(status, echo.MIMEApplicationJSON, b)
}

// IsNull reports whether raw is absent or null, which mean the same in both APIs.
func IsNull(raw json.RawMessage) bool {
	raw = bytes.TrimSpace(raw)
	return len(raw) == 0 || string(raw) == "null"
}

// IsObject reports whether raw, which is valid JSON, is an object.
func IsObject(raw json.RawMessage) bool {
	return bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{"))
}

// Strings is a JSON string, an array of strings, or null.
type Strings []string

func (s *Strings) UnmarshalJSON(b []byte) error {
	if IsNull(b) {
		return nil
	}
	var one string
	if json.Unmarshal(b, &one) == nil {
		*s = Strings{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(s))
}

// MaxStops is how many stop strings a request may have.
const MaxStops = 64

// Stops returns the stop strings that are not empty.
func (s Strings) Stops() ([]string, error) {
	if len(s) > MaxStops {
		return nil, Invalid("stop", "\"stop\" has %d strings; at most %d are allowed.", len(s), MaxStops)
	}
	var stops []string
	for _, stop := range s {
		if stop != "" {
			stops = append(stops, stop)
		}
	}
	return stops, nil
}
