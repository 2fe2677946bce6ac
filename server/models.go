package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/models"
)

// Engine is what answers. Load blocks until the model is in memory; Unload fails with centram.NotFound if it is not.
type Engine interface {
	engine.Generator
	Load(ctx context.Context, name string, keepAlive time.Duration) error
	Unload(ctx context.Context, name string) error
	Resident() []engine.Resident
}

// Models is the list of models and of their adapters. All but List and Import fail with centram.NotFound. Get and Resolve
// take names with adapters; Resolve returns only what is ready.
type Models interface {
	List(context.Context) ([]models.Model, error)
	Get(ctx context.Context, name string) (models.Model, error)
	Resolve(ctx context.Context, name string) (models.Model, error)
	Only(ctx context.Context) (string, error)
	Import(ctx context.Context, path, name string) (models.Model, error)
	Delete(ctx context.Context, name string, file bool) error

	Adapters(ctx context.Context, base string) ([]models.Adapter, error) // of all models if base is empty
	AddAdapter(context.Context, models.AdapterDraft) (models.Adapter, error)
	RemoveAdapter(ctx context.Context, base, name string, file bool) error
}

// Model is one of the list.
type Model struct {
	Name         string       `json:"name"`
	Path         string       `json:"path"`
	SizeBytes    int64        `json:"size_bytes"`
	Architecture string       `json:"architecture"`
	Parameters   uint64       `json:"parameters"`
	Layers       int          `json:"layers"`
	Embedding    int          `json:"embedding"`
	Context      int          `json:"context" doc:"Tokens that it was trained for."`
	Quantization string       `json:"quantization"`
	ChatTemplate bool         `json:"chat_template"`
	State        models.State `json:"state" enum:"ready,missing,failed"`
	Error        string       `json:"error,omitempty" doc:"Why the state is not ready, and what to do."`
	BuiltIn      bool         `json:"built_in,omitempty" doc:"It came with Centram and is a toy."`
	Loaded       bool         `json:"loaded"`
	Loading      *float64     `json:"loading,omitempty" doc:"How far it is loaded, 0 to 1. Absent if it is not being loaded."`
	ImportedAt   time.Time    `json:"imported_at"`
	Adapters     []Adapter    `json:"adapters" doc:"That it can be used with."`
}

type modelList struct {
	Body struct {
		Models []Model `json:"models"`
	}
}

type modelBody struct{ Body Model }

// ModelName names a model.
type ModelName struct {
	Name string `path:"name" maxLength:"4096"`
}

func (m ModelName) name() string { return unescape(m.Name) }

type modelAction struct {
	ModelName
	Body *struct{}
}

type modelImport struct {
	Body struct {
		Path string `json:"path" minLength:"1" doc:"Absolute path of a GGUF file, which stays where it is."`
		Name string `json:"name,omitempty" doc:"Empty means one after the file."`
	}
}

type modelDelete struct {
	ModelName
	File bool `query:"file" doc:"Delete the file as well."`
}

func (s *Server) listModels(ctx context.Context, _ *struct{}) (*modelList, error) {
	list, err := s.Models.List(ctx)
	if err != nil {
		return nil, err
	}
	adapters, err := s.Models.Adapters(ctx, "")
	if err != nil {
		return nil, err
	}
	out := &modelList{}
	out.Body.Models = make([]Model, 0, len(list))
	for _, m := range list {
		out.Body.Models = append(out.Body.Models, s.present(m, adapters))
	}
	return out, nil
}

func (s *Server) getModel(ctx context.Context, in *ModelName) (*modelBody, error) {
	m, err := s.Models.Get(ctx, in.name())
	if err != nil {
		return nil, err
	}
	return s.showModel(ctx, m)
}

func (s *Server) importModel(ctx context.Context, in *modelImport) (*modelBody, error) {
	m, err := s.Models.Import(ctx, in.Body.Path, in.Body.Name)
	if err != nil {
		return nil, err
	}
	return s.showModel(ctx, m)
}

func (s *Server) deleteModel(ctx context.Context, in *modelDelete) (*struct{}, error) {
	m, err := s.Models.Get(ctx, in.name())
	if err != nil {
		return nil, err
	}
	if m.Base == "" { // or nothing will be deleted
		if err := s.unload(ctx, m.Name); err != nil {
			return nil, err
		}
	}
	return nil, s.Models.Delete(ctx, m.Name, in.File)
}

func (s *Server) loadModel(ctx context.Context, in *modelAction) (*modelBody, error) {
	m, err := s.Models.Resolve(ctx, in.name())
	if err != nil {
		return nil, err
	}
	s.loads.start(m.Name)
	return s.showModel(ctx, m)
}

