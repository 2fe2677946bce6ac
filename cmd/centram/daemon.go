package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/chats"
	"github.com/centram/centram/config"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/engine/local"
	"github.com/centram/centram/hyperlink/pool"
	"github.com/centram/centram/llama"
	"github.com/centram/centram/lora/job"
	"github.com/centram/centram/models"
	"github.com/centram/centram/models/download"
	"github.com/centram/centram/quantize"
	"github.com/centram/centram/server"
	"github.com/centram/centram/server/ollama"
	"github.com/centram/centram/server/openai"
	"github.com/centram/centram/store"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// grace is how long the parts may take to end.
const grace = 10 * time.Second

// daemon is all of Centram, put together.
type daemon struct {
	app       *app
	log       *slog.Logger
	lock      *dataLock
	db        *store.DB
	models    *models.Library
	engine    *engine.Engine
	network   *network
	jobs      *job.Queue
	orders    *download.Orders // nil if nothing can be downloaded
	downloads *download.Queue
	server    *server.Server
	first     string // model to load at the start, or empty
	settled   atomic.Bool
}

// newDaemon opens the parts from the bottom up. What it has opened is closed again if one of them fails.
func (a *app) newDaemon(ctx context.Context) (_ *daemon, err error) {
	d := &daemon{app: a, log: a.logger()}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if d.lock, err = lockData(a.cfg.Data); err != nil {
		return nil, err
	}
	token, err := server.LoadToken(a.cfg.Data)
	if err != nil {
		return nil, err
	}
	if d.db, err = store.Open(ctx, a.cfg.Data); err != nil {
		return nil, err
	}
	if n := quantize.Sweep(a.cfg.Models); n > 0 {
		d.log.InfoContext(ctx, "Files removed that were being quantised when the machine stopped", "files", n, "folder", a.cfg.Models)
	}
	events := server.NewEvents()
	library := a.modelsConfig(d.db)
	library.Changed = func(c models.Change) {
		events.Library(c)
		if d.network != nil { // else it looks at them all when it starts
			d.network.noticed()
		}
	}
	d.models, err = models.New(ctx, library)
	if err != nil {
		return nil, err
	}
	if d.first, err = d.firstModel(ctx); err != nil {
		return nil, err
	}
	d.network = d.newNetwork(ctx, events)
	d.network.models = d.models
	d.engine = engine.New(engineConfig(a.cfg, d.models, d.network.pool, events.Engine))
	d.network.resident = d.resident
	if d.jobs, err = d.newTrainings(events.Training); err != nil {
		return nil, err
	}
	if err := d.newDownloads(events.Download); err != nil {
		return nil, err
	}
	settings := preferences{store.Settings{DB: d.db.DB}, d.first}
	if d.server, err = server.New(d.serverConfig(token, settings, events)); err != nil {
		return nil, err
	}
	return d, d.lock.write(holder{os.Getpid(), d.url(), a.cfg.TLSCert})
}

func (a *app) logger() *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(a.cfg.LogLevel)) // the setting was checked
	log := slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level}))
	slog.SetDefault(log)
	llama.SetLogger(log)
	return log
}

// firstModel finds the model that was asked for, and adds its file to the list if it was named by that. A model that a
// person has just typed must be there; one of the settings may have gone since.
func (d *daemon) firstModel(ctx context.Context) (string, error) {
	wanted := d.app.cfg.Model
	if wanted == "" {
		return "", nil
	}
	var m models.Model
	var err error
	if isFile(wanted) {
		if wanted, err = filepath.Abs(wanted); err != nil {
			return "", err
		}
		m, err = d.models.Import(ctx, wanted, "")
	} else {
		m, err = d.models.Resolve(ctx, wanted)
	}
	if err != nil && d.app.cfg.Origin("model").Layer != config.Flag {
		d.log.WarnContext(ctx, "The model of the settings is not there", "model", wanted, "err", err, "next", centram.HintOf(err))
		return "", nil
	}
	return m.Name, err
}

// resident is the memory that models in memory take.
func (d *daemon) resident() (n uint64) {
	for _, r := range d.engine.Resident() {
		n += r.MemoryBytes
	}
	return n
}

