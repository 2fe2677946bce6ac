package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/server/wire"
)

const (
	maxChoices  = 8
	maxPrompts  = 256 // of one text completion
	maxLogprobs = 20
	defaultText = 16 // OpenAI's max_tokens for a text completion that does not say
)

// common is what chat and text completions both understand.
type common struct {
	Model         string        `json:"model"`
	Stream        bool          `json:"stream"`
	StreamOptions streamOptions `json:"stream_options"`
	N             *float64      `json:"n"`
	Stop          wire.Strings  `json:"stop"`
	MaxTokens     *float64      `json:"max_tokens"`
	LogitBias     logitBias     `json:"logit_bias"`
	Grammar       string        `json:"grammar"`
	ServiceTier   string        `json:"service_tier"`
	Progress      bool          `json:"return_progress"`
	wire.Sampling
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

// request turns c into an engine request without a prompt. With absentMax tokens if the client did not say.
func (c common) request(absentMax int) (engine.Request, error) {
	sampling, err := c.Sampling.Engine()
	if err != nil {
		return engine.Request{}, err
	}
	if sampling.LogitBias, err = c.LogitBias.tokens(); err != nil {
		return engine.Request{}, err
	}
	stops, err := c.Stop.Stops()
	if err != nil {
		return engine.Request{}, err
	}
	limit, err := maxTokens("max_tokens", c.MaxTokens, absentMax)
	return engine.Request{
		Sampling:    sampling,
		Stop:        stops,
		MaxTokens:   limit,
		TopLogprobs: -1,
		Background:  c.ServiceTier == "flex", // OpenAI's word for "cheap and late"
	}, err
}

// maxTokens reads a limit. Clients say "no limit" as -1 or 0.
func maxTokens(param string, value *float64, absent int) (int, error) {
	n := wire.Number{Param: param, Value: value, Min: -1, Max: math.MaxInt32, Whole: true}
	return max(0, n.Int(absent)), n.Check()
}

// choices is how many answers are asked for to one prompt.
func (c common) choices() (int, error) {
	n := wire.Number{Param: "n", Value: c.N, Min: 1, Max: maxChoices, Whole: true}
	return n.Int(1), n.Check()
}

// logitBias maps a token id, written as a string, to a bias.
type logitBias map[string]float64

func (l logitBias) tokens() (map[engine.Token]float32, error) {
	if len(l) == 0 {
		return nil, nil
	}
	out := make(map[engine.Token]float32, len(l))
	for id, bias := range l {
		token, err := strconv.ParseUint(id, 10, 31)
		if err != nil {
			return nil, wire.Invalid("logit_bias", "%q in \"logit_bias\" is not a token id.", id)
		}
		number := wire.Number{Param: "logit_bias", Value: &bias, Min: -100, Max: 100}
		if err := number.Check(); err != nil {
			return nil, err
		}
		out[engine.Token(token)] = float32(bias)
	}
	return out, nil
}

// prompts is what completions and embeddings take: a text, texts, a list of token ids, or lists of token ids.
type prompts struct {
	texts  []string
	tokens [][]engine.Token
}

func (p *prompts) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		if !wire.IsNull(b) {
			p.texts = []string{text}
		}
		return nil
	}
	var ids []engine.Token
	if json.Unmarshal(b, &ids) == nil && len(ids) > 0 {
		p.tokens = [][]engine.Token{ids}
		return nil
	}
	if json.Unmarshal(b, &p.texts) == nil {
		return nil
	}
	p.texts = nil
	if json.Unmarshal(b, &p.tokens) == nil {
		return nil
	}
	p.tokens = nil
	return errPromptKind
}

var errPromptKind = wire.Invalid("", "A prompt or an input must be a string, an array of strings, an array of token ids or an array of such arrays.")

// atPrompt gives errPromptKind, which prompts cannot know the place of, the name of the field.
func atPrompt(err error, param string) error {
	if errors.Is(err, errPromptKind) {
		return wire.AtParam(err, param)
	}
	return err
}

func (p prompts) len() int { return len(p.texts) + len(p.tokens) }

// check refuses what has nothing to be read in it, or too much.
func (p prompts) check(param string, most int) error {
	if p.len() == 0 {
		return wire.Invalid(param, "%q is required and must not be empty.", param)
	}
	if p.len() > most {
		return wire.Invalid(param, "%q has %d entries; at most %d are allowed.", param, p.len(), most)
	}
	for i, text := range p.texts {
		if text == "" {
			return wire.Invalid(fmt.Sprintf("%s[%d]", param, i), "Entry %d of %q is empty.", i, param)
		}
	}
	for i, ids := range p.tokens {
		at := fmt.Sprintf("%s[%d]", param, i)
		if len(ids) == 0 {
			return wire.Invalid(at, "Entry %d of %q has no tokens.", i, param)
		}
		for _, id := range ids {
			if id < 0 {
				return wire.Invalid(at, "%d in %q is not a token id.", id, param)
			}
		}
	}
	return nil
}

// job is a request that has been understood: its answers, and how they are to be written.
type job struct {
	model        string
	requests     []engine.Request // one for each choice
	perPrompt    int              // neighbouring requests that share a prompt
	form         form
	stream       bool
	includeUsage bool
	progress     bool
}

// newJob asks for n answers to each of the requests.
func (h *handler) newJob(ctx context.Context, c common, f form, requests ...engine.Request) (job, error) {
	n, err := c.choices()
	if err != nil {
		return job{}, err
	}
	model, err := h.modelName(ctx, c.Model)
	if err != nil {
		return job{}, err
	}
	j := job{model: model, perPrompt: n, form: f, stream: c.Stream, includeUsage: c.StreamOptions.IncludeUsage, progress: c.Progress}
	for _, r := range requests {
		r.Model = model
		for k := range n {
			j.requests = append(j.requests, varied(r, k))
		}
	}
	return j, nil
}

// varied is the request for the k-th choice. With the same seed all choices would be the same.
func varied(r engine.Request, k int) engine.Request {
	if r.Sampling.Seed != nil {
		seed := *r.Sampling.Seed + uint32(k)
		r.Sampling.Seed = &seed
	}
	return r
}
