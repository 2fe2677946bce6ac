package engine

import (
	"context"
	"sync"
	"time"
)

// job is one answer as the scheduler sees it. What is above mu is the scheduler's from submit until done is closed;
// then, like everything else, the submitter's.
type job struct {
	ctx         context.Context // of the request, set before submit
	prompt      []Token
	sampler     Sampler
	adapters    []AdapterScale
	preserve    map[Token]bool
	maxTokens   int // 0: as many as fit
	topLogprobs int // negative: none
	top         int // how many of the likeliest tokens the sampler can choose from; 0: all
	background  bool
	vector      []float32 // instead of an answer: the sum of what the rows of the prompt yield
	plain       bool      // no guesses are made for it
	hurried     bool      // no use in waiting for others that come with it
	quiet       bool      // nobody wants the pieces, so the submitter is not woken for them
	text        textQueue

	queued, started, firstToken, ended time.Time
	read                               time.Time     // when the last step with a piece of the prompt ended
	promptTime                         time.Duration // while any was under way
	generated                          int
	guesses                            Guesses
	cached                             int
	reason                             FinishReason
	err                                error
	done                               chan struct{}

	mu    sync.Mutex // guards ready and news
	ready []Event    // not yet taken by the submitter
	news  chan struct{}
}

func newJob() *job {
	return &job{done: make(chan struct{}), news: make(chan struct{}, 1)}
}

// flush hands the text that is sure to the submitter. A slow submitter finds it joined, so it never holds up a step.
func (j *job) flush() {
	if text, tokens := j.text.take(); text != "" || len(tokens) > 0 {
		j.post(Event{Text: text, Tokens: tokens})
	}
}

func (j *job) progress(total, cached, processed int) {
	j.post(Event{Progress: &Progress{Total: total, Cached: cached, Processed: processed}})
}

func (j *job) post(ev Event) {
	j.mu.Lock()
	if n := len(j.ready); n > 0 && (ev.Progress == nil) == (j.ready[n-1].Progress == nil) {
		last := &j.ready[n-1]
		last.Text += ev.Text
		last.Tokens = append(last.Tokens, ev.Tokens...)
		last.Progress = ev.Progress
	} else {
		j.ready = append(j.ready, ev)
	}
	j.mu.Unlock()
	if j.quiet {
		return
	}
	select {
	case j.news <- struct{}{}:
	default:
	}
}

// take returns the events posted since the last call.
func (j *job) take() []Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	events := j.ready
	j.ready = nil
	return events
}

// finish ends the job. The scheduler does not touch it afterwards.
func (j *job) finish(reason FinishReason, err error) {
	j.ended = time.Now()
	j.reason, j.err = reason, err
	if err == nil {
		j.text.end()
		j.flush()
	}
	close(j.done)
}
