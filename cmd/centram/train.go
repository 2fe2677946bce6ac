package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/lora"
	"github.com/spf13/cobra"
)

func (a *app) trainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "train --model MODEL --data FILE... --out FILE", Short: "Teach a model something new with an adapter", Args: cobra.NoArgs,
		Long: "Train a LoRA adapter for a model. The model stays as it is; what it learns is in the adapter's file.\n" +
			"The data are texts (.txt, .md), or JSON lines of {\"text\": ...} or {\"messages\": [...]}; of conversations only the\n" +
			"assistant's answers are learnt. A part is kept aside to see whether what is learnt holds for what was not seen.\n" +
			"A training that was stopped goes on where it was when the same command is given again.\n\n" +
			"With --dp-epsilon the adapter tells little of any one document: a text file, or a line of JSON lines. Documents take part\n" +
			"by chance, what each can change is bounded, and noise is added. Not covered are the losses that are shown, and people who\n" +
			"are in several documents. What is spent is remembered for all trainings on the same documents. The same command does not\n" +
			"give the same adapter twice then.",
		Example: "  centram train --model qwen --data notes/ --out notes.gguf\n" +
			"  centram train --model qwen --data chats.jsonl --rank 8 --target all --steps 200 --out mine.gguf\n" +
			"  centram train --model qwen --data chats.jsonl --dp-epsilon 4 --out shared.gguf",
	}
	var cfg lora.Config
	flags := cmd.Flags()
	model := flags.StringP("model", "m", "", "`name` or file of the model")
	flags.StringSliceVar(&cfg.Data, "data", nil, "`files` and folders to learn from")
	flags.StringVarP(&cfg.Out, "out", "o", "adapter.gguf", "`file` to write the adapter to")
	flags.IntVar(&cfg.Rank, "rank", 16, "`number` of columns of each pair: more can learn more, and take more room")
	target := flags.String("target", "q,k,v,o", "`matrices` that get a pair: some of "+targetNames()+", or all")
	flags.IntVar(&cfg.Context, "ctx", 512, "`tokens` that are looked at together")
	flags.IntVar(&cfg.Steps, "steps", 0, "`number` of steps (once through the data; with --dp-epsilon, three times)")
	flags.IntVar(&cfg.Blocks, "batch", 1, "`number` of stretches of --ctx tokens in a step; with --dp-epsilon, of documents on average (a quarter of them, 32 at most)")
	flags.Float64Var(&cfg.Rate, "lr", 2e-4, "learning `rate`")
	flags.Float64Var(&cfg.Decay, "decay", 0, "`part` of every number that goes with each step, times the learning rate")
	flags.BoolVar(&cfg.Full, "full", false, "train all of the model's own numbers and write a model: for small ones, as it takes 16 bytes for each")
	flags.Float64Var(&cfg.Held, "held-out", 0.1, "`part` of the data that is not trained on")
	flags.Uint64Var(&cfg.Seed, "seed", 0, "`number` that decides all that is random")
	flags.IntVar(&cfg.Threads, "threads", 0, "`number` of threads (one for each processor)")
	flags.IntVar(&cfg.StateBits, "optimizer-bits", 32, "`number` of bits in which the optimiser keeps each of its two numbers a parameter, 32 or 8: less memory, nearly the same steps")
	privateFlags(flags, &cfg.Private)
	curve := flags.String("curve", "", "also draw the loss into this `file`, as SVG")
	asJSON := flags.Bool("json", false, "print a line of JSON for each step")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if len(cfg.Data) == 0 {
			return usageError{errors.New("there is nothing to learn from"), "Name files or folders with --data."}
		}
		if cfg.Targets, err = targets(*target); err != nil {
			return err
		}
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		if _, cfg.Model, err = a.modelFile(ctx, *model); err != nil {
			return err
		}
		if err := a.ledgerFor(&cfg.Private); err != nil {
			return err
		}
		if cfg.Private.Epsilon != 0 && !cmd.Flags().Changed("batch") {
			cfg.Blocks = 0
		}
		cfg.Name, cfg.Memory = strings.TrimSuffix(filepath.Base(cfg.Out), ".gguf"), a.trainingMemory()
		return a.train(ctx, cfg, *curve, *asJSON)
	}
	a.attended(cmd, &cfg)
	return cmd
}

// trainingMemory is what a training may take: what could be had now, or less if the owner has set what models may take.
func (a *app) trainingMemory() uint64 {
	free, limit := freeMemory(), uint64(a.cfg.MemoryLimit)
	if limit > 0 && (free == 0 || limit < free) {
		return limit
	}
	return free
}

