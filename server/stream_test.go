package server

import (
	"testing"
	"time"
)

func TestASlowListenerIsDropped(t *testing.T) {
	e := NewEvents()
	slow, other := e.listen(), e.listen()
	for i := range 300 {
		e.publish("x", i)
		<-other
	}
	got := 0
	for range slow {
		got++
	}
	if got != cap(slow) {
		t.Errorf("got %d events, want %d and then the end", got, cap(slow))
	}
	e.unlisten(slow)
	e.close()
	if _, ok := <-other; ok {
		t.Error("the other one is still open")
	}
}

func TestASilentStreamPings(t *testing.T) {
	n := start(t, func(c *Config) { c.PingEvery = 10 * time.Millisecond })
	goOn := make(chan struct{})
	n.engine.says(goOn, "x")
	path, _ := n.ask(n.newChat().ID, "", "q")
	for _, stream := range []string{path + "/stream", "/api/v1/events"} {
		v := n.view(stream)
		if stream != "/api/v1/events" {
			v.next() // that the answer is waited for, after which nothing happens
		}
		pings := 0
		for pings < 3 && v.lines.Scan() {
			if v.lines.Text() == ": ping" {
				pings++
			} else if pings > 0 {
				t.Fatalf("%s: got %q after a ping, want the next ping: it has one line end only", stream, v.lines.Text())
			}
		}
	}
	goOn <- struct{}{}
}
