package engine

import (
	"context"
	"time"
)

// Request asks a model for one answer. Exactly one of Chat, Text and Tokens is set.
type Request struct {
	Model  string
	Chat   *Chat
	Text   string // completed as it is, without a chat template
	Tokens []Token

	Sampling  Sampling
	Grammar   Grammar  // for Text and Tokens; a chat brings its own
	Stop      []string // the answer ends before any of these
	MaxTokens int      // zero means until the model ends it or the context is full
	// TopLogprobs asks for the logprob of each token and of its n likeliest rivals. Negative means none (use -1).
	TopLogprobs int
	Adapters    []AdapterScale
	// Background requests wait until no other request is queued.
	Background bool
	// NoSpeculation has every token computed alone, without guesses of what follows. The answer is the same, but for the last
	// bits of what is computed in steps of another width.
	NoSpeculation bool
	// KeepAlive is how long the model stays resident after this answer. Zero means the engine's default, negative for ever.
	KeepAlive time.Duration
}

// Sampling is how tokens are chosen. Its zero value is greedy; DefaultSampling is what a person expects.
type Sampling struct {
	Temperature      float32 // 0: always the likeliest token
	TopK             int     // 0: off
	TopP             float32 // 0 or >= 1: off
	MinP             float32 // 0: off
	RepeatPenalty    float32 // 0 or 1: off
	RepeatLastN      int     // tokens that penalties look back; 0: 64, -1: the whole context
	FrequencyPenalty float32
	PresencePenalty  float32
	LogitBias        map[Token]float32
	Seed             *uint32 // nil: random
}

// DefaultSampling is llama.cpp's default.
func DefaultSampling() Sampling {
	return Sampling{Temperature: 0.8, TopK: 40, TopP: 0.95, MinP: 0.05}
}

// SamplerConfig is all that a Sampler needs to know.
type SamplerConfig struct {
	Sampling
	Grammar Grammar
}

// Event is a piece of an answer.
type Event struct {
	// Text is whole UTF-8 characters, never part of a stop string. With a chat that has tools it is the content only.
	Text      string
	ToolCalls []ToolCallDelta
	Tokens    []TokenInfo // the tokens behind Text, if logprobs were asked for
	Progress  *Progress   // set while the prompt is read, and nothing else is
}

// ToolCallDelta adds to the tool call with this index. ID and Name come with the first delta of a call, whole.
type ToolCallDelta struct {
	Index     int
	ID        string
	Name      string
	Arguments string // to be appended
}

// TokenInfo is a generated token with its log probability under the model (before temperature and truncation).
type TokenInfo struct {
	Token   Token
	Text    []byte
	Logprob float32
	Top     []TokenInfo // the likeliest, best first; without their own Top
}

// Progress is how far the prompt has been read.
type Progress struct {
	Total     int // prompt tokens
	Cached    int // of them reused
	Processed int // of them done, cached ones included
}

// FinishReason is why an answer ended.
type FinishReason string

const (
	FinishStop      FinishReason = "stop"
	FinishLength    FinishReason = "length"
	FinishToolCalls FinishReason = "tool_calls"
)

// Result is what is known when an answer has ended.
type Result struct {
	Message         Message // the whole answer
	Reason          FinishReason
	StopString      string // which of Request.Stop ended it, or empty
	PromptTokens    int
	CachedTokens    int // of the prompt, not computed again
	GeneratedTokens int
	LoadTime        time.Duration // waiting for the model
	QueueTime       time.Duration // waiting for a slot
	PromptTime      time.Duration
	GenerateTime    time.Duration
	ContextSize     int
	Guesses
}

// Guesses counts tokens that were guessed, to be checked several at a time.
type Guesses struct {
	Guessed  int
	Accepted int // of them right
}

// Generator is the part of Engine that answers.
//
// Generate blocks until the answer has ended and calls emit, from the calling goroutine, with each piece. Whoever wants
// the Result alone passes nil: to be woken for each token costs time that the model could compute in. A refusal
// (unknown model, prompt over the context, bad grammar) is returned before the first emit. If ctx ends or emit returns
// an error, the slot is free at the next step and that error is returned with what is known so far.
type Generator interface {
	Generate(ctx context.Context, r Request, emit func(Event) error) (Result, error)
}
