package quantize

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama"
)

// order is what a process is to do.
type order struct {
	In         string `json:"in"`
	Out        string `json:"out"`
	Type       string `json:"type"`
	Threads    int    `json:"threads"`
	Requantize bool   `json:"requantize"`
	Bytes      uint64 `json:"bytes"` // that the file will have
	Data       uint64 `json:"data"`  // and of them those of tensors
}

// line is what it says.
type line struct {
	Progress
	Problem *problem `json:"error,omitempty"`
}

type problem struct {
	Code    centram.Code `json:"code"`
	Message string       `json:"message"`
	Hint    string       `json:"hint,omitempty"`
}

// every is how often a process says how far it is.
const every = 200 * time.Millisecond

// errAlone says that nobody wants the file any more.
var errAlone = errors.New("standard input has ended")

// Work is the process that Plan.Write starts: it takes its order from in, and writes a file until in ends. The program must
// end when Work returns, since llama.cpp may still be at it.
func Work(in io.Reader, out io.Writer) error {
	r := bufio.NewReader(in)
	first, err := r.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	w := worker{lines: json.NewEncoder(out), alone: make(chan struct{})}
	if err := json.Unmarshal(first, &w.order); err != nil {
		return fmt.Errorf("decode the order: %w", err)
	}
	go func() { // it waits for what comes last of all, so nobody waits for it
		_, _ = io.Copy(io.Discard, r) // any end is one
		close(w.alone)
	}()
	err = w.work()
	if err != nil && !errors.Is(err, errAlone) {
		w.say(line{Problem: &problem{centram.CodeOf(err), err.Error(), centram.HintOf(err)}})
	}
	return err
}

// worker carries out one order.
type worker struct {
	order
	alone chan struct{} // closed once nobody wants the file
	file  *unfinished

	mu    sync.Mutex // guards what follows
	lines *json.Encoder
	now   Progress
}

func (w *worker) say(l line) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.lines.Encode(l) // if nobody hears it, standard input ends as well
}

// work makes the file, says when it is whole, and waits until it has been given its name or is not wanted.
func (w *worker) work() (err error) {
	if w.file, err = begin(w.Out); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.file.discard()) }()
	made := make(chan error, 1)
	go func() { made <- w.make() }()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-w.alone:
			return errAlone
		case <-tick.C:
			w.tell("")
		case err := <-made:
			if err != nil {
				return err
			}
			w.tell(Whole)
			<-w.alone
			return nil
		}
	}
}

// tell says how far the file is, and if need be that a stage begins.
func (w *worker) tell(next Stage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if next != "" {
		w.now.Stage, w.now.Tensor = next, ""
	}
	w.now.Bytes = w.Bytes
	if n := w.file.size(); n > w.now.Written {
		w.now.Written = n
	}
	if w.now.Stage != "" {
		_ = w.lines.Encode(line{Progress: w.now})
	}
}

func (w *worker) make() error {
	t, err := ParseType(w.Type)
	if err != nil {
		return err
	}
	q := Config{Type: t, Threads: w.Threads, Requantize: w.Requantize}.quantizer()
	q.Began = func(s llama.QuantizeStep) {
		w.mu.Lock()
		begun := w.now.Stage != ""
		w.now.Stage, w.now.Tensor, w.now.Number, w.now.Of = Weights, s.Name, s.Number, s.Of
		w.mu.Unlock()
		if !begun {
			w.tell("")
		}
	}
	if err := q.Run(w.In, w.file.path); err != nil {
		return w.notWritten(err)
	}
	w.tell(Saving)
	if err := w.file.file.Sync(); err != nil {
		return w.notWritten(err)
	}
	return w.check()
}

// notWritten says why the file could not be written. llama.cpp tells only that, but not why.
func (w *worker) notWritten(err error) error {
	dir := filepath.Dir(w.Out)
	written := w.file.size()
	if free, known := freeSpace(dir); known && written < w.Bytes && free < w.Bytes-written {
		return full(dir, w.Bytes, free+written)
	}
	return centram.Errorf(centram.Unavailable, "%s could not be written: %w", w.Out, err).
		WithHint("Is there a limit to how much may be written to %s? Name a file elsewhere with --out. If it is not that, the model's file may be damaged.", dir)
}

// check looks whether what llama.cpp has written is a whole model: it does not see every write that fails.
func (w *worker) check() error {
	m, err := gguf.OpenModel(w.file.path)
	if err != nil {
		return w.notWritten(err)
	}
	defer m.Close()
	var data uint64
	for _, t := range m.Tensors {
		data += uint64(t.Size)
	}
	if data != w.Data {
		return w.notWritten(fmt.Errorf("it holds %d bytes of weights where %d were to be", data, w.Data))
	}
	return nil
}
