package openai

import (
	"sync"
	"time"

	"github.com/centram/centram/engine"
	"github.com/labstack/echo/v4"
)

// stream writes the job's answer as server-sent events.
func (h *handler) stream(c echo.Context, j job, frame answer) error {
	s := &stream{handler: h, job: j, frame: frame, choices: make([]choice, len(j.requests)), out: newSSE(c, h.PingEvery)}
	for i := range s.choices {
		s.choices[i].chunks = j.form.chunks(i)
	}
	err := h.run(c.Request().Context(), j.requests, s.event, s.end)
	if err == nil {
		err = s.close()
	}
	return s.out.finish(h, c, err)
}

// stream is the state of one streamed answer.
type stream struct {
	*handler
	job     job
	frame   answer // of every chunk
	out     *sse
	mu      sync.Mutex // guards what follows, and the order of the chunks
	choices []choice
	ended   int
	sum     tally
}

// choice is the state of one choice of it.
type choice struct {
	chunks  chunks
	opened  bool
	reading time.Time // when its prompt's progress was first heard of
}

func (s *stream) event(i int, e engine.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(i); err != nil {
		return err
	}
	if e.Progress != nil {
		return s.progress(i, *e.Progress)
	}
	if e.Text == "" && len(e.ToolCalls) == 0 && len(e.Tokens) == 0 {
		return nil
	}
	return s.send(s.chunk(s.choices[i].chunks.piece(e)))
}

func (s *stream) progress(i int, p engine.Progress) error {
	if !s.job.progress {
		return nil
	}
	ch := &s.choices[i]
	now := s.Now()
	if ch.reading.IsZero() {
		ch.reading = now
	}
	a := s.chunk(ch.chunks.nothing())
	a.Progress = &progress{p.Total, p.Cached, p.Processed, now.Sub(ch.reading).Milliseconds()}
	return s.send(a)
}

// end closes the choice at i. The last one to end brings the timings, unless a usage chunk is to come and does.
func (s *stream) end(i int, r engine.Result) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(i); err != nil {
		return err
	}
	s.ended++
	s.sum.add(r, i%s.job.perPrompt == 0)
	a := s.chunk(s.choices[i].chunks.closing(r.Reason))
	if s.ended == len(s.choices) && !s.job.includeUsage {
		a.Timings = s.sum.timings()
	}
	return s.send(a)
}

// close writes what comes after the last choice.
func (s *stream) close() error {
	if s.job.includeUsage {
		a := s.frame
		a.Choices = []any{} // not null and with nothing in it: clients take the first choice of any chunk that has one
		a.Usage, a.Timings = s.sum.usage(), s.sum.timings()
		if err := s.send(a); err != nil {
			return err
		}
	}
	return s.out.done()
}

func (s *stream) open(i int) error {
	ch := &s.choices[i]
	if ch.opened {
		return nil
	}
	ch.opened = true
	opening := ch.chunks.opening()
	if opening == nil {
		return nil
	}
	return s.send(s.chunk(opening))
}

func (s *stream) chunk(choice any) answer {
	a := s.frame
	a.Choices = []any{choice}
	return a
}

func (s *stream) send(a answer) error { return s.out.send(a) }
