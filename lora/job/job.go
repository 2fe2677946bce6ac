// Package job runs trainings one after the other, each in a process of its own, and remembers them.
//
// A training is a child process, `centram train`, so that one that takes all memory or crashes takes nothing of the daemon
// with it, and the operating system can give chat the processors first. What it has come to is a line of JSON on its
// standard output; when its standard input ends, because it is to pause or because who started it was killed, it saves and
// ends.
//
// All that there is of a training is in a folder: job.json, what was typed or uploaded, the adapter, and beside it what is
// saved on the way. So whatever happened, the next Queue on the same folder goes on where the last one was.
//
// A Queue may be used from many goroutines.
package job

import (
	"cmp"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/centram/centram"
)

// Config says what a Queue works with.
type Config struct {
	// Dir is the folder of all trainings. It is made if it is not there.
	Dir string
	// Command is the program with its first arguments, behind which the flags of a training come.
	Command []string
	// Env is added to the environment of the program.
	Env []string
	// Threads is how many a training computes with. Zero means the number of processors.
	Threads int
	// Changed is told of every change, with the curve left out; of progress, no more often than Every. It must not wait,
	// nor call the Queue. Nil means nobody.
	Changed func(Job)
	// Done is told of a training that has ended well, before it is said to be done. Nil means nobody.
	Done func(Job) error
	// Every is how often progress is told of. Zero means 300 milliseconds.
	Every time.Duration
	// Patience is how long a training may take to save and end. Zero means 20 seconds; then it is killed.
	Patience time.Duration
	Now      func() time.Time // nil means time.Now
	Log      *slog.Logger     // nil means slog.Default
}

func (c Config) orDefaults() Config {
	c.Every = cmp.Or(c.Every, 300*time.Millisecond)
	c.Patience = cmp.Or(c.Patience, 20*time.Second)
	c.Log = cmp.Or(c.Log, slog.Default())
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Changed == nil {
		c.Changed = func(Job) {}
	}
	if c.Done == nil {
		c.Done = func(Job) error { return nil }
	}
	return c
}

// State says where a training stands.
type State string

// The states. A training that was removed is Cancelled, which is the last that is told of it.
const (
	Queued    State = "queued"
	Running   State = "running"
	Paused    State = "paused"
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Plan is what is to be learnt, by what, and how. Numbers that are zero mean what they do for `centram train`.
type Plan struct {
	Name    string   `json:"name"`  // of the adapter
	Model   string   `json:"model"` // as people call it
	File    string   `json:"file"`  // of the model
	Data    []string `json:"data"`  // files and folders. What was written for this training is in its own folder
	About   string   `json:"about"` // what the data are, in a few words
	Rank    int      `json:"rank,omitempty"`
	Targets string   `json:"targets,omitempty"` // as --target takes them
	Context int      `json:"context,omitempty"`
	Steps   int      `json:"steps,omitempty"`
	Rate    float64  `json:"rate,omitempty"`
	Seed    uint64   `json:"seed,omitempty"`
}

// Draft is a training to be made: its plan, and what is to be learnt that is in no file yet.
type Draft struct {
	Plan
	Write   []File
	Uploads []string // ids of what Upload has kept
}

// File is one to be written into the folder of a training.
type File struct {
	Name  string // without a folder; its ending says what it is
	Write func(io.Writer) error
}

// Progress is how far a training is, in the words of `centram train --json`.
type Progress struct {
	Stage           string  `json:"stage,omitempty"`
	Step            int     `json:"step"`
	Steps           int     `json:"steps"`
	Resumed         bool    `json:"resumed,omitempty"`
	Loss            float64 `json:"loss,omitempty"`
	HeldBefore      float64 `json:"held_out_before,omitempty"`
	HeldAfter       float64 `json:"held_out_after,omitempty"`
	TokensPerSecond float64 `json:"tokens_per_second,omitempty"`
	SecondsLeft     float64 `json:"seconds_left,omitempty"`
	MemoryBytes     uint64  `json:"memory_bytes,omitempty"`
	PeakMemory      uint64  `json:"peak_rss_bytes,omitempty"`
	Parameters      int     `json:"parameters,omitempty"`
}

// Problem is why a training failed, in the words of the program that trained.
type Problem struct {
	Code    centram.Code `json:"code"`
	Message string       `json:"message"`
	Hint    string       `json:"hint,omitempty"`
}

// Job is a training.
type Job struct {
	ID string `json:"id"`
	Plan
	State    State     `json:"state"`
	Progress Progress  `json:"progress"`
	Problem  *Problem  `json:"problem,omitempty"` // of a failed one; or why a done one could not be put to use
	Curve    Curve     `json:"curve"`
	Created  time.Time `json:"created"`
	Queued   time.Time `json:"queued"` // since when it has been waiting: who waits longest is next
	Ended    time.Time `json:"ended,omitzero"`

	dir string
}

// Adapter is the file that the training writes, when it is done.
func (j Job) Adapter() string { return filepath.Join(j.dir, j.Name+".gguf") }

// clone shares nothing with j that changes.
func (j Job) clone() Job {
	j.Curve = append(Curve(nil), j.Curve...)
	return j
}
