package local

import (
	"context"
	"fmt"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/llama"
)

// Embed implements engine.Model. The first call makes a context of its own, with room for one input at a time.
func (m *Model) Embed(ctx context.Context, inputs [][]engine.Token) ([][]float32, error) {
	m.embedMu.Lock()
	defer m.embedMu.Unlock()
	if m.closed {
		return nil, centram.Errorf(centram.Unavailable, "the model was just unloaded").WithHint("Try again.")
	}
	if m.embed == nil {
		// Mean pooling wants an input in one micro-batch.
		size := min(m.cfg.BatchSize, m.info.Context)
		c, err := m.model.NewContext(llama.ContextConfig{
			Size: size, Batch: size, MicroBatch: size, Threads: m.cfg.Threads, Poll: m.cfg.Poll, Embeddings: true,
		})
		if err != nil {
			return nil, fmt.Errorf("embed: %w", err)
		}
		m.embed = c
		if m.threads != nil {
			m.embedThreads = newThreads(0, m.cfg.Threads)
		}
	}
	vectors := make([][]float32, 0, len(inputs))
	var b llama.Batch
	for i, tokens := range inputs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if len(tokens) == 0 {
			return nil, centram.Errorf(centram.Invalid, "input %d is empty", i)
		}
		if len(tokens) > m.embed.Size() {
			e := centram.Errorf(centram.TooLong, "input %d has %d tokens, but an embedding takes at most %d", i, len(tokens), m.embed.Size())
			e.Details = map[string]any{"n_prompt_tokens": len(tokens), "n_ctx": m.embed.Size()}
			return nil, e
		}
		if err := m.embed.Trim(-1, 0, -1); err != nil {
			return nil, err
		}
		b.Reset()
		for pos, t := range tokens {
			b.Add(llama.Token(t), pos, 0, true)
		}
		m.embedThreads.set(m.embed)
		if err := m.unlessLost(m.embed.Until(ctx, func() error { return m.embed.Decode(&b) })); err != nil {
			return nil, fmt.Errorf("embed: %w", err)
		}
		v, err := m.embed.SequenceEmbedding(0)
		if err != nil {
			return nil, err
		}
		vectors = append(vectors, v)
	}
	return vectors, nil
}
