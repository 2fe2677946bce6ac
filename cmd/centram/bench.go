package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/centram/centram/engine/local"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama"
	"github.com/spf13/cobra"
)

// llama-bench's batch sizes.
const (
	benchBatch      = 2048
	benchMicroBatch = 512
)

// bench measures a model as llama-bench does, so that the figures can be compared: random tokens, nothing sampled, a
// run to warm up, and each repetition from an empty cache.
type bench struct {
	model   *llama.Model
	vocab   int
	begin   []llama.Token // the beginning-of-sequence token, if the model wants one
	threads int
	repeat  int
	random  *rand.Rand
}

// benchReport is what --json prints. Rates are the mean over the repetitions.
type benchReport struct {
	Model         string  `json:"model"`
	Path          string  `json:"path"`
	Description   string  `json:"description"`
	Architecture  string  `json:"architecture"`
	Quantization  string  `json:"quantization"`
	Parameters    uint64  `json:"parameters"`
	SizeBytes     int64   `json:"size_bytes"`
	Threads       int     `json:"threads"`
	GPULayers     int     `json:"gpu_layers"`
	Backend       string  `json:"backend"`
	Llama         string  `json:"llama"`
	System        string  `json:"system"`
	PromptTokens  int     `json:"prompt_tokens"`
	DecodeTokens  int     `json:"decode_tokens"`
	Repeat        int     `json:"repeat"`
	PrefillRate   float64 `json:"prefill_tokens_per_second,omitempty"`
	DecodeRate    float64 `json:"decode_tokens_per_second,omitempty"`
	PrefillSpread *spread `json:"prefill,omitempty"`
	DecodeSpread  *spread `json:"decode,omitempty"`
}

// spread is how tokens per second were distributed.
type spread struct {
	Mean    float64   `json:"mean"`
	Stddev  float64   `json:"stddev"`
	Min     float64   `json:"min"`
	Median  float64   `json:"median"`
	Max     float64   `json:"max"`
	Samples []float64 `json:"samples"`
}

func (a *app) benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "bench [MODEL]", Short: "Measure how fast a model reads and writes", Args: cobra.MaximumNArgs(1),
		Long: "Measure how fast a model reads a prompt (prefill) and writes an answer (decode), in tokens a second. The figures\n" +
			"are defined as llama-bench's pp and tg are, and can be compared with them.",
		ValidArgsFunction: a.completeModels,
	}
	flags := cmd.Flags()
	model := flags.StringP("model", "m", "", "`name` or file of the model")
	prompt := flags.IntP("prompt", "p", 512, "`number` of tokens to read, 0 for none")
	gen := flags.IntP("gen", "n", 128, "`number` of tokens to write, 0 for none")
	repeat := flags.IntP("repeat", "r", 5, "`number` of repetitions")
	setting(cmd, "threads", "threads", "`number` of threads to compute with (all processors)")
	setting(cmd, "gpu-layers", "gpu_layers", "`number` of layers on the GPU, -1 for none (all)")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *prompt < 0 || *gen < 0 || *prompt+*gen == 0 || *repeat < 1 {
			return usageError{errors.New("there is nothing to measure"), "See: centram bench --help"}
		}
		if len(args) > 0 {
			*model = args[0]
		}
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		report, err := a.measure(ctx, *model, *prompt, *gen, *repeat)
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(report)
		}
		return table(a.out, report.rows())
	}
	return cmd
}

func (a *app) measure(ctx context.Context, model string, prompt, gen, repeat int) (benchReport, error) {
	name, path, err := a.modelFile(ctx, model)
	if err != nil {
		return benchReport{}, err
	}
	file, err := gguf.OpenModel(path)
	if err != nil {
		return benchReport{}, err
	}
	defer file.Close()
	parts := make([]string, len(file.Parts))
	for i, p := range file.Parts {
		parts[i] = p.Name
	}
	v, s := buildVersion(), file.Summary
	r := benchReport{
		Model: name, Path: path, Architecture: s.Architecture, Quantization: s.Quantization, SizeBytes: s.SizeBytes,
		Threads: a.cfg.Threads, GPULayers: gpuLayers(a.cfg.GPULayers, s.Layers), Backend: v.Backend, Llama: v.Llama,
		System: llama.SystemInfo(), PromptTokens: prompt, DecodeTokens: gen, Repeat: repeat,
	}
	if r.Threads == 0 {
		r.Threads = local.PhysicalCores()
	}
	p := a.newProgress("Loading " + name)
	m, err := llama.LoadModel(ctx, parts, llama.ModelConfig{GPULayers: r.GPULayers, Progress: p.show})
	p.clear()
	if err != nil {
		return benchReport{}, err
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		return benchReport{}, err
	}
	r.Description, r.Parameters = info.Description, info.Parameters
	b := &bench{model: m, vocab: info.VocabSize, threads: r.Threads, repeat: repeat, random: rand.New(rand.NewPCG(1, 2))}
	if b.begin, err = m.Tokenize("", true, false); err != nil {
		return benchReport{}, err
	}
	if prompt > 0 {
		if r.PrefillSpread, err = b.rates(ctx, prompt, b.read, prompt, a.newProgress("Reading")); err != nil {
			return benchReport{}, err
		}
		r.PrefillRate = r.PrefillSpread.Mean
	}
	if gen > 0 {
		if r.DecodeSpread, err = b.rates(ctx, gen, b.write, 1, a.newProgress("Writing")); err != nil {
			return benchReport{}, err
		}
		r.DecodeRate = r.DecodeSpread.Mean
	}
	return r, nil
}

