// Package local runs a model of this machine's disk with llama.cpp, as an engine.Model.
package local

import (
	"context"
	"errors"
	"path/filepath"
	"sync"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama"
)

// Config says how a model is run. Its zero value suits a laptop.
type Config struct {
	Context    int // tokens each sequence has room for. Zero means 8192, or what the model was trained for if that is less
	Sequences  int // answers at once. Zero means 4
	Threads    int // zero means the physical cores, or fewer while other programs use them
	BatchSize  int // most rows of one step. Zero means 2048
	MicroBatch int // rows computed at once. Zero means 512
	GPULayers  int // zero means as many as fit, if this build has a GPU; negative means none
	NoMmap     bool
	Mlock      bool
	KeyType    llama.KVType // zero means F16
	ValueType  llama.KVType // zero means F16
	Flash      llama.FlashAttention
	Poll       int           // how hard idle threads wait: -1 sleeps at once, 100 spins longest. Zero means 50, and -1 in a stage
	Progress   func(float64) // loading, 0..1
}

// Model is a model in memory. Its Runner methods belong to one goroutine; the others may be called from any.
type Model struct {
	*Text
	info engine.Info
	cfg  Config

	ctx      *llama.Context
	threads  *threads // nil if they are given
	batch    llama.Batch
	adapters adapters

	lost  sync.Once
	ended chan struct{} // closed when the file could not be read any more

	embedMu      sync.Mutex // guards the following, of which embed is made at the first use
	closed       bool
	embed        *llama.Context
	embedThreads *threads
}

// Open checks the file with package gguf, since llama.cpp aborts on some bad ones, and loads it.
func Open(ctx context.Context, path string, cfg Config) (*Model, error) {
	summary, paths, err := check(path)
	if err != nil {
		return nil, err
	}
	given := cfg.Threads
	if cfg, err = cfg.onto(path, summary); err != nil {
		return nil, err
	}
	m := &Model{cfg: cfg, Text: &Text{context: cfg.Context}, threads: newThreads(given, cfg.Threads), ended: make(chan struct{})}
	m.model, err = llama.LoadModel(ctx, paths, llama.ModelConfig{
		GPULayers: max(cfg.GPULayers, 0), NoMmap: cfg.NoMmap, Mlock: cfg.Mlock, Progress: cfg.Progress,
	})
	if err != nil {
		return nil, loadError(ctx, path, err)
	}
	m.ctx, err = m.model.NewContext(llama.ContextConfig{
		Size: cfg.Context, Sequences: cfg.Sequences, Batch: cfg.BatchSize, MicroBatch: cfg.MicroBatch,
		Outputs: cfg.outputs(), Threads: cfg.Threads, Poll: cfg.Poll,
		KeyType: cfg.KeyType, ValueType: cfg.ValueType, Flash: cfg.Flash,
	})
	if err != nil {
		return nil, errors.Join(loadError(ctx, path, err), m.model.Close())
	}
	m.adapters = adapters{model: m.model, ctx: m.ctx, base: summary}
	loaded, err := m.model.Info()
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	m.info = engine.Info{
		Architecture: loaded.Architecture, Description: loaded.Description, Parameters: loaded.Parameters, Size: loaded.Size,
		Layers: loaded.Layers, Embedding: loaded.Embedding, VocabSize: loaded.VocabSize, TrainContext: loaded.TrainContext,
		Context: cfg.Context, Sequences: cfg.Sequences, BatchSize: cfg.BatchSize, Outputs: cfg.outputs(), ChatTemplate: loaded.ChatTemplate,
		GPU: llama.GPUOffload() && cfg.GPULayers > 0, Threads: cfg.Threads,
		MemoryBytes: loaded.Size + uint64(summary.KVBytesPerToken)*uint64(cfg.Context*cfg.Sequences),
	}
	return m, nil
}

// Estimate is the memory that Open would take for the file, in bytes: weights and KV cache.
func Estimate(path string, cfg Config) (uint64, error) {
	summary, _, err := check(path)
	if err != nil {
		return 0, err
	}
	cfg = cfg.withDefaults(summary)
	return uint64(summary.SizeBytes) + uint64(summary.KVBytesPerToken)*uint64(cfg.Context*cfg.Sequences), nil
}

// check opens the file of a whole model.
func check(path string) (gguf.Summary, []string, error) {
	s, paths, err := open(path)
	if err == nil {
		err = s.Whole()
	}
	return s, paths, err
}

func open(path string) (gguf.Summary, []string, error) {
	g, err := gguf.OpenModel(path)
	if err != nil {
		return gguf.Summary{}, nil, err
	}
	defer g.Close()
	paths := make([]string, len(g.Parts))
	for i, part := range g.Parts {
		paths[i] = part.Name
	}
	return g.Summary, paths, nil
}

