package gguf

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/centram/centram"
)

// MaxParts bounds into how many files a model may be split.
const MaxParts = 512

// Model is a checked model, in one file or in the parts of a split one.
type Model struct {
	Parts   []*File // in order; the metadata of the first is the model's
	Summary Summary
	Tensors []Tensor // of all parts

	part   map[string]*File // where a tensor is
	byName map[string]Tensor
}

// OpenModel opens the model that the file at path is, or is a part of, and checks it as CheckModel does. Every part of
// a split model must lie beside it.
func OpenModel(path string) (*Model, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	split, ok, err := f.Split()
	if err != nil {
		f.Close()
		return nil, err
	}
	if !ok || split.Count == 1 {
		return newModel([]*File{f})
	}
	f.Close()
	var parts []*File
	for i, name := range split.Files {
		part, err := openPart(filepath.Join(filepath.Dir(path), name), i, split.Count)
		if err != nil {
			(&Model{Parts: parts}).Close()
			return nil, err
		}
		parts = append(parts, part)
	}
	return newModel(parts)
}

// Path is the file to hand to llama.cpp, which finds further parts by itself.
func (m *Model) Path() string { return m.Parts[0].Name }

// Tensor returns the tensor of that name.
func (m *Model) Tensor(name string) (Tensor, bool) {
	t, ok := m.byName[name]
	return t, ok
}

// Data reads the data of t, which must be one of m's tensors.
func (m *Model) Data(t Tensor) *io.SectionReader {
	f, ok := m.part[t.Name]
	if !ok {
		panic("gguf: Data of a tensor of another model: " + t.Name)
	}
	return f.Data(t)
}

// Hash is the SHA-256 of the data of t, which must be one of m's tensors.
func (m *Model) Hash(t Tensor) ([32]byte, error) { return hashData(t, m.Data(t)) }

// Close closes all parts. It may be called again, to no effect.
func (m *Model) Close() error {
	var first error
	for _, f := range m.Parts {
		if err := f.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// newModel takes over the parts, and closes them if they do not make a model.
func newModel(parts []*File) (*Model, error) {
	m := &Model{Parts: parts, part: map[string]*File{}, byName: map[string]Tensor{}}
	if err := m.join(); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (m *Model) join() error {
	var size int64
	for _, f := range m.Parts {
		size += f.Size
		for _, t := range f.Tensors {
			if other, twice := m.part[t.Name]; twice {
				return unusable(f, "its tensor %s is also in %s", t.Name, other.Name)
			}
			m.part[t.Name], m.byName[t.Name] = f, t
			m.Tensors = append(m.Tensors, t)
		}
	}
	if len(m.Parts) > 1 {
		n, ok := Get[int32](m.Parts[0], "split.tensors.count")
		if !ok || int(n) != len(m.Tensors) {
			return unusable(m.Parts[0], "its parts hold %d tensors, but split.tensors.count says %d", len(m.Tensors), n)
		}
	}
	sum, err := check(m.Parts[0], m.Tensors, size)
	m.Summary = sum
	return err
}

// Split is the place of a file in a split model.
type Split struct {
	No    int      // counted from 0
	Count int      // of parts
	Files []string // the names of all parts, in order, without directory
}

// Split says whether f is a part of a split model, and which. It fails if f says so in a way that llama.cpp would abort
// on, or if its name is not that of a part.
func (f *File) Split() (split Split, ok bool, err error) {
	if _, ok := f.Value("split.count"); !ok {
		return Split{}, false, nil
	}
	count, ok := Get[uint16](f, "split.count")
	if !ok {
		return Split{}, false, unusable(f, "its key split.count is not a u16")
	}
	if count <= 1 {
		return Split{Count: 1, Files: []string{filepath.Base(f.Name)}}, true, nil
	}
	no, ok := Get[uint16](f, "split.no")
	if !ok {
		return Split{}, false, unusable(f, "its key split.no is missing or not a u16")
	}
	if count > MaxParts || no >= count {
		return Split{}, false, unusable(f, "it says it is part %d of %d", int(no)+1, count)
	}
	base := filepath.Base(f.Name)
	m := partName.FindStringSubmatch(base)
	if m == nil {
		return Split{}, false, unusable(f, "it is part %d of %d but is not named like one", no+1, count).
			WithHint("Give it back its name, which ended in -%05d-of-%05d.gguf.", no+1, count)
	}
	nameNo, _ := strconv.Atoi(m[2])
	nameCount, _ := strconv.Atoi(m[3])
	if nameNo != int(no)+1 || nameCount != int(count) {
		return Split{}, false, unusable(f, "it is named part %d of %d but says it is part %d of %d",
			nameNo, nameCount, no+1, count)
	}
	split = Split{No: int(no), Count: int(count)}
	for i := range int(count) {
		split.Files = append(split.Files, fmt.Sprintf("%s-%05d-of-%05d.gguf", m[1], i+1, count))
	}
	return split, true, nil
}

var partName = regexp.MustCompile(`^(.+)-(\d{5})-of-(\d{5})\.gguf$`)

func openPart(path string, no, count int) (*File, error) {
	f, err := Open(path)
	if err != nil {
		if _, statErr := os.Stat(path); centram.CodeOf(err) == centram.NotFound && statErr != nil {
			return nil, centram.Errorf(centram.NotFound, "%s, part %d of %d of the model, is missing", path, no+1, count).
				WithHint("Download it into the same directory.")
		}
		return nil, err
	}
	split, ok, err := f.Split()
	if err == nil && (!ok || split.No != no || split.Count != count) {
		err = unusable(f, "it is not part %d of %d of the model", no+1, count)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
