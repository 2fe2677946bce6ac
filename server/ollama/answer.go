package ollama

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/models"
	"github.com/centram/centram/server/wire"
	"github.com/labstack/echo/v4"
)

// line is a line of a streamed answer, or a whole one. Chat sets Message, generate Response.
type line struct {
	Model     string   `json:"model"`
	CreatedAt stamp    `json:"created_at"`
	Message   *message `json:"message,omitempty"`
	Response  *string  `json:"response,omitempty"`
	Done      bool     `json:"done"`
	Reason    string   `json:"done_reason,omitempty"`
	*totals
}

// totals come with the last line. Durations are in nanoseconds, as time.Duration is.
type totals struct {
	TotalDuration      time.Duration `json:"total_duration"`
	LoadDuration       time.Duration `json:"load_duration"`
	PromptEvalCount    int           `json:"prompt_eval_count"`
	PromptEvalDuration time.Duration `json:"prompt_eval_duration"`
	EvalCount          int           `json:"eval_count"`
	EvalDuration       time.Duration `json:"eval_duration"`
}

// reasons are Ollama's words for why an answer ended. It has none of its own for tool calls.
var reasons = map[engine.FinishReason]string{
	engine.FinishStop:      "stop",
	engine.FinishToolCalls: "stop",
	engine.FinishLength:    "length",
}

// fill puts a piece of an answer into a line, as chat or generate does.
type fill func(l *line, text string, calls []toolCall)

func chatLine(l *line, text string, calls []toolCall) {
	l.Message = &message{Role: "assistant", Content: text, ToolCalls: calls}
}

func generateLine(l *line, text string, _ []toolCall) { l.Response = &text }

// reply is an answer being written.
type reply struct {
	*handler
	model   string // as the client calls it
	fill    fill
	lines   *lines
	started time.Time
}

func (h *handler) newReply(c echo.Context, model string, f fill) *reply {
	return &reply{handler: h, model: model, fill: f, lines: &lines{c: c}, started: h.Now()}
}

// answer runs the request and writes its answer, line by line if stream.
func (r *reply) answer(c echo.Context, request engine.Request, stream bool) error {
	ctx := c.Request().Context()
	result, err := r.Engine.Generate(ctx, request, func(e engine.Event) error {
		if !stream || e.Text == "" {
			return nil
		}
		return r.lines.write(r.piece(e.Text, nil))
	})
	if err == nil {
		err = r.finish(result, stream)
	}
	if err == nil || r.lines.failed || ctx.Err() != nil {
		return nil
	}
	if !r.lines.started {
		return err
	}
	wire.Log(ctx, r.Log, c.Path(), err)
	_ = r.lines.write(errorBody{wire.Text(err)}) // there is nobody else to tell
	return nil
}

// finish writes the last line, and before it the tool calls, which a client wants whole.
func (r *reply) finish(result engine.Result, stream bool) error {
	calls := toolCalls(result.Message.ToolCalls)
	last := ""
	if !stream {
		last = result.Message.Content
	} else if len(calls) > 0 {
		if err := r.lines.write(r.piece("", calls)); err != nil {
			return err
		}
		calls = nil
	}
	l := r.piece(last, calls)
	l.Done, l.Reason = true, reasons[result.Reason]
	l.totals = &totals{
		TotalDuration:      r.Now().Sub(r.started),
		LoadDuration:       result.LoadTime,
		PromptEvalCount:    result.PromptTokens,
		PromptEvalDuration: result.PromptTime,
		EvalCount:          result.GeneratedTokens,
		EvalDuration:       result.GenerateTime,
	}
	if stream {
		return r.lines.write(l)
	}
	return wire.JSON(r.lines.c, http.StatusOK, l)
}

func (r *reply) piece(text string, calls []toolCall) line {
	l := line{Model: r.model, CreatedAt: stamp(r.Now())}
	r.fill(&l, text, calls)
	return l
}

// residence answers a request without a prompt, which is to load the model, or with keep_alive 0 to unload it.
func (r *reply) residence(ctx context.Context, m models.Model, keep keepAlive, stream bool) error {
	l := r.piece("", nil)
	l.Done, l.Reason = true, "load"
	if keep.ends() {
		l.Reason = "unload"
	}
	if err := r.reside(ctx, m, keep); err != nil {
		return err
	}
	l.CreatedAt = stamp(r.Now())
	if stream {
		return r.lines.write(l)
	}
	return wire.JSON(r.lines.c, http.StatusOK, l)
}

// reside has the model in memory for that time, or out of it, whatever adapters it was named with.
func (h *handler) reside(ctx context.Context, m models.Model, keep keepAlive) error {
	if keep.ends() {
		return h.unload(ctx, m.Alone())
	}
	return h.Engine.Load(ctx, m.Name, keep.engine())
}

// unload is content with a model that is not loaded.
func (h *handler) unload(ctx context.Context, name string) error {
	for _, r := range h.Engine.Resident() {
		if r.Name == name {
			return h.Engine.Unload(ctx, name)
		}
	}
	return nil
}

// toolCalls drops a call whose arguments were cut off: called without them a function could do anything.
func toolCalls(calls []engine.ToolCall) []toolCall {
	var out []toolCall
	for _, call := range calls {
		arguments := json.RawMessage(call.Arguments)
		if strings.TrimSpace(call.Arguments) == "" {
			arguments = json.RawMessage("{}")
		}
		if json.Valid(arguments) && wire.IsObject(arguments) {
			out = append(out, toolCall{ID: call.ID, Function: functionCall{call.Name, arguments}})
		}
	}
	return out
}

// writeWithin is how long a client may leave a write waiting. One that has stopped reading would keep a slot of the
// engine for ever.
const writeWithin = time.Minute

// lines writes a stream of JSON objects.
type lines struct {
	c       echo.Context
	started bool // the status has been sent
	failed  bool // the client is gone or does not read
}

func (l *lines) write(v any) error {
	b, err := wire.Marshal(v)
	if err != nil {
		return err
	}
	response := l.c.Response()
	control := http.NewResponseController(response)
	if !l.started {
		l.started = true
		response.Header().Set(echo.HeaderContentType, "application/x-ndjson")
		response.WriteHeader(http.StatusOK)
	}
	_ = control.SetWriteDeadline(time.Now().Add(writeWithin)) // not every server has one
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	if _, err = response.Write(append(b, '\n')); err == nil {
		err = control.Flush()
	}
	l.failed = err != nil
	return err
}
