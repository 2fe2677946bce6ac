package convert

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// hidden is a file that is nowhere to be seen until it appears. Where the system can, it has no name until then, so that
// nothing of it is left even if the program is killed; elsewhere it has one that begins with a dot.
type hidden struct {
	*os.File
	named bool
}

// newHidden makes the file that will be at path.
func newHidden(path string) (*hidden, error) {
	if f, err := nameless(filepath.Dir(path)); err == nil {
		return &hidden{File: f}, nil
	}
	return newNamed(path)
}

func newNamed(path string) (*hidden, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	return &hidden{File: f, named: true}, err
}

// where is a path by which the file can be opened.
func (h *hidden) where() string {
	if h.named {
		return h.Name()
	}
	return proc(h.File)
}

// appear gives the file its place, unless there is one already.
func (h *hidden) appear(path string) error {
	if !h.named {
		return link(h.File, path)
	}
	err := os.Link(h.Name(), path) // Rename would replace what is there
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return os.Rename(h.Name(), path) // the file system has no links
	}
	return err
}

// discard removes the name that the file had until it appeared, or the file, if it has not.
func (h *hidden) discard() {
	h.Close()
	if h.named {
		os.Remove(h.Name())
	}
}
