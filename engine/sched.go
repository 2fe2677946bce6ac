package engine

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/centram/centram"
)

const (
	// stepRows is the most rows of a step. Prompts are read in such pieces so that answers under way keep flowing and a
	// cancelled request leaves soon. Smaller pieces would leave the last of several prompts behind the others, and then
	// they do not decode side by side to their ends.
	stepRows = 1024
	// In a pipeline smaller ones let the machines work on one prompt side by side.
	pipelineRows = 256
	// An idle scheduler waits gather for a request that comes with the first one, and on while any is being prepared, up
	// to gatherMost: those that start together read and decode in the same steps to their ends.
	gather     = 2 * time.Millisecond
	gatherMost = 60 * time.Millisecond
)

// scheduler batches the jobs of one model. Everything but the queue belongs to the goroutine in run.
type scheduler struct {
	name  string
	model Model
	info  Info
	slots []*slot
	limit int

	mu      sync.Mutex // guards what follows up to wake
	queue   []*job
	coming  int // requests that are being prepared and will be submitted, most likely
	busy    int
	stopped bool
	wake    chan struct{} // holds one token when the queue has changed

	rows  []Row  // of the step being built
	takes []take // whose rows these are
	turn  int    // which adapters' turn it is

	pipeline Pipeline // the model, if it can have several steps under way
	groups   int      // into which answers are split, so that each machine of a pipeline has one
	depth    int      // most steps under way
	most     int      // rows of a step
	flights  []flight // steps under way, the oldest first
}

// take is what a slot has in a step.
type take struct {
	slot   *slot
	job    *job
	start  int  // how much of the slot's cache there is before the step
	end    int  // and after it
	wanted bool // the last row's logits are
}

// flight is a step under way.
type flight struct {
	takes  []take
	began  time.Time
	result <-chan StepResult
}

func newScheduler(name string, m Model, limit int) *scheduler {
	s := &scheduler{name: name, model: m, info: m.Info(), limit: limit, wake: make(chan struct{}, 1), groups: 1, depth: 1, most: stepRows}
	if p, ok := m.(Pipeline); ok {
		s.pipeline, s.most = p, pipelineRows
		s.groups, s.depth = p.Depth()
	}
	for i := range s.info.Sequences {
		s.slots = append(s.slots, &slot{id: i})
	}
	return s
}

// submit queues a job, or says why not. The job's done channel closes when it has ended.
func (s *scheduler) submit(j *job) error {
	if limit := s.info.Context; len(j.prompt) >= limit {
		e := centram.Errorf(centram.TooLong, "the prompt has %d tokens, but the context of %s has room for %d and the answer needs some of it", len(j.prompt), s.name, limit).
			WithHint("Shorten the conversation, or serve the model with a larger --ctx.")
		e.Details = map[string]any{"n_prompt_tokens": len(j.prompt), "n_ctx": limit}
		return e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		return errStopped(s.name)
	case len(s.queue) >= s.limit:
		return centram.Errorf(centram.Unavailable, "%d requests wait for %s already", len(s.queue), s.name).WithHint("Try again in a moment.")
	}
	j.queued = time.Now()
	s.queue = append(s.queue, j)
	s.poke()
	return nil
}

func (s *scheduler) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// load is how many answers are under way and how many wait.
func (s *scheduler) load() (busy, queued int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.busy, len(s.queue)
}

// run serves jobs until ctx ends, then ends those that are left.
func (s *scheduler) run(ctx context.Context) {
	idle := true
	for ctx.Err() == nil {
		if idle {
			s.gather()
		}
		s.dropCancelled()
		s.admit()
		idle = true
		for len(s.flights) < s.depth && ctx.Err() == nil && s.build() {
			idle = false
			s.launch(ctx)
			if s.pipeline == nil {
				break // somebody may have come or left meanwhile
			}
		}
		if idle || len(s.flights) == s.depth {
			idle = idle && len(s.flights) == 0
			s.await(ctx)
		}
	}
	s.mu.Lock()
	s.stopped = true
	waiting := s.queue
	s.queue = nil
	s.mu.Unlock()
	for _, j := range waiting {
		j.finish("", errStopped(s.name))
	}
	for _, sl := range s.slots {
		if sl.job != nil {
			s.end(sl, "", errStopped(s.name))
		}
	}
}

