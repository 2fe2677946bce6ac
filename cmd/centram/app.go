package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/centram/centram"
	"github.com/centram/centram/config"
	"github.com/centram/centram/store"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// app is one run of the command line.
type app struct {
	in       io.Reader
	out, err io.Writer
	lookup   func(string) (string, bool) // the environment

	quiet   bool
	started bool           // flags and arguments were understood
	cfg     *config.Config // set once started
}

// start reads the settings and puts the flags of cmd that stand for some on top of them.
func (a *app) start(cmd *cobra.Command) (err error) {
	a.started = true
	if a.cfg, err = config.Load(a.lookup); err != nil {
		return err
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if key := f.Annotations[configKey]; key != nil && err == nil {
			err = a.cfg.SetFlag(key[0], f.Name, f.Value.String())
		}
	})
	if err != nil {
		return usageError{err, centram.HintOf(err)}
	}
	return nil
}

const configKey = "config"

// setting adds a flag that stands for a setting.
func setting(cmd *cobra.Command, flag, key, help string) {
	cmd.Flags().String(flag, "", help)
	cmd.Flags().Lookup(flag).Annotations = map[string][]string{configKey: {key}}
}

// computing adds the flags that say how a model is run.
func computing(cmd *cobra.Command) {
	setting(cmd, "ctx", "context", "`tokens` that a conversation has room for (8192)")
	setting(cmd, "threads", "threads", "`number` of threads to compute with (one a core)")
	setting(cmd, "gpu-layers", "gpu_layers", "`number` of layers on the GPU, -1 for none (as many as fit)")
}

// jsonFlag adds --json to a command that prints something.
func jsonFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print JSON")
}

// printJSON writes v as a program would like to read it, and a person can.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// printJSONLine writes v as one of several.
func (a *app) printJSONLine(v any) error { return json.NewEncoder(a.out).Encode(v) }

// hint tells a person something that is no result.
func (a *app) hint(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.err, format+"\n", args...)
	}
}

// complain says what went wrong and what to do next.
func (a *app) complain(err error) {
	hint := centram.HintOf(err)
	if usage, ok := errors.AsType[usageError](err); ok {
		hint = usage.hint
	}
	unwritable := store.Unwritable(err)
	switch {
	case hint == "" && unwritable != nil:
		hint = unwritable.Hint
	case hint == "" && centram.CodeOf(err) == centram.NotFound:
		hint = "Check how it is written, or see which models there are with: centram model list"
	case hint == "":
		hint = "Find out more with: centram doctor"
	}
	fmt.Fprintf(a.err, "Error: %s\n%s\n", sentence(err.Error()), hint)
}

// sentence begins with a capital letter, unless that would change the name of a file or a flag, and has no line breaks at its
// end.
func sentence(text string) string {
	text = strings.TrimSpace(text)
	word, _, _ := strings.Cut(text, " ")
	if strings.ContainsFunc(strings.TrimRight(word, ":,;"), func(r rune) bool { return !unicode.IsLower(r) }) {
		return text
	}
	if first, n := utf8.DecodeRuneInString(text); len(word) > n {
		return string(unicode.ToUpper(first)) + text[n:]
	}
	return text
}

// terminal reports whether f is one that a person looks at.
func terminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// say writes what a model said. A terminal would obey control characters, so it gets none.
func (a *app) say(text string) error {
	if terminal(a.out) {
		text = strings.Map(func(r rune) rune {
			if unicode.IsControl(r) && r != '\n' && r != '\t' {
				return -1
			}
			return r
		}, text)
	}
	_, err := io.WriteString(a.out, text)
	return err
}

// colour paints text for a terminal, unless the person wants none.
func (a *app) colour(code, text string) string {
	if no, _ := a.lookup("NO_COLOR"); no != "" || !terminal(a.out) {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// untilSignal ends with Ctrl+C or SIGTERM. The second one ends the program at once.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
