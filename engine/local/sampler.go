package local

import (
	"math/rand/v2"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/llama"
)

// NewSampler implements engine.Model.
func (t *Text) NewSampler(cfg engine.SamplerConfig) (engine.Sampler, error) {
	c := llama.SamplerConfig{
		Temperature: cfg.Temperature, TopK: cfg.TopK, TopP: cfg.TopP, MinP: cfg.MinP, RepeatPenalty: cfg.RepeatPenalty,
		FrequencyPenalty: cfg.FrequencyPenalty, PresencePenalty: cfg.PresencePenalty, PenaltyLastN: cfg.RepeatLastN,
		Seed: rand.Uint32(),
	}
	if c.PenaltyLastN < 0 || c.PenaltyLastN > t.context { // llama.cpp makes room for as many as it is told
		c.PenaltyLastN = t.context
	}
	if cfg.Seed != nil {
		c.Seed = *cfg.Seed
	}
	if len(cfg.LogitBias) > 0 {
		c.LogitBias = make(map[llama.Token]float32, len(cfg.LogitBias))
		for t, bias := range cfg.LogitBias {
			c.LogitBias[llama.Token(t)] = bias
		}
	}
	if g := cfg.Grammar; g.GBNF != "" {
		if err := checkGrammar(g.GBNF); err != nil {
			return nil, err
		}
		c.Grammar = &llama.Grammar{GBNF: g.GBNF, Lazy: g.Lazy, Patterns: g.Patterns, Prefill: g.Prefill}
		for _, t := range g.Tokens {
			c.Grammar.Tokens = append(c.Grammar.Tokens, llama.Token(t))
		}
	}
	s, err := t.model.NewSampler(c)
	if err != nil {
		return nil, centram.Errorf(centram.Invalid, "%w", err)
	}
	return &sampler{s: s}, nil
}

type sampler struct {
	s    *llama.Sampler
	best []llama.Candidate
}

func (s *sampler) Sample(logits []float32) (engine.Token, error) {
	t, err := s.s.Sample(logits)
	return engine.Token(t), err
}

// Choose implements engine.Sampler.
func (s *sampler) Choose(best []engine.Candidate) (engine.Token, error) {
	s.best = s.best[:0]
	for _, c := range best {
		s.best = append(s.best, llama.Candidate{Token: llama.Token(c.Token), Logit: c.Logit})
	}
	t, err := s.s.Choose(s.best)
	return engine.Token(t), err
}
func (s *sampler) Accept(t engine.Token) { s.s.Accept(llama.Token(t)) }
func (s *sampler) Close()                { s.s.Close() }
