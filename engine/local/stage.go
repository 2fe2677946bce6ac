package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama"
)

// Stage is a slice of a model, as gguf.Cut makes it, in memory. It implements engine.Stage.
type Stage struct {
	model    *llama.Model
	ctx      *llama.Context
	threads  *threads // nil if they are given
	batch    llama.Batch
	adapters adapters
	info     engine.StageInfo
	found    []llama.Candidate
	best     [][]engine.Candidate // by row that yields something; their memory is used again
}

// stagePoll is how hard a stage's idle threads wait, unless that is said: not at all. A stage waits for others most of the
// time, and threads that spin meanwhile take the cores from whoever else computes on the machine, and its battery.
const stagePoll = -1

// OpenStage loads a slice. Only what was checked by package gguf may be given to it.
func OpenStage(ctx context.Context, path string, cfg Config) (*Stage, error) {
	summary, paths, err := open(path)
	if err != nil {
		return nil, err
	}
	given := cfg.Threads
	if cfg, err = cfg.onto(path, summary); err != nil {
		return nil, err
	}
	s := &Stage{threads: newThreads(given, cfg.Threads)}
	s.model, err = llama.LoadModel(ctx, paths, llama.ModelConfig{
		GPULayers: max(cfg.GPULayers, 0), NoMmap: cfg.NoMmap, Mlock: cfg.Mlock, Progress: cfg.Progress,
	})
	if err != nil {
		return nil, loadError(ctx, path, err)
	}
	s.info = engine.StageInfo{
		Width: summary.Embedding, Layers: summary.Layers, Last: summary.Slice.End == summary.WholeLayers,
		FirstToken: summary.Tokens.First, VocabSize: summary.VocabSize,
		Context: cfg.Context, Sequences: cfg.Sequences, BatchSize: cfg.BatchSize,
		MemoryBytes: uint64(summary.SizeBytes) + uint64(summary.KVBytesPerToken)*uint64(cfg.Context*cfg.Sequences),
	}
	outputs := cfg.BatchSize // all rows but of the last stage, whose rows are as wide as the vocabulary
	if s.info.Last {
		outputs = cfg.outputs()
	}
	s.info.Outputs = outputs
	s.ctx, err = s.model.NewContext(llama.ContextConfig{
		Size: cfg.Context, Sequences: cfg.Sequences, Batch: cfg.BatchSize, MicroBatch: cfg.MicroBatch, Outputs: outputs,
		Threads: cfg.Threads, Poll: cmp.Or(cfg.Poll, stagePoll), KeyType: cfg.KeyType, ValueType: cfg.ValueType, Flash: cfg.Flash, Stage: true,
	})
	if err != nil {
		return nil, errors.Join(loadError(ctx, path, err), s.model.Close())
	}
	s.adapters = adapters{model: s.model, ctx: s.ctx, base: summary}
	return s, nil
}

// Run implements engine.Stage. A cancelled ctx interrupts the computation.
func (s *Stage) Run(ctx context.Context, b engine.StageBatch) (engine.StageOutput, error) {
	if len(b.Hidden) != len(b.Rows)*s.info.Width {
		return engine.StageOutput{}, fmt.Errorf("%d numbers are not %d rows of %d", len(b.Hidden), len(b.Rows), s.info.Width)
	}
	if err := s.begin(b); err != nil {
		return engine.StageOutput{}, err
	}
	s.batch.Hidden = b.Hidden
	switch {
	case !s.info.Last:
		s.batch.Yield = llama.Hidden
	case b.Embedded:
		s.batch.Yield = llama.Embedded
	case b.Normed:
		s.batch.Yield = llama.Normed
	}
	s.threads.set(s.ctx)
	err := s.ctx.Until(ctx, func() error { return s.ctx.Decode(&s.batch) })
	s.batch.Hidden = nil // the caller's
	if errors.Is(err, llama.ErrCacheFull) {
		return engine.StageOutput{}, centram.Errorf(centram.TooLong, "the KV cache is full: %w", err)
	}
	if err != nil {
		return engine.StageOutput{}, err
	}
	if s.batch.Yield != llama.Logits {
		return engine.StageOutput{Hidden: s.ctx.Hidden()}, nil
	}
	logits, err := wanted(s.ctx, b.Rows)
	if err != nil {
		return engine.StageOutput{}, err
	}
	return s.likeliest(b.Rows, logits), nil
}

