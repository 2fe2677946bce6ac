package lora

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/centram/centram/llama"
	"github.com/centram/centram/models/toy"
)

// The toy has read four old books and small talk. This project's documents are another domain.
func TestTheToyLearnsAnotherDomain(t *testing.T) {
	model := filepath.Join(t.TempDir(), "toy.gguf")
	if err := os.WriteFile(model, toy.GGUF, 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := Run(t.Context(), Config{
		Model: model, Data: []string{"../docs"}, Out: filepath.Join(t.TempDir(), "documents.gguf"),
		Rank: 8, Targets: llama.Targets(), Context: 256, Blocks: 2, Steps: 120, Rate: 3e-3, Threads: 1,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("on held-out parts of the documents the loss went from %.3f to %.3f nats a byte", e.HeldBefore, e.HeldAfter)
	if e.HeldBefore-e.HeldAfter < 0.3 {
		t.Errorf("the loss went from %.3f to %.3f, want at least 0.3 less", e.HeldBefore, e.HeldAfter)
	}
}
