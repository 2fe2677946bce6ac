package models

import (
	"errors"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
)

// Checked is what a check found out about a model.
type Checked struct {
	gguf.Summary
	Template string // Jinja source of the chat template
}

// CheckFile checks a GGUF file, and the other parts if it is one of a split model. A slice of a model is refused.
func CheckFile(path string) (Checked, error) {
	m, err := gguf.OpenModel(path)
	if err != nil {
		return Checked{}, err
	}
	defer m.Close()
	template, _ := m.Parts[0].String("tokenizer.chat_template")
	return Checked{Summary: m.Summary, Template: template}, m.Summary.Whole()
}

// inspect returns the model in files, without a name. If it cannot be run, it is returned as Failed with the reason.
func (l *Library) inspect(files []file) (Model, error) {
	m := Model{Path: files[0].Path, State: Ready, ImportedAt: l.Now(), files: files}
	for _, f := range files {
		m.SizeBytes += max(0, f.Size)
	}
	checked, err := l.Check(m.Path)
	if err != nil {
		m.State, m.Err = Failed, readable(err, m.Path)
		return m, m.Err
	}
	m.Architecture = checked.Architecture
	m.Parameters = checked.Parameters
	m.Layers = checked.Layers
	m.Embedding = checked.Embedding
	m.Context = checked.Context
	m.Quantization = checked.Quantization
	m.ChatTemplate = checked.ChatTemplate
	m.Template = checked.Template
	m.License = checked.License
	m.KVBytesPerToken = checked.KVBytesPerToken
	m.Name = l.nameFor(m.Path, checked.Name)
	return m, nil
}

// readable makes sure that a person is told why a file was refused.
func readable(err error, path string) error {
	if _, ok := errors.AsType[*centram.Error](err); ok {
		return err
	}
	return centram.Errorf(centram.Invalid, "The file %s cannot be read: %w", path, err)
}
