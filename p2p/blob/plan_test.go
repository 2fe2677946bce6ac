package blob

import (
	"slices"
	"testing"
	"time"

	"github.com/centram/centram/p2p/wire"
	"pgregory.net/rapid"
)

// failer is a test, of rapid or not.
type failer interface{ Fatalf(string, ...any) }

const testStall = 10 * time.Second

// world is a plan with what the real world knows of it.
type world struct {
	*plan
	now   time.Time
	n     int
	got   []int // of each chunk: how many times it came
	extra int   // chunks that came after they were done
	lost  int   // asks that were given up
}

func newWorld(n int, have set) *world {
	return &world{plan: newPlan(n, 0, have, testStall), now: time.Unix(1e9, 0), n: n, got: make([]int, n)}
}

// ask has s asked for all that the plan wants.
func (w *world) ask(t failer, s *peer) {
	for {
		c, ok := w.next(w.now, s)
		if !ok {
			return
		}
		if w.done.has(c) {
			t.Fatalf("chunk %d, which is there, was asked for", c)
		}
		if !s.complete && !s.has.has(c) || s.lacks[c] {
			t.Fatalf("chunk %d was asked of a source that does not have it", c)
		}
	}
}

func (w *world) bring(s *peer, c uint32) {
	if w.came(w.now, s, c) {
		w.got[c]++
	} else {
		w.extra++
	}
}

// check compares what the plan keeps count of with the count.
func (w *world) check(t failer) {
	free, left := 0, 0
	for i := range w.n {
		c := uint32(i)
		asks := 0
		for _, s := range w.peers {
			if j := s.find(c); j >= 0 && !s.asked[j].lost {
				asks++
			}
		}
		if asks > 2 || asks != int(w.asks[i]) {
			t.Fatalf("chunk %d is expected from %d sources, counted as %d", i, asks, w.asks[i])
		}
		if w.done.has(c) {
			continue
		}
		left++
		if asks == 0 {
			if free++; i < w.first {
				t.Fatalf("chunk %d is free and before the first free one, %d", i, w.first)
			}
		}
	}
	if free != w.free || left != w.left {
		t.Fatalf("%d chunks are free and %d left, counted as %d and %d", free, left, w.free, w.left)
	}
	for i, s := range w.peers {
		if len(s.asked) > wire.Window {
			t.Fatalf("source %d was asked for %d chunks at once", i, len(s.asked))
		}
		for j, a := range s.asked {
			if s.find(a.index) != j {
				t.Fatalf("source %d was asked for chunk %d twice", i, a.index)
			}
		}
	}
}

func drawSet(t *rapid.T, n int, name string) set {
	s := newSet(n)
	for i := range n {
		if rapid.Bool().Draw(t, name) {
			s.add(uint32(i))
		}
	}
	return s
}

func drawHave(t *rapid.T, n int) wire.HaveMap {
	if rapid.Bool().Draw(t, "complete") {
		return wire.HaveMap{Complete: true}
	}
	return wire.HaveMap{Bits: drawSet(t, n, "has")}
}

func TestHonestSourcesBringEveryChunkOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 80).Draw(t, "chunks")
		have := drawSet(t, n, "have")
		w := newWorld(n, have)
		reachable := slices.Clone(have)
		for range rapid.IntRange(1, 5).Draw(t, "sources") {
			h := drawHave(t, n)
			for i := range uint32(n) {
				if h.Complete || set(h.Bits).has(i) {
					reachable.add(i)
				}
			}
			w.join(h)
		}
		// Were they slower than half of what a new source is credited with, one without work would be tried.
		pace := time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms per chunk")) * time.Millisecond
		for !w.stuck() && w.left > 0 {
			for _, s := range w.peers {
				w.ask(t, s)
			}
			w.check(t)
			w.now = w.now.Add(pace)
			for _, s := range w.peers {
				if len(s.asked) > 0 {
					w.bring(s, s.asked[0].index)
				}
			}
			if silent := w.silence(w.now); len(silent) > 0 {
				t.Fatal("an honest source was given up")
			}
		}
		if w.extra > 0 || w.done.count() != reachable.count() {
			t.Fatalf("%d chunks came twice and %d are there, want none and %d", w.extra, w.done.count(), reachable.count())
		}
	})
}

