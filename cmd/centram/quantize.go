package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/models"
	"github.com/centram/centram/quantize"
	"github.com/centram/centram/server"
	"github.com/spf13/cobra"
)

func (a *app) quantizeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "quantize MODEL|FILE", Aliases: []string{"quantise"}, Short: "Make a smaller file of a model", Args: cobra.ExactArgs(1),
		Long: "Make a file of a model with smaller weights, which takes less memory, is faster and a little worse. The model stays as it is.\n" +
			"The new file is added to the list. Without --out it is written into the models folder. Ctrl+C stops it, and leaves nothing.\n\n" +
			"The types, and how many bits a weight takes in a model of 8 billion parameters; q4_k_m serves most people well:\n" + typeTable(),
		Example: "  centram model quantize qwen2.5-1.5b-instruct-fp16.gguf --type q4_k_m\n" +
			"  centram model quantize qwen --type q8_0 --out /disk/qwen-q8_0.gguf --name qwen-large",
		ValidArgsFunction: a.completeModels,
	}
	var cfg quantize.Config
	flags := cmd.Flags()
	typ := flags.StringP("type", "t", "q4_k_m", "`type` of the new weights")
	flags.StringVarP(&cfg.Out, "out", "o", "", "`file` to write (NAME-TYPE.gguf in the models folder)")
	name := flags.String("name", "", "what to call the new model (after its file)")
	flags.IntVar(&cfg.Threads, "threads", 0, "`number` of threads (one for each processor)")
	flags.BoolVar(&cfg.Replace, "force", false, "replace the file that is there")
	flags.BoolVar(&cfg.Requantize, "requantize", false, "take a model that is quantised already, which makes a worse one")
	asJSON := flags.Bool("json", false, "print lines of JSON with the progress, and at last the result")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if cfg.Type, err = quantize.ParseType(*typ); err != nil {
			return usageError{err, centram.HintOf(err)}
		}
		if cfg.Threads < 0 {
			return usageError{fmt.Errorf("%d is no number of threads", cfg.Threads), "Leave out --threads for one for each processor."}
		}
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		return a.quantize(ctx, cfg, args[0], *name, *asJSON)
	}
	return cmd
}

