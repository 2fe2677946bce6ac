package openai

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/centram/centram/server/wire"
	"github.com/labstack/echo/v4"
)

// ping ends with one newline. A blank line after a comment makes several clients dispatch an event without data, which
// they then fail to parse.
const ping = ": ping\n"

// writeWithin is how long a client may leave a write waiting. One that has stopped reading would keep a slot of the
// engine for ever.
const writeWithin = time.Minute

// sse writes server-sent events and keeps the connection alive between them. It is safe for concurrent use.
type sse struct {
	response *echo.Response
	control  *http.ResponseController
	every    time.Duration
	ticker   *time.Ticker
	stop     chan struct{}
	stopped  chan struct{}

	mu      sync.Mutex // guards what follows, and the response
	started bool       // the status has been sent
	failed  error      // of the first write that did not work
}

func newSSE(c echo.Context, every time.Duration) *sse {
	s := &sse{
		response: c.Response(),
		control:  http.NewResponseController(c.Response()),
		every:    every,
		ticker:   time.NewTicker(every),
		stop:     make(chan struct{}),
		stopped:  make(chan struct{}),
	}
	go s.keepAlive()
	return s
}

func (s *sse) keepAlive() {
	defer close(s.stopped)
	for {
		select {
		case <-s.ticker.C:
			_ = s.write(ping) // s.failed tells the next send
		case <-s.stop:
			return
		}
	}
}

// send writes v as one event.
func (s *sse) send(v any) error {
	b, err := wire.Marshal(v)
	if err != nil {
		return err
	}
	return s.write("data: " + string(b) + "\n\n")
}

func (s *sse) done() error { return s.write("data: [DONE]\n\n") }

func (s *sse) write(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	if !s.started {
		s.start()
	}
	s.ticker.Reset(s.every)
	_ = s.control.SetWriteDeadline(time.Now().Add(writeWithin)) // not every server has one
	_, s.failed = s.response.Write([]byte(text))
	if s.failed == nil {
		s.failed = s.control.Flush()
	}
	return s.failed
}

func (s *sse) start() {
	s.started = true
	header := s.response.Header()
	header.Set(echo.HeaderContentType, "text/event-stream")
	header.Set(echo.HeaderCacheControl, "no-cache")
	header.Set("X-Accel-Buffering", "no") // a proxy must not collect the events
	s.response.WriteHeader(http.StatusOK)
}

// finish stops the keep-alive and tells the client of err: by its status if nothing has been written, else in an event.
func (s *sse) finish(h *handler, c echo.Context, err error) error {
	s.ticker.Stop()
	close(s.stop)
	<-s.stopped
	defer func() { _ = s.control.SetWriteDeadline(time.Time{}) }() // the connection's next request has its own

	if err == nil || s.failed != nil && errors.Is(err, s.failed) || c.Request().Context().Err() != nil {
		return nil
	}
	if !s.started {
		return err
	}
	wire.Log(c.Request().Context(), h.Log, c.Path(), err)
	_ = s.send(bodyOf(err)) // there is nobody else to tell
	return nil
}
