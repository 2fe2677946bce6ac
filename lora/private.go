package lora

import (
	"crypto/rand"
	"io"
	"math"

	"github.com/centram/centram"
	"github.com/centram/centram/lora/dataset"
	"github.com/centram/centram/lora/dp"
)

// Private asks for a training whose adapter tells little about any one document, by DP-SGD (package dp). A document is a
// text file as a whole, or a line of a JSONL file; one that is there twice counts once. In each step every document takes
// part with the same probability, by chance; its gradient, the mean over what is to be predicted in all of it, is clipped;
// and noise is added to their sum.
//
// What is covered is the adapter, and with it what is saved on the way but for the losses. What is not: losses, of the
// steps and on what is held out, which are exact, and what somebody decides by them; how many documents there are, how long
// it takes, and settings that were chosen by looking at the data; a person who is in several documents, or in one in other
// words; and trainings on the same documents without this. What is held out is not trained on at all.
//
// What is random comes from the system and is kept nowhere, so the same settings do not give the same adapter twice, and a
// run that was stopped does not go on to the bytes of one that was not: whoever could repeat the noise could take it away.
type Private struct {
	Epsilon float64 // that the run may spend. Zero means that it is not private
	Delta   float64 // zero means a tenth of one over the number of documents, but 1e-5 at most
	Clip    float64 // the length that a document's gradient is clipped to. Zero means 0.1
	Budget  float64 // the epsilon that all runs together may spend on a document. Zero means 8
	Ledger  string  // file that remembers what was spent, for all data. It has to be given
}

// Privacy is what a private run has revealed. It counts every step from before its noise is drawn.
type Privacy struct {
	Epsilon   float64 `json:"epsilon"` // of this run until now
	Planned   float64 `json:"epsilon_planned"`
	Delta     float64 `json:"delta"`
	Rate      float64 `json:"sampling_rate"`
	Sigma     float64 `json:"noise_multiplier"`
	Clip      float64 `json:"clip"`
	Steps     int     `json:"steps"` // that are paid for; a step that was lost when a run was killed is, too
	Documents int     `json:"documents"`
	Spent     float64 `json:"epsilon_spent"`  // by all runs, on the document of which they have revealed most
	Budget    float64 `json:"epsilon_budget"` // for that
	Uncovered string  `json:"not_covered"`
}

// uncovered names the fields of an Event that are no one else's business.
const uncovered = "loss, held_out_before, held_out_after, documents, tokens_per_second and seconds are exact: they are for who has the data"

const (
	privateClip   = 0.1 // Adam takes any length; a short one makes every document count alike
	privateBudget = 8
	privateBatch  = 32
	privateEpochs = 3
)

// private is what a private run has besides.
type private struct {
	Private
	set       string
	documents []string
	blocks    [][]dataset.Block // of each document
	name      string            // of the run in the ledger
	step      dp.Run            // of one step
	curve     dp.Curve          // of that
	random    io.Reader         // nil but in tests

	sum      *dp.Accumulator
	gradient []float32
}

func (p Private) check() error {
	switch {
	case p.Epsilon == 0 && (p.Delta != 0 || p.Clip != 0 || p.Budget != 0):
		return centram.Errorf(centram.Invalid, "a private training needs an epsilon").WithHint("Usual values are 1 to 8; less protects more.")
	case p.Epsilon == 0:
		return nil
	case !(p.Epsilon > 0) || math.IsInf(p.Epsilon, 1):
		return centram.Errorf(centram.Invalid, "an epsilon is more than 0, not %v", p.Epsilon).WithHint("Usual values are 1 to 8; less protects more.")
	case !(p.Delta >= 0 && p.Delta < 1), !(p.Clip >= 0) || math.IsInf(p.Clip, 1), !(p.Budget >= 0) || math.IsInf(p.Budget, 1):
		return centram.Errorf(centram.Invalid, "a delta lies between 0 and 1, and a clipping length and a budget are more than 0")
	case p.Ledger == "":
		return centram.Errorf(centram.Invalid, "a private training needs a file to remember in what was spent")
	}
	return nil
}

