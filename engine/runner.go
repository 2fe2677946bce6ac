package engine

import (
	"cmp"
	"context"
	"encoding/json"
)

// Token is an index into a model's vocabulary.
type Token int32

// Runner is the seam below the scheduler: something that can run a batch of tokens through all layers of one model and
// keep a KV cache per sequence. A local llama.cpp context is one; a chain of peers that hold layer ranges is another.
// A Runner is used by one goroutine.
type Runner interface {
	// Step runs the batch and returns logits for the rows that asked for them. On an error the KV cache of the rows'
	// sequences is as before the call or shorter; the caller trims before it goes on.
	Step(ctx context.Context, b Batch) (Output, error)
	// Trim forgets positions >= pos of a sequence. Trim(seq, 0) frees it.
	Trim(seq, pos int) error
	// Info is constant for the life of the Runner.
	Info() Info
}

// Pipeline is a Runner that can have several steps under way, such as a chain of machines that would else wait for each
// other.
type Pipeline interface {
	Runner
	// Depth says in how many groups answers are best split, so that every machine has one, and how many steps may be under
	// way at once.
	Depth() (groups, steps int)
	// Start begins a step and returns when the next one may begin. The channel yields what Step would have returned; steps
	// end in the order in which they began. The logits of a row are valid until the next step of its sequence.
	Start(ctx context.Context, b Batch) (<-chan StepResult, error)
}

// Mortal is a Model that may end by itself, as one does that has lost a machine: every later Step fails. It is unloaded
// then, so that the next request loads it anew.
type Mortal interface {
	Ended() <-chan struct{} // closed at its end
}

// StepResult is what Step returns.
type StepResult struct {
	Output
	Err error
}

// Batch is what one Step runs: rows of any mix of sequences, positions of one sequence ascending.
type Batch struct {
	Rows     []Row
	Adapters []AdapterScale // apply to every row; the scheduler groups rows by adapters
}

// Row is one token at an absolute position of a sequence.
type Row struct {
	Token  Token
	Seq    int
	Pos    int
	Logits bool
	Top    int  // how many of the likeliest tokens are enough: Output.Best may take the place of the logits. 0: all are wanted
	Embed  bool // with Logits: wanted are the Info().Embedding numbers that go into the output matrix, instead of its logits
}

// AdapterScale names a LoRA adapter and its weight.
type AdapterScale struct {
	Path  string
	Scale float32
	// Digest tells one content of the file from another, so that what was computed or loaded of one is not taken for the
	// other. Empty means that the file stays as it is.
	Digest string
}

// Output holds one slice of vocabulary-size logits for each row with Logits set, in batch order. The slices belong to
// the Runner and are valid until its next Step.
type Output struct {
	Logits [][]float32
	// Best is nil, or as long as Logits. What it has of a row are its Top likeliest tokens, as Compare orders them, and then
	// there are no logits of that row.
	Best [][]Candidate
}

// Candidate is a token that may come next.
type Candidate struct {
	Token Token
	Logit float32
}

// Compare orders candidates: the likeliest first, and of equals the one with the lower number.
func (c Candidate) Compare(other Candidate) int {
	return cmp.Or(cmp.Compare(other.Logit, c.Logit), cmp.Compare(c.Token, other.Token))
}

// rows are n rows of the output.
func (o Output) rows(from, n int) Output {
	part := Output{Logits: o.Logits[from : from+n]}
	if o.Best != nil {
		part.Best = o.Best[from : from+n]
	}
	return part
}

// Info describes a Runner's model and its room.
type Info struct {
	Architecture string
	Description  string // such as "qwen2 1B Q4_K - Medium"
	Parameters   uint64
	Size         uint64 // bytes of the weights
	Layers       int
	Embedding    int // width of an embedding vector
	VocabSize    int
	TrainContext int // tokens the model was trained for
	Context      int // tokens each sequence has room for
	Sequences    int // sequences that run at once; the scheduler has as many slots
	BatchSize    int // most rows of one Step
	Outputs      int // most rows of one Step with logits; 0: all
	MemoryBytes  uint64
	ChatTemplate bool
	GPU          bool
	Threads      int
}

