package convert

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/hf"
)

// The files of a folder.
const (
	configFile     = "config.json"
	weightsFile    = "model.safetensors"
	indexFile      = "model.safetensors.index.json"
	tokenizerFile  = "tokenizer.json"
	piecesFile     = "tokenizer.model"
	tokensFile     = "tokenizer_config.json"
	addedFile      = "added_tokens.json"
	templateFile   = "chat_template.jinja"
	templateJSON   = "chat_template.json"
	generationFile = "generation_config.json"
	cardFile       = "README.md"
)

// How large they may be. The largest tokenizers in use have some 35 MB.
const (
	maxSettings  = 4 << 20
	maxTokenizer = 64 << 20
)

// folder is a folder that is read from. No name and no link leads out of its root.
type folder struct {
	dir  string // as it was named
	root *os.Root
	sub  string // of the model, below root
	held []*os.File
}

// openFolder opens the folder of a model. In Hugging Face's cache its files are links into a folder beside it, so there the
// root is what both are in.
func openFolder(dir string) (*folder, error) {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, centram.Errorf(centram.NotFound, "there is no folder %s", dir)
	}
	if err != nil {
		return nil, reading(dir, err)
	}
	if !info.IsDir() {
		return nil, bad("%s is not a folder", dir).WithHint("Name the folder that %s is in.", configFile)
	}
	f := &folder{dir: dir, sub: "."}
	top := dir
	if whole, err := filepath.Abs(dir); err == nil {
		if repo, ok := cached(whole); ok {
			top = repo
			f.sub, _ = filepath.Rel(repo, whole)
		}
	}
	if f.root, err = os.OpenRoot(top); err != nil {
		return nil, reading(dir, err)
	}
	return f, nil
}

// cached returns the folder of a model in Hugging Face's cache, models--NAME, if dir is one of its snapshots.
func cached(dir string) (string, bool) {
	snapshots := filepath.Dir(dir)
	repo := filepath.Dir(snapshots)
	return repo, filepath.Base(snapshots) == "snapshots" && strings.HasPrefix(filepath.Base(repo), "models--")
}

// cachedName cuts the model's name out of models--owner--name.
func cachedName(base string) (string, bool) {
	i := strings.LastIndex(base, "--")
	return base[i+2:], i >= 0 && base[i+2:] != ""
}

func (f *folder) close() {
	for _, file := range f.held {
		file.Close()
	}
	f.root.Close()
}

// path is what an error calls a file.
func (f *folder) path(name string) string { return filepath.Join(f.dir, name) }

// has reports whether a file is there, be it one that can be read or not.
func (f *folder) has(name string) bool {
	_, err := f.root.Stat(filepath.Join(f.sub, name))
	return !errors.Is(err, fs.ErrNotExist)
}

// open opens a regular file. The error is fs.ErrNotExist if it is not there.
func (f *folder) open(name string) (*os.File, int64, error) {
	inside := filepath.Join(f.sub, name)
	info, err := f.root.Stat(inside)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fs.ErrNotExist
	}
	if err != nil {
		return nil, 0, bad("%s cannot be read: %w", f.path(name), err).
			WithHint("Its files have to lie in the folder itself, and be yours to read.")
	}
	if !info.Mode().IsRegular() {
		return nil, 0, bad("%s is not a regular file", f.path(name))
	}
	file, err := f.root.Open(inside)
	if err != nil {
		return nil, 0, reading(f.path(name), err)
	}
	return file, info.Size(), nil
}

// read reads a whole file of at most limit bytes. The error is fs.ErrNotExist if it is not there.
func (f *folder) read(name string, limit int64) ([]byte, error) {
	file, _, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, reading(f.path(name), err)
	}
	if int64(len(b)) > limit {
		return nil, bad("%s is longer than %d bytes", f.path(name), limit)
	}
	return b, nil
}

// object reads a JSON file.
func (f *folder) object(name string, limit int64) (*fields, error) {
	b, err := f.read(name, limit)
	if err != nil {
		return nil, err
	}
	raw, err := hf.Object(b)
	if err != nil {
		return nil, bad("%s %w", f.path(name), err)
	}
	return newFields(f.path(name), raw), nil
}

// optional reads a JSON file that need not be there, and then has no fields.
func (f *folder) optional(name string, limit int64) (*fields, error) {
	out, err := f.object(name, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return newFields(f.path(name), nil), nil
	}
	return out, err
}
