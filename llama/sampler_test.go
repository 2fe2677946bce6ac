package llama

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// The likeliest are those that sorting gives, whatever the length of the row, with many equals and with what is no number.
func TestLikeliestAreTheFirstOfAllSorted(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	var buf []Candidate
	for _, n := range []int{1, 2, 31, 512, 513, 1024, 5000} {
		for _, kinds := range []int{2, 50, 1 << 30} { // of different logits
			logits := make([]float32, n)
			all := make([]Candidate, n)
			for i := range logits {
				logits[i] = float32(random.IntN(kinds)) - 20
				all[i] = Candidate{Token(i), logits[i]}
				if i%97 == 5 {
					logits[i], all[i].Logit = float32(math.NaN()), float32(math.Inf(-1))
				}
			}
			slices.SortStableFunc(all, func(a, b Candidate) int { return cmp.Compare(b.Logit, a.Logit) })
			for _, k := range []int{0, 1, 2, 40, 600, n, n + 1} {
				buf = Likeliest(buf, logits, k)
				if want := all[:min(k, n)]; !slices.Equal(buf, want) {
					t.Fatalf("%d of %d, %d kinds: got %v, want %v", k, n, kinds, buf, want)
				}
			}
		}
	}
}

// Where only the likeliest can be picked, a choice among them is the same as one among all.
func TestChoiceAmongTheLikeliestIsThatAmongAll(t *testing.T) {
	m := toy(t)
	for name, cfg := range map[string]SamplerConfig{
		"greedy":             {},
		"greedy, penalised":  {RepeatPenalty: 1.3, PenaltyLastN: 20},
		"drawn":              {Temperature: 0.9, TopK: 30, TopP: 0.9, MinP: 0.02, Seed: 5},
		"drawn, penalised":   {Temperature: 1.2, TopK: 20, PresencePenalty: 0.6, FrequencyPenalty: 0.3, PenaltyLastN: 20, Seed: 6},
		"drawn from one":     {Temperature: 1.2, TopK: 1, Seed: 6},
		"drawn from a bunch": {Temperature: 3, TopK: 50, Seed: 7},
	} {
		t.Run(name, func(t *testing.T) {
			var samplers [2]*Sampler
			for i := range samplers {
				s, err := m.NewSampler(cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				samplers[i] = s
			}
			random := rand.New(rand.NewPCG(8, 8))
			logits, seen := make([]float32, samplers[0].vocab), map[Token]bool{}
			for i := range 200 {
				for j := range logits {
					logits[j] = 2 * float32(random.NormFloat64())
				}
				want, err := samplers[0].Sample(logits)
				if err != nil {
					t.Fatal(err)
				}
				got, err := samplers[1].Choose(Likeliest(nil, logits, 50+20))
				if err != nil || got != want {
					t.Fatalf("token %d: got %d (%v), want %d", i, got, err, want)
				}
				seen[got] = true
			}
			if len(seen) < 20 {
				t.Errorf("%d different tokens prove little", len(seen))
			}
		})
	}
	s, err := m.NewSampler(SamplerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, wrong := range [][]Candidate{nil, {{-1, 1}}, {{Token(s.vocab), 1}}} {
		if got, err := s.Choose(wrong); err == nil {
			t.Errorf("chose %d from %v, want an error", got, wrong)
		}
	}
}
