package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/server/wire"
	"github.com/spf13/cobra"
)

// chatFlags is what was asked for.
type chatFlags struct {
	model, prompt, system string
	raw, json, verbose    bool
	maxTokens             int
	stop                  []string
	sampling              wire.Sampling
}

// samplingFlags are those that stand for a field of wire.Sampling, whose name has an underscore for the dash.
var samplingFlags = []struct{ name, help string }{
	{"temperature", "`number`: 0 always takes the likeliest token (0.8)"},
	{"top-k", "`number` of likeliest tokens to choose from, 0 for all (40)"},
	{"top-p", "`share` of probability to choose from (0.95)"},
	{"min-p", "`share` of the likeliest token's probability that a token needs (0.05)"},
	{"repeat-penalty", "`factor` against repetition (1, which is off)"},
	{"seed", "`number` that makes answers repeatable (random)"},
}

func (a *app) chatCommand() *cobra.Command {
	f := &chatFlags{}
	cmd := &cobra.Command{
		Use: "chat [MODEL] [PROMPT]", Aliases: []string{"run"}, Short: "Chat with a model",
		Long: "Chat with a model, or with a prompt get one answer. A model that is named by its file, and any model when no\n" +
			"daemon runs, is run by this command itself. Without --prompt, text that is piped in is the prompt.",
		Example: "  centram chat\n" +
			"  centram chat --model qwen --prompt \"Why is the sky blue?\"\n" +
			"  centram run qwen \"Why is the sky blue?\"\n" +
			"  centram chat --model ./qwen.gguf --raw --prompt \"Once upon a time\" --max-tokens 50 --temperature 0\n" +
			"  git diff | centram chat --system \"Write a commit message for this.\"",
		ValidArgsFunction: a.completeModels,
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.model, "model", "m", "", "`name` or file of the model")
	flags.StringVarP(&f.prompt, "prompt", "p", "", "`text` to answer; - reads it from standard input")
	flags.StringVar(&f.system, "system", "", "`text` that tells the model how to behave")
	flags.BoolVar(&f.raw, "raw", false, "continue the prompt as it is, without the model's chat template")
	flags.IntVarP(&f.maxTokens, "max-tokens", "n", 0, "`number` of tokens at most, 0 for no limit")
	flags.StringArrayVar(&f.stop, "stop", nil, "`text` before which the answer ends; may be repeated")
	flags.BoolVar(&f.json, "json", false, "print the answer and its figures as JSON")
	flags.BoolVar(&f.verbose, "verbose", false, "print the figures after each answer")
	for _, s := range samplingFlags {
		flags.String(s.name, "", s.help)
	}
	computing(cmd)
	_ = cmd.RegisterFlagCompletionFunc("model", func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return a.completeModels(cmd, nil, typed)
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.readChatFlags(cmd, args, f); err != nil {
			return err
		}
		if f.prompt != "" {
			return a.answerOnce(cmd.Context(), f)
		}
		return a.converse(cmd.Context(), f)
	}
	return cmd
}

// readChatFlags puts together flags, arguments and standard input. An empty prompt then means a conversation.
func (a *app) readChatFlags(cmd *cobra.Command, args []string, f *chatFlags) error {
	usage := func(err error) error { return usageError{err, "See: centram chat --help"} }
	for _, s := range samplingFlags {
		if flag := cmd.Flags().Lookup(s.name); flag.Changed {
			if err := setSampling(&f.sampling, strings.ReplaceAll(s.name, "-", "_"), flag.Value.String()); err != nil {
				return usage(err)
			}
		}
	}
	if f.maxTokens < 0 {
		return usage(fmt.Errorf("--max-tokens must not be negative, but is %d", f.maxTokens))
	}
	if f.raw && f.system != "" {
		return usage(errors.New("--system needs the chat template, which --raw leaves out"))
	}
	if f.model == "" && len(args) > 0 {
		f.model, args = args[0], args[1:]
	}
	if len(args) > 0 {
		if f.prompt != "" {
			return usage(fmt.Errorf("the prompt is given twice: %q and %q", f.prompt, strings.Join(args, " ")))
		}
		f.prompt = strings.Join(args, " ")
	}
	if f.prompt == "-" || f.prompt == "" && !cmd.Flags().Changed("prompt") && !terminal(a.in) {
		b, err := io.ReadAll(a.in)
		if err != nil {
			return fmt.Errorf("read the prompt: %w", err)
		}
		f.prompt = string(b)
		if !f.raw {
			f.prompt = strings.TrimSuffix(f.prompt, "\n")
		}
	}
	if f.prompt == "" && (f.raw || f.json || !terminal(a.in) || cmd.Flags().Changed("prompt")) {
		return usage(errors.New("there is no prompt"))
	}
	return nil
}

// answerOnce prints one answer. It streams it unless JSON is wanted.
func (a *app) answerOnce(ctx context.Context, f *chatFlags) error {
	ctx, stop := untilSignal(ctx)
	defer stop()
	t, err := a.talk(ctx, f.model)
	if err != nil {
		return err
	}
	defer t.Close()
	q := question{Raw: f.raw, Prompt: f.prompt, Sampling: f.sampling, MaxTokens: f.maxTokens, Stop: f.stop}
	if !f.raw {
		q.Messages = conversation{System: f.system, Messages: []engine.Message{{Role: "user", Content: f.prompt}}}.all()
	}
	emit := a.say
	if f.json {
		emit = func(string) error { return nil }
	}
	said, err := t.Answer(ctx, q, emit)
	if !f.json && (err == nil || said.Content != "") {
		fmt.Fprintln(a.out)
	}
	if err != nil {
		return a.answerError(ctx, err)
	}
	if f.json {
		return a.printJSON(said)
	}
	if f.verbose {
		a.hint("%s", said.figures())
	}
	return nil
}

// answerError says what a person can do about it.
func (a *app) answerError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return centram.Errorf(centram.Unavailable, "The answer was stopped.").WithHint("Ask again to get another one.")
	case centram.CodeOf(err) == centram.TooLong && centram.HintOf(err) == "":
		return centram.Errorf(centram.TooLong, "%w", err).WithHint("Give it more room with --ctx, or ask for less.")
	}
	return err
}

// figures is one line about how the answer came about.
func (a answer) figures() string {
	parts := []string{
		plural(a.PromptTokens, "token") + " read in " + strconv.FormatFloat(a.PromptMS/1000, 'f', 2, 64) + " s",
		plural(a.GeneratedTokens, "token") + " written at " + strconv.FormatFloat(a.TokensPerSecond, 'f', 1, 64) + " a second",
	}
	if a.CachedTokens > 0 {
		parts = append(parts, plural(a.CachedTokens, "token")+" remembered")
	}
	return strings.Join(parts, ", ") + "."
}
