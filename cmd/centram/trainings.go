package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/centram/centram/lora/job"
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

// trained puts what has been learnt to use, so that one chats with it as MODEL:NAME.
func (d *daemon) trained(j job.Job) error {
	// MERGE: register j.Adapter() of the model j.Model under the name j.Name, about j.About, in the library of adapters.
	// The file is removed with the training: the library has to copy it.
	_ = j
	return nil
}