// plan finds out how much noise the run needs. It fails with Forbidden if the documents' budget does not allow it.
func (r *run) plan(items []dataset.Item, documents []dataset.Document) error {
	p := &private{Private: r.cfg.Private, name: rand.Text()}
	r.private, r.train = p, nil
	p.set, p.documents = identify(items)
	for _, d := range documents {
		blocks, err := dataset.Pack([]dataset.Document{d}, r.cfg.Context)
		if err != nil {
			return err
		}
		for i := range blocks {
			trim(&blocks[i])
		}
		p.blocks, r.train = append(p.blocks, blocks), append(r.train, blocks...)
	}
	n := float64(len(documents))
	if r.cfg.Blocks == 0 {
		r.cfg.Blocks = max(min(privateBatch, len(documents)/4), 1)
	}
	if r.cfg.Steps == 0 {
		r.cfg.Steps = int(math.Ceil(privateEpochs * n / float64(r.cfg.Blocks)))
	}
	if p.Delta == 0 {
		p.Delta = min(1e-5, 1/(10*n))
	}
	if p.Clip == 0 {
		p.Clip = privateClip
	}
	if p.Budget == 0 {
		p.Budget = privateBudget
	}
	switch {
	case float64(r.cfg.Blocks) > n:
		return centram.Errorf(centram.Invalid, "there are %d documents to train on, and a step is to have %d of them", len(documents), r.cfg.Blocks).
			WithHint("Text files count as a whole: give more of them, or JSONL files with a text or a conversation on each line.")
	case p.Delta >= 1/n:
		return centram.Errorf(centram.Invalid, "a delta of %.3g would allow to publish one of the %d documents as it is", p.Delta, len(documents)).
			WithHint("Take at most %.1g.", 1/(10*n))
	}
	r.cfg.Private = p.Private
	p.step = dp.Run{Q: float64(r.cfg.Blocks) / n, Steps: 1}
	var err error
	if p.step.Sigma, err = dp.SigmaFor(dp.Budget{Epsilon: p.Epsilon, Delta: p.Delta}, dp.Curve{}, p.step.Q, r.cfg.Steps); err != nil {
		return err
	}
	if p.curve, err = p.step.Curve(); err != nil {
		return err
	}
	r.now.Privacy = &Privacy{
		Planned: p.Epsilon, Delta: p.Delta, Rate: p.step.Q, Sigma: p.step.Sigma, Clip: p.Clip, Documents: len(documents), Budget: p.Budget, Uncovered: uncovered,
	}
	return nil
}

// trim leaves out rows that only fill a block.
func trim(b *dataset.Block) {
	n := len(b.Docs)
	for n > 1 && b.Docs[n-1] < 0 {
		n--
	}
	b.Tokens, b.Positions, b.Docs, b.Labels = b.Tokens[:n], b.Positions[:n], b.Docs[:n], b.Labels[:n]
}

// memory is what a private run needs besides: a sum, one document's whole numbers, and a gradient.
func (p *private) memory(parameters int) uint64 { return uint64(parameters) * (8 + 8 + 4) }

// begin fails with Forbidden if what is left of the run does not fit into the documents' budget.
func (r *run) begin() (err error) {
	p := r.private
	p.gradient = make([]float32, r.now.Parameters)
	p.sum, err = dp.NewAccumulator(dp.AccumulatorConfig{Size: len(p.gradient), Clip: p.Clip, Sigma: p.step.Sigma, Rand: p.random})
	if err != nil {
		return err
	}
	l, err := readLedger(p.Ledger)
	if err != nil {
		return err
	}
	paid, known := l.Runs[p.name]
	if r.now.Resumed && !known {
		return centram.Errorf(centram.Conflict, "the privacy ledger %s does not know the training that %s is of", p.Ledger, r.state()).
			WithHint("Put back the ledger that it was begun with, or remove what was saved to begin anew.")
	}
	before := l.spent(p.set, p.documents)
	spent, _ := before.Epsilon(p.Delta)
	with, _ := before.Add(p.curve.Times(r.cfg.Steps - r.now.Step)).Epsilon(p.Delta)
	if !r.now.Resumed && with > p.allowed() {
		return centram.Errorf(centram.Forbidden,
			"of the privacy budget of these documents, which is %.4g at delta %.3g, %.4g are spent; with this training it would be %.4g", p.Budget, p.Delta, spent, with).
			WithHint("Take a smaller epsilon or fewer steps, allow a larger budget (--dp-budget), or use documents that were not trained on yet.")
	}
	r.tell(paid.Steps, before)
	return nil
}

// allowed is the budget, and room for the rounding of a sum of thousands of steps.
func (p *private) allowed() float64 { return p.Budget * (1 + 1e-9) }