func (a *app) train(ctx context.Context, cfg lora.Config, curve string, asJSON bool) error {
	lines := json.NewEncoder(a.out)
	show := &trainLine{app: a}
	e, err := lora.Run(ctx, cfg, func(e lora.Event) {
		if !asJSON {
			show.event(e)
		} else if e.Stage != lora.Done {
			_ = lines.Encode(e)
		}
	})
	show.clear()
	if errors.Is(err, context.Canceled) {
		return centram.Errorf(centram.Unavailable, "the training was stopped").WithHint("Give the same command again to go on.")
	}
	if err != nil {
		return err
	}
	if curve != "" {
		if err := drawCurve(curve, e.Losses, cfg.Name); err != nil {
			return err
		}
	}
	if asJSON {
		return lines.Encode(trained{e.Event, peakMemory()})
	}
	if terminal(a.err) && !a.quiet {
		fmt.Fprint(a.err, lora.Chart(e.Losses, 60, 10))
	}
	fmt.Fprintln(a.out, cfg.Out)
	a.hint("On what was held out the loss went from %.3f to %.3f nats a token, at %.0f tokens a second.", e.HeldBefore, e.HeldAfter, e.TokensPerSecond)
	a.private(e.Privacy)
	if e.HeldAfter >= e.HeldBefore {
		a.hint("That is no gain: the adapter has not learnt what holds for other texts of the kind. More data may help, or fewer steps.")
	}
	return nil
}

func drawCurve(path string, losses []float64, name string) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("draw the loss: %w", err)
	}
	return errors.Join(lora.WriteSVG(f, losses, name), f.Close())
}

// trained is the last line of --json.
type trained struct {
	lora.Event
	PeakMemory uint64 `json:"peak_rss_bytes"`
}

// short names of the matrices, as PEFT has them.
var shortTargets = [][2]string{
	{"q", "attn_q"}, {"k", "attn_k"}, {"v", "attn_v"}, {"o", "attn_output"}, {"gate", "ffn_gate"}, {"up", "ffn_up"}, {"down", "ffn_down"},
}

func targetNames() string {
	var names []string
	for _, t := range shortTargets {
		names = append(names, t[0])
	}
	return strings.Join(names, ",")
}

// targets reads a list of matrices, by their short names or their own.
func targets(list string) ([]string, error) {
	if list == "all" {
		list = targetNames()
	}
	var out []string
next:
	for _, name := range strings.Split(list, ",") {
		for _, t := range shortTargets {
			if name = strings.TrimSpace(name); name == t[0] || name == t[1] {
				out = append(out, t[1])
				continue next
			}
		}
		return nil, usageError{fmt.Errorf("there is no matrix %q to train", name), "Those are " + targetNames() + ", or all."}
	}
	return out, nil
}

// trainLine shows how far a training is: on a terminal as a line that changes, elsewhere as a line now and then.
type trainLine struct {
	app   *app
	shown time.Time
	dirty bool
}

func (l *trainLine) event(e lora.Event) {
	if l.app.quiet {
		return
	}
	line, often := trainText(e), terminal(l.app.err)
	switch pause := time.Since(l.shown); {
	case line == "", often && pause < 100*time.Millisecond && e.Stage == lora.Train, !often && pause < 10*time.Second && e.Stage == lora.Train:
		return
	}
	l.shown = time.Now()
	if often && e.Stage == lora.Before && e.SecondsEstimated > 0 { // which is to be read while it trains
		fmt.Fprintf(l.app.err, "\r%s\x1b[K\n", line)
		l.dirty = false
		return
	}
	if often {
		fmt.Fprintf(l.app.err, "\r%s\x1b[K", line)
		l.dirty = true
		return
	}
	fmt.Fprintln(l.app.err, line)
}

func (l *trainLine) clear() {
	if l.dirty {
		fmt.Fprint(l.app.err, "\r\x1b[K")
	}
}

func trainText(e lora.Event) string {
	switch e.Stage {
	case lora.Reading:
		return "reading the data"
	case lora.Before:
		if e.SecondsEstimated == 0 {
			return fmt.Sprintf("training %s numbers; one gradient is computed to see how long that will take", countText(uint64(e.Parameters)))
		}
		return willTake(e)
	case lora.Train:
		const width = 20
		done := e.Step * width / max(e.Steps, 1)
		return fmt.Sprintf("[%s%s] step %d of %d, loss %.3f, %.0f tokens a second, %v left", strings.Repeat("#", done), strings.Repeat(".", width-done),
			e.Step, e.Steps, e.Loss, e.TokensPerSecond, time.Duration(e.SecondsLeft*float64(time.Second)).Round(time.Second))
	case lora.After:
		return "looking at what was held out"
	}
	return ""
}

// willTake says what a training asks for, before it does.
func willTake(e lora.Event) string {
	return privateText(e.Privacy) + fmt.Sprintf("training %s numbers: that will take about %s and %s of memory; Ctrl+C stops it, the same command goes on",
		countText(uint64(e.Parameters)), roughly(e.SecondsEstimated), bytesText(int64(e.MemoryBytes)))
}

// roughly writes a time as exactly as an estimate is.
func roughly(seconds float64) string {
	switch {
	case seconds < 90:
		return plural(max(int(math.Round(seconds)), 1), "second")
	case seconds < 90*60:
		return plural(int(math.Round(seconds/60)), "minute")
	}
	return fmt.Sprintf("%.1f hours", seconds/3600)
}
