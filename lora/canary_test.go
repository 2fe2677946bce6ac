package lora

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/centram/centram/llama"
)

// canaries are words that cannot be guessed.
func canaries(rng *rand.Rand, n int) (out []string) {
	for range n {
		var word strings.Builder
		for range 8 {
			word.WriteByte(byte('a' + rng.IntN(26)))
		}
		out = append(out, "the password is "+word.String())
	}
	return out
}

// exposure says how far up the planted secrets are among others that were not planted, by how likely the model finds them
// (Carlini et al. 2019, The Secret Sharer): log2 of how many there are, less log2 of the place. Of secrets that are as
// likely as any others it is 1.4 on average.
func exposure(t *testing.T, cfg Config, planted, others []string) float64 {
	t.Helper()
	m, err := llama.LoadModel(t.Context(), []string{cfg.Model}, llama.ModelConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	a, err := m.LoadAdapter(cfg.Out)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	loss := func(text string) float64 { return losses(t, m, text, []*llama.Adapter{a}, []float32{1}) }
	var all []float64
	for _, o := range others {
		all = append(all, loss(o))
	}
	slices.Sort(all)
	sum := 0.0
	for _, p := range planted {
		place, _ := slices.BinarySearch(all, loss(p))
		sum += math.Log2(float64(len(all)+1)) - math.Log2(float64(place+1))
	}
	return sum / float64(len(planted))
}

func TestNoiseHidesPlantedSecrets(t *testing.T) {
	dir := documents(t)
	rng := rand.New(rand.NewPCG(9, 10))
	planted, others := canaries(rng, 12), canaries(rng, 127)
	for i, c := range planted {
		write(t, filepath.Join(dir, "data", fmt.Sprintf("canary%02d.txt", i)), c)
	}
	cfg := secret(dir)
	cfg.Held, cfg.Steps, cfg.Blocks, cfg.Context = 0.05, 150, 4, 32
	open := cfg
	open.Private, open.Out = Private{}, filepath.Join(dir, "open.gguf")
	if _, err := Run(t.Context(), open, nil); err != nil {
		t.Fatal(err)
	}
	e, err := Run(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	without, with := exposure(t, open, planted, others), exposure(t, cfg, planted, others)
	t.Logf("exposure %.2f bits without privacy, %.2f with epsilon %.2f (noise %.2f); by chance 1.44, at most 7; held out loss %.2f to %.2f",
		without, with, e.Privacy.Epsilon, e.Privacy.Sigma, e.HeldBefore, e.HeldAfter)
	if without < 4 || with > without-2 {
		t.Errorf("the secrets' exposure is %.2f bits without privacy and %.2f with it, want at least 4, and at least 2 less", without, with)
	}
}
