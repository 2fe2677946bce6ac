package gguf

import "io"

// Draft is a model file that was checked before it is written.
type Draft struct {
	Summary Summary
	Size    int64 // of the file

	header  []byte
	file    *File
	tensors []TensorData
}

// DraftModel lays out a model file. It fails as CheckModel would fail for it; name is what the error is about.
func DraftModel(name string, metadata []KV, tensors []TensorData) (*Draft, error) {
	header, f, err := layout(metadata, tensors)
	if err != nil {
		return nil, err
	}
	f.Name = name
	sum, err := CheckModel(f)
	if err != nil {
		return nil, err
	}
	return &Draft{Summary: sum, Size: f.Size, header: header, file: f, tensors: tensors}, nil
}

// Write writes the file. It may be called once, as each tensor's Write is.
func (d *Draft) Write(w io.Writer) error { return writeTo(w, d.header, d.file, d.tensors) }
