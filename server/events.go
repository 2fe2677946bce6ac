package server

import (
	"context"
	"sync"
	"time"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/lora/job"
	"github.com/centram/centram/models"
	"github.com/centram/centram/models/download"
	"github.com/centram/centram/p2p"
)

// Events passes news on to whoever listens. It may be used from many goroutines, and never makes who has news wait.
type Events struct {
	mu        sync.Mutex // guards what follows
	listeners map[chan event]struct{}
	closed    bool
}

type event struct {
	name string
	data any
}

// ModelEvent says what happened to a model, or to what it is with an adapter: that is called base:name, and only comes and
// goes.
type ModelEvent struct {
	Name     string   `json:"name"`
	Change   string   `json:"change" enum:"imported,deleted,loading,loaded,unloaded,failed"`
	Progress *float64 `json:"progress,omitempty"`
	Error    string   `json:"error,omitempty"`
}

// ChatEvent says what happened to a chat.
type ChatEvent struct {
	ID     string `json:"id"`
	Change string `json:"change" enum:"created,updated,deleted"`
}

// MessageEvent says what became of an answer.
type MessageEvent struct {
	Chat  string `json:"chat"`
	ID    string `json:"id"`
	State string `json:"state"`
}

// PeerEvent says what happened to a peer.
type PeerEvent struct {
	ID     string `json:"id"`
	Change string `json:"change" enum:"joined,left,pairing,paired,forgotten"`
}

// NewEvents returns an Events without listeners.
func NewEvents() *Events { return &Events{listeners: map[chan event]struct{}{}} }

// Engine passes on what happened to a model in memory.
func (e *Events) Engine(c engine.Change) {
	news := ModelEvent{Name: c.Name, Change: string(c.Kind)}
	if c.Kind == engine.Loading {
		news.Progress = &c.Progress
	}
	if c.Err != nil {
		news.Error = textOf(c.Err)
	}
	e.publish("model", news)
}

// Library passes on what happened to the list of models and adapters.
func (e *Events) Library(c models.Change) {
	e.publish("model", ModelEvent{Name: c.Name, Change: string(c.Kind)})
}

// Peer passes on what happened to a peer.
func (e *Events) Peer(c p2p.Change) {
	e.publish("peer", PeerEvent{ID: c.Peer.String(), Change: c.Kind})
}

// Download passes on what happened to a download, and how far it is.
func (e *Events) Download(j download.Job) { e.publish("download", presentDownload(j)) }

// Training passes on what happened to a training, and how far it is.
func (e *Events) Training(j job.Job) { e.publish("training", presentTraining(j)) }

func (e *Events) publish(name string, data any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for listener := range e.listeners {
		select {
		case listener <- event{name, data}:
		default: // too slow: it ends, and its client asks anew
			e.drop(listener)
		}
	}
}

// listen returns a channel of news, which is closed at the end of everything or when its reader is too slow.
func (e *Events) listen() chan event {
	e.mu.Lock()
	defer e.mu.Unlock()
	listener := make(chan event, 256)
	if e.closed {
		close(listener)
		return listener
	}
	e.listeners[listener] = struct{}{}
	return listener
}

func (e *Events) unlisten(listener chan event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drop(listener)
}

func (e *Events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for listener := range e.listeners {
		e.drop(listener)
	}
}

// drop wants mu held.
func (e *Events) drop(listener chan event) {
	if _, ok := e.listeners[listener]; ok {
		delete(e.listeners, listener)
		close(listener)
	}
}

func (s *Server) streamEvents(ctx context.Context, out *stream, news chan event) {
	defer s.Events.unlisten(news)
	ping := time.NewTicker(s.PingEvery)
	defer ping.Stop()
	var err error
	for err == nil {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-news:
			if !ok {
				return
			}
			err = out.send(e.name, e.data)
		case <-ping.C:
			err = out.ping()
		}
	}
}
