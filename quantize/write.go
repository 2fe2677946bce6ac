package quantize

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/process"
)

// patience is how long a process may take to remove what it has written. Then it is killed.
const patience = 5 * time.Second

// Write makes the file, in a process that command starts and that calls Work. It tells how far that is. When ctx ends, or
// something fails, nothing is left behind; ctx's end is Unavailable.
func (p Plan) Write(ctx context.Context, command []string, tell func(Progress)) error {
	sweepFolder(filepath.Dir(p.Out))
	cmd := exec.Command(command[0], command[1:]...)
	cmd.WaitDelay = time.Second
	said := &process.Tail{}
	cmd.Stderr = said
	process.Behind(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the process that quantises: %w", err)
	}
	if err := process.Lower(cmd); err != nil {
		slog.WarnContext(ctx, "Quantising has the same priority as chat", "err", err)
	}
	w := writing{plan: p, ctx: ctx, in: in, tell: tell}
	read := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { endWith(ctx, cmd, in, read) })
	err = json.NewEncoder(in).Encode(p.order()) // if it has ended already, it has said why
	w.listen(out)
	close(read)
	watch.Wait()
	err = errors.Join(err, cmd.Wait())
	if w.placed { // however the process ended then
		return nil
	}
	// Of a process that was killed something is left, which nobody holds.
	if left := removeDead(p.Out + suffix); left != nil && !errors.Is(left, errHeld) {
		slog.WarnContext(ctx, "Unfinished file not removed", "file", p.Out+suffix, "err", left)
	}
	return w.failure(err, said.String())
}

func (p Plan) order() order {
	return order{
		In: p.first, Out: p.Out, Type: p.Type.Name, Threads: p.Threads, Requantize: p.Requantize,
		Bytes: p.Bytes, Data: p.data,
	}
}

// endWith has the process end when ctx does.
func endWith(ctx context.Context, cmd *exec.Cmd, in io.Closer, read <-chan struct{}) {
	select {
	case <-read:
		return
	case <-ctx.Done():
		in.Close()
	}
	select {
	case <-read:
	case <-time.After(patience):
		_ = cmd.Process.Kill() // it may have ended
	}
}

// writing is a file under way, from the outside.
type writing struct {
	plan Plan
	ctx  context.Context
	in   io.Closer
	tell func(Progress)

	placed  bool  // the file has its name
	problem error // that the process told of, or that it could not be given its name
}

// listen reads what the process says until it ends.
func (w *writing) listen(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var l line
		switch err := json.Unmarshal(lines.Bytes(), &l); {
		case err != nil:
			slog.Warn("The process that quantises said something else", "line", lines.Text(), "err", err)
		case l.Problem != nil:
			w.problem = &centram.Error{Code: l.Problem.Code, Message: l.Problem.Message, Hint: l.Problem.Hint}
		default:
			w.tell(l.Progress)
		}
		if l.Stage == Whole {
			if w.ctx.Err() == nil {
				w.problem = w.place()
				w.placed = w.problem == nil
			}
			w.in.Close()
		}
	}
	_, _ = io.Copy(io.Discard, out) // of a line that was too long
}

// place gives the file its name, so that it stays if the machine stops in that moment.
func (w *writing) place() error {
	out := w.plan.Out
	if _, err := os.Lstat(out); err == nil && !w.plan.Replace { // another has made one meanwhile
		return exists(out)
	}
	if err := os.Rename(out+suffix, out); err != nil {
		return fmt.Errorf("name the new file: %w", err)
	}
	if dir, err := os.Open(filepath.Dir(out)); err == nil {
		defer dir.Close()
		_ = dir.Sync() // some file systems cannot, and there it is done already
	}
	return nil
}

// failure says why there is no file.
func (w *writing) failure(ended error, said string) error {
	switch {
	case w.ctx.Err() != nil:
		return centram.Errorf(centram.Unavailable, "the quantising was stopped, and nothing is left of it").
			WithHint("To begin anew, give the command again.")
	case w.problem != nil:
		return w.problem
	case ended == nil:
		ended = errors.New("it ended without a result")
	}
	if said != "" {
		ended = fmt.Errorf("%w; %s", ended, said)
	}
	return centram.Errorf(centram.Unavailable, "the process that quantised was ended from outside, or broke: %w", ended).
		WithHint("Nothing is left of it. Perhaps the memory ran out: close other programs and try again.")
}
