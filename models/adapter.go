package models

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/centram/centram"
)

// Adapter is a LoRA adapter of one model of the library. Together they are called Base:Name.
type Adapter struct {
	Base       string // the model's name
	Name       string
	Path       string
	Title      string // what the file calls itself
	SizeBytes  int64
	Digest     string // SHA-256 in hex of the file
	Rank       int    // the largest
	Alpha      float64
	Matrices   int // of the model that it changes
	Parameters uint64
	About      json.RawMessage // an object: how it came to be, as whoever added it says
	AddedAt    time.Time
	State      State
	Err        error // why State is not Ready

	file      file
	baseFiles []file
}

// AdapterDraft is an adapter to be added.
type AdapterDraft struct {
	Path string // of its file, which stays where it is
	Base string // the model's name
	Name string // empty means one after the file
	// About is a JSON object of at most 16 KiB, for people who ask how the adapter came to be. Empty means that nothing is
	// said.
	About json.RawMessage
}

const maxAbout = 16 << 10

// Adapters returns the adapters of the model of that name, or of all models if it is empty, as their files are now.
func (l *Library) Adapters(ctx context.Context, base string) ([]Adapter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	base = canonical(base)
	list, err := l.adaptersOf(ctx, base)
	if err != nil {
		return nil, err
	}
	if base != "" && len(list) == 0 {
		if _, err := l.get(ctx, base); err != nil {
			return nil, err
		}
	}
	for i := range list {
		if err := l.refreshOf(ctx, &list[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Adapter returns an adapter of a model, whatever its state. It fails with centram.NotFound.
func (l *Library) Adapter(ctx context.Context, base, name string) (Adapter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.adapterNamed(ctx, base, name)
}

// AddAdapter adds an adapter whose file lies wherever its owner wants it. Adding it again returns it, with what is said
// about it now. It fails with centram.NotFound if there is no such model or file, centram.Conflict if the name is taken, and
// centram.Invalid or centram.Unsupported if the file is no adapter of this model.
func (l *Library) AddAdapter(ctx context.Context, d AdapterDraft) (Adapter, error) {
	if err := d.check(); err != nil {
		return Adapter{}, err
	}
	path, err := filepath.Abs(d.Path)
	if err != nil {
		return Adapter{}, fmt.Errorf("find the file: %w", err)
	}
	if _, err := filesOf(path); err != nil {
		return Adapter{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	base, err := l.get(ctx, d.Base)
	if err == nil {
		err = base.Err
	}
	if err != nil {
		return Adapter{}, err
	}
	a, err := l.inspectAdapter(ctx, path, base)
	if err != nil {
		return Adapter{}, err
	}
	a.Name, a.About = strings.ToLower(d.Name), d.About
	return l.putAdapter(ctx, a)
}

// CheckAdapterName says whether an adapter may be called so, in whatever case.
func CheckAdapterName(name string) error {
	if fitAdapterName(strings.ToLower(name)) {
		return nil
	}
	err := centram.Errorf(centram.Invalid, "%q cannot be the name of an adapter.", name).
		WithHint("Use letters without accents, digits, dots, dashes and underscores, at most %d, and not the word latest.", maxAdapterName)
	err.Details = map[string]any{"param": "name"}
	return err
}

func (d AdapterDraft) check() error {
	if d.Name != "" {
		if err := CheckAdapterName(d.Name); err != nil {
			return err
		}
	}
	about := bytes.TrimSpace(d.About)
	if len(about) > 0 && (len(about) > maxAbout || about[0] != '{' || !json.Valid(about)) {
		err := centram.Errorf(centram.Invalid, "What is said about the adapter has to be a JSON object of at most %d KiB.", maxAbout>>10)
		err.Details = map[string]any{"param": "about"}
		return err
	}
	return nil
}

// RemoveAdapter removes an adapter from the list, and with file also from the disk, which is for files in the folder of
// adapters only: others are centram.Forbidden. It fails with centram.NotFound. Answers that have begun go on with it.
func (l *Library) RemoveAdapter(ctx context.Context, base, name string, file bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, err := l.adapterNamed(ctx, base, name)
	if err != nil {
		return err
	}
	if file {
		if err := l.removeAdapterFile(a); err != nil {
			return err
		}
	}
	if err := l.deleteAdapter(ctx, a); err != nil {
		return fmt.Errorf("remove the adapter %s: %w", a.Called(), err)
	}
	l.Changed(Change{a.Called(), Deleted})
	return nil
}

// AdapterPath is where an adapter lies that Centram makes itself. Its folder may have to be made. It fails with
// centram.Invalid if a name cannot be one.
func (l *Library) AdapterPath(base, name string) (string, error) {
	base, name = canonical(base), strings.ToLower(name)
	if err := CheckName(base); err != nil {
		return "", err
	}
	if err := CheckAdapterName(name); err != nil {
		return "", err
	}
	folder := strings.ReplaceAll(base, ":", "+") // not every disk takes colons, and no name has a plus
	return filepath.Join(l.AdapterDir, folder, name+".gguf"), nil
}

// Called is the name that the model has with this adapter.
func (a Adapter) Called() string { return a.Base + ":" + a.Name }

// adapterNamed finds an adapter by what a person calls it. It wants mu held, as all below it do.
func (l *Library) adapterNamed(ctx context.Context, base, name string) (Adapter, error) {
	m, err := l.get(ctx, base)
	if centram.CodeOf(err) == centram.NotFound {
		a, rowErr := l.adapterBy(ctx, canonical(base), strings.ToLower(name))
		if rowErr != nil {
			return Adapter{}, err
		}
		return a, l.refreshAdapter(ctx, &a, nil)
	}
	if err != nil {
		return Adapter{}, err
	}
	return l.adapter(ctx, &m, m.Name, strings.ToLower(name))
}

// adapter returns the adapter of a model, or of the name that a model had if m is nil.
func (l *Library) adapter(ctx context.Context, m *Model, base, name string) (Adapter, error) {
	a, err := l.adapterBy(ctx, base, name)
	if errors.Is(err, sql.ErrNoRows) {
		return Adapter{}, atModel(centram.Errorf(centram.NotFound, "The model %s has no adapter %q.", base, name).
			WithHint("%s", l.whichAdapters(ctx, base)))
	}
	if err != nil {
		return Adapter{}, fmt.Errorf("look up the adapter: %w", err)
	}
	return a, l.refreshAdapter(ctx, &a, m)
}
