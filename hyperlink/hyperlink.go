// Package hyperlink runs one model over several machines: each holds a range of its layers, and hidden states go from one
// to the next.
//
//	asker                         peer                    peer
//	tokens → embeddings → layers 0..7 ─ACT_FWD→ 8..15 ─ACT_FWD→ 16..23 and output
//	sampler ←────────────────────ACT_RET (logits)────────────────┘
//
// The output matrix may be shared by the first and the last of them, which then multiply at the same time (output.go).
//
// A Chain is the asker's end and an engine.Model, so the scheduler above it knows nothing of peers. A Host is the other
// end: it gives this machine's memory and cores to the chains of others. Both stand on engine.Stage, which computes a range
// of layers; this package has no cgo, and its tests run with a stage that computes nothing.
//
// Positions are the contract. Every frame says where in its lane it belongs, and a stage forgets what it has from there on
// before it runs the frame; so taking tokens back, trying again and replacing a machine are not special. What the split
// computes is to the bit what one machine computes with the same batches.
//
// A stage can read what is said: hidden states tell the text to whoever cares to look. The embeddings and the first layers
// stay on the asker's machine, which makes that harder and not impossible.
package hyperlink

import (
	"context"
	"time"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/p2p/wire"
)

// Ability is what a node says of itself that hosts layers.
const Ability = "hyperlink/1"

const (
	readyFor  = 10 * time.Minute // to fetch and load what a plan asks for
	repairFor = time.Minute      // the same while an answer waits
	inline    = 64 << 10         // bytes of frames that are written by who computed them; more are written while the next are computed
)

// Assignment is what a Host is asked to open: its part of a chain.
type Assignment struct {
	Model     wire.Hash
	Layers    wire.LayerSpan
	Whole     int       // layers of the whole model
	Weights   wire.Hash // names the slice: see gguf.Recipe
	Context   int       // positions of a lane
	Lanes     int
	BatchSize int // most rows of a batch
	Head      *wire.HLPlan
}

// Opener gets the weights of an assignment, from the disk or from peers, and loads them.
type Opener func(ctx context.Context, a Assignment) (engine.Stage, error)

// AdapterOpener gets the part of an adapter for the layers of an assignment, and returns its file.
type AdapterOpener func(ctx context.Context, a Assignment, recipe wire.Hash) (path string, err error)

// Adapter is a LoRA adapter as a chain gives it to its machines.
type Adapter struct {
	ID wire.Hash
	// Parts are the recipes for the layers of each stage. Zero: it changes nothing there.
	Parts []wire.Hash
	Own   string // the file of the first stage's part, or empty
	// Output is the file of what it has for the head's rows of the output matrix, or empty.
	Output string
}