// onto is withDefaults, and says what goes to the GPU as it is now.
func (cfg Config) onto(path string, s gguf.Summary) (Config, error) {
	byItself := cfg.GPULayers == 0 && llama.GPUOffload()
	cfg = cfg.withDefaults(s)
	var err error
	if byItself {
		cfg.GPULayers, err = cfg.placed(path, s)
	}
	return cfg, err
}

func (cfg Config) withDefaults(s gguf.Summary) Config {
	if cfg.Context == 0 {
		cfg.Context = 8192
	}
	cfg.Context = min(cfg.Context, s.Context)
	if cfg.Sequences == 0 {
		cfg.Sequences = 4
	}
	if cfg.Threads == 0 {
		cfg.Threads = PhysicalCores()
	}
	if cfg.BatchSize == 0 {
		cfg.BatchSize = 2048
	}
	cfg.BatchSize = max(cfg.BatchSize, cfg.Sequences) // every slot decodes in one step
	switch {
	case cfg.GPULayers < 0 || !llama.GPUOffload():
		cfg.GPULayers = 0
	case cfg.GPULayers == 0:
		cfg.GPULayers = s.Layers + 1 // the output matrix is one more
	}
	return cfg
}

// mostVerified is how many rows of a batch may ask for logits, as guesses do that are checked together. Each takes the memory
// of a row as wide as the vocabulary.
const mostVerified = 64

func (cfg Config) outputs() int { return min(cfg.BatchSize, max(cfg.Sequences, mostVerified)) }

func loadError(ctx context.Context, path string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return centram.Errorf(centram.Invalid, "%s could not be loaded: %w", filepath.Base(path), err).
		WithHint("If memory is short, close other programs, choose a smaller model, or set a smaller context.")
}

// Close waits for calls under way and frees everything.
func (m *Model) Close() error {
	m.embedMu.Lock()
	m.closed = true
	if m.embed != nil {
		m.embed.Close()
		m.embed = nil
	}
	m.embedMu.Unlock()
	if m.ctx != nil {
		m.ctx.Close()
	}
	m.adapters.close()
	return m.Text.Close()
}

// Info implements engine.Runner.
func (m *Model) Info() engine.Info { return m.info }

// Step implements engine.Runner. A cancelled ctx interrupts the computation.
func (m *Model) Step(ctx context.Context, b engine.Batch) (engine.Output, error) {
	if err := m.adapters.set(b.Adapters); err != nil {
		return engine.Output{}, err
	}
	m.batch.Reset()
	for _, r := range b.Rows {
		m.batch.Add(llama.Token(r.Token), r.Pos, r.Seq, r.Logits)
	}
	m.threads.set(m.ctx)
	err := m.ctx.Until(ctx, func() error { return m.ctx.Decode(&m.batch) })
	if errors.Is(err, llama.ErrCacheFull) {
		return engine.Output{}, centram.Errorf(centram.TooLong, "the KV cache is full: %w", err)
	}
	if err != nil {
		return engine.Output{}, m.unlessLost(err)
	}
	logits, err := wanted(m.ctx, b.Rows)
	return engine.Output{Logits: logits}, err
}

// Ended implements engine.Mortal: a model whose file cannot be read is of no use any more.
func (m *Model) Ended() <-chan struct{} { return m.ended }

// unlessLost says what a person can do about a file that could not be read, and has the model leave.
func (m *Model) unlessLost(err error) error {
	if !errors.Is(err, llama.ErrLost) {
		return err
	}
	m.lost.Do(func() { close(m.ended) })
	return centram.Errorf(centram.Unavailable, "The model's file could not be read any more while it answered: it was changed or cut short, or its disk has failed.").
		WithHint("Put the file back, and ask again: then it is loaded anew.")
}

// wanted collects the logits that rows of the last batch asked for.
func wanted(c *llama.Context, rows []engine.Row) ([][]float32, error) {
	var out [][]float32
	for i, r := range rows {
		if !r.Logits {
			continue
		}
		logits, err := c.Logits(i)
		if err != nil {
			return nil, err
		}
		out = append(out, logits)
	}
	return out, nil
}

// Trim implements engine.Runner.
func (m *Model) Trim(seq, pos int) error { return m.ctx.Trim(seq, pos, -1) }

// minFork is the shortest beginning worth copying: a copy moves the whole cache of a sequence, which takes as long as
// reading about so many tokens.
const minFork = 128

// Fork makes sequence to hold the first n positions of from, if that pays beyond those it shares already, and returns how
// many it holds.
func (m *Model) Fork(from, to, n, kept int) (int, error) {
	if n-kept < minFork {
		return kept, nil
	}
	if err := m.ctx.Trim(to, 0, -1); err != nil {
		return 0, err
	}
	return n, m.ctx.Copy(from, to, n)
}
