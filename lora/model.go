package lora

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"

	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama"
	"github.com/centram/centram/lora/dataset"
)

// tokenizer is what the data needs of a model.
type tokenizer struct{ *llama.Model }

func (t tokenizer) Tokenize(text string, special bool) ([]int32, error) {
	return t.Model.Tokenize(text, true, special)
}

func (t tokenizer) Render(messages []dataset.Message, answer bool) (string, error) {
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	list := make([]message, len(messages))
	for i, m := range messages {
		list[i] = message{m.Role, m.Content}
	}
	b, err := json.Marshal(list)
	if err != nil {
		return "", fmt.Errorf("encode the conversation: %w", err)
	}
	p, err := t.ApplyTemplate(llama.ChatRequest{Messages: b, ToolChoice: "none", NoAnswer: !answer})
	if err != nil {
		return "", err
	}
	return p.Prompt, nil
}

func (t tokenizer) Ends(token int32) bool { return t.EndOfGeneration(token) }
func (t tokenizer) End() int32            { return t.Model.End() }

// base is the model that a run trains for.
type base struct {
	summary gguf.Summary
	paths   []string
	norm    [32]byte // hash of the last norm: with the file's size it tells models of one shape apart, and is read at once
}

func openBase(path string) (base, error) {
	g, err := gguf.OpenModel(path)
	if err != nil {
		return base{}, err
	}
	defer g.Close()
	b := base{summary: g.Summary}
	for _, part := range g.Parts {
		b.paths = append(b.paths, part.Name)
	}
	if t, ok := g.Tensor("output_norm.weight"); ok {
		if b.norm, err = g.Hash(t); err != nil {
			return base{}, err
		}
	}
	return b, g.Summary.Whole()
}

// documents makes tokens of items.
func (b base) documents(ctx context.Context, items ...[]dataset.Item) ([][]dataset.Document, error) {
	m, err := llama.LoadModel(ctx, b.paths, llama.ModelConfig{VocabOnly: true})
	if err != nil {
		return nil, err
	}
	// What the vocabulary took is given back, since the training needs the room.
	defer func() { m.Close(); debug.FreeOSMemory() }()
	out := make([][]dataset.Document, len(items))
	for i, list := range items {
		if out[i], err = dataset.EncodeAll(list, tokenizer{m}, nil); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return out, nil
}
