package wiretest

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
)

// Model is the name of the model that every Engine knows, and Context is how many tokens fit into it.
const (
	Model   = "test"
	Context = 4096
)

// Step is one thing that a scripted answer does. The fields that are set happen in their order.
type Step struct {
	Sleep time.Duration
	Block bool  // until the context ends, whose error ends the answer
	Err   error // ends the answer
	Event engine.Event
	End   *engine.Result // ends the answer, with this as it is
}

// Engine follows a script. It is safe for concurrent use.
type Engine struct {
	// Script gives the steps of an answer. Nil means Answering.
	Script func(engine.Request) []Step
	// EmbedErr, if it is set, is what Embed returns.
	EmbedErr error

	mu       sync.Mutex // guards what follows
	requests []engine.Request
	embeds   []engine.EmbedRequest
	loaded   bool
	kept     []time.Duration
	running  int
}

// Say is a script that says the same to everyone.
func Say(steps ...Step) func(engine.Request) []Step {
	return func(engine.Request) []Step { return steps }
}

// Text is a step for each piece of text.
func Text(pieces ...string) []Step {
	steps := make([]Step, len(pieces))
	for i, p := range pieces {
		steps[i].Event.Text = p
	}
	return steps
}

// Generate refuses what the real engine refuses: an unknown model, and a request that is not exactly one of chat, text
// and tokens. The latter would be our mistake and is an internal error.
func (e *Engine) Generate(ctx context.Context, r engine.Request, emit func(engine.Event) error) (engine.Result, error) {
	e.mu.Lock()
	e.requests = append(e.requests, r)
	e.running++
	e.loaded = true
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.running--
		e.mu.Unlock()
	}()
	if err := check(r); err != nil {
		return engine.Result{}, err
	}
	script := e.Script
	if script == nil {
		script = Answering
	}
	return play(ctx, script(r), emit)
}

func check(r engine.Request) error {
	if err := known(r.Model); err != nil {
		return err
	}
	prompts := 0
	for _, set := range []bool{r.Chat != nil, r.Text != "", len(r.Tokens) > 0} {
		if set {
			prompts++
		}
	}
	if prompts != 1 {
		return errors.New("exactly one of Chat, Text and Tokens must be set")
	}
	if r.Chat != nil && len(r.Chat.Messages) == 0 {
		return errors.New("a chat without messages")
	}
	return nil
}

func known(model string) error {
	if model != Model {
		return centram.Errorf(centram.NotFound, "There is no model %q.", model)
	}
	return nil
}

// play follows the steps and adds up what they say.
func play(ctx context.Context, steps []Step, emit func(engine.Event) error) (engine.Result, error) {
	result := engine.Result{
		Message: engine.Message{Role: "assistant"}, Reason: engine.FinishStop,
		PromptTokens: 12, CachedTokens: 4, ContextSize: Context,
		LoadTime: 250 * time.Millisecond, PromptTime: 40 * time.Millisecond,
	}
	for _, s := range steps {
		if err := s.wait(ctx); err != nil {
			return result, err
		}
		if s.End != nil {
			return *s.End, nil
		}
		if emit != nil {
			if err := emit(s.Event); err != nil {
				return result, err
			}
		}
		add(&result, s.Event)
	}
	return result, nil
}