// begin makes the batch, without what its rows hold.
func (s *Stage) begin(b engine.StageBatch) error {
	if err := s.adapters.set(b.Adapters); err != nil {
		return err
	}
	s.batch.Reset()
	for _, r := range b.Rows {
		s.batch.Place(r.Pos, r.Seq, r.Logits)
	}
	return nil
}

// Unembed implements engine.Stage. A cancelled ctx interrupts the computation.
func (s *Stage) Unembed(ctx context.Context, b engine.StageBatch) (engine.StageOutput, error) {
	if !s.info.Last {
		return engine.StageOutput{}, fmt.Errorf("a stage of layers %d to %d has no output matrix", s.adapters.base.Slice.First, s.adapters.base.Slice.End)
	}
	if err := s.begin(b); err != nil {
		return engine.StageOutput{}, err
	}
	var all []float32
	err := s.ctx.Until(ctx, func() (err error) {
		all, err = s.ctx.Unembed(&s.batch, b.Hidden)
		return err
	})
	if err != nil {
		return engine.StageOutput{}, err
	}
	return s.likeliest(b.Rows, slices.Collect(slices.Chunk(all, s.info.VocabSize))), nil
}

// likeliest puts the likeliest tokens in the place of logits where they are enough. They are looked for here, while the
// logits are in the processor's cache.
func (s *Stage) likeliest(rows []engine.Row, logits [][]float32) engine.StageOutput {
	out := engine.StageOutput{Logits: logits}
	at := 0
	for _, r := range rows {
		if !r.Logits {
			continue
		}
		if r.Top > 0 {
			if out.Best == nil {
				out.Best = make([][]engine.Candidate, len(logits))
			}
			for len(s.best) <= at {
				s.best = append(s.best, nil)
			}
			s.found = llama.Likeliest(s.found, logits[at], r.Top)
			s.best[at] = s.best[at][:0]
			for _, c := range s.found {
				s.best[at] = append(s.best[at], engine.Candidate{Token: engine.Token(s.info.FirstToken + int(c.Token)), Logit: c.Logit})
			}
			out.Best[at], logits[at] = s.best[at], nil
		}
		at++
	}
	return out
}

// Trim implements engine.Stage.
func (s *Stage) Trim(seq, pos int) error { return s.ctx.Trim(seq, pos, -1) }

// Info implements engine.Stage.
func (s *Stage) Info() engine.StageInfo { return s.info }

// Close frees the stage.
func (s *Stage) Close() error {
	s.ctx.Close()
	s.adapters.close()
	return s.model.Close()
}

// Table looks up the embeddings of tokens, which are what the first stage takes. It reads them from the model's file: a
// few kilobytes a token, and the file is in the page cache.
type Table struct {
	file  *gguf.Model
	table gguf.Tensor
	row   int64 // bytes
	raw   []byte
}

// OpenTable opens the file of a whole model.
func OpenTable(path string) (*Table, error) {
	g, err := gguf.OpenModel(path)
	if err != nil {
		return nil, err
	}
	table, ok := g.Tensor("token_embd.weight")
	if !ok {
		return nil, errors.Join(centram.Errorf(centram.Invalid, "%s has no embeddings", path), g.Close())
	}
	row := table.Size / int64(g.Summary.VocabSize)
	return &Table{file: g, table: table, row: row, raw: make([]byte, row)}, nil
}

// Width is the length of a row.
func (t *Table) Width() int { return t.file.Summary.Embedding }

// Lookup appends the rows of tokens to out. It is for one goroutine.
func (t *Table) Lookup(out []float32, tokens ...engine.Token) ([]float32, error) {
	data, width := t.file.Data(t.table), t.Width()
	for _, token := range tokens {
		if token < 0 || int(token) >= t.file.Summary.VocabSize {
			return out, fmt.Errorf("token %d is not in the vocabulary of %d", token, t.file.Summary.VocabSize)
		}
		if _, err := data.ReadAt(t.raw, int64(token)*t.row); err != nil {
			return out, fmt.Errorf("look up token %d: %w", token, err)
		}
		n := len(out)
		out = append(out, make([]float32, width)...)
		if err := llama.Dequantize(uint32(t.table.Type), t.raw, out[n:]); err != nil {
			return out, err
		}
	}
	return out, nil
}

// Close closes the file.
func (t *Table) Close() error { return t.file.Close() }
