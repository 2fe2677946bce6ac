package models

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/centram/centram"
)

// scan adds the models in the models folder that are not in the list yet.
func (l *Library) scan(ctx context.Context) error {
	if l.Dir == "" {
		return nil
	}
	return filepath.WalkDir(l.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return ctx.Err() // what may not be read is passed over
		}
		if entry.IsDir() && path != l.Dir && strings.HasPrefix(entry.Name(), ".") {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.EqualFold(filepath.Ext(path), ".gguf") || Parts(path)[0] != path {
			return nil
		}
		return l.notice(ctx, path)
	})
}

// notice adds the model at path unless it is known, or was removed from the list on purpose.
func (l *Library) notice(ctx context.Context, path string) error {
	_, err := modelBy(ctx, l.DB, "path", path)
	if err == nil || !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	files, err := filesOf(path)
	if err != nil {
		return nil // gone again, or a link to nowhere
	}
	if skip, err := unlisted(ctx, l.DB, files); err != nil || skip {
		return err
	}
	if moved, err := l.followMove(ctx, files); err != nil || moved {
		return err
	}
	m, err := l.inspect(files)
	if err != nil {
		m.Name = l.nameFor(path, "")
	}
	_, err = l.add(ctx, m, "")
	return err
}

// followMove recognises a model that is in the list at a place where it no longer is.
func (l *Library) followMove(ctx context.Context, files []file) (bool, error) {
	list, err := allModels(ctx, l.DB)
	if err != nil {
		return false, fmt.Errorf("look for a moved model: %w", err)
	}
	i := slices.IndexFunc(list, func(m Model) bool {
		return same(m.files, files) && !slices.ContainsFunc(fingerprint(paths(m.files)), func(f file) bool { return f.Size >= 0 })
	})
	if i < 0 {
		return false, nil
	}
	list[i].Path, list[i].files = files[0].Path, files
	return true, updateModel(ctx, l.DB, list[i])
}

// refresh brings m up to date with its files, and the list with m.
func (l *Library) refresh(ctx context.Context, m *Model) error {
	defer func() { m.BuiltIn = l.isBuiltIn(m.Path) }()
	now := fingerprint(paths(m.files))
	if now[0].Size < 0 {
		m.State = Missing
		m.Err = centram.Errorf(centram.NotFound, "The file of the model %s is gone: %s", m.Name, m.Path).
			WithHint("Put it back, or remove the model from the list with: centram model rm %s", m.Name)
		return nil
	}
	if slices.Equal(now, m.files) {
		return nil
	}
	fresh, err := l.inspect(now)
	if err != nil && m.State == Ready && !present(now) {
		m.State, m.Err = Missing, fresh.Err // a part is gone; the rest is as it was
		return nil
	}
	fresh.Name, fresh.ImportedAt = m.Name, m.ImportedAt
	*m = fresh
	if err := updateModel(ctx, l.DB, fresh); err != nil {
		return l.goOn(ctx, fmt.Errorf("update the model %s: %w", m.Name, err))
	}
	l.wakeHasher()
	l.Changed(Change{m.Name, Imported})
	return nil
}

// add puts m into the list under the name that was asked for, or else under one after its own that is free.
func (l *Library) add(ctx context.Context, m Model, asked string) (Model, error) {
	old, err := modelBy(ctx, l.DB, "path", m.Path)
	switch {
	case err == nil && (asked == "" || asked == old.Name):
		m.Name, m.ImportedAt = old.Name, old.ImportedAt
		if slices.Equal(old.files, m.files) {
			m.Digest = old.Digest
		}
		return m, updateModel(ctx, l.DB, m)
	case err == nil:
		return Model{}, centram.Errorf(centram.Conflict, "This model is in the list already, as %s.", old.Name).
			WithHint("Use that name, or remove it from the list first.")
	case !errors.Is(err, sql.ErrNoRows):
		return Model{}, fmt.Errorf("look up the model: %w", err)
	}
	if m.Name, err = l.freeName(ctx, m.Name, asked); err != nil {
		return Model{}, err
	}
	if err := insertModel(ctx, l.DB, m); err != nil {
		return Model{}, fmt.Errorf("add the model %s: %w", m.Name, err)
	}
	l.wakeHasher()
	l.Changed(Change{m.Name, Imported})
	return m, nil
}

func (l *Library) freeName(ctx context.Context, name, asked string) (string, error) {
	if asked != "" {
		name = asked
	}
	for i, try := 2, name; ; i++ {
		taken, err := l.taken(ctx, try)
		if err != nil {
			return "", fmt.Errorf("look for a free name: %w", err)
		}
		if taken == "" {
			return try, nil
		}
		if asked != "" {
			return "", centram.Errorf(centram.Conflict, "%s", taken).WithHint("Choose another name.")
		}
		try = fmt.Sprintf("%s-%d", name, i)
	}
}

// taken says what has the name already, if something has: a model, or one with an adapter.
func (l *Library) taken(ctx context.Context, name string) (string, error) {
	if base, adapter, ok := CutAdapters(name); ok {
		return l.adapterTaken(ctx, base, adapter)
	}
	_, err := modelBy(ctx, l.DB, "name", name)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return fmt.Sprintf("There is a model %s already.", name), err
}

func paths(files []file) []string {
	var all []string
	for _, f := range files {
		all = append(all, f.Path)
	}
	return all
}
