package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/centram/centram"
	"github.com/centram/centram/atomicfile"
)

// readFile takes over what the file says. That there is none is no error.
func (c *Config) readFile(path string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return centram.Errorf(centram.Invalid, "The settings in %s cannot be read: %w", path, err).
			WithHint("Make the file readable, or move it away.")
	}
	return c.readTOML(path, b)
}

func (c *Config) readTOML(path string, b []byte) error {
	values, err := decode(path, b)
	if err != nil {
		return err
	}
	// In the file's order, so that the first mistake is told first.
	names := slices.SortedFunc(maps.Keys(values), func(a, b2 string) int { return lineOf(b, a) - lineOf(b, b2) })
	for _, name := range names {
		where := fmt.Sprintf("%s:%d", path, lineOf(b, name))
		k, err := Lookup(name)
		if err != nil {
			return centram.Errorf(centram.Invalid, "%s: there is no setting %q.", where, name).WithHint("%s", meant(name))
		}
		if err := k.setTOML(c, values[name]); err != nil {
			return centram.Errorf(centram.Invalid, "%s: %s: %w.", where, name, err).
				WithHint("Correct it with: centram config set %s VALUE", name)
		}
		c.origins[name] = Origin{File, where}
	}
	return nil
}

func decode(path string, b []byte) (map[string]any, error) {
	var values map[string]any
	err := toml.Unmarshal(b, &values)
	if at, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, column := at.Position()
		return nil, centram.Errorf(centram.Invalid, "%s:%d:%d is not TOML: %w", path, row, column, err).
			WithHint("A line looks like: listen = \"127.0.0.1:9740\"")
	}
	if err != nil {
		return nil, centram.Errorf(centram.Invalid, "%s is not TOML: %w", path, err)
	}
	return values, nil
}

// setTOML sets the key to a value of the file. Its type must be right: a number is not written as a text.
func (k Key) setTOML(c *Config, v any) error {
	number := k.kind.name == count.name || k.kind.name == layers.name
	switch v := v.(type) {
	case string:
		if number || k.kind.name == list.name {
			return fmt.Errorf("the text %q is not %s", v, k.kind.tomlName())
		}
		return k.set(c, v)
	case int64:
		if !number && k.kind.name != size.name {
			return fmt.Errorf("the number %d is not %s", v, k.kind.tomlName())
		}
		return k.set(c, strconv.FormatInt(v, 10))
	case []any:
		texts := make([]string, len(v))
		for i, item := range v {
			text, ok := item.(string)
			if !ok || k.kind.name != list.name || strings.Contains(text, ",") {
				return fmt.Errorf("%v is not %s", v, k.kind.tomlName())
			}
			texts[i] = text
		}
		return k.set(c, strings.Join(texts, ","))
	}
	return fmt.Errorf("%v is not %s", v, k.kind.tomlName())
}

func (k kind) tomlName() string {
	if k.name == list.name {
		return "a list of texts such as [\"a\", \"b\"]"
	}
	return k.name
}

// toml writes the value of key for the file.
func (k Key) toml(c *Config) (string, error) {
	var v any
	switch field := k.field(c).(type) {
	case *int:
		v = *field
	case *[]string:
		v = *field
	default:
		v = k.get(c)
	}
	b, err := toml.Marshal(map[string]any{k.Name: v})
	return strings.TrimSpace(string(b)), err
}

// lineOf is the line on which a key of the file is set, counted from 1, or 0 if that cannot be told.
func lineOf(b []byte, key string) int {
	at := linePattern(key).FindIndex(b)
	if at == nil {
		return 0
	}
	return bytes.Count(b[:at[0]], []byte("\n")) + 1
}

// linePattern matches the line that sets key, or begins a table of that name. The second group is a comment after a
// simple value.
func linePattern(key string) *regexp.Regexp {
	name := regexp.QuoteMeta(key)
	return regexp.MustCompile(`(?m)^[ \t]*(?:"?` + name + `"?[ \t]*=|"?` + name + `"?\.|\[+"?` + name + `\b)([^#\n]*)(#[^\n]*)?`)
}

// WriteKey sets a key in the file, which is made if there is none, and leaves comments and order alone. It fails with
// centram.NotFound for an unknown key and centram.Invalid for a value that cannot be.
func WriteKey(path, name, value string) error {
	k, err := Lookup(name)
	if err != nil {
		return err
	}
	var c Config
	if err := k.set(&c, value); err != nil {
		return centram.Errorf(centram.Invalid, "%s: %w.", name, err).WithHint("What it means: %s.", k.Help)
	}
	line, err := k.toml(&c)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if _, err := decode(path, old); err != nil {
		return err
	}
	text := replaceLine(string(old), name, line)
	check := &Config{origins: map[string]Origin{}}
	if err := check.readTOML(path, []byte(text)); err != nil {
		return err
	}
	if k.get(check) != k.get(&c) {
		return centram.Errorf(centram.Conflict, "%s sets %s in a way that only a person can change.", path, name).
			WithHint("Edit the file: %s", line)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the directory of the settings: %w", err)
	}
	if err := atomicfile.Write(path, 0o600, []byte(text)); err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	return nil
}

// replaceLine puts line where text sets the key, or at the end.
func replaceLine(text, key, line string) string {
	at := linePattern(key).FindStringSubmatchIndex(text)
	if at == nil {
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		return text + line + "\n"
	}
	if at[4] >= 0 && !strings.ContainsAny(text[at[2]:at[3]], `"'`) || at[4] >= 0 && strings.Count(text[at[2]:at[3]], `"`) == 2 {
		line += " " + text[at[4]:at[5]] // the comment stays
	}
	end := at[1]
	if newline := strings.IndexByte(text[at[0]:], '\n'); newline >= 0 {
		end = at[0] + newline
	} else {
		end = max(end, len(text))
	}
	return text[:at[0]] + line + text[end:]
}
