package openai

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/server/wire"
	"github.com/labstack/echo/v4"
	"golang.org/x/sync/errgroup"
)

// answer is the outer object of a whole answer and of a chunk.
type answer struct {
	ID          string    `json:"id"`
	Object      string    `json:"object"`
	Created     int64     `json:"created"`
	Model       string    `json:"model"`
	Fingerprint string    `json:"system_fingerprint,omitempty"`
	Choices     []any     `json:"choices"`
	Usage       *usage    `json:"usage,omitempty"`
	Timings     *timings  `json:"timings,omitempty"`
	Progress    *progress `json:"prompt_progress,omitempty"`
}

// form is what differs between the answers to a chat and those to a text.
type form interface {
	// names gives the prefix of an id, the object's name and a chunk's.
	names() (id, object, chunk string)
	// whole is the choice at index in an answer that is not streamed.
	whole(index int, r engine.Result, tokens []engine.TokenInfo) any
	// chunks returns what writes the choice at index in a stream.
	chunks(index int) chunks
}

// chunks makes the choices of one choice's chunks, in order.
type chunks interface {
	opening() any // nil for none
	piece(engine.Event) any
	nothing() any // for a chunk that says something else
	closing(engine.FinishReason) any
}

// answer runs the job and writes its answer.
func (h *handler) answer(c echo.Context, j job) error {
	prefix, object, chunk := j.form.names()
	id, err := h.id(prefix)
	if err != nil {
		return err
	}
	frame := answer{ID: id, Object: object, Created: h.Now().Unix(), Model: j.model}
	if h.Version != "" {
		frame.Fingerprint = "centram-" + h.Version
	}
	if !j.stream {
		return h.whole(c, j, frame)
	}
	frame.Object = chunk
	return h.stream(c, j, frame)
}

func (h *handler) whole(c echo.Context, j job, frame answer) error {
	tokens := make([][]engine.TokenInfo, len(j.requests))
	results := make([]engine.Result, len(j.requests))
	var event func(int, engine.Event) error
	if slices.ContainsFunc(j.requests, func(r engine.Request) bool { return r.TopLogprobs >= 0 }) {
		event = func(i int, e engine.Event) error {
			tokens[i] = append(tokens[i], e.Tokens...) // each choice has its own goroutine and its own element
			return nil
		}
	}
	err := h.run(c.Request().Context(), j.requests, event, func(i int, r engine.Result) error {
		results[i] = r
		return nil
	})
	if err != nil {
		return err
	}
	var sum tally
	for i, r := range results {
		frame.Choices = append(frame.Choices, j.form.whole(i, r, tokens[i]))
		sum.add(r, i%j.perPrompt == 0)
	}
	frame.Usage, frame.Timings = sum.usage(), sum.timings()
	return wire.JSON(c, http.StatusOK, frame)
}

// run answers all requests, at most maxChoices at once, and ends with the first error. It calls event and end, which must
// be safe for concurrent use by different choices, with each choice's pieces in order. A nil event wants no pieces.
func (h *handler) run(ctx context.Context, requests []engine.Request, event func(int, engine.Event) error, end func(int, engine.Result) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxChoices)
	for i, request := range requests {
		group.Go(func() error {
			var emit func(engine.Event) error
			if event != nil {
				emit = func(e engine.Event) error { return event(i, e) }
			}
			result, err := h.generate(ctx, request, emit)
			if err != nil {
				return atModel(err)
			}
			return end(i, result)
		})
	}
	return group.Wait()
}

// generate is the engine's Generate with a panic turned into an error: outside the goroutine of the request a panic would
// end the daemon.
func (h *handler) generate(ctx context.Context, r engine.Request, emit func(engine.Event) error) (result engine.Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("generate: panic: %v\n%s", p, debug.Stack())
		}
	}()
	return h.Engine.Generate(ctx, r, emit)
}

// atModel says that what the engine did not find is the model.
func atModel(err error) error {
	if centram.CodeOf(err) == centram.NotFound {
		return wire.AtParam(err, "model")
	}
	return err
}
