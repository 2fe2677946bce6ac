package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// A worker is this program again, as one machine of a measurement: a process of its own, perhaps on a core of its own. It
// is told what it is by its second argument and asked over its standard input, in JSON; when that ends, so does it.
type worker struct {
	role  string
	cmd   *exec.Cmd
	stdin io.Closer
	ask   *json.Encoder
	told  *json.Decoder
	log   *bytes.Buffer
}

// roles are what a worker can be.
var roles = map[string]func(setup string) error{"head": runHead, "stage": runStage, "fetch": runFetch}

// anyCore lets a worker run where it may.
const anyCore = -1

// patience is more than any worker takes for an answer.
const patience = 10 * time.Minute

// startWorker starts a worker, and reads what it says first into ready.
func startWorker(role string, core int, setup, ready any) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(setup)
	if err != nil {
		return nil, err
	}
	args := []string{self, role, string(b)}
	if core != anyCore {
		args = append([]string{"taskset", "-c", fmt.Sprint(core)}, args...)
	}
	w := &worker{role: role, cmd: exec.Command(args[0], args[1:]...), log: &bytes.Buffer{}}
	w.cmd.Stderr = w.log
	stdin, err := w.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	w.stdin, w.ask, w.told = stdin, json.NewEncoder(stdin), json.NewDecoder(stdout)
	if err := w.hear(ready); err != nil {
		return nil, err
	}
	return w, nil
}

// question asks the worker.
func (w *worker) question(q, answer any) error {
	if err := w.ask.Encode(q); err != nil {
		return fmt.Errorf("ask the %s: %w", w.role, err)
	}
	return w.hear(answer)
}

func (w *worker) hear(answer any) error {
	defer time.AfterFunc(patience, func() { _ = w.cmd.Process.Kill() }).Stop()
	if err := w.told.Decode(answer); err != nil {
		w.stop()
		return fmt.Errorf("the %s says nothing more: %w\n%s", w.role, err, w.log)
	}
	return nil
}

func (w *worker) stop() {
	w.stdin.Close()
	_ = w.cmd.Wait()
}

// work runs as a worker if the arguments say so.
func work(args []string) (did bool, err error) {
	if len(args) != 3 || roles[args[1]] == nil {
		return false, nil
	}
	return true, roles[args[1]](args[2])
}