// await waits for the oldest step under way, or for something to do.
func (s *scheduler) await(ctx context.Context) {
	var landed <-chan StepResult
	if len(s.flights) > 0 {
		landed = s.flights[0].result
	}
	select {
	case r := <-landed:
		f := s.flights[0]
		s.flights = append(s.flights[:0], s.flights[1:]...)
		s.land(ctx, f, r)
	case <-s.wake:
	case <-ctx.Done():
	}
}

// dropCancelled frees the slots and the queue of requests whose client went away.
func (s *scheduler) dropCancelled() {
	for _, sl := range s.slots {
		if sl.job != nil && sl.job.ctx.Err() != nil {
			s.end(sl, "", sl.job.ctx.Err())
		}
	}
	s.mu.Lock()
	var gone []*job
	kept := s.queue[:0]
	for _, j := range s.queue {
		if j.ctx.Err() != nil {
			gone = append(gone, j)
		} else {
			kept = append(kept, j)
		}
	}
	clear(s.queue[len(kept):])
	s.queue = kept
	s.mu.Unlock()
	for _, j := range gone {
		j.finish("", j.ctx.Err())
	}
}

// admit gives free slots to waiting jobs, foreground ones first.
func (s *scheduler) admit() {
	for {
		if !s.anyFree() {
			return
		}
		j := s.next()
		if j == nil {
			return
		}
		sl, err := s.place(j)
		if err != nil {
			j.finish("", err)
			continue
		}
		j.started = time.Now()
		s.setBusy(+1)
		j.progress(len(j.prompt), sl.cached, sl.cached)
	}
}

// gather waits for the requests that come together with those in the queue.
func (s *scheduler) gather() {
	s.mu.Lock()
	n := len(s.queue)
	s.mu.Unlock()
	if n == 0 {
		return
	}
	for began := time.Now(); time.Since(began) < gatherMost; {
		time.Sleep(gather)
		s.mu.Lock()
		coming, now := s.coming, len(s.queue)
		s.mu.Unlock()
		if coming == 0 && now == n || now >= len(s.slots) {
			return
		}
		n = now
	}
}

// expect says that a request is being prepared. The function returned says that it has been submitted or given up.
func (s *scheduler) expect() (settled func()) {
	count := func(by int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.coming += by
	}
	count(+1)
	return sync.OnceFunc(func() { count(-1) })
}

func (s *scheduler) anyFree() bool {
	for _, sl := range s.slots {
		if sl.free() {
			return true
		}
	}
	return false
}

// next takes the oldest foreground job off the queue, or the oldest of all.
func (s *scheduler) next() *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return nil
	}
	at := 0
	for i, j := range s.queue {
		if !j.background {
			at = i
			break
		}
	}
	j := s.queue[at]
	s.queue = append(s.queue[:at], s.queue[at+1:]...)
	return j
}

func (s *scheduler) setBusy(by int) {
	s.mu.Lock()
	s.busy += by
	s.mu.Unlock()
}

// build collects the rows of the next step: a token of each slot that decodes, or of a group's share of them, then prompt
// pieces in the room left. All rows of a step share their adapters, so when slots differ in those they take turns. False
// means there is nothing to do.
func (s *scheduler) build() bool {
	s.rows, s.takes = s.rows[:0], s.takes[:0]
	var chosen *slot
	s.turn++
	for i := range s.slots {
		if sl := s.slots[(i+s.turn)%len(s.slots)]; sl.ready() {
			chosen = sl
			break
		}
	}
	if chosen == nil {
		return false
	}
	room := min(s.most, s.info.BatchSize)
	share := s.share()
	for _, sl := range s.slots {
		if share > 0 && sl.ready() && sl.decoding() && sl.sharesAdapters(chosen) {
			share--
			room -= s.add(sl, 1)
		}
	}
	for i := range s.slots { // the slot whose turn it is reads first
		sl := s.slots[(i+s.turn)%len(s.slots)]
		if room > 0 && sl.ready() && !sl.decoding() && sl.sharesAdapters(chosen) {
			room -= s.add(sl, room)
		}
	}
	return len(s.rows) > 0
}

// share is how many of the slots that decode go into one step.
func (s *scheduler) share() int {
	decoding := 0
	for _, sl := range s.slots {
		if sl.decoding() {
			decoding++
		}
	}
	return (decoding + s.groups - 1) / s.groups
}

