// Package models knows the models that this node can run, and LoRA adapters of them: plain GGUF files, wherever they lie.
// Importing one does not copy it, and a model that is dropped into the models folder appears by itself.
//
// A Library may be used from many goroutines.
package models

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/store"
)

// Model is one entry of the library.
type Model struct {
	Name            string
	Base            string // its own name, if Name has adapters behind it; see Use
	Adapters        []Use  // of Name
	Path            string // of the file, or of the first part of a split model
	SizeBytes       int64  // of all parts
	Architecture    string
	Parameters      uint64
	Layers          int
	Embedding       int
	Context         int // tokens it was trained for
	Quantization    string
	ChatTemplate    bool
	Template        string // Jinja source of the chat template
	License         string
	KVBytesPerToken int64
	Digest          string // SHA-256 in hex of the file; empty while it is not known
	ImportedAt      time.Time
	State           State
	Err             error // why State is not Ready
	BuiltIn         bool  // it came with the program

	files []file
}

// State says whether a model can be loaded.
type State string

const (
	Ready   State = "ready"
	Missing State = "missing" // the file is gone, for now
	Failed  State = "failed"  // the file is no model that can be run here
)

// Change tells a listener that the list has changed.
type Change struct {
	Name string
	Kind ChangeKind
}

// ChangeKind is one of the words below.
type ChangeKind string

const (
	Imported ChangeKind = "imported"
	Deleted  ChangeKind = "deleted"
)

// Config says what a Library works with.
type Config struct {
	DB *sql.DB // of package store
	// Dir is the models folder, whose files are listed without being imported. It is made if it does not exist. Empty
	// means that there is none.
	Dir string
	// BuiltIn are models that come with the program, and BuiltInDir is where they are written to.
	BuiltIn    []BuiltIn
	BuiltInDir string
	// AdapterDir is the folder of the adapters that Centram makes itself. Empty means that there is none.
	AdapterDir string
	// Known is what files of the catalogue are called when they appear, by their file name.
	Known map[string]string
	// Check looks whether a file is a model that can be run. Nil means CheckFile.
	Check func(path string) (Checked, error)
	// Changed is told of models and adapters that come and go, of the latter as base:name. It must not call the Library. Nil means that nobody is told.
	Changed func(Change)
	// Now dates imports. Nil means time.Now.
	Now func() time.Time
}

// Library is the list of models.
type Library struct {
	Config
	unhashed chan struct{} // has a value when a model without digest may be there

	mu sync.Mutex // held while files are compared with the list, so that each is checked once
}

