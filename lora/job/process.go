package job

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/centram/centram/process"
)

// train runs the process of a training until that ends by itself, somebody asks for its end, or ctx ends.
func (r *run) train(ctx context.Context) (o outcome) {
	q := r.q
	line := append(append([]string(nil), q.cfg.Command...), r.args()...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(os.Environ(), q.cfg.Env...)
	cmd.WaitDelay = time.Second
	said := &process.Tail{}
	cmd.Stderr = said
	process.Behind(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		o.err = err
		return o
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		o.err = err
		return o
	}
	if err := cmd.Start(); err != nil {
		o.err = fmt.Errorf("start the training: %w", err)
		return o
	}
	if err := process.Lower(cmd); err != nil {
		q.cfg.Log.WarnContext(ctx, "The training has the same priority as chat", "id", r.job.ID, "err", err)
	}
	read := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { o.asked = r.watch(ctx, cmd, in, read) })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		r.line(lines.Bytes(), &o)
	}
	_, _ = io.Copy(io.Discard, out) // of a line that was too long
	close(read)
	watch.Wait()
	if err := cmd.Wait(); err != nil {
		o.done = false
		if o.err = err; said.String() != "" {
			o.err = fmt.Errorf("%w; %s", err, said)
		}
	} else if !o.done {
		o.err = errors.New("it ended without a result")
	}
	return o
}

// watch ends a process when that is wanted: it closes its standard input, and kills it if it does not end then. A training
// that is to be removed need not save. It returns what the training is to become, or nothing if nobody said.
func (r *run) watch(ctx context.Context, cmd *exec.Cmd, in io.Closer, read <-chan struct{}) (asked State) {
	defer in.Close()
	select {
	case <-read:
		return asked
	case asked = <-r.asked:
	case <-ctx.Done():
	}
	in.Close()
	if asked == Cancelled {
		_ = cmd.Process.Kill() // it may have ended
	}
	late := time.NewTimer(r.q.cfg.Patience)
	defer late.Stop()
	for {
		select {
		case <-read:
			return asked
		case s := <-r.asked: // to be removed, and not paused alone
			asked = s
			if s == Cancelled {
				_ = cmd.Process.Kill()
			}
		case <-late.C:
			r.q.cfg.Log.Warn("Training killed, since it did not end", "id", r.job.ID)
			_ = cmd.Process.Kill()
		}
	}
}

// quoted is a path as a flag that takes a list has it: in CSV, since there may be a comma in it.
func quoted(path string) string {
	if strings.ContainsAny(path, ",\"\n\r") {
		return `"` + strings.ReplaceAll(path, `"`, `""`) + `"`
	}
	return path
}
