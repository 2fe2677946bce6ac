package lora

import (
	"cmp"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/centram/centram"
	"github.com/centram/centram/llama"
	"github.com/centram/centram/lora/dataset"
)

// EvalConfig is what is looked at, and with what.
type EvalConfig struct {
	Model    string
	Data     []string // as for training; all of it is looked at
	Adapters []Scaled // none: the model alone
	Context  int      // most tokens that are looked at together. Zero means 512
	Threads  int      // zero means the number of processors
}

// Interval is a value, and the bounds between which it lies with a probability of 95 %, if the documents are a random sample
// of their kind.
type Interval struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// DocumentLoss is how well a document was predicted.
type DocumentLoss struct {
	File    string  `json:"file"`
	Line    int     `json:"line,omitempty"`
	Tokens  int     `json:"tokens"` // that were to be predicted
	Base    float64 `json:"base"`   // nats a token, of the model alone
	Adapted float64 `json:"adapted,omitempty"`

	tokens dataset.Document
}

// Evaluation is how well a model predicts data, alone and with adapters. Losses are in nats for each token.
type Evaluation struct {
	Tokens     int            `json:"tokens"`
	Base       Interval       `json:"base"`
	Adapted    *Interval      `json:"adapted,omitempty"`
	Gain       *Interval      `json:"gain,omitempty"` // Base - Adapted, of the same documents: more is better
	Perplexity float64        `json:"perplexity"`     // of the best that there is: with the adapters, if there are any
	Documents  []DocumentLoss `json:"documents"`
}

// Evaluate looks at data. It calls progress, if that is not nil, with the part that is done.
func Evaluate(ctx context.Context, cfg EvalConfig, progress func(done float64)) (_ *Evaluation, err error) {
	base, err := openBase(cfg.Model)
	if err != nil {
		return nil, err
	}
	mix, err := readMixture(cfg.Adapters, base.summary)
	if err != nil {
		return nil, err
	}
	items, err := dataset.Read(cfg.Data, dataset.Config{})
	if err != nil {
		return nil, err
	}
	documents, err := base.documents(ctx, items)
	if err != nil {
		return nil, err
	}
	rows := min(cmp.Or(cfg.Context, 512), base.summary.Context)
	t, err := llama.NewTrainer(ctx, base.paths, llama.TrainerConfig{Rank: mix.rank(), Targets: mix.targets(), Context: rows, Threads: cfg.Threads})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	e := &Evaluation{}
	for _, d := range documents[0] {
		n := 0
		for _, supervised := range d.Supervised[min(1, len(d.Supervised)):] {
			if supervised {
				n++
			}
		}
		if n > 0 {
			e.Documents = append(e.Documents, DocumentLoss{File: d.File, Line: d.Line, Tokens: n, tokens: d})
			e.Tokens += n
		}
	}
	if e.Tokens == 0 {
		return nil, centram.Errorf(centram.Invalid, "in the data there is nothing to predict")
	}
	passes := 1.0
	if len(mix) > 0 {
		passes = 2
	}
	look := func(pass int, loss func(*DocumentLoss) *float64) error {
		for i := range e.Documents {
			d := &e.Documents[i]
			sum, err := lossOf(ctx, t, d.tokens, rows)
			if err != nil {
				return err
			}
			*loss(d) = sum / float64(d.Tokens)
			if progress != nil {
				progress((float64(pass) + float64(i+1)/float64(len(e.Documents))) / passes)
			}
		}
		return nil
	}
	// As long as every B is zero, it is the model alone.
	if err := look(0, func(d *DocumentLoss) *float64 { return &d.Base }); err != nil {
		return nil, err
	}
	if len(mix) > 0 {
		if err := mix.into(t); err != nil {
			return nil, err
		}
		if err := look(1, func(d *DocumentLoss) *float64 { return &d.Adapted }); err != nil {
			return nil, err
		}
	}
	e.sum(len(mix) > 0)
	return e, nil
}

// lossOf is the sum of a document's losses.
func lossOf(ctx context.Context, t *llama.Trainer, d dataset.Document, rows int) (sum float64, err error) {
	blocks, err := dataset.Pack([]dataset.Document{d}, rows)
	if err != nil {
		return 0, err
	}
	for _, b := range blocks {
		losses, err := t.Forward(ctx, block(b))
		if err != nil {
			return 0, err
		}
		sum += total(losses)
	}
	return sum, nil
}

func (e *Evaluation) sum(adapted bool) {
	base := func(d DocumentLoss) float64 { return d.Base }
	with := func(d DocumentLoss) float64 { return d.Adapted }
	e.Base = e.interval(base)
	e.Perplexity = math.Exp(e.Base.Value)
	if adapted {
		a, gain := e.interval(with), e.interval(func(d DocumentLoss) float64 { return d.Base - d.Adapted })
		e.Adapted, e.Gain, e.Perplexity = &a, &gain, math.Exp(a.Value)
	}
}

// resamples is how many samples of documents an interval is made of.
const resamples = 2000

// interval is the mean of something over all tokens, with its percentile bootstrap over documents (Efron and Tibshirani,
// An Introduction to the Bootstrap, 1993, chapter 13). It is the same for the same losses.
func (e *Evaluation) interval(of func(DocumentLoss) float64) Interval {
	mean := func(pick func(i int) int) float64 {
		sum, tokens := 0.0, 0
		for i := range e.Documents {
			d := e.Documents[pick(i)]
			sum, tokens = sum+of(d)*float64(d.Tokens), tokens+d.Tokens
		}
		return sum / float64(tokens)
	}
	random := rand.New(rand.NewPCG(1, 2))
	means := make([]float64, resamples)
	for i := range means {
		means[i] = mean(func(int) int { return random.IntN(len(e.Documents)) })
	}
	slices.Sort(means)
	return Interval{mean(func(i int) int { return i }), means[resamples*25/1000], means[resamples*975/1000-1]}
}
