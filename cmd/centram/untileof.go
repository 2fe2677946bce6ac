package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os/signal"
	"syscall"

	"github.com/centram/centram"
	"github.com/centram/centram/lora"
	"github.com/spf13/cobra"
)

// attended adds the flag with which the daemon starts a training: it saves and ends when standard input ends, as when the
// daemon was killed, and the last line says what went wrong, if anything did.
func (a *app) attended(cmd *cobra.Command, cfg *lora.Config) {
	untilEOF := cmd.Flags().Bool("until-eof", false, "end with standard input, and tell errors as JSON")
	_ = cmd.Flags().MarkHidden("until-eof") // it is there: the line above has made it
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !*untilEOF {
			return run(cmd, args)
		}
		signal.Ignore(syscall.SIGPIPE) // nobody reads any more, and still it has to save
		ctx, cancel := context.WithCancel(cmd.Context())
		defer cancel()
		go func() {
			_, _ = io.Copy(io.Discard, a.in) // any end is one
			cancel()
		}()
		cmd.SetContext(ctx)
		cfg.Wait = true // one whose daemon was killed may still have to save
		err := run(cmd, args)
		if err != nil {
			_ = json.NewEncoder(a.out).Encode(told(err)) // or nobody is there to hear it
		}
		return err
	}
}

// toldError is an error as the daemon reads it.
type toldError struct {
	Error struct {
		Code    centram.Code `json:"code"`
		Message string       `json:"message"`
		Hint    string       `json:"hint,omitempty"`
	} `json:"error"`
}

func told(err error) (t toldError) {
	t.Error.Code, t.Error.Message, t.Error.Hint = centram.CodeOf(err), sentence(err.Error()), centram.HintOf(err)
	if usage, ok := errors.AsType[usageError](err); ok {
		t.Error.Code, t.Error.Hint = centram.Invalid, usage.hint
	}
	return t
}