func (s Step) wait(ctx context.Context) error {
	if s.Sleep > 0 {
		select {
		case <-time.After(s.Sleep):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if s.Block {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.Err
}

func add(r *engine.Result, e engine.Event) {
	if e.Progress != nil {
		return
	}
	r.GeneratedTokens++
	r.GenerateTime += 20 * time.Millisecond
	r.Message.Content += e.Text
	for _, d := range e.ToolCalls {
		r.Reason = engine.FinishToolCalls
		for len(r.Message.ToolCalls) <= d.Index {
			r.Message.ToolCalls = append(r.Message.ToolCalls, engine.ToolCall{ID: d.ID, Name: d.Name})
		}
		r.Message.ToolCalls[d.Index].Arguments += d.Arguments
	}
}

// Answering behaves as a model would: it calls a tool when it must, writes JSON when it must, stops at a limit or at a
// stop string, and otherwise says "Hello world."
func Answering(r engine.Request) []Step {
	if c := r.Chat; c != nil && c.ToolChoice == engine.ToolRequired {
		return Calls(engine.ToolCall{ID: "call_1", Name: c.Tools[0].Name, Arguments: `{"city":"Oslo"}`})
	}
	pieces := []string{"Hello", " world", "."}
	if r.Chat != nil && r.Chat.JSONSchema != nil {
		pieces = []string{`{"answer"`, `:`, `42}`}
	}
	steps := Text(pieces...)
	if r.TopLogprobs >= 0 {
		withTokens(steps, r.TopLogprobs)
	}
	for i, p := range pieces {
		if stopped(p, r.Stop) {
			return steps[:i]
		}
	}
	if r.MaxTokens > 0 && r.MaxTokens < len(steps) {
		return cut(steps[:r.MaxTokens])
	}
	return steps
}

func stopped(piece string, stops []string) bool {
	for _, s := range stops {
		if strings.Contains(piece, s) {
			return true
		}
	}
	return false
}

// cut ends an answer by its length.
func cut(steps []Step) []Step {
	result, _ := play(context.Background(), steps, func(engine.Event) error { return nil })
	result.Reason = engine.FinishLength
	return append(steps, Step{End: &result})
}

// Calls are the steps of an answer that calls tools: the name first, then the arguments in two pieces.
func Calls(calls ...engine.ToolCall) []Step {
	var steps []Step
	for i, c := range calls {
		half := len(c.Arguments) / 2
		for _, d := range []engine.ToolCallDelta{
			{Index: i, ID: c.ID, Name: c.Name},
			{Index: i, Arguments: c.Arguments[:half]},
			{Index: i, Arguments: c.Arguments[half:]},
		} {
			steps = append(steps, Step{Event: engine.Event{ToolCalls: []engine.ToolCallDelta{d}}})
		}
	}
	return steps
}

// withTokens gives each piece a token with top rivals. The last rival is one that cannot be.
func withTokens(steps []Step, top int) {
	for i := range steps {
		info := engine.TokenInfo{Token: engine.Token(i), Text: []byte(steps[i].Event.Text), Logprob: -0.25}
		for k := range top {
			rival := engine.TokenInfo{Token: engine.Token(100 + k), Text: []byte{'r', byte('0' + k%10)}, Logprob: -0.5 * float32(k+1)}
			if k == top-1 {
				rival.Logprob = float32(math.Inf(-1))
			}
			info.Top = append(info.Top, rival)
		}
		steps[i].Event.Tokens = []engine.TokenInfo{info}
	}
}

// Embed gives each input a vector of length 1 and four dimensions, which depends on the input.
func (e *Engine) Embed(_ context.Context, r engine.EmbedRequest) (engine.EmbedResult, error) {
	e.mu.Lock()
	e.embeds = append(e.embeds, r)
	e.mu.Unlock()
	if err := known(r.Model); err != nil {
		return engine.EmbedResult{}, err
	}
	if e.EmbedErr != nil {
		return engine.EmbedResult{}, e.EmbedErr
	}
	var out engine.EmbedResult
	for _, text := range r.Texts {
		out.Vectors = append(out.Vectors, vector(len(text)))
		out.PromptTokens += len(strings.Fields(text))
	}
	for _, tokens := range r.Tokens {
		out.Vectors = append(out.Vectors, vector(len(tokens)))
		out.PromptTokens += len(tokens)
	}
	return out, nil
}

func vector(n int) []float32 {
	v := []float32{1, float32(n), -2, 0.5}
	var sum float64
	for _, x := range v {
		sum += float64(x * x)
	}
	for i := range v {
		v[i] /= float32(math.Sqrt(sum))
	}
	return v
}

// Load makes the model resident.
func (e *Engine) Load(_ context.Context, name string, keepAlive time.Duration) error {
	if err := known(name); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.loaded = true
	e.kept = append(e.kept, keepAlive)
	return nil
}

// Unload fails with centram.NotFound if the model is not resident.
func (e *Engine) Unload(_ context.Context, name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if name != Model || !e.loaded {
		return centram.Errorf(centram.NotFound, "%s is not loaded.", name)
	}
	e.loaded = false
	return nil
}

// Resident is the model, if it is loaded.
func (e *Engine) Resident() []engine.Resident {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.loaded {
		return nil
	}
	return []engine.Resident{{
		Name: Model, Loading: 1, MemoryBytes: 1 << 30,
		Info: engine.Info{Architecture: "qwen2", Context: Context, GPU: true},
	}}
}

// Requests are those that Generate got.
func (e *Engine) Requests() []engine.Request {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]engine.Request(nil), e.requests...)
}

// Embeds are those that Embed got.
func (e *Engine) Embeds() []engine.EmbedRequest {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]engine.EmbedRequest(nil), e.embeds...)
}

// Kept is for how long each Load wanted the model to stay.
func (e *Engine) Kept() []time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]time.Duration(nil), e.kept...)
}

// Running is how many answers are under way.
func (e *Engine) Running() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.running
}
