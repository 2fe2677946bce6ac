package engine

import "time"

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
