package models

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/centram/centram/atomicfile"
)

// BuiltIn is a model that comes with the program. It is written out, as what runs models wants a file.
type BuiltIn struct {
	Name string // without .gguf
	GGUF []byte
}

// unpack writes the models that come with the program into their folder and lists them, unless a person has removed them
// from the list. A file that is not that of this program is replaced: it is an older one's, or damaged. Where that cannot be
// done, on a full disk, the models that people have brought are worth starting for.
func (l *Library) unpack(ctx context.Context) error {
	if err := l.dropForeign(ctx); err != nil {
		return err
	}
	for _, b := range l.BuiltIn {
		if err := l.unpackOne(ctx, b); ctx.Err() != nil {
			return err
		} else if err != nil {
			slog.WarnContext(ctx, "A model that comes with Centram is not there", "model", b.Name, "err", err)
		}
	}
	return nil
}

// dropForeign takes from the list what another program brought and this one does not.
func (l *Library) dropForeign(ctx context.Context) error {
	if l.BuiltInDir == "" {
		return nil
	}
	list, err := allModels(ctx, l.DB)
	if err != nil {
		return fmt.Errorf("look for models of another program: %w", err)
	}
	for _, m := range list {
		if filepath.Dir(m.Path) != l.BuiltInDir || l.isBuiltIn(m.Path) {
			continue
		}
		if err := deleteModel(ctx, l.DB, m, false); err != nil {
			return fmt.Errorf("drop %s: %w", m.Name, err)
		}
	}
	return nil
}

func (l *Library) unpackOne(ctx context.Context, b BuiltIn) error {
	path := l.builtIn(b)
	if have, err := os.ReadFile(path); err != nil || !bytes.Equal(have, b.GGUF) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := atomicfile.Write(path, 0o600, b.GGUF); err != nil {
			return err
		}
	}
	if removed, err := wasRemoved(ctx, l.DB, path); err != nil || removed {
		return err
	}
	_, err := modelBy(ctx, l.DB, "path", path)
	if err == nil { // refresh sees whether it is another one
		return nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("look up the model: %w", err)
	}
	files, err := filesOf(path)
	if err != nil {
		return err
	}
	m, err := l.inspect(files)
	if err != nil {
		return err
	}
	m.Name = NameFor(path, "")
	_, err = l.add(ctx, m, "")
	return err
}

func (l *Library) builtIn(b BuiltIn) string { return filepath.Join(l.BuiltInDir, b.Name+".gguf") }

// isBuiltIn reports whether a model came with the program.
func (l *Library) isBuiltIn(path string) bool {
	for _, b := range l.BuiltIn {
		if path == l.builtIn(b) {
			return true
		}
	}
	return false
}