// Model is a Runner together with what turns text into tokens and logits into tokens. Tokenize, Piece, the chat
// methods and NewSampler may be called from any goroutine; a Sampler is used by one.
type Model interface {
	Runner
	Vocabulary
	NewSampler(SamplerConfig) (Sampler, error)
	// RenderChat applies the model's chat template. A bad schema, an unknown role and the like are centram.Invalid.
	RenderChat(Chat) (RenderedChat, error)
	// Close waits for calls under way. Later calls return an error.
	Close() error
}

// Embedder is a Model that makes embeddings beside its answers. Of one that is none, the rows of a text are asked for with
// Row.Embed, and their mean is taken.
type Embedder interface {
	// Embed returns one pooled, unnormalised vector of Info().Embedding values for each input.
	Embed(ctx context.Context, inputs [][]Token) ([][]float32, error)
}

// Vocabulary converts between text and tokens.
type Vocabulary interface {
	// Tokenize splits text. With special, the text of special tokens (<|im_start|>) becomes those tokens; with begin,
	// a beginning-of-sequence token is put first if the model wants one.
	Tokenize(text string, begin, special bool) ([]Token, error)
	// Piece returns the bytes of one token, which may be part of a UTF-8 character. Control tokens give none unless special.
	Piece(t Token, special bool) []byte
	// EndOfGeneration reports whether t ends an answer.
	EndOfGeneration(t Token) bool
}

// Sampler picks tokens for one request. It is not safe for concurrent use.
type Sampler interface {
	// Sample picks a token from logits (which it does not change) and takes it into account for the next.
	Sample(logits []float32) (Token, error)
	// Choose is Sample for a row of which only the likeliest tokens are known, and no others can be picked.
	Choose(best []Candidate) (Token, error)
	// Accept takes a prompt token into account for penalties, without the grammar.
	Accept(t Token)
	Close()
}

// RenderedChat is a chat turned into a prompt, with the rules to generate and read the answer by.
type RenderedChat struct {
	Prompt   string
	Grammar  Grammar
	Stop     []string // further stop strings that the template needs
	Preserve []Token  // special tokens whose text must appear in the answer for it to be parsed
	// Parse reads the text generated so far. partial says that more will come. It is nil when the answer is plain text.
	Parse func(text string, partial bool) (Message, error)
}

// Grammar constrains an answer. A lazy grammar begins to apply when a trigger appears.
type Grammar struct {
	GBNF     string
	Lazy     bool
	Patterns []string // regular expressions over the text so far, matched from its start
	Tokens   []Token
	Prefill  string // the part of the constrained text that the prompt already holds
}

// Chat is a conversation to be answered.
type Chat struct {
	Messages          []Message
	Tools             []Tool
	ToolChoice        ToolChoice
	ParallelToolCalls bool
	JSONSchema        json.RawMessage // the answer must be JSON that fits this schema; {} means any object
	GBNF              string          // or must fit this grammar
	Continue          bool            // go on with the last message, which is the assistant's, instead of a new one
}

// ToolChoice says whether an answer may, must or must not call a tool.
type ToolChoice string

const (
	ToolAuto     ToolChoice = "auto" // also the empty string
	ToolRequired ToolChoice = "required"
	ToolNone     ToolChoice = "none"
)

// Message is one turn of a conversation, in OpenAI's shape.
type Message struct {
	Role       string     `json:"role"` // system, user, assistant or tool
	Content    string     `json:"content"`
	ToolCalls  []ToolCall `json:"tool_calls,omitempty"`
	ToolCallID string     `json:"tool_call_id,omitempty"`
	Name       string     `json:"name,omitempty"`
}

// ToolCall is the model's wish to have a function called. Arguments is JSON text.
type ToolCall struct {
	ID        string
	Name      string
	Arguments string
}

// Tool is a function that the model may call. Parameters is a JSON schema.
type Tool struct {
	Name        string
	Description string
	Parameters  json.RawMessage
}