func TestBadSourcesCostABoundedNumberOfChunks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 100).Draw(t, "chunks")
		w := newWorld(n, drawSet(t, n, "have"))
		steps := rapid.IntRange(0, 300).Draw(t, "steps")
		for range steps {
			switch rapid.IntRange(0, 9).Draw(t, "event") {
			case 0:
				if len(w.peers) < 8 {
					w.join(drawHave(t, n))
				}
			case 1:
				if len(w.peers) > 0 {
					w.leave(rapid.SampledFrom(w.peers).Draw(t, "leaves"))
				}
			case 2:
				if len(w.peers) > 0 {
					w.update(rapid.SampledFrom(w.peers).Draw(t, "updates"), drawHave(t, n))
				}
			case 3:
				w.now = w.now.Add(time.Duration(rapid.IntRange(0, 70000).Draw(t, "ms")) * time.Millisecond)
				for _, s := range w.peers {
					for _, a := range s.asked {
						if !a.lost && w.now.Sub(s.heard) >= testStall {
							w.lost++
						}
					}
				}
				for _, s := range w.silence(w.now) {
					w.leave(s)
				}
			default:
				if len(w.peers) == 0 {
					continue
				}
				s := rapid.SampledFrom(w.peers).Draw(t, "source")
				w.now = w.now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * time.Millisecond)
				if len(s.asked) > 0 {
					a := rapid.SampledFrom(s.asked).Draw(t, "answered")
					if rapid.IntRange(0, 3).Draw(t, "refuses") == 0 {
						code := wire.RejectCode(rapid.IntRange(0, 5).Draw(t, "code"))
						w.refused(w.now, s, a.index, code, time.Duration(rapid.IntRange(0, 5000).Draw(t, "retry"))*time.Millisecond)
					} else {
						w.bring(s, a.index)
					}
				}
				w.ask(t, s)
			}
			w.check(t)
		}
		good := w.join(wire.HaveMap{Complete: true})
		for w.left > 0 {
			w.ask(t, good)
			for len(good.asked) > 0 {
				w.bring(good, good.asked[0].index)
			}
			w.now = w.now.Add(testStall)
			for _, s := range w.peers {
				for _, a := range s.asked {
					if !a.lost {
						w.lost++
					}
				}
			}
			w.silence(w.now)
			w.check(t)
		}
		if w.extra > maxSpare+w.lost {
			t.Fatalf("%d chunks came in vain, want at most %d and %d that were given up", w.extra, maxSpare, w.lost)
		}
	})
}

// order is what s is asked for, one by one.
func (w *world) order(t failer, s *peer) []uint32 {
	list := []uint32{}
	for {
		c, ok := w.next(w.now, s)
		if !ok {
			return list
		}
		list = append(list, c)
		w.bring(s, c)
		w.check(t)
	}
}

func bitsOf(chunks ...uint32) wire.HaveMap {
	s := newSet(64)
	for _, c := range chunks {
		s.add(c)
	}
	return wire.HaveMap{Bits: s}
}

func TestTheRarestChunkIsAskedForFirst(t *testing.T) {
	w := newWorld(6, newSet(6))
	s := w.join(wire.HaveMap{Complete: true})
	w.join(bitsOf(0, 1, 3, 4))
	w.join(bitsOf(0, 1, 4, 5))
	if got, want := w.order(t, s), []uint32{2, 3, 5, 0, 1, 4}; !slices.Equal(got, want) {
		t.Errorf("asked for %v, want %v", got, want)
	}
}

func TestEquallyRareChunksAreAskedForInOrder(t *testing.T) {
	have := newSet(8)
	have.add(2)
	w := newWorld(8, have)
	w.join(wire.HaveMap{Complete: true})
	if got, want := w.order(t, w.join(wire.HaveMap{Complete: true})), []uint32{0, 1, 3, 4, 5, 6, 7}; !slices.Equal(got, want) {
		t.Errorf("asked for %v, want %v", got, want)
	}
}

func TestTheWindowGrowsWithTheSpeed(t *testing.T) {
	for pace, want := range map[time.Duration]int{
		0: wire.Window, time.Millisecond: wire.Window, 100 * time.Millisecond: 11, 400 * time.Millisecond: 3, time.Minute: 1,
	} {
		w := newWorld(500, newSet(500))
		s := w.join(wire.HaveMap{Complete: true})
		w.ask(t, s)
		if got := len(s.asked); got != 2 {
			t.Fatalf("a new source is asked for %d chunks, want 2", got)
		}
		for range 30 {
			w.now = w.now.Add(pace)
			w.bring(s, s.asked[0].index)
			w.ask(t, s)
		}
		if got := len(s.asked); got != want {
			t.Errorf("a source that needs %v for a chunk is asked for %d at once, want %d", pace, got, want)
		}
	}
}

