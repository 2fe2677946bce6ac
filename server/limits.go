package server

import (
	"io"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	nativeLimit    = 64 << 10
	inferenceLimit = 32 << 20
	// bodyPatience is how long a client may make us wait for the next piece of a body.
	bodyPatience = 30 * time.Second
)

// limits are those of routes that take more than nativeLimit: a message may be a whole document.
var limits = map[string]int64{
	nativePrefix + "/chats/:id/messages": 4 << 20,
	nativePrefix + "/trainings":          4 << 20,
	trainingFilesPath:                    1 << 30, // as much as a training takes
}

// limitBody refuses a body that is too large before it is read, or while it is if its size was not announced.
func limitBody(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		limit, ok := limits[c.Path()]
		switch {
		case ok:
		case native(c):
			limit = nativeLimit
		default:
			limit = inferenceLimit
		}
		if r.ContentLength > limit {
			c.Response().Header().Set("Connection", "close") // the rest of the body is not going to be read
			return tooLarge(limit)
		}
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = &patientBody{http.MaxBytesReader(c.Response().Writer, r.Body, limit), http.NewResponseController(c.Response())}
		}
		return next(c)
	}
}

// patientBody gives up on a client that stops sending. Once the body is there nothing runs out, however long the answer.
type patientBody struct {
	io.ReadCloser
	conn *http.ResponseController
}

func (b *patientBody) Read(p []byte) (int, error) {
	_ = b.conn.SetReadDeadline(time.Now().Add(bodyPatience)) // a recorder in a test has no connection
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		_ = b.conn.SetReadDeadline(time.Time{})
	}
	return n, err
}
