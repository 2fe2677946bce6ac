// Package lora trains adapters: low-rank pairs beside the matrices of a model that itself stays as it is.
//
// A run reads data, keeps a part of it aside to see whether what is learnt holds for what was not seen, trains, and writes
// an adapter file that llama.cpp loads as it is. It saves where it is now and then; after a crash it goes on from there, and
// ends with the same bytes as if nothing had happened.
package lora

import (
	"cmp"
	"math"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/llama"
)

// Config is what is trained on what, and how. All but Model, Data and Out may be zero.
type Config struct {
	Model string   // file of the model
	Data  []string // files and folders; package dataset says what may be in them
	Out   string   // adapter file. What is saved on the way lies beside it
	Name  string   // of the adapter. Zero means "adapter"

	// Full trains all of the model's own numbers, and Out is a model then: how a small one is made from random weights. Its
	// matrices are written in F16, or in F32 if Exact.
	Full  bool
	Exact bool

	Rank    int      // zero means 16
	Targets []string // of llama.Targets. Zero means the four of attention
	Context int      // rows of a block. Zero means 512, or what the model has been made for, if that is less
	Threads int      // zero means the number of processors
	Seed    uint64   // of the pairs' beginning and the order of the data

	Steps  int     // zero means once through the data; three times, if it is private
	Blocks int     // of a step; documents, if it is private. Zero means 1, or a quarter of those, but 32 at most
	Rate   float64 // learning rate at its highest. Zero means 2e-4
	Clip   float64 // the longest gradient of a step. Zero means 1
	Decay  float64 // of every number, by the learning rate. Zero means none
	Held   float64 // part of the data that is not trained on. Zero means 0.1

	// StateBits is 8 to keep what the optimiser knows of each number in two bytes instead of eight. Zero means 32.
	StateBits int `json:",omitzero"`

	SaveEvery time.Duration // zero means a minute
	// Wait is for another run that writes to Out to end. Else that is an error.
	Wait bool
	// Memory is how many bytes the run may need. Zero means any.
	Memory uint64

	// Private says how little the adapter may tell of single documents. Zero means that it may tell anything.
	Private Private `json:",omitzero"`
}

const (
	warmup     = 0.05 // part of the steps in which the rate rises
	heldBlocks = 64   // are looked at, at most

	program = 48 << 20 // bytes that the program takes without a model
	saving  = 24       // bytes for each number that is trained: a copy is saved, while the one before may not be collected yet
)

func (c Config) orDefaults() Config {
	c.Name = cmp.Or(c.Name, "adapter")
	c.Rank = cmp.Or(c.Rank, 16)
	if len(c.Targets) == 0 {
		c.Targets = llama.Targets()[:4]
	}
	c.Context = cmp.Or(c.Context, 512)
	if c.Private.Epsilon == 0 {
		c.Blocks = cmp.Or(c.Blocks, 1)
	}
	c.Rate = cmp.Or(c.Rate, 2e-4)
	c.Clip = cmp.Or(c.Clip, 1)
	c.Held = cmp.Or(c.Held, 0.1)
	c.SaveEvery = cmp.Or(c.SaveEvery, time.Minute)
	if c.StateBits == 32 {
		c.StateBits = 0
	}
	return c
}

func (c Config) check() error {
	for _, bad := range []struct {
		is  bool
		why string
	}{
		{c.Steps < 0 || c.Steps > 1<<30, "a number of steps is from 1 on"},
		{c.Blocks < 0 || c.Blocks > 1<<16, "a step has from 1 to 65536 blocks"},
		{!(c.Rate > 0 && c.Rate <= 1), "a learning rate is more than 0 and at most 1, such as 0.0002"},
		{c.StateBits != 0 && c.StateBits != 8 && c.StateBits != 32, "the optimiser's state has 8 or 32 bits"},
		{!(c.Clip > 0), "the length to which gradients are clipped is more than 0"},
		{!(c.Decay >= 0 && c.Decay < 1), "a decay is from 0 to less than 1, such as 0.01"},
	} {
		if bad.is {
			return centram.Errorf(centram.Invalid, "%s", bad.why)
		}
	}
	return c.Private.check()
}

// rate is the learning rate of a step, from 0 on: it rises, and then falls like a cosine to a tenth.
func (c Config) rate(step int) float64 {
	rise := max(int(warmup*float64(c.Steps)), 1)
	if step < rise {
		return c.Rate * float64(step+1) / float64(rise)
	}
	at := float64(step-rise) / float64(max(c.Steps-rise, 1))
	return c.Rate * (0.1 + 0.9*(1+math.Cos(math.Pi*at))/2)
}

// Stage is what a run is doing.
type Stage string

// The stages in their order. Train is said of again after every step.
const (
	Reading Stage = "reading" // files, and making tokens of them
	Before  Stage = "before"  // finding out what the run will take; said of again when that is known, to look at what is held out
	Train   Stage = "train"
	After   Stage = "after" // looking again
	Done    Stage = "done"
)

// Event says how far a run is. Losses are in nats for each token that is to be predicted.
type Event struct {
	Stage           Stage   `json:"stage"`
	Step            int     `json:"step"`
	Steps           int     `json:"steps"`
	Resumed         bool    `json:"resumed,omitempty"` // the run goes on from an earlier one
	Loss            float64 `json:"loss,omitempty"`    // of the last step
	HeldBefore      float64 `json:"held_out_before,omitempty"`
	HeldAfter       float64 `json:"held_out_after,omitempty"`
	Rate            float64 `json:"learning_rate,omitempty"`
	GradientNorm    float64 `json:"gradient_norm,omitempty"` // before it was clipped
	TokensPerSecond float64 `json:"tokens_per_second,omitempty"`
	SecondsLeft     float64 `json:"seconds_left,omitempty"`

	// What was thought before the first step: how long the run will take from there on, and how much memory at most.
	SecondsEstimated float64 `json:"seconds_estimated,omitempty"`
	MemoryBytes      uint64  `json:"memory_bytes,omitempty"`
	Parameters       int     `json:"parameters,omitempty"` // that are trained

	Privacy *Privacy `json:"privacy,omitempty"` // of a private run
}

// Outcome is what a run has come to.
type Outcome struct {
	Event
	Losses []float64 `json:"-"` // of every step
}
