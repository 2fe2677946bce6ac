package p2p

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

const (
	pingEvery   = 5 * time.Second
	reportEvery = 30 * time.Second
	rttSamples  = 64
)

// Link is what is known of the way to a peer.
type Link struct {
	RTT      time.Duration    // median of the last pings; 0 before the first
	RTT99    time.Duration    // 99th percentile of these
	Best     uint64           // highest rate of bytes sent in a second, over the session
	Queue    uint16           // requests that wait at the peer
	Load     uint16           // of the peer's processors, in thousandths
	Reported *wire.LinkReport // what the peer measured of its way here; nil before the first
}

// link collects it.
type link struct {
	mu      sync.Mutex // guards all
	now     Link
	samples []time.Duration // a ring
	next    int
	waiting map[uint64]ping
}

type ping struct {
	at   time.Time
	back chan time.Duration
}

// Link is what is known of the way to the peer.
func (p *Peer) Link() Link {
	p.link.mu.Lock()
	defer p.link.mu.Unlock()
	l := p.link.now
	if s := slices.Sorted(slices.Values(p.link.samples)); len(s) > 0 {
		l.RTT, l.RTT99 = s[len(s)/2], s[len(s)*99/100]
	}
	return l
}

// Ping measures one round trip. It fails with centram.Unavailable if the connection ends, and with ctx's error.
func (p *Peer) Ping(ctx context.Context) (time.Duration, error) {
	nonce, back := rand.Uint64(), make(chan time.Duration, 1)
	p.link.mu.Lock()
	if p.link.waiting == nil {
		p.link.waiting = map[uint64]ping{}
	}
	p.link.waiting[nonce] = ping{time.Now(), back}
	p.link.mu.Unlock()
	defer func() {
		p.link.mu.Lock()
		delete(p.link.waiting, nonce)
		p.link.mu.Unlock()
	}()
	if err := p.Tell(ctx, &wire.Ping{Nonce: nonce}); err != nil {
		return 0, err
	}
	select {
	case rtt := <-back:
		return rtt, nil
	case <-p.Done():
		return 0, p.gone()
	case <-ctx.Done():
		return 0, centram.Errorf(centram.Unavailable, "no answer from %s: %w", p.id.Short(), context.Cause(ctx))
	}
}

func (l *link) pong(m *wire.Pong, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	asked, ok := l.waiting[m.Nonce]
	if !ok {
		return // too late, or made up
	}
	rtt := now.Sub(asked.at)
	if len(l.samples) < rttSamples {
		l.samples = append(l.samples, rtt)
	} else {
		l.samples[l.next] = rtt
		l.next = (l.next + 1) % rttSamples
	}
	l.now.Queue, l.now.Load = m.Queue, m.Load
	select {
	case asked.back <- rtt:
	default:
	}
}

func (l *link) report(m *wire.LinkReport) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now.Reported = m
}

// measure pings now and then, and tells the peer what it found.
func (p *Peer) measure(ctx context.Context) error {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	before, since := p.Traffic(), time.Now()
	for {
		asking, cancel := context.WithTimeout(ctx, idleTimeout)
		_, _ = p.Ping(asking) // a peer that is gone ends the connection, which ends this
		cancel()
		now, took := p.Traffic(), time.Since(since)
		if took >= reportEvery {
			p.report(ctx, before, now, took)
			before, since = now, time.Now()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (p *Peer) report(ctx context.Context, before, now Traffic, took time.Duration) {
	sent, received := now.Sent-before.Sent, now.Received-before.Received
	p.link.mu.Lock()
	p.link.now.Best = max(p.link.now.Best, uint64(float64(sent)/took.Seconds()))
	p.link.mu.Unlock()
	l := p.Link()
	_ = p.Tell(ctx, &wire.LinkReport{
		WindowMs: uint32(took.Milliseconds()), MedianUs: uint32(l.RTT.Microseconds()), P99Us: uint32(l.RTT99.Microseconds()),
		Sent: sent, Received: received, Best: l.Best,
	})
}