// gpuLayers is the number that llama.cpp wants: the output matrix counts as one more.
func gpuLayers(wanted, layers int) int {
	switch {
	case wanted < 0 || !llama.GPUOffload():
		return 0
	case wanted == 0:
		return layers + 1
	}
	return wanted
}

// rates runs work for n tokens again and again, in a context of just that size, and returns tokens per second.
func (b *bench) rates(ctx context.Context, n int, work func(context.Context, *llama.Context, int) error, warmUp int, p *progress) (*spread, error) {
	c, err := b.model.NewContext(llama.ContextConfig{
		Size: n, Batch: benchBatch, MicroBatch: benchMicroBatch, Threads: b.threads,
	})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer p.clear()
	if err := work(ctx, c, warmUp); err != nil {
		return nil, err
	}
	var samples []float64
	for i := range b.repeat {
		p.show(float64(i) / float64(b.repeat))
		if err := c.Trim(-1, 0, -1); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := work(ctx, c, n); err != nil {
			return nil, err
		}
		samples = append(samples, float64(n)/time.Since(began).Seconds())
	}
	return spreadOf(samples), nil
}

// read computes a prompt of n tokens, with logits for the last of each batch.
func (b *bench) read(ctx context.Context, c *llama.Context, n int) error {
	var batch llama.Batch
	for from := 0; from < n; from += benchBatch {
		if err := ctx.Err(); err != nil {
			return err
		}
		batch.Reset()
		to := min(n, from+benchBatch)
		for pos := from; pos < to; pos++ {
			batch.Add(b.token(pos), pos, 0, pos == to-1)
		}
		if err := c.Decode(&batch); err != nil {
			return err
		}
	}
	_, err := c.Logits(len(batch.Tokens) - 1) // waits for a GPU to be done
	return err
}

// write computes n tokens, one after the other.
func (b *bench) write(ctx context.Context, c *llama.Context, n int) error {
	var batch llama.Batch
	for pos := range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		batch.Reset()
		batch.Add(b.token(pos), pos, 0, true)
		if err := c.Decode(&batch); err != nil {
			return err
		}
		if _, err := c.Logits(0); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) token(pos int) llama.Token {
	if pos == 0 && len(b.begin) > 0 {
		return b.begin[0]
	}
	return llama.Token(b.random.IntN(b.vocab))
}

func spreadOf(samples []float64) *spread {
	sorted := slices.Sorted(slices.Values(samples))
	s := &spread{Min: sorted[0], Max: sorted[len(sorted)-1], Samples: samples}
	s.Median = (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
	for _, v := range samples {
		s.Mean += v / float64(len(samples))
	}
	if len(samples) > 1 {
		var squares float64
		for _, v := range samples {
			squares += (v - s.Mean) * (v - s.Mean)
		}
		s.Stddev = math.Sqrt(squares / float64(len(samples)-1))
	}
	return s
}

func (r benchReport) rows() [][]string {
	rows := [][]string{{"TEST", "TOKENS/S", "±", "MIN", "MEDIAN", "MAX"}}
	add := func(test string, s *spread) {
		if s == nil {
			return
		}
		row := []string{test}
		for _, v := range []float64{s.Mean, s.Stddev, s.Min, s.Median, s.Max} {
			row = append(row, fmt.Sprintf("%.2f", v))
		}
		rows = append(rows, row)
	}
	add(fmt.Sprintf("read %d", r.PromptTokens), r.PrefillSpread)
	add(fmt.Sprintf("write %d", r.DecodeTokens), r.DecodeSpread)
	about := fmt.Sprintf("%s, %s parameters, %s, %s, %s", r.Model, countText(r.Parameters), r.Quantization, plural(r.Threads, "thread"), r.Backend)
	return append(rows, []string{}, []string{about})
}