// engineConfig lets the engine run the library's models: here if they fit, and else with what others offer.
func engineConfig(cfg *config.Config, library *models.Library, pool *pool.Pool, changed func(engine.Change)) engine.Config {
	run, budget := runConfig(cfg), memoryBudget(cfg)
	path := func(ctx context.Context, name string) (string, error) {
		m, err := library.Resolve(ctx, name)
		return m.Path, err
	}
	// split says whether a model is to be put together from several machines, and what it takes here.
	split := func(ctx context.Context, file string) (bool, uint64, error) {
		alone, err := local.Estimate(file, run)
		if err != nil || pool == nil || !pool.Forced(file) && (budget == 0 || alone <= budget) {
			return false, alone, err
		}
		info, err := local.Describe(file, run)
		if err != nil {
			return false, 0, err
		}
		here, err := pool.Need(ctx, file, info)
		if err != nil {
			switch {
			case pool.Forced(file):
				return false, 0, err
			case cfg.Hyperlink == "local":
				return false, alone, nil // the engine says how much it lacks
			}
			return false, 0, tooBig(pool, alone, budget)
		}
		return true, here, nil
	}
	return engine.Config{
		Open: func(ctx context.Context, name string, progress func(float64)) (engine.Model, error) {
			file, err := path(ctx, name)
			if err != nil {
				return nil, err
			}
			several, _, err := split(ctx, file)
			switch {
			case err != nil:
				return nil, err
			case several:
				m, err := pool.Open(ctx, file, progress)
				if err == nil {
					return m, nil
				}
				if _, _, lacks := split(ctx, file); lacks != nil { // a machine has left meanwhile
					return nil, lacks
				}
				return nil, centram.Errorf(centram.CodeOf(err), "The model could not be put together from several machines: %w.", err).
					WithHint("Ask again, and see which machines are there: centram peer list")
			}
			run := run
			run.Progress = progress
			return local.Open(ctx, file, run)
		},
		Estimate: func(name string) (uint64, error) {
			file, err := path(context.Background(), name)
			if err != nil {
				return 0, err
			}
			_, need, err := split(context.Background(), file)
			return need, err
		},
		Resolve: func(ctx context.Context, name string) (string, []engine.AdapterScale, error) {
			m, err := library.Resolve(ctx, name)
			return m.Alone(), scales(m.Adapters), err
		},
		Speculate: func(name string) (string, bool) {
			if name == cfg.Draft {
				return "", true
			}
			return cfg.Draft, true
		},
		MemoryBudget: budget,
		KeepAlive:    cfg.KeepAlive,
		Changed:      changed,
	}
}

// tooBig says how much memory is missing for a model, and who might have it.
func tooBig(p *pool.Pool, need, budget uint64) error {
	var offered uint64
	offers, others, hint := 0, "no other machine offers any", "Start Centram on another machine, and pair with it: centram peer pair PEER"
	for _, k := range p.Known() {
		switch {
		case k.Why == "":
			offers, offered = offers+1, offered+k.Offer.Memory
		case offers == 0:
			others = fmt.Sprintf("%s, which offers %d MiB, is not asked: %s", k.ID.Short(), k.Offer.Memory>>20, strings.TrimSuffix(k.Why, "."))
			hint = "It has to be connected and paired with this node: centram peer pair " + k.ID.Short()
		}
	}
	if offers > 0 {
		others = fmt.Sprintf("other machines offer %d MiB, of which a fifth stays free", offered>>20)
		hint = "Let another machine join, or offer more memory"
	}
	return centram.Errorf(centram.Unavailable, "The model needs %d MiB, which is %d MiB more than the %d MiB that models may take here, and %s.", need>>20, (need-budget)>>20, budget>>20, others).
		WithHint("%s. Or choose a smaller model or a smaller context, or raise the setting memory_limit.", hint)
}

func runConfig(cfg *config.Config) local.Config {
	return local.Config{Context: cfg.Context, Sequences: cfg.Parallel, Threads: cfg.Threads, GPULayers: cfg.GPULayers}
}

// memoryBudget is what models may take together. With a GPU it is not guessed, since their weights are elsewhere.
func memoryBudget(cfg *config.Config) uint64 {
	if cfg.MemoryLimit > 0 || llama.GPUOffload() {
		return uint64(cfg.MemoryLimit)
	}
	return totalMemory() / 5 * 4
}

