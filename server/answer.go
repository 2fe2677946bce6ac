package server

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/chats"
	"github.com/centram/centram/engine"
)

var (
	errStopped = errors.New("stopped by a person")
	errClosing = centram.Errorf(centram.Unavailable, "Centram is ending.")
)

// answers are those being written. Each has one goroutine, which outlives the request that began it.
type answers struct {
	Config
	base context.Context // ends with the server
	wg   sync.WaitGroup

	mu     sync.Mutex // guards live and closed, and is held while an answer begins, so that none is in neither place
	live   map[string]*answer
	closed bool
}

func newAnswers(cfg Config) *answers {
	return &answers{Config: cfg, base: context.Background(), live: map[string]*answer{}}
}

// begin writes the answer that prepare has put into the store. loads is the model that has to be in memory for it.
func (a *answers) begin(chat, loads string, prepare func() (chats.Message, error)) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return errClosing
	}
	m, err := prepare()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(a.base)
	ans := newAnswer(chat, loads, m, cancel)
	a.live[m.ID] = ans
	a.wg.Go(func() {
		defer cancel(nil)
		a.write(ctx, ans)
	})
	return nil
}

func (a *answers) find(id string) (*answer, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ans, ok := a.live[id]
	return ans, ok
}

// current is m with the text that it has now.
func (a *answers) current(m chats.Message) chats.Message {
	if ans, ok := a.find(m.ID); ok {
		return ans.message()
	}
	return m
}

// stop ends an answer and waits until it has ended. An answer that is not being written is left as it is.
func (a *answers) stop(ctx context.Context, chat, id string) error {
	ans, ok := a.find(id)
	if !ok || ans.chat != chat {
		return nil
	}
	ans.cancel(errStopped)
	return ans.wait(ctx)
}

// stopAll ends all answers of a chat.
func (a *answers) stopAll(ctx context.Context, chat string) error {
	a.mu.Lock()
	var of []*answer
	for _, ans := range a.live {
		if ans.chat == chat {
			of = append(of, ans)
		}
	}
	a.mu.Unlock()
	for _, ans := range of {
		ans.cancel(errStopped)
		if err := ans.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// close ends all answers and waits for them.
func (a *answers) close() {
	a.mu.Lock()
	a.closed = true
	for _, ans := range a.live {
		ans.cancel(errClosing)
	}
	a.mu.Unlock()
	a.wg.Wait()
}

// write is the life of an answer.
func (a *answers) write(ctx context.Context, ans *answer) {
	a.tell(ans.chat, ans.start)
	news := a.Events.listen() // before the engine has any, or the only one there is might be missed
	kept := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(kept)
		a.keep(ans, news, ended)
	}()
	result, err := a.generate(ctx, ans)
	close(ended)
	<-kept
	m := a.finish(ctx, ans, a.outcome(ctx, ans, result, err))
	a.mu.Lock()
	if a.live[m.ID] == ans { // or it was continued as soon as its end was stored, and is being written again
		delete(a.live, m.ID)
		a.tell(ans.chat, m)
	}
	a.mu.Unlock()
	ans.end(m)
	a.Events.publish("chat", ChatEvent{ans.chat, "updated"})
}

func (a *answers) tell(chat string, m chats.Message) {
	a.Events.publish("message", MessageEvent{chat, m.ID, string(m.State)})
}

// keep saves the text while it grows, and shows from the news how far the model is loaded, until the answer has ended.
func (a *answers) keep(ans *answer, news chan event, ended <-chan struct{}) {
	defer a.Events.unlisten(news)
	save := time.NewTicker(a.SaveEvery)
	defer save.Stop()
	saved := len(ans.start.Content)
	for {
		select {
		case <-ended:
			return
		case e, ok := <-news:
			if !ok {
				news = nil
			}
			if m, ok := e.data.(ModelEvent); ok && m.Name == ans.loads && m.Progress != nil {
				ans.status("loading", loadingEvent{ans.start.Model, *m.Progress})
			}
		case <-save.C:
			text := ans.message().Content
			if len(text) == saved {
				continue
			}
			if err := a.Chats.SetText(context.WithoutCancel(a.base), ans.start.ID, text); err != nil {
				a.Log.WarnContext(a.base, "Answer not saved, will try again", "message", ans.start.ID, "err", err)
				continue
			}
			saved = len(text)
		}
	}
}

// generate has the engine write the answer. A panic below becomes an error of this answer only.
func (a *answers) generate(ctx context.Context, ans *answer) (result engine.Result, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	request, err := a.request(ctx, ans)
	if err != nil {
		return engine.Result{}, err
	}
	a.showWait(ans)
	return a.Engine.Generate(ctx, request, func(e engine.Event) error {
		if e.Progress != nil {
			ans.status("progress", progressEvent{e.Progress.Total, e.Progress.Cached, e.Progress.Processed})
		}
		ans.append(e.Text)
		return ctx.Err()
	})
}

// showWait says what an answer that is not there yet waits for.
func (a *answers) showWait(ans *answer) {
	r, ok := resident(a.Engine, ans.loads)
	switch {
	case !ok || r.Loading < 1:
		ans.status("loading", loadingEvent{ans.start.Model, r.Loading})
	case r.Busy >= r.Info.Sequences:
		ans.status("queued", struct{}{})
	}
}

func (a *answers) outcome(ctx context.Context, ans *answer, result engine.Result, err error) chats.Outcome {
	o := chats.Outcome{Content: ans.message().Content, State: chats.Done, Stats: statsOf(result)}
	switch {
	case err == nil:
		o.Stats.Finish = string(result.Reason)
	case errors.Is(context.Cause(ctx), errStopped):
		o.State = chats.Stopped
	case ctx.Err() != nil || a.base.Err() != nil: // whatever the engine says, it says it because all is ending
		o.State = chats.Interrupted
	default:
		p := problemOf(err)
		o.State, o.Problem = chats.Failed, &chats.Problem{Code: p.Code, Message: p.Message, Hint: p.Hint}
		if p.Code == centram.Internal {
			a.Log.ErrorContext(ctx, "Answer failed", "message", ans.start.ID, "model", ans.start.Model, "err", err)
		}
	}
	if result.PromptTokens == 0 {
		o.Stats = nil // it did not come to anything that could be counted
	}
	return o
}

// finish stores how the answer ended. If it cannot be stored, viewers see it all the same, and the next start finds it
// interrupted.
func (a *answers) finish(ctx context.Context, ans *answer, o chats.Outcome) chats.Message {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	m, err := a.Chats.Finish(ctx, ans.chat, ans.start.ID, o)
	if err == nil {
		return m
	}
	if centram.CodeOf(err) != centram.NotFound { // a chat that was deleted meanwhile
		a.Log.ErrorContext(ctx, "End of an answer not saved", "message", ans.start.ID, "err", err)
	}
	m = ans.message()
	m.State, m.Error, m.Stats = o.State, o.Problem, o.Stats
	return m
}

func statsOf(r engine.Result) *chats.Stats {
	stats := &chats.Stats{
		PromptTokens: r.PromptTokens, CachedTokens: r.CachedTokens, GeneratedTokens: r.GeneratedTokens,
		PromptMS: milliseconds(r.PromptTime), GenerateMS: milliseconds(r.GenerateTime), ContextSize: r.ContextSize,
	}
	if r.GenerateTime > 0 {
		stats.TokensPerSecond = float64(r.GeneratedTokens) / r.GenerateTime.Seconds()
	}
	return stats
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
