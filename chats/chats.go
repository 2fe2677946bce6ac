// Package chats keeps conversations: their messages as a tree, and an index to find them by any word in any language.
//
// A Store may be used from many goroutines. What a method has returned without an error is on the disk.
package chats

import (
	"crypto/rand"
	"database/sql"
	"io"
	"time"

	"github.com/centram/centram"
)

// Config says what a Store works with.
type Config struct {
	DB *sql.DB // of package store
	// Now dates chats and messages. Nil means time.Now.
	Now func() time.Time
	// Rand makes ids. Nil means crypto/rand.
	Rand io.Reader
}

// Store holds the conversations of one database.
type Store struct {
	db  *sql.DB
	now func() time.Time
	ids *ids
}

// New returns the Store of a database.
func New(cfg Config) *Store {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	return &Store{db: cfg.DB, now: cfg.Now, ids: &ids{now: cfg.Now, rand: cfg.Rand}}
}

// Summary is a conversation in a list.
type Summary struct {
	ID        string    `json:"id"`
	Title     string    `json:"title"`
	Model     string    `json:"model" doc:"Empty means the default model."`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at" doc:"When a message was last added or finished."`
	Snippet   string    `json:"snippet,omitempty" doc:"Where a search hit: each hit stands between U+E000 and U+E001."`
}

// Chat is a conversation.
type Chat struct {
	Summary
	System   string    `json:"system" doc:"The system prompt. Empty means the one of the settings."`
	Sampling Sampling  `json:"sampling"`
	Head     string    `json:"head" doc:"The message down to which the conversation is shown."`
	Messages []Message `json:"messages,omitzero" doc:"All branches, in the order in which they were written."`
}

// Draft is a conversation to be made.
type Draft struct {
	Title    string
	Model    string
	System   string
	Sampling Sampling
}

// Patch changes the fields that are not nil.
type Patch struct {
	Title    *string
	Model    *string
	System   *string
	Sampling *Sampling
	Head     *string
}

// Sampling is what a person set of how tokens are chosen. A nil field means the default.
type Sampling struct {
	Temperature   *float32 `json:"temperature,omitempty" minimum:"0" maximum:"5"`
	TopK          *int     `json:"top_k,omitempty" minimum:"0" maximum:"1000000"`
	TopP          *float32 `json:"top_p,omitempty" minimum:"0" maximum:"1"`
	MinP          *float32 `json:"min_p,omitempty" minimum:"0" maximum:"1"`
	RepeatPenalty *float32 `json:"repeat_penalty,omitempty" minimum:"0" maximum:"5"`
	MaxTokens     *int     `json:"max_tokens,omitempty" minimum:"0" doc:"0 means no limit."`
	Seed          *uint32  `json:"seed,omitempty"`
}

// Over returns s with the fields that it leaves open taken from base.
func (s Sampling) Over(base Sampling) Sampling {
	fill(&s.Temperature, base.Temperature)
	fill(&s.TopK, base.TopK)
	fill(&s.TopP, base.TopP)
	fill(&s.MinP, base.MinP)
	fill(&s.RepeatPenalty, base.RepeatPenalty)
	fill(&s.MaxTokens, base.MaxTokens)
	fill(&s.Seed, base.Seed)
	return s
}

func fill[T any](field **T, base *T) {
	if *field == nil {
		*field = base
	}
}

// Role says whose a message is.
type Role string

const (
	User      Role = "user"
	Assistant Role = "assistant"
)

// State says how far an answer is.
type State string

const (
	Generating  State = "generating"
	Done        State = "done"
	Stopped     State = "stopped"     // somebody stopped it
	Failed      State = "failed"      // Error says why
	Interrupted State = "interrupted" // the daemon ended meanwhile; its text is kept and can be continued
)

// Message is one turn of a conversation.
type Message struct {
	ID        string    `json:"id"`
	Parent    string    `json:"parent" doc:"Empty for the first message of a conversation."`
	Role      Role      `json:"role" enum:"user,assistant"`
	Content   string    `json:"content"`
	State     State     `json:"state" enum:"generating,done,stopped,failed,interrupted"`
	Error     *Problem  `json:"error,omitempty"`
	Model     string    `json:"model,omitempty" doc:"The model that answered."`
	CreatedAt time.Time `json:"created_at"`
	Stats     *Stats    `json:"stats,omitempty"`
}

// Problem is why an answer failed.
type Problem struct {
	Code    centram.Code `json:"code"`
	Message string       `json:"message"`
	Hint    string       `json:"hint,omitempty" doc:"What to do next."`
}

// Stats is what an answer cost. PromptTokens and GeneratedTokens together are the context in use.
type Stats struct {
	PromptTokens    int     `json:"prompt_tokens"`
	CachedTokens    int     `json:"cached_tokens"`
	GeneratedTokens int     `json:"generated_tokens"`
	PromptMS        float64 `json:"prompt_ms"`
	GenerateMS      float64 `json:"generate_ms"`
	TokensPerSecond float64 `json:"tokens_per_second"`
	ContextSize     int     `json:"context_size"`
	Finish          string  `json:"finish,omitempty" enum:"stop,length"`
}

// Outcome is how an answer ended.
type Outcome struct {
	Content string
	State   State // any but Generating
	Problem *Problem
	Stats   *Stats
}
