package server

import (
	"context"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/centram/centram/chats"
)

// answer is one that is being written, for any number of viewers. A viewer reads at its own pace: it is woken when there
// is more, and takes all that there is.
type answer struct {
	chat   string
	loads  string        // the model that has to be in memory: what the message calls it may have adapters behind it
	start  chats.Message // as it was when the answer began
	cancel context.CancelCauseFunc

	mu     sync.Mutex // guards what follows
	text   []byte     // of the message, that with which it began included; valid UTF-8
	waits  waiting    // what the viewers see while there is no text
	final  *chats.Message
	change chan struct{} // closed when anything of the above changes, and replaced
}

// waiting is an event that is of interest until the text begins. seq tells two apart.
type waiting struct {
	event
	seq int
}

type progressEvent struct {
	Total     int `json:"total"`
	Cached    int `json:"cached"`
	Processed int `json:"processed"`
}

type loadingEvent struct {
	Model    string  `json:"model"`
	Progress float64 `json:"progress"`
}

type deltaEvent struct {
	From int    `json:"from"` // code points before Text
	Text string `json:"text"`
}

func newAnswer(chat, loads string, m chats.Message, cancel context.CancelCauseFunc) *answer {
	return &answer{chat: chat, loads: loads, start: m, cancel: cancel, text: []byte(m.Content), change: make(chan struct{})}
}

func (a *answer) append(text string) {
	if text == "" {
		return
	}
	// As the store would keep it, so that code points count the same everywhere.
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "")
	a.update(func() {
		a.text = append(a.text, text...)
		a.waits.event = event{}
	})
}

// status shows what the answer is waiting for.
func (a *answer) status(name string, data any) {
	a.update(func() { a.waits = waiting{event{name, data}, a.waits.seq + 1} })
}

// end shows that no more will come.
func (a *answer) end(m chats.Message) {
	a.update(func() { a.final = &m })
}

func (a *answer) update(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
	close(a.change)
	a.change = make(chan struct{})
}

// message is the answer as it is now.
func (a *answer) message() chats.Message {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.final != nil {
		return *a.final
	}
	m := a.start
	m.Content = string(a.text)
	return m
}

// wait returns when the answer has ended.
func (a *answer) wait(ctx context.Context) error {
	for {
		v := a.view(0)
		if v.final != nil {
			return nil
		}
		select {
		case <-v.change:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// view is what there is for a viewer that has the first bytes of the text.
type view struct {
	text   string
	wait   waiting
	final  *chats.Message
	change <-chan struct{}
}

func (a *answer) view(bytes int) view {
	a.mu.Lock()
	defer a.mu.Unlock()
	return view{string(a.text[min(bytes, len(a.text)):]), a.waits, a.final, a.change}
}

type streamQuery struct {
	MessageID
	From int `query:"from" minimum:"0" doc:"How many code points of the text the client has."`
}

// follow streams an answer to a viewer until it has ended.
func (s *Server) follow(ctx context.Context, out *stream, a *answer, from int) error {
	ping := time.NewTicker(s.PingEvery)
	defer ping.Stop()
	v := a.view(0)
	sent, points := skip(v.text, from)
	seen := 0
	for {
		v = a.view(sent)
		if v.wait.seq > seen && v.wait.name != "" {
			seen = v.wait.seq
			if err := out.send(v.wait.name, v.wait.data); err != nil {
				return err
			}
		}
		if v.text != "" {
			if err := out.send("delta", deltaEvent{points, v.text}); err != nil {
				return err
			}
			sent, points = sent+len(v.text), points+utf8.RuneCountInString(v.text)
		}
		if v.final != nil {
			return out.send("done", v.final)
		}
		select {
		case <-v.change:
		case <-ctx.Done():
			return ctx.Err()
		case <-ping.C:
			if err := out.ping(); err != nil {
				return err
			}
		}
	}
}

// replay streams an answer that has ended.
func replay(out *stream, m chats.Message, from int) error {
	if bytes, points := skip(m.Content, from); bytes < len(m.Content) {
		if err := out.send("delta", deltaEvent{points, m.Content[bytes:]}); err != nil {
			return err
		}
	}
	return out.send("done", m)
}

// skip returns where in text its first code points end, and how many they are: fewer if text is shorter.
func skip(text string, points int) (bytes, found int) {
	for bytes < len(text) && found < points {
		_, size := utf8.DecodeRuneInString(text[bytes:])
		bytes, found = bytes+size, found+1
	}
	return bytes, found
}
