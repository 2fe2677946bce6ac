package engine

import (
	"cmp"
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/centram/centram"
)

// answer is one request on its way through a scheduler, as the requester's goroutine sees it.
type answer struct {
	job   *job
	parse func(text string, partial bool) (Message, error) // nil: the answer is its text
	raw   strings.Builder                                  // all text so far
	msg   Message                                          // as far as it was emitted
}

// newAnswer turns a request into a prompt and a sampler. Its errors are the request's fault, mostly.
func newAnswer(m Model, r Request) (*answer, error) {
	a := &answer{job: newJob(), msg: Message{Role: "assistant"}}
	j, grammar := a.job, r.Grammar
	var err error
	switch {
	case r.Chat != nil:
		if len(r.Chat.Messages) == 0 {
			return nil, centram.Errorf(centram.Invalid, "the conversation has no message")
		}
		rendered, err := m.RenderChat(*r.Chat)
		if err != nil {
			return nil, err
		}
		if j.prompt, err = m.Tokenize(rendered.Prompt, true, true); err != nil {
			return nil, err
		}
		grammar, a.parse = rendered.Grammar, rendered.Parse
		j.text.stops = append(j.text.stops, rendered.Stop...)
		j.preserve = make(map[Token]bool, len(rendered.Preserve))
		for _, t := range rendered.Preserve {
			j.preserve[t] = true
		}
	case r.Tokens != nil:
		if err := checkTokens(r.Tokens, m.Info().VocabSize); err != nil {
			return nil, err
		}
		j.prompt = r.Tokens
	default:
		if j.prompt, err = m.Tokenize(r.Text, true, true); err != nil {
			return nil, err
		}
	}
	if len(j.prompt) == 0 {
		return nil, centram.Errorf(centram.Invalid, "the prompt is empty")
	}
	for _, stop := range r.Stop {
		if stop != "" { // which would stop everything
			j.text.stops = append(j.text.stops, stop)
		}
	}
	j.adapters, j.maxTokens, j.topLogprobs, j.background = r.Adapters, r.MaxTokens, r.TopLogprobs, r.Background
	j.text.keep = r.TopLogprobs >= 0
	if grammar.GBNF == "" && r.TopLogprobs < 0 {
		j.top = r.Sampling.choosesFrom()
	}
	if j.sampler, err = m.NewSampler(SamplerConfig{Sampling: r.Sampling, Grammar: grammar}); err != nil {
		return nil, err
	}
	if r.Sampling.penalises() {
		for _, t := range j.prompt {
			j.sampler.Accept(t)
		}
	}
	return a, nil
}

func (s Sampling) penalises() bool {
	return (s.RepeatPenalty != 0 && s.RepeatPenalty != 1) || s.FrequencyPenalty != 0 || s.PresencePenalty != 0
}

// choosesFrom is how many of the likeliest tokens decide what is sampled, to the last bit: those that are looked at, and
// those that penalties may push down from there. 0 means that it may be any.
func (s Sampling) choosesFrom() int {
	n := s.TopK
	if s.Temperature <= 0 {
		n = 1
	}
	raises := s.FrequencyPenalty < 0 || s.PresencePenalty < 0 || (s.RepeatPenalty > 0 && s.RepeatPenalty < 1)
	if n <= 0 || len(s.LogitBias) > 0 || s.RepeatLastN < 0 || raises {
		return 0
	}
	if s.penalises() {
		n += cmp.Or(s.RepeatLastN, 64)
	}
	if n > mostTop {
		return 0
	}
	return n
}

// mostTop is more than which it does not pay to pick the likeliest.
const mostTop = 2048

func (a *answer) close() { a.job.sampler.Close() }

// run submits the job, calls submitted, and emits what comes until the job has ended.
func (a *answer) run(ctx context.Context, s *scheduler, submitted func(), emit func(Event) error) (Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, s.poke)() // a queued job of a client that left is dropped at once
	j := a.job
	j.ctx = ctx
	err := s.submit(j)
	submitted()
	if err != nil {
		return Result{}, err
	}
	var emitErr error
	for ended := false; !ended; {
		select {
		case <-j.news:
		case <-j.done:
			ended = true
		}
		for _, ev := range j.take() {
			if emitErr == nil {
				emitErr = a.emit(ev, ended, emit)
			}
			if emitErr != nil {
				cancel()
			}
		}
	}
	if emitErr == nil && j.err == nil && a.parse != nil {
		emitErr = a.emit(Event{}, true, emit)
	}
	if emitErr != nil {
		return a.result(s), emitErr
	}
	return a.result(s), j.err
}

// emit passes an event on, through the tool-call parser if there is one.
func (a *answer) emit(ev Event, last bool, emit func(Event) error) error {
	if ev.Progress != nil {
		return emit(ev)
	}
	a.raw.WriteString(ev.Text)
	if a.parse == nil {
		a.msg.Content += ev.Text
		return emit(ev)
	}
	msg, err := a.parse(a.raw.String(), !last)
	if err != nil {
		if !last {
			return nil // more text may make sense of it
		}
		// What cannot be read as a tool call is still what the model said.
		msg = Message{Content: a.raw.String(), ToolCalls: a.msg.ToolCalls}
	}
	out := Event{Tokens: ev.Tokens}
	out.Text, out.ToolCalls = a.delta(msg)
	if out.Text == "" && len(out.ToolCalls) == 0 && len(out.Tokens) == 0 {
		return nil
	}
	return emit(out)
}

// delta is what msg has more than what was emitted. A partial parse may take something back; then we wait.
func (a *answer) delta(msg Message) (text string, calls []ToolCallDelta) {
	if rest, ok := strings.CutPrefix(msg.Content, a.msg.Content); ok {
		text = rest
		a.msg.Content = msg.Content
	}
	for i, call := range msg.ToolCalls {
		if call.Name == "" {
			break
		}
		d := ToolCallDelta{Index: i}
		if i == len(a.msg.ToolCalls) {
			d.ID, d.Name = call.ID, call.Name
			if d.ID == "" {
				d.ID = "call_" + rand.Text()
			}
			a.msg.ToolCalls = append(a.msg.ToolCalls, ToolCall{ID: d.ID, Name: d.Name})
		}
		had := &a.msg.ToolCalls[i]
		rest, ok := strings.CutPrefix(call.Arguments, had.Arguments)
		if !ok {
			break
		}
		d.Arguments, had.Arguments = rest, call.Arguments
		if d.Name != "" || d.Arguments != "" {
			calls = append(calls, d)
		}
	}
	return text, calls
}

func (a *answer) result(s *scheduler) Result {
	j := a.job
	r := Result{
		Message: a.msg, Reason: j.reason, StopString: j.text.stopped, PromptTokens: len(j.prompt), CachedTokens: j.cached,
		GeneratedTokens: j.generated, PromptTime: j.promptTime, ContextSize: s.info.Context,
		Guesses: j.guesses,
	}
	if len(a.msg.ToolCalls) > 0 && j.reason == FinishStop {
		r.Reason = FinishToolCalls
	}
	since := func(from, to time.Time) time.Duration {
		if from.IsZero() || to.IsZero() {
			return 0
		}
		return to.Sub(from)
	}
	r.QueueTime, r.GenerateTime = since(j.queued, j.started), since(j.firstToken, j.ended)
	return r
}
