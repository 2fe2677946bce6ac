package local

import (
	"context"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama"
)

// Text is the part of a model that turns text into tokens and logits into tokens: vocabulary, chat template, samplers. It
// may be used from any goroutine.
type Text struct {
	model   *llama.Model
	context int // tokens, for penalties that look back all the way
}

// OpenText loads a model's vocabulary and templates, without its weights: they may be on other machines.
func OpenText(ctx context.Context, path string, cfg Config) (*Text, engine.Info, error) {
	summary, paths, err := check(path)
	if err != nil {
		return nil, engine.Info{}, err
	}
	info := describe(summary, cfg)
	m, err := llama.LoadModel(ctx, paths, llama.ModelConfig{VocabOnly: true})
	if err != nil {
		return nil, engine.Info{}, loadError(ctx, path, err)
	}
	return &Text{m, info.Context}, info, nil
}

// Describe says what a model of the file would be, and what room it would have, without loading anything.
func Describe(path string, cfg Config) (engine.Info, error) {
	summary, _, err := check(path)
	if err != nil {
		return engine.Info{}, err
	}
	return describe(summary, cfg), nil
}

func describe(s gguf.Summary, cfg Config) engine.Info {
	cfg = cfg.withDefaults(s)
	return engine.Info{
		Architecture: s.Architecture, Description: s.Architecture + " " + s.Quantization, Parameters: s.Parameters,
		Size: uint64(s.SizeBytes), Layers: s.Layers, Embedding: s.Embedding, VocabSize: s.VocabSize, TrainContext: s.Context,
		Context: cfg.Context, Sequences: cfg.Sequences, BatchSize: cfg.BatchSize, Outputs: cfg.outputs(),
		ChatTemplate: s.ChatTemplate, Threads: cfg.Threads,
	}
}

// Close frees it.
func (t *Text) Close() error { return t.model.Close() }

// Tokenize implements engine.Vocabulary.
func (t *Text) Tokenize(text string, begin, special bool) ([]engine.Token, error) {
	raw, err := t.model.Tokenize(text, begin, special)
	if err != nil {
		return nil, err
	}
	return tokens(raw), nil
}

// Piece implements engine.Vocabulary.
func (t *Text) Piece(token engine.Token, special bool) []byte {
	return t.model.Piece(llama.Token(token), special)
}

// EndOfGeneration implements engine.Vocabulary.
func (t *Text) EndOfGeneration(token engine.Token) bool {
	return t.model.EndOfGeneration(llama.Token(token))
}
