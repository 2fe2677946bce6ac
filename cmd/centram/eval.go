package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/centram/centram/lora"
	"github.com/spf13/cobra"
)

func (a *app) evalCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "eval --model MODEL --data FILE...", Short: "Measure how well a model predicts texts, alone and with adapters", Args: cobra.NoArgs,
		Long: "Measure the loss, in nats a token, of a model on texts and on answers in conversations, as `train` reads them.\n" +
			"Intervals hold the value with 95 % if the documents are a random sample of their kind.",
		Example: "  centram eval --model qwen --data test/\n" +
			"  centram eval --model qwen:notes --data test/\n" +
			"  centram eval --model qwen --data test/ --adapter notes.gguf\n" +
			"  centram eval --model qwen --data test/ --adapter notes.gguf=0.5 --adapter mine.gguf=0.5 --json",
	}
	var cfg lora.EvalConfig
	flags := cmd.Flags()
	model := flags.StringP("model", "m", "", "`name` or file of the model, perhaps with adapters as in qwen:notes")
	flags.StringSliceVar(&cfg.Data, "data", nil, "`files` and folders to look at")
	adapters := flags.StringArray("adapter", nil, "`file` of an adapter, perhaps with =SCALE; several are added")
	flags.IntVar(&cfg.Context, "ctx", 512, "`tokens` that are looked at together")
	flags.IntVar(&cfg.Threads, "threads", 0, "`number` of threads (one for each processor)")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if len(cfg.Data) == 0 {
			return usageError{errors.New("there is nothing to look at"), "Name files or folders with --data."}
		}
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		m, err := a.findModel(ctx, *model)
		if err != nil {
			return err
		}
		cfg.Model = m.Path
		for _, u := range m.Adapters {
			cfg.Adapters = append(cfg.Adapters, lora.Scaled{Path: u.Path, Scale: float64(u.Scale)})
		}
		for _, text := range *adapters {
			s, err := scaledAdapter(text)
			if err != nil {
				return err
			}
			cfg.Adapters = append(cfg.Adapters, s)
		}
		p := a.newProgress("looking at the data")
		e, err := lora.Evaluate(ctx, cfg, p.show)
		p.clear()
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(e)
		}
		return table(a.out, evaluationRows(e))
	}
	return cmd
}

// scaledAdapter reads FILE or FILE=SCALE.
func scaledAdapter(text string) (lora.Scaled, error) {
	path, scale, ok := cutLast(text, "=")
	if !ok || isFile(text) {
		return lora.Scaled{Path: text, Scale: 1}, nil
	}
	x, err := strconv.ParseFloat(scale, 64)
	if err != nil || !(x >= -100 && x <= 100) {
		return lora.Scaled{}, usageError{fmt.Errorf("%q is no scale of an adapter", scale), "A scale is a number such as 0.5."}
	}
	return lora.Scaled{Path: path, Scale: x}, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func evaluationRows(e *lora.Evaluation) [][]string {
	row := func(what string, i lora.Interval) []string {
		return []string{what, fmt.Sprintf("%.4f", i.Value), fmt.Sprintf("%.4f to %.4f", i.Low, i.High)}
	}
	rows := [][]string{{"", "NATS A TOKEN", "95 %"}, row("the model", e.Base)}
	if e.Adapted != nil {
		rows = append(rows, row("with adapters", *e.Adapted), row("gain", *e.Gain))
	}
	return append(rows, []string{"perplexity", fmt.Sprintf("%.2f", e.Perplexity), fmt.Sprintf("%s, %s", plural(len(e.Documents), "document"), plural(e.Tokens, "token"))})
}
