package convert

import (
	"encoding/json"
	"strings"

	"github.com/centram/centram/hf"
)

// fields are those of a JSON object. The first that is not as it should be, in it or in what is in it, is the error, and later
// ones do nothing.
type fields struct {
	file  string // and which object of it
	raw   map[string]json.RawMessage
	first *error // shared with the objects in it
}

func newFields(file string, raw map[string]json.RawMessage) *fields {
	return &fields{file: file, raw: raw, first: new(error)}
}

func (f *fields) err() error { return *f.first }

// has reports whether a field is there, and is not null.
func (f *fields) has(key string) bool {
	v, ok := f.raw[key]
	return ok && string(v) != "null"
}

// fail keeps an error, if it is the first.
func (f *fields) fail(err error) {
	if *f.first == nil {
		*f.first = err
	}
}

// inside is an object in a field.
func (f *fields) inside(key string, raw map[string]json.RawMessage) *fields {
	return &fields{file: f.file + ", " + key, raw: raw, first: f.first}
}

// object returns the object in a field, which has no fields if it is not there.
func (f *fields) object(key string) *fields {
	if !f.has(key) {
		return f.inside(key, nil)
	}
	raw, err := hf.Object(f.raw[key])
	if err != nil {
		f.fail(bad("%s: its %s %w", f.file, key, err))
	}
	return f.inside(key, raw)
}

// list returns the objects in a field.
func (f *fields) list(key string) []*fields {
	var out []*fields
	for _, raw := range get[[]json.RawMessage](f, key, nil) {
		object, err := hf.Object(raw)
		if err != nil {
			f.fail(bad("%s: an entry of its %s %w", f.file, key, err))
			return nil
		}
		out = append(out, f.inside(key, object))
	}
	return out
}

// get reads a field, or otherwise if it is not there.
func get[T any](f *fields, key string, otherwise T) T {
	if !f.has(key) {
		return otherwise
	}
	var v T
	if err := json.Unmarshal(f.raw[key], &v); err != nil {
		f.fail(bad("%s: its %s is %.50s, not %s", f.file, key, f.raw[key], kind(v)))
		return otherwise
	}
	return v
}

// kind is what a person calls a type of Go.
func kind(v any) string {
	switch v.(type) {
	case int:
		return "a whole number"
	case float64:
		return "a number"
	case bool:
		return "true or false"
	case string:
		return "a text"
	}
	return "a list"
}

// among reports whether a field is not there, or is one of the values, as JSON writes them without spaces.
func (f *fields) among(key string, values ...string) bool {
	if !f.has(key) {
		return true
	}
	said := strings.Join(strings.Fields(string(f.raw[key])), "")
	for _, v := range values {
		if v == said {
			return true
		}
	}
	return false
}
