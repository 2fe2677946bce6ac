package hf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// pointer is what a file begins with that stands for another one, which was not downloaded.
const pointer = "version https://git-lfs.github.com"

// Object reads a JSON object in which no key is twice. encoding/json would take the last, another reader the first.
func Object(raw []byte) (map[string]json.RawMessage, error) {
	if bytes.HasPrefix(raw, []byte(pointer)) {
		return nil, errors.New("is a Git LFS pointer, which stands for the real file (git lfs pull fetches it)")
	}
	if !utf8.Valid(raw) {
		return nil, errors.New("is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	open, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	if open != json.Delim('{') {
		return nil, errors.New("is not a JSON object")
	}
	out := map[string]json.RawMessage{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("is not JSON: %w", err)
		}
		name := key.(string) // the decoder accepts nothing else here
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, fmt.Errorf("is not JSON: %w", err)
		}
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("has the key %.100q twice", name)
		}
		out[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("is followed by something else")
	}
	return out, nil
}
