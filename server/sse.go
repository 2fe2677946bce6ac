package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"
	"github.com/labstack/echo/v4"
)

// writePatience is how long a reader may leave an event unread.
const writePatience = 30 * time.Second

// stream writes server-sent events. Its errors say that the reader is gone.
type stream struct {
	response *echo.Response
	conn     *http.ResponseController
}

// streaming answers with server-sent events that serve writes until it returns or ctx ends.
func streaming(serve func(ctx context.Context, s *stream)) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		c := humaecho.Unwrap(hc)
		h := c.Response().Header()
		h.Set(echo.HeaderContentType, "text/event-stream")
		h.Set(echo.HeaderCacheControl, "no-store")
		h.Set("X-Accel-Buffering", "no") // or nginx would collect events
		c.Response().WriteHeader(http.StatusOK)
		s := &stream{c.Response(), http.NewResponseController(c.Response())}
		_ = s.flush() // a reader that has gone already is noticed at the first event
		serve(hc.Context(), s)
	}}
}

// send writes one event.
func (s *stream) send(name string, data any) error {
	body, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("event %s: %w", name, err)
	}
	return s.write("event: " + name + "\ndata: " + string(body) + "\n\n")
}

// ping writes a comment. It has a single line end, because after an empty line some clients see an empty event.
func (s *stream) ping() error { return s.write(": ping\n") }

func (s *stream) write(text string) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(writePatience)) // a recorder in a test has no connection
	if _, err := s.response.Write([]byte(text)); err != nil {
		return err
	}
	return s.flush()
}

func (s *stream) flush() error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(writePatience))
	return s.conn.Flush()
}