func TestTheEndIsNotHeldUpByASlowSource(t *testing.T) {
	w := newWorld(40, newSet(40))
	slow, fast := w.join(wire.HaveMap{Complete: true}), w.join(wire.HaveMap{Complete: true})
	w.ask(t, slow)
	begun := w.now
	for w.left > 0 {
		w.ask(t, fast)
		w.now = w.now.Add(10 * time.Millisecond)
		if len(fast.asked) > 0 {
			w.bring(fast, fast.asked[0].index)
		}
		w.check(t)
	}
	if took := w.now.Sub(begun); took > time.Second || len(slow.asked) != 2 {
		t.Errorf("it took %v although one source was fast", took)
	}
}

func TestWhatIsAskedForTwiceAtTheEndIsBounded(t *testing.T) {
	const n = 3 * maxSpare
	w := newWorld(n, newSet(n))
	for range n / 2 {
		w.ask(t, w.join(wire.HaveMap{Complete: true}))
	}
	fast := w.join(wire.HaveMap{Complete: true})
	fast.pace = 10 * time.Millisecond
	for range 200 {
		w.ask(t, fast)
		w.now = w.now.Add(10 * time.Millisecond)
		if len(fast.asked) > 0 {
			w.bring(fast, fast.asked[0].index)
		}
		w.check(t)
	}
	if got := w.done.count(); got != maxSpare {
		t.Errorf("%d chunks that slow sources had were asked for again, want %d", got, maxSpare)
	}
}

func TestNothingIsAskedForTwiceBeforeTheEnd(t *testing.T) {
	w := newWorld(20, newSet(20))
	w.ask(t, w.join(wire.HaveMap{Complete: true}))
	fast := w.join(bitsOf(0, 1))
	fast.pace = time.Millisecond
	w.now = w.now.Add(5 * time.Second)
	if c, ok := w.next(w.now, fast); ok {
		t.Errorf("chunk %d is asked for again while %d are free", c, w.free)
	}
}

func TestARefusalIsHonoured(t *testing.T) {
	w := newWorld(1, newSet(1))
	s := w.join(wire.HaveMap{Complete: true})
	again := func(want bool) {
		t.Helper()
		if _, got := w.next(w.now, s); got != want {
			t.Fatalf("asked: %v, want %v", got, want)
		}
	}
	again(true)
	w.refused(w.now, s, 0, wire.RejectBusy, 3*time.Second)
	if w.stuck() {
		t.Error("a busy source does not count")
	}
	w.now = w.now.Add(2999 * time.Millisecond)
	again(false)
	w.now = w.now.Add(time.Millisecond)
	again(true)
	w.refused(w.now, s, 0, wire.RejectChoked, 0)
	again(false)
	w.now = w.now.Add(defaultRetry)
	again(true)
	w.refused(w.now, s, 0, wire.RejectChoked, 24*time.Hour)
	w.now = w.now.Add(maxRetry)
	again(true)
	w.refused(w.now, s, 0, wire.RejectMissing, time.Second)
	w.now = w.now.Add(time.Hour)
	again(false)
	if !w.stuck() {
		t.Error("a source without the chunk counts")
	}
	other := w.join(wire.HaveMap{Complete: true})
	if _, ok := w.next(w.now, other); !ok {
		t.Error("the chunk is not asked for elsewhere")
	}
}

func TestASilentSourceLosesItsChunks(t *testing.T) {
	w := newWorld(50, newSet(50))
	s := w.join(wire.HaveMap{Complete: true})
	c, _ := w.next(w.now, s)
	w.bring(s, c)
	c, _ = w.next(w.now, s)
	w.now = w.now.Add(testStall)
	w.silence(w.now)
	w.check(t)
	if _, ok := w.next(w.now, s); ok {
		t.Error("a silent source is asked for more")
	}
	if got := w.order(t, w.join(wire.HaveMap{Complete: true})); len(got) != 49 || got[0] != c {
		t.Errorf("asked another source for %v, want all, and the lost chunk first", got)
	}
	w.now = w.now.Add((patience - 1) * testStall)
	if got := w.silence(w.now); !slices.Equal(got, []*peer{s}) {
		t.Errorf("%d sources are given up, want the silent one", len(got))
	}
}

func TestAChunkThatMayStillComeIsNotAskedOfTheSameSourceAgain(t *testing.T) {
	w := newWorld(3, newSet(3))
	s := w.join(wire.HaveMap{Complete: true})
	w.ask(t, s)
	w.now = w.now.Add(testStall)
	w.silence(w.now)
	w.bring(s, 1)
	w.ask(t, s)
	w.check(t)
}