func (d *daemon) serverConfig(token string, settings server.Settings, events *server.Events) server.Config {
	cfg, version := d.app.cfg, buildVersion()
	out := server.Config{
		Addr: cfg.Listen, TLSCert: cfg.TLSCert, TLSKey: cfg.TLSKey,
		Token: token, AllowedHosts: cfg.AllowedHosts, AllowedOrigins: cfg.AllowedOrigins,
		Engine: d.engine, Models: d.models, Chats: chats.New(chats.Config{DB: d.db.DB}), Settings: settings,
		Trainings: d.jobs,
		Events:    events, Version: version,
		Network: d.network.forServer(d.models), Collectors: []prometheus.Collector{d.network.metrics},
		Register: []func(*echo.Echo){
			func(e *echo.Echo) {
				openai.Register(e, openai.Config{
					Engine: d.engine, Models: d.models, Version: version.Version, Log: d.log,
					DefaultModel: func(ctx context.Context) string {
						name, _ := preferred(ctx, settings, d.models) // none: the client is told to name one
						return name
					},
				})
			},
			func(e *echo.Echo) {
				ollama.Register(e, ollama.Config{Engine: d.engine, Models: d.models, Version: version.Version, Log: d.log})
			},
		},
		Errors: map[string]func(echo.Context, error) error{
			"/v1": openai.WriteError, "/ollama/v1": openai.WriteError, "/api": ollama.WriteError, "/ollama": ollama.WriteError,
		},
		Root:  ollama.Root,
		Ready: d.settled.Load,
		Log:   d.log,
	}
	if d.orders != nil {
		out.Shelf, out.Downloads = d.orders, d.downloads
	}
	return out
}

// Run serves until ctx ends. The first part that fails ends all others.
func (d *daemon) Run(ctx context.Context) error {
	g, running := errgroup.WithContext(ctx)
	// The engine goes last, so that the server can write down how far each answer got.
	serving, served := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error {
		defer served()
		return d.server.Run(running)
	})
	g.Go(func() error { return d.engine.Run(serving) })
	g.Go(func() error { return d.models.Run(running) })
	g.Go(func() error { return d.network.Run(running) })
	g.Go(func() error { return d.jobs.Run(running) })
	g.Go(func() error { return d.downloads.Run(running) })
	g.Go(func() error { return d.lock.watch(running) })
	g.Go(func() error { return d.settle(running) })
	d.announce(ctx)

	ended := make(chan error, 1)
	go func() { ended <- g.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		d.log.InfoContext(ctx, "Centram is ending; press Ctrl+C again to end it at once")
		d.tellSystemd(ctx, "STOPPING=1")
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(grace):
		return fmt.Errorf("not all parts of Centram ended within %v", grace)
	}
}

// settle loads the first model. Until then /health says that Centram is loading.
func (d *daemon) settle(ctx context.Context) error {
	defer d.settled.Store(true)
	if d.first == "" {
		return nil
	}
	if err := d.engine.Load(ctx, d.first, 0); err != nil && !errors.Is(err, context.Canceled) {
		d.log.ErrorContext(ctx, "Model not loaded", "model", d.first, "err", err, "next", centram.HintOf(err))
	}
	return nil
}

func (d *daemon) announce(ctx context.Context) {
	v := buildVersion()
	d.log.InfoContext(ctx, "Centram has started", "version", v.Version, "llama", v.Llama, "backend", v.Backend, "data", d.app.cfg.Data)
	list, err := d.models.List(ctx)
	if err == nil && !slices.ContainsFunc(list, func(m models.Model) bool { return !m.BuiltIn }) {
		d.log.InfoContext(ctx, "There is no model yet but the toy that comes with Centram", "next", "centram model import FILE.gguf", "or", "put one into "+d.app.cfg.Models)
	}
	fmt.Fprintf(d.app.err, "Centram is running: %s\n", d.page())
	d.tellSystemd(ctx, "READY=1")
}

func (d *daemon) tellSystemd(ctx context.Context, state string) {
	if err := notify(state); err != nil {
		d.log.WarnContext(ctx, "systemd not told", "state", state, "err", err)
	}
}

func (d *daemon) page() string { return d.url() + "/detra/" }

func (d *daemon) url() string {
	scheme := "http"
	if d.app.cfg.TLSCert != "" {
		scheme = "https"
	}
	return localURL(scheme, d.server.Address().String())
}

// Close frees what newDaemon has opened. The lock goes last.
func (d *daemon) Close() {
	if d.server != nil {
		d.server.Close()
	}
	if d.network != nil {
		d.network.Close()
	}
	if d.engine != nil {
		d.engine.Close()
	}
	if d.db != nil {
		d.db.Close()
	}
	if d.lock != nil {
		d.lock.Close()
	}
}
