package lora

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/centram/centram/llama"
)

// A machine that does other things at once may make it wrong by a factor, so the bounds are wide; a forgotten batch, look
// or unit is further off.
func TestTheEstimateIsCloseToTheTruth(t *testing.T) {
	cfg := Config{
		Model: stories(t), Data: []string{farm(t)}, Out: filepath.Join(t.TempDir(), "a.gguf"),
		Rank: 8, Targets: llama.Targets(), Context: 256, Threads: 1, Steps: 60, Blocks: 2,
	}
	var began time.Time
	estimated := 0.0
	e, err := Run(t.Context(), cfg, func(e Event) {
		if e.Stage == Before && e.SecondsEstimated > 0 {
			began, estimated = time.Now(), e.SecondsEstimated
		}
		if e.Stage != Reading && e.Stage != Done && !began.IsZero() && (e.SecondsLeft <= 0 || e.MemoryBytes == 0) {
			t.Errorf("at stage %s %v seconds are left and %d bytes are needed, want more", e.Stage, e.SecondsLeft, e.MemoryBytes)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began).Seconds()
	t.Logf("estimated %.2f s, took %.2f s: %+.0f %%", estimated, took, 100*(estimated/took-1))
	if e.SecondsEstimated != estimated || estimated < took/10 || estimated > took*10 {
		t.Errorf("the run was to take %.2f seconds, and took %.2f", estimated, took)
	}
}

func TestStoppingBeforeTheFirstStepLeavesNothing(t *testing.T) {
	for _, stage := range []Stage{Reading, Before} {
		dir := folder(t)
		cfg := small(dir)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, err := Run(ctx, cfg, func(e Event) {
			if e.Stage == stage {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped while %s, the run ended with %v, want that it was cancelled", stage, err)
		}
		if left, err := filepath.Glob(cfg.Out + "*"); err != nil || len(left) > 0 {
			t.Errorf("stopped while %s, the run left %v, %v, want nothing", stage, left, err)
		}
		if e, err := Run(t.Context(), cfg, nil); err != nil || e.Resumed || e.Step != cfg.Steps {
			t.Errorf("the same run again: %+v, %v, want it to begin anew and to end", e.Event, err)
		}
	}
}
