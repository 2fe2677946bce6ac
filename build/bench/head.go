package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/engine/local"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hyperlink"
)

// headSetup says which model the head has, both alone and as the first of two stages.
type headSetup struct {
	Model          string
	Draft          string // a model that guesses; empty: none does
	Cut            int    // layers here, if it is split
	Tail           int    // tokens of which the other stage gives logits, and this one of the rest. 0: of all
	Stage          string
	Threads, Lanes int
	Context        int // tokens of a lane
}

// headReady says that both are loaded.
type headReady struct{}

// question asks a head for so many chats at once.
type question struct {
	Which       string // solo or split
	Salt        int    // of the prompts; every round has its own, so no cache of a prompt helps
	Chats       int
	Prompt, Gen int  // tokens of each chat
	Guess       bool // whether tokens are guessed and checked several at a time
}

const (
	solo  = "solo"
	split = "split"
	draft = "draft"
)

// answer is what came out, and how long it took.
type answer struct {
	Tokens    [][]engine.Token // by chat
	Seconds   float64          // from the first request to the last token
	Writing   float64          // from a chat's first token to its last, on average
	Sampling  float64          // seconds that the head spent in samplers
	Computing float64          // and in its layers, if the model is split
	Err       string
}

func runHead(setup string) error {
	var s headSetup
	if err := json.Unmarshal([]byte(setup), &s); err != nil {
		return err
	}
	runtime.GOMAXPROCS(s.Threads) // as on a machine that has no more cores; 0 leaves it
	h, err := startHead(s)
	if err != nil {
		return err
	}
	defer h.stop()
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	if err := out.Encode(headReady{}); err != nil {
		return err
	}
	for {
		var q question
		if err := in.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := out.Encode(h.answer(q)); err != nil {
			return err
		}
	}
}

// head answers with the engine, as the daemon does.
type head struct {
	*member
	setup  headSetup
	engine *engine.Engine
	notes  notes
}

func startHead(s headSetup) (*head, error) {
	h := &head{setup: s}
	var err error
	h.member, err = startMember(headSeed, s.Stage, func(context.Context, hyperlink.Assignment) (engine.Stage, error) {
		return nil, centram.Errorf(centram.Unsupported, "the head asks and does not host")
	})
	if err != nil {
		return nil, err
	}
	h.engine = engine.New(engine.Config{Open: h.open, KeepAlive: -1, Speculate: func(name string) (string, bool) {
		if s.Draft == "" || name == draft {
			return "", name != draft
		}
		return draft, true
	}})
	for _, which := range []string{solo, split} {
		if err := h.engine.Load(context.Background(), which, -1); err != nil {
			return nil, fmt.Errorf("load the model %s: %w", which, err)
		}
	}
	return h, nil
}

func (h *head) open(ctx context.Context, which string, _ func(float64)) (engine.Model, error) {
	s := h.setup
	cfg := local.Config{Context: s.Context, Sequences: s.Lanes, Threads: s.Threads, GPULayers: -1}
	switch which {
	case draft:
		return local.Open(ctx, s.Draft, cfg)
	case solo:
		m, err := local.Open(ctx, s.Model, cfg)
		return soloModel{m, &h.notes}, err
	}
	text, info, err := local.OpenText(ctx, s.Model, cfg)
	if err != nil {
		return nil, err
	}
	table, err := local.OpenTable(s.Model)
	if err != nil {
		return nil, err
	}
	own, err := openShare(ctx, s.Model, gguf.Share{Layers: centram.LayerRange{End: s.Cut}}, cfg)
	if err != nil {
		return nil, err
	}
	own = timedStage{own, &h.notes}
	var output engine.Stage
	if s.Tail > 0 {
		last := gguf.Share{
			Layers: centram.LayerRange{First: info.Layers - 1, End: info.Layers}, Tokens: gguf.TokenRange{First: s.Tail, End: info.VocabSize},
		}
		if output, err = openShare(ctx, s.Model, last, cfg); err != nil {
			return nil, err
		}
		output = timedStage{output, &h.notes}
	}
	c, err := h.chain(ctx, hyperlink.ChainConfig{Text: text, Table: table, Own: own, Output: output, Info: info}, s.Cut)
	return splitModel{c, &h.notes}, err
}

