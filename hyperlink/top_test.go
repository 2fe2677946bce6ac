package hyperlink

import (
	"math"
	"slices"
	"testing"

	"github.com/centram/centram/engine"
)

// What a stage says are the likeliest tokens is taken only if it can be.
func TestRowOfTheLikeliest(t *testing.T) {
	right := []engine.Candidate{{Token: 9, Logit: 3.5}, {Token: 2, Logit: 1}, {Token: 7, Logit: 1}, {Token: 0, Logit: -4}}
	got, ok := parseTop(nil, appendTop(nil, right), 10)
	if !ok || !slices.Equal(got, right) {
		t.Errorf("got %v (%t), want %v", got, ok, right)
	}
	inf := float32(math.Inf(1))
	for name, wrong := range map[string][]engine.Candidate{
		"a token beyond the vocabulary": {{Token: 10, Logit: 1}},
		"a negative token":              {{Token: -1, Logit: 1}},
		"no number":                     {{Token: 1, Logit: inf - inf}},
		"infinite":                      {{Token: 1, Logit: inf}},
		"infinitely unlikely":           {{Token: 1, Logit: -inf}},
		"the same twice":                {{Token: 1, Logit: 1}, {Token: 1, Logit: 1}},
		"out of order":                  {{Token: 1, Logit: 1}, {Token: 2, Logit: 2}},
		"equals out of order":           {{Token: 2, Logit: 1}, {Token: 1, Logit: 1}},
	} {
		if got, ok := parseTop(nil, appendTop(nil, wrong), 10); ok {
			t.Errorf("%s: %v was taken", name, got)
		}
	}
}
