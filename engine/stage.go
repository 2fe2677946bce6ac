package engine

import "context"

// Stage is a part of a Runner: a range of a model's layers with its own KV cache. What it takes and gives are hidden
// states, rows of Info().Width numbers; the stage with the last layer gives logits. A Stage is used by one goroutine.
type Stage interface {
	// Run computes the batch. On an error the KV cache of the rows' sequences is as before or shorter.
	Run(ctx context.Context, b StageBatch) (StageOutput, error)
	// Unembed computes logits of what goes into the output matrix, as Run yields it of b with Normed, here or elsewhere. That
	// is b.Hidden, of the rows with Logits alone; of b.Rows these and their sequences count. It is for a stage that has rows of
	// the output matrix, whether or not it has the layer before it, and leaves the KV cache as it is.
	Unembed(ctx context.Context, b StageBatch) (StageOutput, error)
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
	// Normed wants the same, of the rows with Logits alone. Last stage only.
	Normed bool
}

// StageOutput belongs to the Stage and is valid until its next Run.
type StageOutput struct {
	Hidden []float32   // Width numbers for each row that yields them; nil if there are logits
	Logits [][]float32 // of the rows that wanted them, in batch order
	// Best is as in Output.
	Best [][]Candidate
}

// StageInfo describes a Stage.
type StageInfo struct {
	Width       int // numbers of a hidden state
	Layers      int
	Last        bool
	FirstToken  int // of those whose logits it gives
	VocabSize   int // how many these are, if it is the last
	Context     int // positions that each sequence has room for
	Sequences   int
	BatchSize   int // most rows of one Run
	Outputs     int // most rows of one Run of which the last stage gives something. 0: all
	MemoryBytes uint64
}