// answer asks all chats at once.
func (h *head) answer(q question) (a answer) {
	h.notes.reset(q.Chats)
	var wg sync.WaitGroup
	errs, writing := make([]error, q.Chats), make([]time.Duration, q.Chats)
	began := time.Now()
	for i := range q.Chats {
		wg.Go(func() {
			var r engine.Result
			r, errs[i] = h.engine.Generate(context.Background(), q.request(i), nil)
			writing[i] = r.GenerateTime
		})
	}
	wg.Wait()
	a.Seconds = time.Since(began).Seconds()
	if err := errors.Join(errs...); err != nil {
		a.Err = err.Error()
		return a
	}
	for _, w := range writing {
		a.Writing += w.Seconds() / float64(q.Chats)
	}
	a.Tokens, a.Sampling, a.Computing = h.notes.take()
	return a
}

// request is what a chat asks.
func (q question) request(chat int) engine.Request {
	random := rand.New(rand.NewPCG(uint64(q.Salt), uint64(chat)))
	prompt := make([]engine.Token, q.Prompt)
	for i := range prompt {
		prompt[i] = engine.Token(random.IntN(promptVocab))
	}
	seed := uint32(chat) // greedy needs none: it tells the samplers apart
	return engine.Request{
		Model: q.Which, Tokens: prompt, MaxTokens: q.Gen, TopLogprobs: -1, Sampling: engine.Sampling{Seed: &seed}, NoSpeculation: !q.Guess,
	}
}

const promptVocab = 256 // the ids below are no special tokens in any of the models

// notes are what was sampled, and how long what took.
type notes struct {
	mu                  sync.Mutex // guards the following
	tokens              [][]engine.Token
	sampling, computing time.Duration
}

func (n *notes) reset(chats int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tokens, n.sampling, n.computing = make([][]engine.Token, chats), 0, 0
}

func (n *notes) take() (tokens [][]engine.Token, sampling, computing float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.tokens, n.sampling.Seconds(), n.computing.Seconds()
}

func (n *notes) watch(cfg engine.SamplerConfig, s engine.Sampler, err error) (engine.Sampler, error) {
	if err != nil {
		return nil, err
	}
	return watched{s, n, int(*cfg.Seed)}, nil
}

// watched is a sampler of which notes are taken.
type watched struct {
	engine.Sampler
	notes *notes
	chat  int
}

func (w watched) Sample(logits []float32) (engine.Token, error) {
	return w.note(func() (engine.Token, error) { return w.Sampler.Sample(logits) })
}

func (w watched) Choose(best []engine.Candidate) (engine.Token, error) {
	return w.note(func() (engine.Token, error) { return w.Sampler.Choose(best) })
}

func (w watched) note(pick func() (engine.Token, error)) (engine.Token, error) {
	began := time.Now()
	t, err := pick()
	took := time.Since(began)
	w.notes.mu.Lock()
	defer w.notes.mu.Unlock()
	w.notes.sampling += took
	w.notes.tokens[w.chat] = append(w.notes.tokens[w.chat], t)
	return t, err
}

// timedStage is a stage that says how long it computes.
type timedStage struct {
	engine.Stage
	notes *notes
}

func (s timedStage) Run(ctx context.Context, b engine.StageBatch) (engine.StageOutput, error) {
	defer s.note(time.Now())
	return s.Stage.Run(ctx, b)
}

func (s timedStage) Unembed(ctx context.Context, b engine.StageBatch) (engine.StageOutput, error) {
	defer s.note(time.Now())
	return s.Stage.Unembed(ctx, b)
}

func (s timedStage) note(began time.Time) {
	took := time.Since(began)
	s.notes.mu.Lock()
	defer s.notes.mu.Unlock()
	s.notes.computing += took
}

// soloModel and splitModel never end an answer, so that all have the same length.
type soloModel struct {
	*local.Model
	notes *notes
}

func (m soloModel) EndOfGeneration(engine.Token) bool { return false }
func (m soloModel) NewSampler(cfg engine.SamplerConfig) (engine.Sampler, error) {
	s, err := m.Model.NewSampler(cfg)
	return m.notes.watch(cfg, s, err)
}

type splitModel struct {
	*hyperlink.Chain
	notes *notes
}

func (m splitModel) EndOfGeneration(engine.Token) bool { return false }
func (m splitModel) NewSampler(cfg engine.SamplerConfig) (engine.Sampler, error) {
	s, err := m.Chain.NewSampler(cfg)
	return m.notes.watch(cfg, s, err)
}
