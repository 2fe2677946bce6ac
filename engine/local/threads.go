package local

import (
	"time"

	"github.com/centram/centram/llama"
)

// ggml's threads wait for each other after every operation, and spin while they do. One whose processor another program has
// makes all of them wait, for milliseconds, hundreds of times in a token: on two processors that others use as well, the 0.5B
// shape came at 0.5 to 10 tokens/s with two threads, and at 29 with one. So there are as many as others leave processors.
const (
	lookEvery = 250 * time.Millisecond
	lookBack  = 2 * time.Second // after which what others did says nothing of what they do
	// A thread is given up when others use more than so much of its processor, and comes back when they use less than so much.
	givenUp  = 0.6
	comeBack = 0.4
)

// usage is the time of processors that was spent since some moment.
type usage struct {
	processors int           // that this program may use
	busy       time.Duration // of those, by all programs
	own        time.Duration // by this program, on whatever processor
	waiting    int           // threads of any program that run or want to at this moment, but for the asking one
}

// threads is how many threads compute, in view of what other programs do.
type threads struct {
	most, now int
	last      usage
	at        time.Time // of last; zero before
}

// newThreads has at most so many. If somebody has said how many there are to be, it stays that way.
func newThreads(given, most int) *threads {
	if given > 0 {
		return nil
	}
	t := &threads{most: most, now: most}
	t.choose()
	return t
}

// set has a context compute the next batch with them. With nil it stays as it was made.
func (t *threads) set(c *llama.Context) {
	if t != nil {
		c.SetThreads(t.choose())
	}
}

// choose looks what other programs do, now and then, and says how many threads the next step has.
func (t *threads) choose() int {
	at := time.Now()
	if t.at.IsZero() || at.Sub(t.at) >= lookEvery {
		if u, err := used(); err == nil {
			t.take(u, at)
		}
	}
	return t.now
}

// take draws conclusions from what was used.
func (t *threads) take(u usage, at time.Time) {
	last, took := t.last, at.Sub(t.at)
	t.last, t.at = u, at
	// After a rest a moment has to do, if it is plain. After a long step it would be of our own threads, which still wait.
	rested := took > lookBack && u.own-last.own < took/2
	if rested || u.processors != last.processors {
		switch {
		case u.waiting == 0:
			t.now = t.most
		case u.waiting >= u.processors:
			t.now = 1
		}
		return
	}
	others := max(u.busy-last.busy-(u.own-last.own), 0)
	left := float64(u.processors) - float64(others)/float64(took)
	for t.now > 1 && left < float64(t.now)-givenUp {
		t.now--
	}
	for t.now < t.most && left > float64(t.now+1)-comeBack {
		t.now++
	}
}