func typeTable() string {
	var b strings.Builder
	for i, t := range quantize.Types {
		fmt.Fprintf(&b, "  %-7s %4.1f", t.Name, t.Bits)
		if i%4 == 3 {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// quantizeWorker is the process that does it.
func (a *app) quantizeWorker() *cobra.Command {
	return &cobra.Command{
		Use: "quantize-worker", Short: "Quantise what standard input says, until that ends", Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			signal.Ignore(syscall.SIGPIPE) // nobody reads any more, and still it has to remove what it has written
			return quantize.Work(a.in, a.out)
		},
	}
}

func (a *app) quantize(ctx context.Context, cfg quantize.Config, model, name string, asJSON bool) error {
	began := time.Now()
	called, path, err := a.modelFile(ctx, model)
	if err != nil {
		return err
	}
	cfg.In, cfg.Memory = path, freeMemory()
	if cfg.Out, err = a.quantizedFile(cfg, called); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if err := a.nameIsFree(ctx, name, cfg.Out); err != nil {
		return err
	}
	plan, err := cfg.Plan()
	if err != nil {
		return err
	}
	a.announceQuantizing(plan)
	lines, bar := json.NewEncoder(a.out), a.newProgress("quantising")
	err = plan.Write(ctx, []string{self, "quantize-worker"}, func(p quantize.Progress) {
		if asJSON {
			_ = lines.Encode(p) // if nobody reads it, the file is wanted all the same
			return
		}
		bar.about(quantizeText(p))
		bar.show(p.Part())
	})
	bar.clear()
	if err != nil {
		return err
	}
	m, err := a.listQuantized(context.WithoutCancel(ctx), cfg.Out, name)
	if err != nil {
		return centram.Errorf(centram.CodeOf(err), "%s is made, but could not be added to the list: %w", cfg.Out, err).
			WithHint("Add it with: centram model import %s", cfg.Out)
	}
	if asJSON {
		return lines.Encode(quantized{"done", m.Name, cfg.Out, m.SizeBytes, plan.Old, plan.Bits, len(plan.Misfits), time.Since(began).Seconds()})
	}
	fmt.Fprintln(a.out, m.Name)
	a.hint("%s, %.1f bits a weight; it was %s. Chat with it: centram chat --model %s", bytesText(m.SizeBytes), plan.Bits, bytesText(plan.Old), m.Name)
	return nil
}

// quantized is the last line of --json.
type quantized struct {
	Stage    string  `json:"stage"`
	Name     string  `json:"name"`
	File     string  `json:"file"`
	Bytes    int64   `json:"bytes"`
	Old      uint64  `json:"bytes_before"`
	Bits     float64 `json:"bits_per_weight"`
	Misfits  int     `json:"misfits"`
	Duration float64 `json:"seconds"`
}

// precision is what the name of a model ends in that says how large its weights are.
var precision = regexp.MustCompile(`(?i)[-_.](f16|fp16|bf16|f32|fp32|q\d(_\d|_k(_[sml])?)?)$`)

// quantizedFile is where the new file goes if nobody has said: among the models, named after the old one.
func (a *app) quantizedFile(cfg quantize.Config, called string) (string, error) {
	if cfg.Out != "" {
		return filepath.Abs(cfg.Out)
	}
	if err := os.MkdirAll(a.cfg.Models, 0o700); err != nil {
		return "", centram.Errorf(centram.Forbidden, "the models folder %s cannot be made: %w", a.cfg.Models, err).
			WithHint("Name a file elsewhere with --out, or choose another folder with: centram config set models PATH")
	}
	base := models.NameFor(strings.TrimSuffix(called, ".gguf")+".gguf", "") // a name may have a dot in it
	if short := precision.ReplaceAllString(base, ""); short != "" {
		base = short
	}
	return filepath.Join(a.cfg.Models, base+"-"+cfg.Type.Name+".gguf"), nil
}

// nameIsFree looks beforehand whether the new model can be called so.
func (a *app) nameIsFree(ctx context.Context, name, out string) error {
	if name == "" {
		return nil
	}
	if err := models.CheckName(name); err != nil {
		return err
	}
	l, err := a.library(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	m, err := l.Get(ctx, name)
	switch {
	case centram.CodeOf(err) == centram.NotFound:
		return nil
	case err == nil && m.Path != out:
		return centram.Errorf(centram.Conflict, "there is a model %s already", m.Name).WithHint("Choose another name with --name.")
	}
	return err
}

// listQuantized adds the new file to the list, of a daemon that may have started meanwhile. It may just have found the file in
// the models folder, and named it by itself.
func (a *app) listQuantized(ctx context.Context, path, name string) (server.Model, error) {
	l, err := a.library(ctx)
	if err != nil {
		return server.Model{}, err
	}
	defer l.Close()
	m, err := l.Import(ctx, path, name)
	if centram.CodeOf(err) != centram.Conflict {
		return m, err
	}
	list, listErr := l.List(ctx)
	for _, m := range list {
		if m.Path == path && listErr == nil {
			if err := l.Delete(ctx, m.Name, false); err != nil {
				return m, err
			}
			return l.Import(ctx, path, name)
		}
	}
	return m, errors.Join(err, listErr)
}

// announceQuantizing says what is going to be made.
func (a *app) announceQuantizing(p quantize.Plan) {
	a.hint("%s, %s, becomes %s of about %s in %s", filepath.Base(p.In), bytesText(p.Old), p.Type.Name, bytesText(p.Bytes), p.Out)
	if n := len(p.Misfits); n > 0 {
		m := p.Misfits[0]
		a.hint("%d of %s have rows that are no multiple of %d numbers long, so they get another type: %s has rows of %d, and gets %s for %s. "+
			"That makes %.1f bits a weight.", n, plural(p.Tensors, "tensor"), m.Block, m.Name, m.Columns, m.Instead, m.Type, p.Bits)
	}
}

// quantizeText says what is being done.
func quantizeText(p quantize.Progress) string {
	if p.Stage == quantize.Weights {
		return fmt.Sprintf("quantising, tensor %d of %d, %s", p.Number, p.Of, printable(p.Tensor))
	}
	return "bringing the file onto the disk"
}
