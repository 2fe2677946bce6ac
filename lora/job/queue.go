package job

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/centram/centram"
)

// Queue is the trainings of a node.
type Queue struct {
	cfg  Config
	wake chan struct{} // has something if Run may have to look again

	mu   sync.Mutex // guards what follows
	jobs map[string]*entry
}

// entry is a training and, while it runs, the way to end that.
type entry struct {
	job   Job
	stop  func(State)   // of a running one: save and end, to be in that state then
	ended chan struct{} // closed when it runs no longer
	from  int           // the step from which it went on when its process last died without a word, or -1
}

// New reads what trainings there are in the folder. Run has them go on.
func New(cfg Config) (*Queue, error) {
	q := &Queue{cfg: cfg.orDefaults(), wake: make(chan struct{}, 1), jobs: map[string]*entry{}}
	if err := os.MkdirAll(q.cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of trainings: %w", err)
	}
	return q, q.load()
}

// nameForm is of names that can be part of a file's and of a model's name.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Start makes a training and queues it. It fails with centram.Invalid if the name cannot be one of an adapter or there is
// nothing to learn from, with centram.NotFound if an upload is gone, and with centram.Conflict if the name is taken by
// another training of the same model.
func (q *Queue) Start(d Draft) (Job, error) {
	if !nameForm.MatchString(d.Name) {
		return Job{}, centram.Errorf(centram.Invalid, "%q cannot be the name of an adapter.", d.Name).
			WithHint("Use letters without accents, digits, dashes, dots and underscores, and begin with a letter or a digit.")
	}
	if len(d.Data)+len(d.Write)+len(d.Uploads) == 0 {
		return Job{}, centram.Errorf(centram.Invalid, "There is nothing to learn from.").WithHint("Give a text, a file, or a conversation.")
	}
	now := q.cfg.Now().UTC()
	j := Job{ID: newID(), Plan: d.Plan, State: Queued, Created: now, Queued: now}
	j.Data = slices.Clone(d.Data)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.jobs {
		if strings.EqualFold(e.job.Name, j.Name) && strings.EqualFold(e.job.Model, j.Model) {
			return Job{}, centram.Errorf(centram.Conflict, "There is a training %s of %s already.", j.Name, j.Model).
				WithHint("Choose another name, or remove that training.")
		}
	}
	if err := q.make(&j, d); err != nil {
		return Job{}, err
	}
	q.jobs[j.ID] = &entry{job: j, from: -1}
	q.tell(j)
	return j.clone(), nil
}

// List returns all trainings without their curves, the newest first.
func (q *Queue) List() []Job {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := make([]Job, 0, len(q.jobs))
	for _, e := range q.jobs {
		j := e.job
		j.Curve = nil
		list = append(list, j)
	}
	slices.SortFunc(list, func(a, b Job) int { return b.Created.Compare(a.Created) })
	return list
}

// Get returns a training. It fails with centram.NotFound.
func (q *Queue) Get(id string) (Job, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, err := q.find(id)
	if err != nil {
		return Job{}, err
	}
	return e.job.clone(), nil
}

// find wants mu held.
func (q *Queue) find(id string) (*entry, error) {
	e, ok := q.jobs[id]
	if !ok {
		return nil, centram.Errorf(centram.NotFound, "There is no such training.").WithHint("It may have been removed.")
	}
	return e, nil
}

// Pause has a training save and end, or not begin, until it is resumed. It returns when that is so. It fails with
// centram.Conflict if the training is over.
func (q *Queue) Pause(ctx context.Context, id string) (Job, error) {
	q.mu.Lock()
	e, err := q.find(id)
	if err != nil {
		q.mu.Unlock()
		return Job{}, err
	}
	switch e.job.State {
	case Queued:
		err = q.become(e, Paused, nil)
	case Running:
		ended := e.ended
		e.stop(Paused)
		q.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return Job{}, context.Cause(ctx)
		}
		return q.Get(id)
	case Done, Failed:
		err = centram.Errorf(centram.Conflict, "The training is over, so it cannot be paused.")
	}
	j := e.job.clone()
	q.mu.Unlock()
	return j, err
}

// Resume queues a training that was paused or has failed; it goes on from what was saved. It fails with centram.Conflict if
// the training is done.
func (q *Queue) Resume(id string) (Job, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, err := q.find(id)
	if err != nil {
		return Job{}, err
	}
	switch e.job.State {
	case Paused, Failed:
		e.from = -1
		e.job.Queued = q.cfg.Now().UTC()
		err = q.become(e, Queued, nil)
	case Done:
		err = centram.Errorf(centram.Conflict, "The training is done already.")
	}
	return e.job.clone(), err
}

// Remove ends a training and removes all that there is of it, the adapter too.
func (q *Queue) Remove(ctx context.Context, id string) error {
	q.mu.Lock()
	e, err := q.find(id)
	if err != nil {
		q.mu.Unlock()
		return err
	}
	if e.job.State == Running {
		ended := e.ended
		e.stop(Cancelled)
		q.mu.Unlock()
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer q.mu.Unlock()
	return q.forget(e)
}

// forget wants mu held.
func (q *Queue) forget(e *entry) error {
	if err := os.RemoveAll(e.job.dir); err != nil {
		return fmt.Errorf("remove the training: %w", err)
	}
	delete(q.jobs, e.job.ID)
	e.job.State = Cancelled
	q.tell(e.job)
	return nil
}

// become puts a training into another state. It wants mu held.
func (q *Queue) become(e *entry, s State, why *Problem) error {
	e.job.State, e.job.Problem, e.job.Ended = s, why, time.Time{}
	if s == Done || s == Failed {
		e.job.Ended = q.cfg.Now().UTC()
	}
	err := e.job.write(true)
	q.tell(e.job)
	return err
}

// tell says that something has changed.
func (q *Queue) tell(j Job) {
	j.Curve = nil
	q.cfg.Changed(j)
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
