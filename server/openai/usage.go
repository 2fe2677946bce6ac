package openai

import (
	"time"

	"github.com/centram/centram/engine"
)

type usage struct {
	PromptTokens     int           `json:"prompt_tokens"`
	CompletionTokens int           `json:"completion_tokens"`
	TotalTokens      int           `json:"total_tokens"`
	Details          promptDetails `json:"prompt_tokens_details"`
}

type promptDetails struct {
	CachedTokens int `json:"cached_tokens"`
}

// timings has llama.cpp's names. The prompt's figures are of the tokens that were computed, not of the cached ones.
type timings struct {
	CacheN             int     `json:"cache_n"`
	PromptN            int     `json:"prompt_n"`
	PromptMS           float64 `json:"prompt_ms"`
	PromptPerSecond    float64 `json:"prompt_per_second"`
	PredictedN         int     `json:"predicted_n"`
	PredictedMS        float64 `json:"predicted_ms"`
	PredictedPerSecond float64 `json:"predicted_per_second"`
}

// progress has llama.cpp's names.
type progress struct {
	Total     int   `json:"total"`
	Cache     int   `json:"cache"`
	Processed int   `json:"processed"`
	TimeMS    int64 `json:"time_ms"`
}

// tally adds up the results of all choices.
type tally struct {
	prompt, promptCached       int // each prompt once, whatever the number of answers to it
	cached, computed, produced int
	promptTime, produceTime    time.Duration
}

// add takes a result in. first says that it is the first answer to its prompt.
func (t *tally) add(r engine.Result, first bool) {
	if first {
		t.prompt += r.PromptTokens
		t.promptCached += r.CachedTokens
	}
	t.cached += r.CachedTokens
	t.computed += r.PromptTokens - r.CachedTokens
	t.produced += r.GeneratedTokens
	t.promptTime += r.PromptTime
	t.produceTime += r.GenerateTime
}

func (t *tally) usage() *usage {
	return &usage{t.prompt, t.produced, t.prompt + t.produced, promptDetails{t.promptCached}}
}

func (t *tally) timings() *timings {
	return &timings{
		CacheN:             t.cached,
		PromptN:            t.computed,
		PromptMS:           milliseconds(t.promptTime),
		PromptPerSecond:    rate(t.computed, t.promptTime),
		PredictedN:         t.produced,
		PredictedMS:        milliseconds(t.produceTime),
		PredictedPerSecond: rate(t.produced, t.produceTime),
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// rate is n per second, 0 if no time went by: JSON has no infinity.
func rate(n int, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}
