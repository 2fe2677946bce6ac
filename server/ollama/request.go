package ollama

import (
	"context"
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/models"
	"github.com/centram/centram/server/wire"
)

// common is what chat and generate both understand.
type common struct {
	Model     string          `json:"model"`
	Stream    *bool           `json:"stream"` // absent means true
	Format    json.RawMessage `json:"format"`
	KeepAlive keepAlive       `json:"keep_alive"`
	Options   options         `json:"options"`
}

type options struct {
	NumCtx     *float64     `json:"num_ctx"`
	NumPredict *float64     `json:"num_predict"`
	Stop       wire.Strings `json:"stop"`
	wire.Sampling
}

func (c common) streams() bool { return c.Stream == nil || *c.Stream }

// request turns c into an engine request to m, without a prompt.
func (h *handler) request(ctx context.Context, c common, m models.Model) (engine.Request, error) {
	sampling, err := c.Options.Sampling.Engine()
	if err != nil {
		return engine.Request{}, err
	}
	stops, err := c.Options.Stop.Stops()
	if err != nil {
		return engine.Request{}, err
	}
	limit := wire.Number{Param: "num_predict", Value: c.Options.NumPredict, Min: -2, Max: math.MaxInt32, Whole: true}
	if err := limit.Check(); err != nil {
		return engine.Request{}, err
	}
	if err := h.checkContext(ctx, c.Options.NumCtx, m); err != nil {
		return engine.Request{}, err
	}
	return engine.Request{
		Model:       m.Name,
		Sampling:    sampling,
		Stop:        stops,
		MaxTokens:   max(0, limit.Int(0)), // -1 is "for ever", -2 "till the context is full"
		TopLogprobs: -1,
		KeepAlive:   c.KeepAlive.engine(),
	}, nil
}

// checkContext refuses a context that the model does not have. A smaller one is what it has and more. The model has to be
// loaded to know; it is about to be anyway.
func (h *handler) checkContext(ctx context.Context, asked *float64, m models.Model) error {
	number := wire.Number{Param: "num_ctx", Value: asked, Min: 0, Max: math.MaxInt32, Whole: true}
	if err := number.Check(); err != nil || number.Int(0) == 0 {
		return err
	}
	if err := h.Engine.Load(ctx, m.Name, 0); err != nil {
		return err
	}
	if has := h.loadedContext(m.Alone()); has > 0 && number.Int(0) > has {
		return wire.Invalid("num_ctx", "\"num_ctx\" is %d, but %s is loaded with a context of %d tokens.", number.Int(0), m.Name, has).
			WithHint("Ask for at most that, or set Centram's context size.")
	}
	return nil
}

// schema is what format asks the answer to fit: nil for any text, {} for any JSON object.
func (c common) schema() (json.RawMessage, error) {
	var word string
	switch {
	case wire.IsNull(c.Format):
		return nil, nil
	case wire.IsObject(c.Format):
		return c.Format, nil
	case json.Unmarshal(c.Format, &word) == nil && word == "json":
		return json.RawMessage("{}"), nil
	case string(c.Format) == `""`:
		return nil, nil
	}
	return nil, wire.Invalid("format", "\"format\" must be \"json\" or a JSON schema.")
}

// keepAlive is how long a model is to stay: a number of seconds or a Go duration; negative for ever, 0 not at all.
type keepAlive struct {
	set   bool
	value time.Duration
}

func (k *keepAlive) UnmarshalJSON(b []byte) error {
	if wire.IsNull(b) {
		return nil
	}
	var text string
	if json.Unmarshal(b, &text) != nil {
		text = string(b)
	}
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(seconds) {
		*k = keepAlive{true, duration(seconds)}
		return nil
	}
	value, err := time.ParseDuration(text)
	if err != nil {
		return wire.Invalid("keep_alive", "\"keep_alive\" must be a number of seconds or a duration such as \"5m\".")
	}
	*k = keepAlive{true, value}
	return nil
}

// duration is seconds as a duration; what is too long for one is for ever.
func duration(seconds float64) time.Duration {
	if math.Abs(seconds) >= math.MaxInt64/float64(time.Second) {
		return -1
	}
	return time.Duration(seconds * float64(time.Second))
}

// ends reports whether the model is not to stay at all.
func (k keepAlive) ends() bool { return k.set && k.value == 0 }

// engine is k as a request has it, where 0 means the default and so the shortest time stands for "not at all".
func (k keepAlive) engine() time.Duration {
	if k.ends() {
		return time.Nanosecond
	}
	return k.value
}
