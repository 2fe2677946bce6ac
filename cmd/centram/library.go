package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/models"
	"github.com/centram/centram/models/toy"
	"github.com/centram/centram/server"
	"github.com/centram/centram/store"
)

// library is the list of models and their adapters: the daemon's if one runs, else the same database opened here.
type library interface {
	List(context.Context) ([]server.Model, error)
	Get(ctx context.Context, name string) (server.Model, error)
	Import(ctx context.Context, path, name string) (server.Model, error)
	Delete(ctx context.Context, name string, file bool) error
	Adapters(ctx context.Context, base string) ([]server.Adapter, error)
	AddAdapter(context.Context, models.AdapterDraft) (server.Adapter, error)
	RemoveAdapter(ctx context.Context, base, name string, file bool) error
	Close() error
}

func (a *app) library(ctx context.Context) (library, error) {
	c, err := a.ownDaemon(ctx)
	if err == nil {
		return remoteLibrary{c}, nil
	}
	if !errors.Is(err, errNoDaemon) {
		return nil, err
	}
	return a.ownLibrary(ctx)
}

// remoteLibrary asks the daemon, which also unloads what is deleted and tells pages of what is new.
type remoteLibrary struct{ *client }

func (l remoteLibrary) Close() error { return nil }

func (l remoteLibrary) List(ctx context.Context) ([]server.Model, error) {
	var list struct {
		Models []server.Model `json:"models"`
	}
	err := l.do(ctx, http.MethodGet, "/api/v1/models", nil, &list)
	return list.Models, err
}

func (l remoteLibrary) Get(ctx context.Context, name string) (m server.Model, err error) {
	err = l.do(ctx, http.MethodGet, modelPath(name), nil, &m)
	return m, err
}

func (l remoteLibrary) Import(ctx context.Context, path, name string) (m server.Model, err error) {
	err = l.do(ctx, http.MethodPost, "/api/v1/models/import", map[string]string{"path": path, "name": name}, &m)
	return m, err
}

func (l remoteLibrary) Delete(ctx context.Context, name string, file bool) error {
	return l.do(ctx, http.MethodDelete, fmt.Sprintf("%s?file=%t", modelPath(name), file), nil, nil)
}

// ownLibrary is the list in our data directory.
type ownLibrary struct {
	db       *store.DB
	library  *models.Library
	settings server.Settings
}

func (a *app) ownLibrary(ctx context.Context) (*ownLibrary, error) {
	db, err := store.Open(ctx, a.cfg.Data)
	if err != nil {
		return nil, err
	}
	l, err := models.New(ctx, a.modelsConfig(db))
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &ownLibrary{db, l, preferences{store.Settings{DB: db.DB}, a.cfg.Model}}, nil
}

func (a *app) modelsConfig(db *store.DB) models.Config {
	c := models.Config{DB: db.DB, Dir: a.cfg.Models, AdapterDir: adapterFolder(a.cfg), BuiltInDir: filepath.Join(a.cfg.Data, "builtin")}
	if list, err := a.catalogue(); err == nil { // else whoever wants to download hears of it
		c.Known = list.Names()
	}
	if a.cfg.Toy == "on" {
		c.BuiltIn = []models.BuiltIn{{Name: toy.Name, GGUF: toy.GGUF}}
	}
	return c
}

func (l *ownLibrary) Close() error { return l.db.Close() }

func (l *ownLibrary) List(ctx context.Context) ([]server.Model, error) {
	list, err := l.library.List(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]server.Model, len(list))
	for i, m := range list {
		if out[i], err = l.describe(ctx, m); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (l *ownLibrary) Get(ctx context.Context, name string) (server.Model, error) {
	m, err := l.library.Get(ctx, name)
	if err != nil {
		return server.Model{}, err
	}
	return l.describe(ctx, m)
}

func (l *ownLibrary) Import(ctx context.Context, path, name string) (server.Model, error) {
	m, err := l.library.Import(ctx, path, name)
	if err != nil {
		return server.Model{}, err
	}
	return l.describe(ctx, m)
}

func (l *ownLibrary) Delete(ctx context.Context, name string, file bool) error {
	return l.library.Delete(ctx, name, file)
}

// describe puts a model of the library into the words of the API.
func (l *ownLibrary) describe(ctx context.Context, m models.Model) (server.Model, error) {
	adapters, err := l.Adapters(ctx, m.Alone())
	out := server.Model{
		Name: m.Name, Path: m.Path, SizeBytes: m.SizeBytes, Architecture: m.Architecture, Parameters: m.Parameters,
		Layers: m.Layers, Embedding: m.Embedding, Context: m.Context, Quantization: m.Quantization,
		ChatTemplate: m.ChatTemplate, State: m.State, ImportedAt: m.ImportedAt, BuiltIn: m.BuiltIn, Adapters: adapters,
	}
	if m.Err != nil {
		out.Error = strings.TrimSpace(m.Err.Error() + " " + centram.HintOf(m.Err))
	}
	return out, err
}

// isFile reports whether a model is meant by its file and not by its name.
func isFile(model string) bool {
	if strings.ContainsRune(model, os.PathSeparator) || strings.HasSuffix(strings.ToLower(model), ".gguf") {
		return true
	}
	info, err := os.Stat(model)
	return err == nil && info.Mode().IsRegular()
}

// modelFile finds the file of a model, which may be named by that, or be empty for the one that a person prefers. It is for
// what looks at the model alone.
func (a *app) modelFile(ctx context.Context, model string) (name, path string, err error) {
	f, err := a.findModel(ctx, model)
	if err == nil && f.Base != "" {
		err = centram.Errorf(centram.Invalid, "%s is the model %s with adapters, and the model alone is wanted here.", f.Name, f.Base).
			WithHint("Name it without: %s", f.Base)
	}
	return f.Name, f.Path, err
}

// findModel finds a model that may be named with adapters. Of one that is named by its file only that is known.
func (a *app) findModel(ctx context.Context, model string) (models.Model, error) {
	if isFile(model) {
		path, err := filepath.Abs(model)
		return models.Model{Name: filepath.Base(path), Path: path}, err
	}
	l, err := a.ownLibrary(ctx)
	if err != nil {
		return models.Model{}, err
	}
	defer l.Close()
	if model == "" {
		if model, err = preferred(ctx, l.settings, l.library); err != nil {
			return models.Model{}, err
		}
		if isFile(model) {
			return a.findModel(ctx, model)
		}
	}
	return l.library.Resolve(ctx, model)
}