// add appends up to n of a slot's pending tokens and returns how many. The last one asks for logits.
func (s *scheduler) add(sl *slot, n int) int {
	n = min(n, len(sl.pending))
	for i, t := range sl.pending[:n] {
		s.rows = append(s.rows, Row{Token: t, Seq: sl.id, Pos: len(sl.cache) + i, Logits: i == len(sl.pending)-1, Top: sl.job.top})
	}
	s.takes = append(s.takes, take{sl, sl.job, len(sl.cache), len(sl.cache) + n, n == len(sl.pending)})
	return n
}

// launch runs what build collected, or has it run if the model can have several steps under way.
func (s *scheduler) launch(ctx context.Context) {
	f := flight{takes: s.takes, began: time.Now()}
	for _, t := range f.takes {
		t.slot.launch(t.end)
	}
	b := Batch{Rows: s.rows, Adapters: f.takes[0].job.adapters}
	if s.pipeline == nil {
		out, err := s.step(ctx, b)
		s.land(ctx, f, StepResult{out, err})
		return
	}
	f.takes = slices.Clone(f.takes)
	var err error
	if f.result, err = s.pipeline.Start(ctx, b); err != nil {
		s.land(ctx, f, StepResult{Err: err})
		return
	}
	s.flights = append(s.flights, f)
}

// step runs a batch. If it is one client's alone, that may interrupt it by leaving.
func (s *scheduler) step(ctx context.Context, b Batch) (Output, error) {
	if len(s.takes) > 1 {
		return s.model.Step(ctx, b)
	}
	alone, cancel := context.WithCancel(s.takes[0].job.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	return s.model.Step(alone, b)
}

// land hands out the results of a step.
func (s *scheduler) land(ctx context.Context, f flight, r StepResult) {
	for _, t := range f.takes {
		t.slot.flying--
	}
	if ctx.Err() != nil {
		return // run ends what is left
	}
	if r.Err != nil {
		s.fail(f, r.Err)
		return
	}
	took, row := time.Since(f.began), 0
	for _, t := range f.takes {
		if t.slot.job == t.job {
			t.slot.landed(t.end, took)
		}
	}
	for _, t := range f.takes {
		if !t.wanted {
			continue
		}
		logits := r.Logits[row]
		row++
		if t.slot.job == t.job { // the client may have left meanwhile
			s.sample(t.slot, logits)
		}
	}
}

// fail ends the jobs of a step that went wrong. A sequence keeps what it held before an interrupted step; after any
// other error nothing of it is trusted.
func (s *scheduler) fail(f flight, err error) {
	for _, t := range f.takes {
		sl, reason, keep := t.slot, err, 0
		if interrupted := t.job.ctx.Err(); interrupted != nil {
			reason, keep = interrupted, min(t.start, len(sl.cache))
		}
		sl.cache = sl.cache[:keep]
		if sl.job == t.job {
			s.end(sl, "", reason)
		}
		_ = s.model.Trim(sl.id, keep) // if this fails too, the next job's Trim tells
	}
}

// sample picks a slot's next token and ends the job if that was the last.
func (s *scheduler) sample(sl *slot, logits []float32) {
	j := sl.job
	t, err := j.sampler.Sample(logits)
	if err != nil {
		s.end(sl, "", err)
		return
	}
	if s.model.EndOfGeneration(t) {
		s.end(sl, FinishStop, nil)
		return
	}
	j.generated++
	info := TokenInfo{Token: t, Text: s.model.Piece(t, j.preserve[t])}
	if j.topLogprobs >= 0 {
		info.Logprob, info.Top = logprobs(logits, t, j.topLogprobs, s.model)
	}
	if stopped := j.text.add(info); stopped {
		s.end(sl, FinishStop, nil)
		return
	}
	j.flush()
	if j.generated == j.maxTokens || len(sl.cache)+1 >= s.info.Context {
		s.end(sl, FinishLength, nil)
		return
	}
	sl.pending = append(sl.pending[:0], t)
}

// end frees a slot. Its cache stays for a request that begins alike.
func (s *scheduler) end(sl *slot, reason FinishReason, err error) {
	j := sl.job
	j.cached = sl.cached
	sl.job, sl.pending = nil, sl.pending[:0]
	sl.used = time.Now()
	s.setBusy(-1)
	j.finish(reason, err)
}
