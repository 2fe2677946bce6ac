package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/lora/job"
	"github.com/centram/centram/models"
)

// newTrainings has this program train in processes of its own.
func (d *daemon) newTrainings(changed func(job.Job)) (*job.Queue, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	cfg := d.app.cfg
	var env []string
	if cfg.MemoryLimit > 0 { // it may come from a flag, which the process does not see
		env = append(env, "CENTRAM_MEMORY_LIMIT="+strconv.FormatInt(cfg.MemoryLimit, 10))
	}
	return job.New(job.Config{
		Dir:      filepath.Join(cfg.Data, "trainings"),
		Command:  []string{self},
		Env:      env,
		Threads:  cfg.Threads,
		Patience: grace - 2*time.Second, // the daemon itself has no longer to end
		Changed:  changed,
		Done:     d.trained,
		Log:      d.log,
	})
}

// trained puts what has been learnt to use: one chats with it as MODEL:NAME. The adapter is copied, since its training may be
// removed.
func (d *daemon) trained(j job.Job) error {
	about, err := json.Marshal(learnt{j.About, j.Progress.HeldBefore, j.Progress.HeldAfter, j.Progress.Steps, j.ID})
	if err != nil {
		return fmt.Errorf("encode what is known of the adapter: %w", err)
	}
	draft := models.AdapterDraft{Path: j.Adapter(), Base: j.Model, Name: j.Name, About: about}
	if _, err := d.models.KeepAdapter(context.Background(), draft); err != nil {
		return centram.Errorf(centram.CodeOf(err), "The adapter could not be put to use: %w", err).
			WithHint("It can still be downloaded, or added by hand: centram lora apply %s --model %s", j.Adapter(), j.Model)
	}
	return nil
}

// learnt is what people can read about an adapter that was trained here. Losses are in nats a token.
type learnt struct {
	From       string  `json:"trained_on"`
	HeldBefore float64 `json:"held_out_before"`
	HeldAfter  float64 `json:"held_out_after"`
	Steps      int     `json:"steps"`
	Training   string  `json:"training"`
}
