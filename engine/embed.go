package engine

import (
	"context"
	"time"

	"github.com/centram/centram"
)

// EmbedRequest asks for one vector for each input. Texts or Tokens is set.
type EmbedRequest struct {
	Model  string
	Texts  []string
	Tokens [][]Token
	// KeepAlive is how long the model stays resident afterwards, as in Request.
	KeepAlive time.Duration
}

// EmbedResult holds vectors of length 1 (Euclidean norm), in the order of the inputs.
type EmbedResult struct {
	Vectors      [][]float32
	PromptTokens int
	LoadTime     time.Duration
}

// Resident describes a model that is in memory or being loaded.
type Resident struct {
	Name        string
	Info        Info
	Loading     float64   // 0..1 while it is being loaded, 1 when it can answer
	Busy        int       // sequences answering now
	Queued      int       // requests waiting for a slot
	MemoryBytes uint64    // weights, KV cache and compute buffers
	ExpiresAt   time.Time // when it will be unloaded if nobody asks; zero means never
	Draft       string    // the model that guesses for it
	DraftError  error     // why it does not, though it should
	Guesses               // of the answers that have ended
}

// Change tells a listener what happened to a resident model.
type Change struct {
	Name     string
	Kind     ChangeKind
	Progress float64
	Err      error
}

// ChangeKind is one of the words below.
type ChangeKind string

const (
	Loading  ChangeKind = "loading"
	Loaded   ChangeKind = "loaded"
	Unloaded ChangeKind = "unloaded"
	Failed   ChangeKind = "failed"
)

// embed has the scheduler read texts between answers, for a model that has no other way to make embeddings.
func (s *scheduler) embed(ctx context.Context, inputs [][]Token) ([][]float32, error) {
	var out [][]float32
	for i, tokens := range inputs {
		if len(tokens) == 0 {
			return nil, centram.Errorf(centram.Invalid, "input %d is empty", i)
		}
		j := newJob()
		j.ctx, j.prompt, j.quiet, j.plain, j.topLogprobs = ctx, tokens, true, true, -1
		j.vector = make([]float32, s.info.Embedding)
		stop := context.AfterFunc(ctx, s.poke)
		err := s.submit(j)
		if err == nil {
			<-j.done
			err = j.err
		}
		stop()
		if err != nil {
			return nil, err
		}
		out = append(out, j.vector)
	}
	return out, nil
}

// embeds says whether a slot reads a text for its embedding.
func (sl *slot) embeds() bool { return sl.job != nil && sl.job.vector != nil }

// collect adds the rows of an embedding's step, and ends it with the last.
func (s *scheduler) collect(t *take, rows [][]float32) {
	for _, row := range rows {
		for i, x := range row {
			t.job.vector[i] += x
		}
	}
	if t.end == len(t.job.prompt) {
		s.end(t.slot, FinishStop, nil)
	}
}
