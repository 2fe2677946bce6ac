package local

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/gguf"
)

func TestAFileThatIsCutShortWhileItAnswersEndsTheAnswerAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	toy := gguf.Toy()
	toy.Type = gguf.F32
	bad := generate(t, dir, "bad.gguf", toy)
	generate(t, dir, "good.gguf", toy)
	whole, err := os.ReadFile(bad)
	if err != nil {
		t.Fatal(err)
	}
	e := engine.New(engine.Config{Open: func(ctx context.Context, name string, p func(float64)) (engine.Model, error) {
		return Open(ctx, filepath.Join(dir, name+".gguf"), Config{Context: 512, Sequences: 1, Progress: p})
	}})
	defer e.Close()
	say := func(name string, during func()) (text string, err error) {
		_, err = e.Generate(t.Context(), engine.Request{Model: name, Text: "the quick brown fox ", MaxTokens: 200}, func(ev engine.Event) error {
			if during != nil && ev.Text != "" {
				during()
				during = nil
			}
			text += ev.Text
			return nil
		})
		return text, err
	}
	want, err := say("good", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = say("bad", func() {
		if err := os.Truncate(bad, 0); err != nil {
			t.Error(err)
		}
	})
	if centram.CodeOf(err) != centram.Unavailable || !strings.Contains(err.Error(), "could not be read") || centram.HintOf(err) == "" {
		t.Errorf("got %v, %s", err, centram.HintOf(err))
	}
	if got, err := say("good", nil); err != nil || got != want {
		t.Errorf("the other model said %q, %v", got, err)
	}
	if _, err := say("bad", nil); err == nil {
		t.Error("a file that is empty was loaded")
	}
	if err := os.WriteFile(bad, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := say("bad", nil); err != nil || got != want {
		t.Errorf("with its file back the model said %q, %v; want %q", got, err, want)
	}
}
