// Package convert makes a GGUF file of a model as Hugging Face keeps it: a folder with config.json, tokenizer.json and
// safetensors files. Models of Qwen2ForCausalLM and LlamaForCausalLM are converted, with weights in F32, F16 or BF16.
//
// What comes out computes what the folder says. The numbers of a matrix stay as they are unless another type is asked for,
// the rows of llama's queries and keys in the order that llama.cpp wants. What cannot be kept is refused, with two exceptions:
// a tokenizer that brings text into a normal form of Unicode is taken over without that, as llama.cpp has no such step, and of
// several chat templates only the default one.
//
// A folder may come from strangers. All that it says is held against what is there, no name in it leads out of it, and
// pickled weights (pytorch_model.bin), which are programs, are never opened. Tensors are copied piece by piece, so memory
// does not grow with the model.
package convert

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
)

// Type is what the matrices are written in. Norms and biases are always in F32, as llama.cpp computes with them so.
type Type string

// The types. A file of F32 is twice as large as the others, and no better than its folder.
const (
	AsSource Type = "" // each matrix as it is in the folder
	F32      Type = "f32"
	F16      Type = "f16"
	BF16     Type = "bf16"
)

// Config says how a folder is converted.
type Config struct {
	Name string // general.name. Zero means NameOf the folder
	Type Type   // Zero means AsSource
	// Progress is told how many bytes of the file are written. Zero means that nobody is told.
	Progress func(done, total int64)
	// Free says how many bytes a folder has room for. Zero means that the file system is asked.
	Free func(folder string) (int64, error)
}

// Folder converts the model in the folder dir to the GGUF file path, which must not exist. There is a file at path only when
// it is whole and passes the checks of gguf.OpenModel. It fails with Conflict if path exists, with NotFound if dir has no
// model, with Invalid for one that is not sound, with Unsupported for one that cannot be kept, and with Unavailable if the
// disk has no room. When ctx ends, it ends with its error.
func Folder(ctx context.Context, dir, path string, cfg Config) (gguf.Summary, error) {
	sum, err := folderTo(ctx, dir, path, cfg)
	return sum, advised(err)
}

func folderTo(ctx context.Context, dir, path string, cfg Config) (gguf.Summary, error) {
	if cfg.Name == "" {
		cfg.Name = NameOf(dir)
	}
	if cfg.Free == nil {
		cfg.Free = freeBytes
	}
	want, err := cfg.Type.matrices()
	if err != nil {
		return gguf.Summary{}, err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return gguf.Summary{}, exists(path)
	}
	src, err := openFolder(dir)
	if err != nil {
		return gguf.Summary{}, err
	}
	defer src.close()
	m, err := readModel(ctx, src, want)
	if err != nil {
		return gguf.Summary{}, err
	}
	draft, err := m.draft(ctx, cfg.Name)
	if err != nil {
		return gguf.Summary{}, err
	}
	if err := enough(filepath.Dir(path), draft.Size, cfg.Free); err != nil {
		return gguf.Summary{}, err
	}
	return write(ctx, draft, path, cfg.Progress)
}

// advised adds a next step to an error that has none.
func advised(err error) error {
	e, ok := errors.AsType[*centram.Error](err)
	if !ok || e.Hint != "" {
		return err
	}
	switch e.Code {
	case centram.Unsupported:
		return e.WithHint("If there is a GGUF file of the model, that is imported as it is.")
	case centram.Invalid:
		return e.WithHint("Download the folder's files again, all of the same version.")
	}
	return err
}

// NameOf is what a model is called after its folder. In Hugging Face's cache that is a number, and the model's name is above.
func NameOf(dir string) string {
	whole, err := filepath.Abs(dir)
	if err != nil {
		return filepath.Base(dir)
	}
	if repo, ok := cached(whole); ok {
		if name, ok := cachedName(filepath.Base(repo)); ok {
			return name
		}
	}
	return filepath.Base(whole)
}

// model is all that a folder says, before it is written.
type model struct {
	config
	vocab   vocabulary
	about   []gguf.KV
	weights weights
	want    *gguf.Type // of matrices; nil for each as it is
	src     *folder
}

func readModel(ctx context.Context, src *folder, want *gguf.Type) (*model, error) {
	c, err := readConfig(src)
	if err != nil {
		return nil, err
	}
	w, err := src.openWeights(ctx)
	if err != nil {
		return nil, err
	}
	m := &model{config: c, weights: w, want: want, src: src}
	if err := m.place(); err != nil { // before the vocabulary is made as large as the weights say
		return nil, err
	}
	if m.vocab, err = readVocabulary(src, c); err != nil {
		return nil, err
	}
	m.about, err = readAbout(src)
	return m, err
}

// matrices is the type that t asks for, or nil.
func (t Type) matrices() (*gguf.Type, error) {
	known := map[Type]gguf.Type{F32: gguf.F32, F16: gguf.F16, BF16: gguf.BF16}
	if typ, ok := known[t]; ok {
		return &typ, nil
	}
	if t != AsSource {
		return nil, unsupported("a model cannot be converted to the type %.20q", string(t)).WithHint("Choose f32, f16 or bf16.")
	}
	return nil, nil
}

func exists(path string) error {
	return centram.Errorf(centram.Conflict, "%s is there already", path).
		WithHint("Remove it, or choose another name.")
}

func bad(format string, args ...any) *centram.Error {
	return centram.Errorf(centram.Invalid, format, args...)
}

func unsupported(format string, args ...any) *centram.Error {
	return centram.Errorf(centram.Unsupported, format, args...)
}

func reading(file string, err error) error { return fmt.Errorf("read %s: %w", file, err) }
