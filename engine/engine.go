// Package engine answers requests with models: it keeps several of them in memory within a budget, and for each runs
// one scheduler goroutine that batches all answers under way. It has no cgo: a model is an engine.Model, made by
// Config.Open. All methods of Engine may be called from any goroutine.
package engine

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/centram/centram"
)

// Config says how models are found and how many are kept. Open is required.
type Config struct {
	// Open loads the model of that name. It reports progress as 0..1.
	Open func(ctx context.Context, name string, progress func(float64)) (Model, error)
	// Estimate is the memory that Open would take, in bytes. Nil means nobody counts.
	Estimate func(name string) (uint64, error)
	// Resolve says which model a client means by a name, and the adapters that it is to be used with. Models that differ in
	// their adapters only are one in memory. Nil means that names are those of models.
	Resolve func(ctx context.Context, name string) (model string, adapters []AdapterScale, err error)
	// MemoryBudget is the most that resident models may take together, in bytes. Zero means no limit.
	MemoryBudget uint64
	// KeepAlive is how long an unused model stays. Zero means 5 minutes, negative for ever.
	KeepAlive time.Duration
	// QueueLimit is the most requests that wait for one model. Zero means 256.
	QueueLimit int
	// Speculate says how tokens of a model are guessed, to be checked several at a time: on says whether they are, draft is a
	// smaller model of the same vocabulary that guesses beside what is looked up in the text, or empty. Nil means that they
	// are looked up, for all models. Where that does not pay it is not done, whatever is said here.
	Speculate func(name string) (draft string, on bool)
	// Changed hears of models that come and go. It must not block or call the Engine. Nil means nobody listens.
	Changed func(Change)
}

// Engine keeps models in memory and answers with them.
type Engine struct {
	cfg    Config
	ctx    context.Context // ends with Close; loads and schedulers live in it
	cancel context.CancelFunc
	wg     sync.WaitGroup // loads, schedulers and expiries

	mu        sync.Mutex // guards what follows
	residents map[string]*resident
	freed     chan struct{} // closed and replaced whenever a model becomes idle or leaves
	closed    bool
}

// New makes an Engine with no model in memory. Close ends it.
func New(cfg Config) *Engine {
	if cfg.KeepAlive == 0 {
		cfg.KeepAlive = 5 * time.Minute
	}
	if cfg.QueueLimit == 0 {
		cfg.QueueLimit = 256
	}
	if cfg.Changed == nil {
		cfg.Changed = func(Change) {}
	}
	if cfg.Resolve == nil {
		cfg.Resolve = func(_ context.Context, name string) (string, []AdapterScale, error) { return name, nil, nil }
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Engine{cfg: cfg, ctx: ctx, cancel: cancel, residents: map[string]*resident{}, freed: make(chan struct{})}
}

// Run blocks until ctx ends, then closes the Engine.
func (e *Engine) Run(ctx context.Context) error {
	<-ctx.Done()
	return e.Close()
}

// Close ends the answers under way with centram.Unavailable and frees all models.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.cancel()
	e.wg.Wait()
	return nil
}

// Generate implements Generator.
func (e *Engine) Generate(ctx context.Context, r Request, emit func(Event) error) (Result, error) {
	began := time.Now()
	quiet := emit == nil
	if quiet {
		emit = func(Event) error { return nil }
	}
	res, adapters, err := e.acquire(ctx, r.Model)
	if err != nil {
		return Result{}, err
	}
	r.Adapters = slices.Concat(adapters, r.Adapters)
	defer e.release(res, r.KeepAlive)
	draft, guesses := e.acquireDraft(ctx, res, r.NoSpeculation)
	if draft != nil {
		defer e.release(draft, r.KeepAlive)
	}
	loadTime := time.Since(began)
	settled := res.sched.expect()
	defer settled()
	a, err := newAnswer(res.model, r)
	if err != nil {
		return Result{}, err
	}
	defer a.close()
	a.job.quiet, a.job.plain = quiet, !guesses
	result, err := a.run(ctx, res.sched, settled, emit)
	result.LoadTime = loadTime
	return result, err
}

// Embed returns a vector of length 1 for each input, of the model without adapters.
func (e *Engine) Embed(ctx context.Context, r EmbedRequest) (EmbedResult, error) {
	began := time.Now()
	res, _, err := e.acquire(ctx, r.Model)
	if err != nil {
		return EmbedResult{}, err
	}
	defer e.release(res, r.KeepAlive)
	out := EmbedResult{LoadTime: time.Since(began)}
	inputs := slices.Clone(r.Tokens)
	for _, text := range r.Texts {
		tokens, err := res.model.Tokenize(text, true, false)
		if err != nil {
			return out, err
		}
		inputs = append(inputs, tokens)
	}
	for _, tokens := range inputs {
		if err := checkTokens(tokens, res.model.Info().VocabSize); err != nil {
			return out, err
		}
		out.PromptTokens += len(tokens)
	}
	if e, ok := res.model.(Embedder); ok {
		out.Vectors, err = e.Embed(ctx, inputs)
	} else {
		out.Vectors, err = res.sched.embed(ctx, inputs)
	}
	if err != nil {
		return out, err
	}
	for _, v := range out.Vectors {
		normalise(v)
	}
	return out, nil
}

// Tokenize splits text with a model's vocabulary.
func (e *Engine) Tokenize(ctx context.Context, model, text string, begin, special bool) ([]Token, error) {
	res, _, err := e.acquire(ctx, model)
	if err != nil {
		return nil, err
	}
	defer e.release(res, 0)
	return res.model.Tokenize(text, begin, special)
}

// Detokenize joins the text of tokens, special ones included.
func (e *Engine) Detokenize(ctx context.Context, model string, tokens []Token) (string, error) {
	res, _, err := e.acquire(ctx, model)
	if err != nil {
		return "", err
	}
	defer e.release(res, 0)
	if err := checkTokens(tokens, res.model.Info().VocabSize); err != nil {
		return "", err
	}
	var text []byte
	for _, t := range tokens {
		text = append(text, res.model.Piece(t, true)...)
	}
	return string(text), nil
}

// RenderChat returns the prompt that a chat becomes.
func (e *Engine) RenderChat(ctx context.Context, model string, c Chat) (string, error) {
	res, _, err := e.acquire(ctx, model)
	if err != nil {
		return "", err
	}
	defer e.release(res, 0)
	rendered, err := res.model.RenderChat(c)
	return rendered.Prompt, err
}

func checkTokens(tokens []Token, vocab int) error {
	for _, t := range tokens {
		if t < 0 || int(t) >= vocab {
			return centram.Errorf(centram.Invalid, "token %d is not in the model's vocabulary of %d", t, vocab)
		}
	}
	return nil
}

func normalise(v []float32) {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if sum == 0 {
		return
	}
	scale := float32(1 / math.Sqrt(sum))
	for i := range v {
		v[i] *= scale
	}
}

// errStopped is what answers end with when their model is unloaded or the engine closed.
func errStopped(name string) error {
	return centram.Errorf(centram.Unavailable, "the model %s was unloaded while it answered", name).WithHint("Ask again; it will be loaded again.")
}

func errClosed() error {
	return fmt.Errorf("engine: %w", centram.Errorf(centram.Unavailable, "Centram is shutting down"))
}
