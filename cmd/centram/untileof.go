package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/centram/centram"
	"github.com/spf13/cobra"
)

// attended adds the flag with which the daemon starts a training: it saves and ends when standard input ends, as when the
// daemon was killed, and the last line says what went wrong, if anything did.
func (a *app) attended(cmd *cobra.Command, out *string) {
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
		err := a.alone(ctx, *out)
		if err == nil {
			err = run(cmd, args)
		}
		if err != nil {
			_ = json.NewEncoder(a.out).Encode(told(err)) // or nobody is there to hear it
		}
		return err
	}
}

// alone waits until no other training writes to out: one whose daemon was killed may still have to save. The lock lasts as
// long as this process.
func (a *app) alone(ctx context.Context, out string) error {
	f, err := os.OpenFile(out+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock the adapter: %w", err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			a.held = f
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("lock the adapter: %w", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
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