func (s *Server) unloadModel(ctx context.Context, in *modelAction) (*modelBody, error) {
	m, err := s.Models.Get(ctx, in.name())
	if err != nil {
		return nil, err
	}
	if err := s.unload(ctx, m.Name); err != nil {
		return nil, err
	}
	return s.showModel(ctx, m)
}

// unload is content if the model is not in memory.
func (s *Server) unload(ctx context.Context, name string) error {
	err := s.Engine.Unload(ctx, name)
	if centram.CodeOf(err) == centram.NotFound {
		return nil
	}
	return err
}

func (s *Server) showModel(ctx context.Context, m models.Model) (*modelBody, error) {
	adapters, err := s.Models.Adapters(ctx, m.Alone())
	if err != nil {
		return nil, err
	}
	return &modelBody{s.present(m, adapters)}, nil
}

// present describes a model, with those of the adapters that are its own.
func (s *Server) present(m models.Model, adapters []models.Adapter) Model {
	out := Model{
		Name: m.Name, Path: m.Path, SizeBytes: m.SizeBytes, Architecture: m.Architecture, Parameters: m.Parameters,
		Layers: m.Layers, Embedding: m.Embedding, Context: m.Context, Quantization: m.Quantization,
		ChatTemplate: m.ChatTemplate, State: m.State, ImportedAt: m.ImportedAt, BuiltIn: m.BuiltIn, Adapters: []Adapter{},
	}
	for _, a := range adapters {
		if a.Base == m.Alone() {
			out.Adapters = append(out.Adapters, DescribeAdapter(a))
		}
	}
	if m.Err != nil {
		out.Error = textOf(m.Err)
	}
	if r, ok := resident(s.Engine, m.Alone()); ok {
		out.Loaded = r.Loading >= 1
		if !out.Loaded {
			out.Loading = &r.Loading
		}
	}
	return out
}

func resident(e Engine, name string) (engine.Resident, bool) {
	for _, r := range e.Resident() {
		if strings.EqualFold(r.Name, name) {
			return r, true
		}
	}
	return engine.Resident{}, false
}

// loads are the models being loaded because somebody asked for that.
type loads struct {
	base   context.Context // ends with the server
	engine Engine
	log    *slog.Logger
	wg     sync.WaitGroup
}

// start loads a model. Whether that worked is told by the engine's events.
func (l *loads) start(name string) {
	l.wg.Go(func() {
		err := l.engine.Load(l.base, name, 0)
		if err != nil && !errors.Is(err, context.Canceled) {
			l.log.WarnContext(l.base, "Model not loaded", "model", name, "err", err)
		}
	})
}

func (l *loads) wait() { l.wg.Wait() }

// Running is a model in memory.
type Running struct {
	Name        string     `json:"name"`
	MemoryBytes uint64     `json:"memory_bytes"`
	Context     int        `json:"context"`
	Sequences   int        `json:"sequences" doc:"Answers that it can write at once."`
	Busy        int        `json:"busy" doc:"Answers that it writes now."`
	ExpiresAt   *time.Time `json:"expires_at" doc:"When it leaves the memory if nobody asks; null means never."`
	GPU         bool       `json:"gpu"`
}

type runningList struct {
	Body struct {
		Models []Running `json:"models"`
	}
}

func (s *Server) listRunning(context.Context, *struct{}) (*runningList, error) {
	out := &runningList{}
	out.Body.Models = []Running{}
	for _, r := range s.Engine.Resident() {
		running := Running{
			Name: r.Name, MemoryBytes: r.MemoryBytes, Context: r.Info.Context, Sequences: r.Info.Sequences, Busy: r.Busy,
			GPU: r.Info.GPU,
		}
		if !r.ExpiresAt.IsZero() {
			running.ExpiresAt = &r.ExpiresAt
		}
		out.Body.Models = append(out.Body.Models, running)
	}
	return out, nil
}

// Version says what this program is.
type Version struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Llama   string `json:"llama" doc:"The release of llama.cpp."`
	Backend string `json:"backend" doc:"What computes, such as cpu or cuda."`
	Go      string `json:"go"`
}

// Health says whether the daemon takes requests.
type Health struct {
	Status string `json:"status" enum:"ok,loading"`
}

type healthBody struct {
	Status int
	Body   Health
}

func (s *Server) health() (int, Health) {
	if s.Ready() {
		return http.StatusOK, Health{"ok"}
	}
	return http.StatusServiceUnavailable, Health{"loading"}
}
