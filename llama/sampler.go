package llama

/*
#include <stdlib.h>
#include "shim/shim.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"
)

// SamplerConfig is how tokens are chosen. Its zero value is greedy.
type SamplerConfig struct {
	Temperature      float32 // 0: the likeliest token
	TopK             int     // 0: off
	TopP             float32 // 0 or 1: off
	MinP             float32 // 0: off
	RepeatPenalty    float32 // 0 or 1: off
	FrequencyPenalty float32
	PresencePenalty  float32
	PenaltyLastN     int // tokens that penalties look back. Zero means 64
	LogitBias        map[Token]float32
	Seed             uint32
	Grammar          *Grammar
}

// Grammar constrains what is sampled, in GBNF. A lazy one begins when a pattern or a token appears.
type Grammar struct {
	GBNF     string
	Lazy     bool
	Patterns []string
	Tokens   []Token
	Prefill  string // the part of the constrained text that the prompt already holds
}

// Sampler chooses tokens from logits.
type Sampler struct {
	model *Model
	c     *C.cen_sampler
	vocab int
}

// NewSampler makes a Sampler, which must be closed before the model is. A grammar that does not parse is an error.
func (m *Model) NewSampler(cfg SamplerConfig) (*Sampler, error) {
	done, err := m.acquire()
	if err != nil {
		return nil, err
	}
	defer done()
	p := C.cen_sampler_params{
		temperature: C.float(cfg.Temperature), top_k: C.int32_t(cfg.TopK), top_p: C.float(cfg.TopP), min_p: C.float(cfg.MinP),
		penalty_repeat: C.float(cfg.RepeatPenalty), penalty_frequency: C.float(cfg.FrequencyPenalty),
		penalty_presence: C.float(cfg.PresencePenalty), penalty_last_n: C.int32_t(cfg.PenaltyLastN), seed: C.uint32_t(cfg.Seed),
	}
	if cfg.RepeatPenalty == 0 {
		p.penalty_repeat = 1
	}
	if cfg.PenaltyLastN == 0 {
		p.penalty_last_n = 64
	}
	vocab := int(C.llama_vocab_n_tokens(m.vocab))
	tokens, biases := make([]C.int32_t, 0, len(cfg.LogitBias)), make([]C.float, 0, len(cfg.LogitBias))
	for t, bias := range cfg.LogitBias {
		if t < 0 || int(t) >= vocab {
			return nil, fmt.Errorf("llama: logit bias for token %d, which is not in the vocabulary of %d", t, vocab)
		}
		tokens, biases = append(tokens, C.int32_t(t)), append(biases, C.float(bias))
	}
	var reason *C.char
	c := C.cen_sampler_new(m.c, p, unsafe.SliceData(tokens), unsafe.SliceData(biases), C.size_t(len(tokens)), &reason)
	if c == nil {
		return nil, failure("new sampler", reason)
	}
	m.users.Add(1)
	s := &Sampler{model: m, c: c, vocab: vocab}
	if cfg.Grammar != nil && cfg.Grammar.GBNF != "" {
		if err := s.setGrammar(cfg.Grammar); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

func (s *Sampler) setGrammar(g *Grammar) error {
	gbnf, prefill := C.CString(g.GBNF), C.CString(g.Prefill)
	defer C.free(unsafe.Pointer(gbnf))
	defer C.free(unsafe.Pointer(prefill))
	var patterns **C.char
	if n := len(g.Patterns); n > 0 {
		patterns = (**C.char)(C.malloc(C.size_t(n) * C.size_t(unsafe.Sizeof(gbnf))))
		defer C.free(unsafe.Pointer(patterns))
		list := unsafe.Slice(patterns, n)
		for i, p := range g.Patterns {
			list[i] = C.CString(p)
			defer C.free(unsafe.Pointer(list[i]))
		}
	}
	var reason *C.char
	if C.cen_sampler_grammar(s.c, gbnf, C.bool(g.Lazy), patterns, C.size_t(len(g.Patterns)), (*C.int32_t)(unsafe.SliceData(g.Tokens)), C.size_t(len(g.Tokens)), prefill, &reason) != 0 {
		return failure("grammar", reason)
	}
	return nil
}

// Sample chooses a token from one row of logits, which it does not change, and remembers it.
func (s *Sampler) Sample(logits []float32) (Token, error) {
	if s.c == nil {
		return 0, ErrClosed
	}
	if len(logits) != s.vocab {
		return 0, fmt.Errorf("llama: sample: %d logits for a vocabulary of %d", len(logits), s.vocab)
	}
	var reason *C.char
	t := C.cen_sampler_sample(s.c, (*C.float)(&logits[0]), C.int32_t(len(logits)), &reason)
	if reason != nil {
		return 0, failure("sample", reason)
	}
	return Token(t), nil
}

// Candidate is a token that may come next.
type Candidate struct {
	Token Token
	Logit float32
}

// Likeliest returns the n likeliest tokens of a row of logits in the memory of buf: the likeliest first, and of equals the
// one with the lower number.
func Likeliest(buf []Candidate, logits []float32, n int) []Candidate {
	n = max(0, min(n, len(logits)))
	buf = slices.Grow(buf[:0], n)[:n]
	if n > 0 {
		C.cen_likeliest((*C.float)(&logits[0]), C.int32_t(len(logits)), (*C.cen_candidate)(unsafe.Pointer(&buf[0])), C.int32_t(n))
	}
	return buf
}

// Choose is Sample for a row of which only the likeliest tokens are known, and no others can be picked. The grammar is not
// asked: it may want any.
func (s *Sampler) Choose(best []Candidate) (Token, error) {
	if s.c == nil {
		return 0, ErrClosed
	}
	if len(best) == 0 {
		return 0, errors.New("llama: choose: there is no token")
	}
	for _, c := range best {
		if c.Token < 0 || int(c.Token) >= s.vocab {
			return 0, fmt.Errorf("llama: choose: token %d of a vocabulary of %d", c.Token, s.vocab)
		}
	}
	var reason *C.char
	t := C.cen_sampler_choose(s.c, (*C.cen_candidate)(unsafe.Pointer(&best[0])), C.size_t(len(best)), &reason)
	if reason != nil {
		return 0, failure("choose", reason)
	}
	return Token(t), nil
}

// Accept remembers a token of the prompt, for the penalties.
func (s *Sampler) Accept(t Token) {
	if s.c != nil && t >= 0 && int(t) < s.vocab {
		C.cen_sampler_accept(s.c, C.int32_t(t))
	}
}

// Close frees the sampler.
func (s *Sampler) Close() {
	if s.c == nil {
		return
	}
	C.cen_sampler_free(s.c)
	s.c = nil
	s.model.users.Done()
}
