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
	draft   *source       // guesses with another model, if there is one
	guesses Guesses       // of all answers that have ended
	wake    chan struct{} // holds one token when the queue has changed

	rows   []Row  // of the step being built
	takes  []take // whose rows these are
	turn   int    // which adapters' turn it is
	served int    // turns at reading, all in all
	round  int    // in which each answer has one turn

	pipeline Pipeline  // the model, if it can have several steps under way
	groups   int       // into which answers are split, so that each machine of a pipeline has one
	depth    int       // most steps under way
	flights  []flight  // steps under way, the oldest first
	split    split     // of the step being built, zero if it has anything but a token of each answer
	building time.Time // when the step being built was begun
	ended    time.Time // when the last step did

	outputs int // most rows of a step with logits
	lookup  *source
	sources []*source // that the step being built may use
	wishes  []wish    // of the step being built
	group   []*slot   // that decode in the step being built
	reads   []*slot   // and that read
	pace    pace
	widths  widths
	reading reading
	warmed  int // answers that the draft might have had a part in
	always  int // guesses of every window, whatever they cost. Zero means as many as pay
}

// take is what a slot has in a step.
type take struct {
	slot  *slot
	job   *job
	start int // how much of the slot's cache there is before the step
	end   int // and after it
	from  int // where the rows begin whose logits are wanted

	generation int     // of the slot's cache
	source     *source // of the guesses among the rows
	first      bool    // whether the first row is no guess
	gain       float64 // that was expected of them
	steady     bool    // whether the source has guessed what was before it, too
}

// flight is a step under way.
type flight struct {
	takes   []take
	began   time.Time
	result  <-chan StepResult
	guesses int
	reads   int       // rows of prompts
	alone   bool      // only prompts are read, and nothing else is under way
	after   time.Time // when the step before ended, if there is one at a time
	split   split     // if there is nothing but a token of each answer
	answers int       // that were under way
}

func newScheduler(name string, m Model, limit int) *scheduler {
	s := &scheduler{name: name, model: m, info: m.Info(), limit: limit, wake: make(chan struct{}, 1), groups: 1, depth: 1}
	s.lookup, s.pace.credit = newSource(byLookup, lookup{}), firstCredit
	if s.outputs = s.info.Outputs; s.outputs == 0 {
		s.outputs = s.info.BatchSize
	}
	if p, ok := m.(Pipeline); ok {
		s.pipeline = p
		s.groups, s.depth = p.Depth()
	}
	s.widths = newWidths(s.groups, s.depth)
	for i := range min(s.info.Sequences, s.outputs) {
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
		for len(s.flights) < s.depth && ctx.Err() == nil && s.build(ctx) {
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
		s.warm(sl)
		j.progress(len(j.prompt), sl.cached, sl.cached)
	}
}

// gather waits for the requests that come together with those in the queue.
func (s *scheduler) gather() {
	s.mu.Lock()
	n := len(s.queue)
	hurried := n > 0 && s.queue[0].hurried
	s.mu.Unlock()
	if n == 0 || hurried {
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

// build collects the rows of the next step: a token of each slot that decodes, or of as many of them as go best into one,
// with guesses of what follows, then prompt pieces in the room left. If there is nothing of that, guesses may follow guesses.
// All rows of a step share their adapters, so when slots differ in those they take turns. False means there is nothing to do.
func (s *scheduler) build(ctx context.Context) bool {
	s.rows, s.takes, s.split, s.building = s.rows[:0], s.takes[:0], split{}, time.Now()
	var chosen *slot
	s.turn++
	for i := range s.slots {
		if sl := s.slots[(i+s.turn)%len(s.slots)]; sl.ready() {
			chosen = sl
			break
		}
	}
	if chosen == nil {
		for _, sl := range s.followers(ctx) {
			s.decode(sl)
		}
		return len(s.rows) > 0
	}
	room := min(stepRows, s.info.BatchSize)
	if chosen.embeds() { // alone: its rows yield something else
		s.add(chosen, min(room, s.outputs))
		return true
	}
	s.gatherAnswers(ctx, chosen)
	for _, sl := range s.group {
		room -= s.decode(sl)
	}
	room = min(room, s.piece())
	for _, sl := range s.readers(chosen) {
		if room == 0 {
			break
		}
		room -= s.add(sl, room)
		s.served++
		sl.served = s.served
	}
	return len(s.rows) > 0
}

// decode appends the token that a slot sampled last and the guesses that follow, all of which ask for logits, and returns
// how many they are.
func (s *scheduler) decode(sl *slot) int {
	at := len(sl.cache)
	t := take{slot: sl, job: sl.job, start: at, from: at, generation: sl.generation, first: len(sl.pending) > 0}
	if len(sl.guesses) > 0 {
		t.source, t.gain = sl.source, sl.gain
	}
	if t.first {
		t.steady = t.source != nil && (t.source == s.lookup || t.source == sl.guessed)
		sl.guessed = t.source
		sl.round = s.round
	}
	for _, tokens := range [][]Token{sl.pending, sl.guesses} {
		for _, token := range tokens {
			s.rows = append(s.rows, Row{Token: token, Seq: sl.id, Pos: at, Logits: true, Top: sl.job.top})
			at++
		}
	}
	t.end = at
	s.takes = append(s.takes, t)
	return t.end - t.start
}

// add appends up to n of a slot's prompt tokens and returns how many. The last one of the prompt asks for logits.
func (s *scheduler) add(sl *slot, n int) int {
	n = min(n, len(sl.pending))
	for i, t := range sl.pending[:n] {
		embed := sl.embeds()
		s.rows = append(s.rows, Row{Token: t, Seq: sl.id, Pos: len(sl.cache) + i, Logits: embed || i == len(sl.pending)-1, Top: sl.job.top, Embed: embed})
	}
	t := take{slot: sl, job: sl.job, start: len(sl.cache), end: len(sl.cache) + n, generation: sl.generation}
	switch t.from = t.end; {
	case sl.embeds():
		t.from = t.start
	case n == len(sl.pending):
		t.from--
	}
	s.takes = append(s.takes, t)
	return n
}

// launch runs what build collected, or has it run if the model can have several steps under way.
func (s *scheduler) launch(ctx context.Context) {
	f := flight{takes: s.takes, began: time.Now(), alone: len(s.flights) == 0, split: s.split, answers: s.answers()}
	if s.pipeline == nil {
		f.after = s.ended
	}
	for _, t := range f.takes {
		if t.slot.decoding() {
			f.alone = false
		} else {
			f.reads += t.end - t.start
		}
		f.guesses += t.slot.launch(t.end)
	}
	s.pace.launched(f.guesses)
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
	if !f.takes[0].first && f.reads == 0 {
		s.pace.behind.add(time.Since(s.building).Seconds())
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
