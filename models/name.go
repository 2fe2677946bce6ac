package models

import (
	"path/filepath"
	"regexp"
	"strings"

	"github.com/centram/centram"
)

const maxName = 128

// latest is what clients of Ollama put behind a name without a tag.
const latest = "latest"

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*(:[a-z0-9][a-z0-9._-]*)?$`)

// canonical is the spelling under which a name is kept.
func canonical(name string) string {
	return strings.TrimSuffix(strings.ToLower(name), ":"+latest)
}

// CheckName checks a name that somebody chose. Empty is all right: one will be made.
func CheckName(name string) error {
	if name == "" || len(name) <= maxName && validName.MatchString(name) {
		return nil
	}
	err := centram.Errorf(centram.Invalid, "%q cannot be the name of a model.", name).
		WithHint("Use lower-case letters, digits, dots, dashes and underscores, and if you like a :tag at the end.")
	err.Details = map[string]any{"param": "name"}
	return err
}

// FileFor is what the file of a model of that name is called in the models folder. It fails with Invalid if no model can be
// called so.
func FileFor(name string) (string, error) {
	if name == "" {
		name = "model"
	}
	if err := CheckName(name); err != nil {
		return "", err
	}
	return strings.ReplaceAll(canonical(name), ":", "-") + ".gguf", nil
}

// NameAfter makes a name of a model after what others call it.
func NameAfter(title string) string {
	if name := slug(title); name != "" {
		return name
	}
	return "model"
}

const maxAdapterName = 64

var validAdapterName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)

// fitAdapterName reports whether an adapter may be called so.
func fitAdapterName(name string) bool {
	return len(name) <= maxAdapterName && name != latest && validAdapterName.MatchString(name)
}

// nameFor is the name that a file is known by, or one that is made for it.
func (l *Library) nameFor(path, title string) string {
	if name := l.Known[filepath.Base(path)]; name != "" {
		return name
	}
	return NameFor(path, title)
}

// NameFor makes a name after the file, or if that says nothing after what the model calls itself.
func NameFor(path, title string) string {
	base := filepath.Base(path)
	if m := partName.FindStringSubmatch(base); m != nil {
		base = m[1]
	}
	name := slug(strings.TrimSuffix(base, filepath.Ext(base)))
	if generic[name] && slug(title) != "" {
		name = slug(title)
	}
	return NameAfter(name)
}

// generic file names are given by converters.
var generic = map[string]bool{
	"": true, "model": true, "ggml-model": true, "ggml-model-f16": true, "ggml-model-q4_0": true, "ggml-model-q8_0": true,
}

var unfit = regexp.MustCompile(`[^a-z0-9._-]+`)

func slug(text string) string {
	text = strings.Trim(unfit.ReplaceAllString(strings.ToLower(text), "-"), "-._")
	return strings.TrimRight(text[:min(len(text), maxName-8)], "-._")
}
