package engine

import "context"

// Stage is a part of a Runner: a range of a model's layers with its own KV cache. What it takes and gives are hidden
// states, rows of Info().Width numbers; the stage with the last layer gives logits. A Stage is used by one goroutine.
type Stage interface {
	// Run computes the batch. On an error the KV cache of the rows' sequences is as before or shorter.
	Run(ctx context.Context, b StageBatch) (StageOutput, error)
	// Trim forgets positions >= pos of a sequence.
	Trim(seq, pos int) error
	// Info is constant for the life of the Stage.
	Info() StageInfo
	Close() error
}

// StageBatch is what one Run computes.
type StageBatch struct {
	Rows     []Row     // Token is not used; Logits says, at the last stage, whether the row's logits are wanted, and Top, which
	Hidden   []float32 // rows × Width
	Adapters []AdapterScale
	// Embedded wants the hidden states of all rows as they go into the output matrix, instead of logits. Last stage only.
	Embedded bool
}

// StageOutput belongs to the Stage and is valid until its next Run.
type StageOutput struct {
	Hidden []float32   // rows × Width; nil if there are logits
	Logits [][]float32 // of the rows that wanted them, in batch order
	// Best is as in Output.
	Best [][]Candidate
}

// StageInfo describes a Stage.
type StageInfo struct {
	Width       int // numbers of a hidden state
	Layers      int
	Last        bool
	VocabSize   int // logits of a row, if it is the last
	Context     int // positions that each sequence has room for
	Sequences   int
	BatchSize   int // most rows of one Run
	Outputs     int // most rows of one Run of which the last stage gives something. 0: all
	MemoryBytes uint64
}
