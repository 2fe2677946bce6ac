package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/config"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/engine/local"
	"github.com/centram/centram/models"
	"github.com/centram/centram/server/wire"
)

// talker answers, by a daemon or in this process.
type talker interface {
	Model() string
	// Answer calls emit with each piece of text. What was said before an error is in the answer.
	Answer(ctx context.Context, q question, emit func(text string) error) (answer, error)
	Close() error
}

// question is a conversation, or with Raw a text to be continued.
type question struct {
	Raw       bool
	Prompt    string
	Messages  []engine.Message
	Sampling  wire.Sampling
	MaxTokens int // 0: until the model ends it or the context is full
	Stop      []string
}

// answer is what --json prints.
type answer struct {
	Model           string  `json:"model"`
	Content         string  `json:"content"`
	Finish          string  `json:"finish"`
	PromptTokens    int     `json:"prompt_tokens"`
	CachedTokens    int     `json:"cached_tokens"`
	GeneratedTokens int     `json:"generated_tokens"`
	PromptMS        float64 `json:"prompt_ms"`
	GenerateMS      float64 `json:"generate_ms"`
	TokensPerSecond float64 `json:"tokens_per_second"`
}

// talk finds who answers for a model: our daemon if it knows it by name, else this process, else a daemon of another data
// directory at the configured address.
func (a *app) talk(ctx context.Context, model string) (talker, error) {
	if t, err := a.remoteTalk(ctx, model, a.ownDaemon); t != nil || err != nil {
		return t, err
	}
	m, err := a.findModel(ctx, model)
	if centram.CodeOf(err) == centram.NotFound {
		if t, _ := a.remoteTalk(ctx, model, a.daemon); t != nil {
			return t, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return newLocalTalker(ctx, m, a.cfg, a.newProgress("Loading "+m.Name))
}

// remoteTalk returns nil if there is no daemon, or none that knows the model.
func (a *app) remoteTalk(ctx context.Context, model string, find func(context.Context) (*client, error)) (talker, error) {
	if isFile(model) {
		return nil, nil
	}
	c, err := find(ctx)
	if errors.Is(err, errNoDaemon) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	t, err := newRemoteTalker(ctx, c, model)
	if centram.CodeOf(err) == centram.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// localTalker runs the model in this process.
type localTalker struct {
	name     string
	adapters []engine.AdapterScale
	engine   *engine.Engine
}

func newLocalTalker(ctx context.Context, m models.Model, cfg *config.Config, p *progress) (*localTalker, error) {
	run := runConfig(cfg)
	run.Sequences = 1
	t := &localTalker{name: m.Name, adapters: scales(m.Adapters)}
	t.engine = engine.New(engine.Config{
		KeepAlive: -1,
		Open: func(ctx context.Context, _ string, progress func(float64)) (engine.Model, error) {
			run.Progress = func(done float64) {
				p.show(done)
				progress(done)
			}
			return local.Open(ctx, m.Path, run)
		},
	})
	err := t.engine.Load(ctx, m.Name, 0)
	p.clear()
	if err != nil {
		return nil, errors.Join(err, t.engine.Close())
	}
	return t, nil
}

func (t *localTalker) Model() string { return t.name }
func (t *localTalker) Close() error  { return t.engine.Close() }

func (t *localTalker) Answer(ctx context.Context, q question, emit func(string) error) (answer, error) {
	sampling, err := q.Sampling.Engine()
	if err != nil {
		return answer{}, err
	}
	r := engine.Request{Model: t.name, Sampling: sampling, MaxTokens: q.MaxTokens, Stop: q.Stop, TopLogprobs: -1, Adapters: t.adapters}
	if q.Raw {
		r.Text = q.Prompt
	} else {
		r.Chat = &engine.Chat{Messages: q.Messages}
	}
	result, err := t.engine.Generate(ctx, r, func(e engine.Event) error { return emit(e.Text) })
	out := answer{
		Model: t.name, Content: result.Message.Content, Finish: string(result.Reason), PromptTokens: result.PromptTokens,
		CachedTokens: result.CachedTokens, GeneratedTokens: result.GeneratedTokens,
		PromptMS: milliseconds(result.PromptTime), GenerateMS: milliseconds(result.GenerateTime),
	}
	if result.GenerateTime > 0 {
		out.TokensPerSecond = float64(result.GeneratedTokens) / result.GenerateTime.Seconds()
	}
	return out, err
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// setSampling changes one of the parameters by its name, such as temperature, and checks it.
func setSampling(s *wire.Sampling, name, value string) error {
	var number *float64
	if err := json.Unmarshal([]byte(value), &number); err != nil || number == nil {
		return centram.Errorf(centram.Invalid, "%s: %q is not a number.", name, value)
	}
	changed := *s
	if err := json.Unmarshal(fmt.Appendf(nil, "{%q: %s}", name, value), &changed); err != nil {
		return err
	}
	if _, err := changed.Engine(); err != nil {
		return err
	}
	*s = changed
	return nil
}