// New returns the Library of a database, after a first look into the models folder.
func New(ctx context.Context, cfg Config) (*Library, error) {
	if cfg.Check == nil {
		cfg.Check = CheckFile
	}
	if cfg.Changed == nil {
		cfg.Changed = func(Change) {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	l := &Library{Config: cfg, unhashed: make(chan struct{}, 1)}
	if err := l.makeDir(); err != nil {
		return nil, err
	}
	if err := l.unpack(ctx); err != nil {
		return nil, err
	}
	if _, err := l.List(ctx); err != nil {
		return nil, err
	}
	l.wakeHasher()
	return l, nil
}

func (l *Library) makeDir() (err error) {
	if l.AdapterDir != "" {
		if l.AdapterDir, err = filepath.Abs(l.AdapterDir); err != nil {
			return fmt.Errorf("find the folder of adapters: %w", err)
		}
	}
	if l.Dir == "" {
		return nil
	}
	if l.Dir, err = filepath.Abs(l.Dir); err != nil {
		return fmt.Errorf("find the models folder: %w", err)
	}
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return centram.Errorf(centram.Forbidden, "The models folder %s cannot be made: %w", l.Dir, err).
			WithHint("Choose another one with: centram config set models PATH")
	}
	return nil
}

// List returns all models by name, as their files are now.
func (l *Library) List(ctx context.Context) ([]Model, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.goOn(ctx, l.scan(ctx)); err != nil {
		return nil, err
	}
	list, err := allModels(ctx, l.DB)
	if err != nil {
		return nil, fmt.Errorf("list the models: %w", err)
	}
	for i := range list {
		if err := l.refresh(ctx, &list[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// goOn drops an error of a list that cannot be written, as on a full disk: what is known can be read all the same.
func (l *Library) goOn(ctx context.Context, err error) error {
	if store.Unwritable(err) == nil {
		return err
	}
	slog.WarnContext(ctx, "The list of models is not saved", "err", err)
	return nil
}

// Choices returns all that a request may name: the models, and behind each what it is with each of its adapters.
func (l *Library) Choices(ctx context.Context) ([]Model, error) {
	list, err := l.List(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []Model{}
	for _, m := range list {
		out = append(out, m)
		adapters, err := l.adaptersOf(ctx, m.Name)
		if err != nil {
			return nil, err
		}
		for _, a := range adapters {
			with, err := l.with(ctx, m, []Use{{Name: a.Name, Scale: 1}})
			if err != nil {
				return nil, err
			}
			out = append(out, with)
		}
	}
	return out, nil
}

// Get returns the model of that name, perhaps with adapters, whatever its state. Case does not matter, nor does ":latest"
// at the end. It fails with centram.NotFound, and with centram.Invalid if what it says of adapters makes no sense.
func (l *Library) Get(ctx context.Context, name string) (Model, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.called(ctx, name)
}

// get finds a model by its own name. It wants mu held.
func (l *Library) get(ctx context.Context, name string) (Model, error) {
	m, err := modelBy(ctx, l.DB, "name", canonical(name))
	if errors.Is(err, sql.ErrNoRows) {
		return Model{}, noModel(name)
	}
	if err != nil {
		return Model{}, fmt.Errorf("look up the model: %w", err)
	}
	err = l.refresh(ctx, &m)
	return m, err
}

// Resolve returns a model that is ready to be loaded. It takes names of the list only: who may ask for an answer may not
// therefore have any file of this disk opened. It fails with centram.NotFound if there is no such model or its file is
// gone, and with the reason if the file cannot be run.
func (l *Library) Resolve(ctx context.Context, name string) (Model, error) {
	m, err := l.Get(ctx, name)
	if err == nil {
		err = m.Err
	}
	return m, err
}

// Only returns the name of the model that is ready to be loaded, if there is just one. One that came with the program counts
// only if there is no other. It fails with centram.NotFound if there is none, and with centram.Invalid if there are several.
func (l *Library) Only(ctx context.Context) (string, error) {
	list, err := l.List(ctx)
	if err != nil {
		return "", err
	}
	var ready, builtIn []string
	for _, m := range list {
		switch {
		case m.State != Ready:
		case m.BuiltIn:
			builtIn = append(builtIn, m.Name)
		default:
			ready = append(ready, m.Name)
		}
	}
	if len(ready) == 0 {
		ready = builtIn
	}
	switch len(ready) {
	case 0:
		return "", centram.Errorf(centram.NotFound, "There is no model yet.").
			WithHint("Add one with: centram model import FILE.gguf")
	case 1:
		return ready[0], nil
	}
	return "", centram.Errorf(centram.Invalid, "There are %d models, and none is chosen.", len(ready)).
		WithHint("Name one, or choose a default one with: centram config set model %s", ready[0])
}

// Import adds the model in the file at path, which stays where it is; any part stands for all of a split model. Without
// a name it gets one after its file. Importing a model again returns it. It fails with centram.NotFound if there is no
// such file, centram.Conflict if the name is taken or the model has another one, and centram.Invalid or
// centram.Unsupported if it cannot be run.
func (l *Library) Import(ctx context.Context, path, name string) (Model, error) {
	if err := CheckName(name); err != nil {
		return Model{}, err
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return Model{}, fmt.Errorf("find the file: %w", err)
	}
	if err := convertible(path); err != nil {
		return Model{}, err
	}
	files, err := filesOf(path)
	if err != nil {
		return Model{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	m, err := l.inspect(files)
	if err != nil {
		return Model{}, err
	}
	return l.add(ctx, m, canonical(name))
}

// Delete removes a model from the list, and with file also from the disk, which is for files in the models folder only:
// others are centram.Forbidden. Its adapters stay in the list, unusable. It fails with centram.NotFound,
// and with centram.Invalid for a name with adapters.
func (l *Library) Delete(ctx context.Context, name string, file bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	m, err := l.called(ctx, name)
	if err != nil {
		return err
	}
	if m.Base != "" {
		return centram.Errorf(centram.Invalid, "%s is the model %s with adapters.", m.Name, m.Base).
			WithHint("Remove an adapter with: centram lora remove %s:%s", m.Base, m.Adapters[0].Name)
	}
	if file {
		if err := l.removeFiles(m); err != nil {
			return err
		}
	}
	// A file that stays in the folder must not come back with the next scan, nor what comes with the program with its next start.
	if err := deleteModel(ctx, l.DB, m, m.BuiltIn || !file && within(l.Dir, m.Path)); err != nil {
		return fmt.Errorf("delete %s: %w", m.Name, err)
	}
	l.Changed(Change{m.Name, Deleted})
	return nil
}

func noModel(name string) error {
	return atModel(centram.Errorf(centram.NotFound, "There is no model %q.", name).
		WithHint("See which there are with: centram model list"))
}
