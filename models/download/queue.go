package download

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/models/hub"
)

// State says where a download stands.
type State string

// The states. A download that was cancelled is Cancelled, which is the last that is told of it.
const (
	Queued    State = "queued"
	Running   State = "running"
	Paused    State = "paused"
	Ready     State = "ready"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Job is a model that is being downloaded, or was.
type Job struct {
	Model
	State          State     `json:"state"`
	Began          time.Time `json:"began"`
	Progress       `json:"-"`
	BytesPerSecond float64        `json:"-"`
	Problem        *centram.Error `json:"-"` // why it failed
	As             string         `json:"-"` // the name in the library, when it is Ready
}

// SecondsLeft is how long it takes from now on, or 0 if that is not known.
func (j Job) SecondsLeft() float64 {
	if j.State != Running || j.Stage != Downloading || j.BytesPerSecond <= 0 {
		return 0
	}
	return float64(j.Total-j.Progress.Done) / j.BytesPerSecond
}

// QueueConfig says what a Queue works with.
type QueueConfig struct {
	Hub    *hub.Hub
	Folder string // of models
	Fetch  Config // of each file
	// Done is told of a model that is whole, by the path of its first file, and returns the name that it has now.
	Done func(ctx context.Context, m Model, path string) (name string, err error)
	// Changed is told of every change, and of progress no more often than Every. It must not wait, nor call the Queue. Nil
	// means nobody.
	Changed func(Job)
	Every   time.Duration // 0 means 250 milliseconds
	Log     *slog.Logger  // nil means slog.Default
}

// Queue is the downloads of a node: one at a time, in the order in which they were asked for. They are remembered in files,
// and go on with the next Queue of the same folder. It may be used from many goroutines.
type Queue struct {
	cfg  QueueConfig
	dir  string
	wake chan struct{} // has something if Run may have to look again

	mu   sync.Mutex // guards what follows
	jobs []*entry   // in order
}

// entry is a download and, while it runs, the way to end that.
type entry struct {
	job   Job
	stop  context.CancelCauseFunc
	ended chan struct{} // closed when it runs no longer
	told  time.Time
	speed Meter
}

// NewQueue reads what there was to be downloaded. Run goes on with it.
func NewQueue(cfg QueueConfig) (*Queue, error) {
	cfg.Every = cmp.Or(cfg.Every, 250*time.Millisecond)
	cfg.Log = cmp.Or(cfg.Log, slog.Default())
	if cfg.Changed == nil {
		cfg.Changed = func(Job) {}
	}
	q := &Queue{cfg: cfg, dir: filepath.Join(cfg.Folder, Folder), wake: make(chan struct{}, 1)}
	cfg.Fetch.Dir = q.dir
	q.cfg = cfg
	return q, q.load()
}

// Start has a model downloaded. One that is paused or has failed goes on. It fails with centram.Conflict if it is under way.
func (q *Queue) Start(m Model) (Job, error) {
	if err := m.check(); err != nil {
		return Job{}, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.find(m.Name); e != nil {
		switch e.job.State {
		case Queued, Running:
			return Job{}, centram.Errorf(centram.Conflict, "%s is being downloaded already.", m.Name)
		}
		q.drop(e)
	}
	e := &entry{job: Job{Model: m, State: Queued, Began: time.Now().UTC(), Progress: Progress{Total: m.Bytes()}}}
	if err := q.save(e.job); err != nil {
		return Job{}, err
	}
	q.jobs = append(q.jobs, e)
	q.tell(e)
	q.wakeUp()
	return e.job, nil
}

// List returns all downloads in their order.
func (q *Queue) List() []Job {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := make([]Job, len(q.jobs))
	for i, e := range q.jobs {
		list[i] = e.job
	}
	return list
}

// Get returns the download of a model. It fails with centram.NotFound.
func (q *Queue) Get(name string) (Job, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.find(name); e != nil {
		return e.job, nil
	}
	return Job{}, noDownload(name)
}

func noDownload(name string) error {
	return centram.Errorf(centram.NotFound, "%s is not being downloaded.", name).WithHint("See what is: centram model download")
}

// find wants mu held.
func (q *Queue) find(name string) *entry {
	i := slices.IndexFunc(q.jobs, func(e *entry) bool { return e.job.Name == strings.ToLower(name) })
	if i < 0 {
		return nil
	}
	return q.jobs[i]
}

// drop wants mu held.
func (q *Queue) drop(e *entry) {
	q.jobs = slices.DeleteFunc(q.jobs, func(x *entry) bool { return x == e })
}

// Pause stops a download, of which what is here stays. It returns when that is so.
func (q *Queue) Pause(ctx context.Context, name string) (Job, error) { return q.end(ctx, name, Paused) }

// Remove cancels a download, and removes what is here of a model that is not whole. It returns when that is so.
func (q *Queue) Remove(ctx context.Context, name string) error {
	_, err := q.end(ctx, name, Cancelled)
	return err
}

// end brings a download into a state in which it does not run.
func (q *Queue) end(ctx context.Context, name string, to State) (Job, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.find(name)
	if e == nil {
		return Job{}, noDownload(name)
	}
	if to == Paused && e.job.State != Queued && e.job.State != Running {
		return Job{}, centram.Errorf(centram.Conflict, "The download of %s is not under way.", name)
	}
	for e.stop != nil {
		e.stop(errEnded)
		ended := e.ended
		q.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
		}
		q.mu.Lock()
		if err := context.Cause(ctx); err != nil {
			return Job{}, err
		}
	}
	if e.job.State == Ready && to == Paused {
		return e.job, nil // it was complete just before
	}
	if e.job.State != Ready {
		e.job.State = to
	}
	var err error
	if to == Cancelled {
		q.drop(e)
		if err = q.forget(e.job); err == nil && e.job.State != Ready {
			err = e.job.discard(q.dir)
		}
		e.job.State = Cancelled
	} else {
		err = q.save(e.job)
	}
	q.tell(e)
	return e.job, err
}

// errEnded is why a download ends that somebody wants to end.
var errEnded = errors.New("it was stopped")

// Resume has a download go on that was paused or has failed.
func (q *Queue) Resume(name string) (Job, error) {
	j, err := q.Get(name)
	if err != nil {
		return Job{}, err
	}
	return q.Start(j.Model)
}

// Run downloads until ctx ends. Then it returns nil.
func (q *Queue) Run(ctx context.Context) error {
	for {
		q.mu.Lock()
		i := slices.IndexFunc(q.jobs, func(e *entry) bool { return e.job.State == Queued })
		if i >= 0 {
			e := q.jobs[i]
			q.mu.Unlock()
			q.run(ctx, e)
			if ctx.Err() != nil {
				return nil
			}
			continue
		}
		q.mu.Unlock()
		select {
		case <-q.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// run downloads one model.
func (q *Queue) run(ctx context.Context, e *entry) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	q.mu.Lock()
	if e.job.State != Queued {
		q.mu.Unlock()
		return
	}
	e.job.State, e.job.Problem, e.stop, e.ended = Running, nil, cancel, make(chan struct{})
	e.speed = Meter{}
	q.tell(e)
	m, cfg := e.job.Model, q.cfg.Fetch
	q.mu.Unlock()

	cfg.Tell = func(p Progress) { q.progress(e, p) }
	path, err := m.Fetch(ctx, q.cfg.Hub, q.cfg.Folder, cfg)
	name := ""
	if err == nil {
		name, err = q.cfg.Done(context.WithoutCancel(ctx), m, path)
	}

	q.mu.Lock()
	defer q.mu.Unlock()
	defer close(e.ended)
	e.stop = nil
	switch {
	case err == nil:
		e.job.State, e.job.As, e.job.Progress.Done = Ready, name, e.job.Total
		err = q.forget(e.job)
	case errors.Is(err, errEnded):
		return // who wanted that says what becomes of it
	case ctx.Err() != nil:
		e.job.State = Queued // goes on with the next start
		return
	default:
		e.job.State, e.job.Problem = Failed, readable(err)
		q.cfg.Log.Warn("Model not downloaded", "model", m.Name, "err", err)
		err = nil
	}
	if err != nil {
		q.cfg.Log.Warn("Download not put away", "model", m.Name, "err", err)
	}
	q.tell(e)
}

// readable is an error as a person can read it.
func readable(err error) *centram.Error {
	if e, ok := errors.AsType[*centram.Error](err); ok {
		return e
	}
	return centram.Errorf(centram.Internal, "%w", err)
}

func (q *Queue) progress(e *entry, p Progress) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	changed := p.Stage != e.job.Stage
	if !changed && p.Done < e.job.Progress.Done { // of the next file, which was begun earlier
		return
	}
	e.job.Progress = p
	if changed || now.Sub(e.told) >= q.cfg.Every {
		if p.Stage == Downloading {
			e.job.BytesPerSecond = e.speed.Add(now, p.Done)
		}
		q.tell(e)
	}
}

// tell wants mu held.
func (q *Queue) tell(e *entry) {
	e.told = time.Now()
	q.cfg.Changed(e.job)
}

func (q *Queue) wakeUp() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
