package models

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/atomicfile"
)

// KeepAdapter adds an adapter as AddAdapter does, but a copy of its file that lies where AdapterPath says, so that the file may
// go. A copy that is there already will do: it was made, and not noted, before something ended the program. It fails with
// centram.Conflict if another file is there.
func (l *Library) KeepAdapter(ctx context.Context, d AdapterDraft) (Adapter, error) {
	path, err := l.AdapterPath(d.Base, d.Name)
	if err != nil {
		return Adapter{}, err
	}
	b, err := os.ReadFile(d.Path)
	if err != nil {
		return Adapter{}, fmt.Errorf("read the adapter: %w", err)
	}
	have, err := os.ReadFile(path)
	switch {
	case err != nil:
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = atomicfile.Write(path, 0o600, b)
		}
	case !bytes.Equal(have, b):
		err = centram.Errorf(centram.Conflict, "%s is there already", path)
	}
	if err != nil {
		return Adapter{}, fmt.Errorf("copy the adapter: %w", err)
	}
	d.Path = path
	return l.AddAdapter(ctx, d)
}

// putAdapter puts a into the list under its name, or else under one after its file that is free.
func (l *Library) putAdapter(ctx context.Context, a Adapter) (Adapter, error) {
	old, err := l.sameAdapter(ctx, a)
	if err != nil {
		return Adapter{}, err
	}
	if old != nil {
		a.Name, a.AddedAt = old.Name, old.AddedAt
		if len(a.About) == 0 {
			a.About = old.About
		}
		if err := l.updateAdapter(ctx, a); err != nil {
			return Adapter{}, fmt.Errorf("update the adapter %s: %w", a.Called(), err)
		}
		if a.Digest != old.Digest || !bytes.Equal(a.About, old.About) {
			l.Changed(Change{a.Called(), Imported})
		}
		return a, nil
	}
	if a.Name, err = l.freeAdapterName(ctx, a); err != nil {
		return Adapter{}, err
	}
	if len(a.About) == 0 {
		a.About = json.RawMessage("{}")
	}
	if err := l.insertAdapter(ctx, a); err != nil {
		return Adapter{}, fmt.Errorf("add the adapter %s: %w", a.Called(), err)
	}
	l.Changed(Change{a.Called(), Imported})
	return a, nil
}

// sameAdapter finds the row of the same file under the same name, or under any if none was asked for.
func (l *Library) sameAdapter(ctx context.Context, a Adapter) (*Adapter, error) {
	list, err := l.adaptersOf(ctx, a.Base)
	if err != nil {
		return nil, err
	}
	for _, old := range list {
		if old.Path == a.Path && (a.Name == "" || a.Name == old.Name) {
			return &old, nil
		}
	}
	return nil, nil
}

func (l *Library) freeAdapterName(ctx context.Context, a Adapter) (string, error) {
	base := filepath.Base(a.Path)
	name := slug(strings.TrimSuffix(base, filepath.Ext(base)))
	if name = strings.TrimRight(name[:min(len(name), maxAdapterName-8)], "-._"); name == "" {
		name = "adapter"
	}
	if a.Name != "" {
		name = a.Name
	}
	for i, try := 2, name; ; i++ {
		taken, err := l.adapterTaken(ctx, a.Base, try)
		if err != nil {
			return "", fmt.Errorf("look for a free name: %w", err)
		}
		if taken == "" && try != latest {
			return try, nil
		}
		if a.Name != "" {
			return "", centram.Errorf(centram.Conflict, "%s", taken).
				WithHint("Choose another name, or remove that one first: centram lora remove %s:%s", a.Base, a.Name)
		}
		try = fmt.Sprintf("%s-%d", name, i)
	}
}

// adapterTaken says what has the name already, if something has.
func (l *Library) adapterTaken(ctx context.Context, base, name string) (string, error) {
	full := base + ":" + name
	_, err := modelBy(ctx, l.DB, "name", full)
	if err == nil {
		return fmt.Sprintf("There is a model %s already.", full), nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return "", err
	}
	old, err := l.adapterBy(ctx, base, name)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return fmt.Sprintf("The model %s has an adapter %s already: %s.", base, name, old.Path), err
}
