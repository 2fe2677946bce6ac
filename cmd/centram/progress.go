package main

import (
	"fmt"
	"sync"
	"time"
)

// progress shows how far something is: on a terminal as a line that changes, elsewhere as a line for each ten per cent
// of what takes longer than a few seconds.
type progress struct {
	app   *app
	what  string
	began time.Time

	mu    sync.Mutex // guards what follows, and what
	shown time.Time
	tenth int
	dirty bool // a line stands on the terminal
}

func (a *app) newProgress(what string) *progress {
	return &progress{app: a, what: what, began: time.Now()}
}

// show may be called from any goroutine. What is done never falls.
func (p *progress) show(done float64) { p.showWith(done, "") }

// showWith shows a few words more.
func (p *progress) showWith(done float64, words string) {
	if words != "" {
		words = " " + words
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.app.quiet || now.Sub(p.began) < 300*time.Millisecond {
		return
	}
	if terminal(p.app.err) {
		if now.Sub(p.shown) < 60*time.Millisecond {
			return
		}
		fmt.Fprintf(p.app.err, "\r%s: %3.0f %%%s\x1b[K", p.what, 100*done, words)
		p.shown, p.dirty = now, true
		return
	}
	if tenth := int(10 * done); tenth > p.tenth && now.Sub(p.began) > 5*time.Second {
		fmt.Fprintf(p.app.err, "%s: %d %%%s\n", p.what, 10*tenth, words)
		p.tenth = tenth
	}
}

// about says what is being done now.
func (p *progress) about(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.what = what
}

// clear takes the line away.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dirty {
		fmt.Fprint(p.app.err, "\r\x1b[K")
	}
	p.dirty = false
}
