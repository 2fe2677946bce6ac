package local

import (
	"testing"
	"time"
)

func TestThereAreAsManyThreadsAsOthersLeaveProcessors(t *testing.T) {
	type second struct {
		others float64 // processors that other programs use
		own    float64
		want   int
	}
	for name, c := range map[string]struct {
		processors, most int
		seconds          []second
	}{
		"alone":                                {2, 2, []second{{0, 2, 2}, {0, 0, 2}, {0, 1, 2}}},
		"a browser draws":                      {2, 2, []second{{0.5, 1.5, 2}, {0.3, 1.7, 2}}},
		"two that want all":                    {2, 2, []second{{1, 1, 1}, {1, 1, 1}, {0.1, 1, 2}}},
		"others have all":                      {2, 2, []second{{2, 0, 1}, {1, 1, 1}, {0, 1, 2}}},
		"between giving up and coming back":    {2, 2, []second{{0.5, 1, 2}, {0.7, 1, 1}, {0.5, 1, 1}, {0.3, 1, 2}}},
		"one of many":                          {8, 8, []second{{1, 7, 7}, {3.2, 4, 5}, {0, 5, 8}}},
		"two threads of a core":                {8, 4, []second{{2, 4, 4}, {4, 4, 4}, {6, 2, 2}, {1, 2, 4}}},
		"own time that is counted a tick late": {2, 2, []second{{-0.02, 2, 2}}},
		"a single processor":                   {1, 1, []second{{1, 0, 1}}},
	} {
		u, at := usage{processors: c.processors, busy: time.Hour, own: time.Minute}, time.Now()
		th := &threads{most: c.most, now: c.most}
		th.take(u, at)
		if th.now != c.most {
			t.Errorf("%s: %d threads before anything is known, want %d", name, th.now, c.most)
		}
		for i, s := range c.seconds {
			u.busy += seconds(s.others + s.own)
			u.own += seconds(s.own)
			at = at.Add(time.Second)
			if th.take(u, at); th.now != s.want {
				t.Errorf("%s: %d threads after second %d, want %d", name, th.now, i, s.want)
			}
		}
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// What others did while the lid was closed, or a model rested for an hour, says nothing of what they do now.
func TestWhatOthersDidLongAgoSaysNothing(t *testing.T) {
	at := time.Now()
	th := &threads{most: 4, now: 4}
	th.take(usage{processors: 4}, at)
	th.take(usage{processors: 4, busy: 4 * time.Hour, waiting: 1}, at.Add(time.Hour))
	if th.now != 4 {
		t.Errorf("%d threads after an hour in which others were busy, want the 4 there were", th.now)
	}
	th.take(usage{processors: 4, busy: 4*time.Hour + 2*time.Second}, at.Add(time.Hour+time.Second))
	if th.now != 2 {
		t.Errorf("%d threads after a second in which others used 2 of 4 processors, want 2", th.now)
	}
	th.take(usage{processors: 2, busy: 5 * time.Hour, waiting: 1}, at.Add(time.Hour+2*time.Second))
	if th.now != 2 {
		t.Errorf("%d threads when processors were taken away, want no conclusion from the sums of others", th.now)
	}
}

// An answer that begins after a rest should not have to wait for others for the whole of its prompt.
func TestAfterARestAMomentDecides(t *testing.T) {
	at := time.Now()
	th := &threads{most: 4, now: 4}
	for i, c := range []struct{ waiting, want int }{{4, 1}, {3, 1}, {0, 4}, {3, 4}, {9, 1}} {
		th.take(usage{processors: 4, waiting: c.waiting}, at.Add(time.Duration(i)*time.Hour))
		if th.now != c.want {
			t.Errorf("rest %d: %d threads while %d of others run or want to, want %d", i, th.now, c.waiting, c.want)
		}
	}
}

func TestThreadsThatAreGivenStay(t *testing.T) {
	if th := newThreads(3, 3); th != nil {
		t.Errorf("got %+v, want that nobody changes what was said", th)
	}
}

// A step of a long prompt takes longer than a rest; just after it our own threads still wait for each other.
func TestALongStepIsNoRest(t *testing.T) {
	at := time.Now()
	th := &threads{most: 2, now: 2}
	u := usage{processors: 2, busy: time.Hour, own: time.Minute}
	th.take(u, at)
	u.busy, u.own, u.waiting = u.busy+seconds(12), u.own+seconds(12), 2
	if th.take(u, at.Add(6*time.Second)); th.now != 2 {
		t.Errorf("%d threads after a step of six seconds in which nobody else did anything, want 2", th.now)
	}
	u.busy, u.own = u.busy+seconds(12), u.own+seconds(6)
	if th.take(u, at.Add(12*time.Second)); th.now != 1 {
		t.Errorf("%d threads after a step of six seconds in which others used one of 2 processors, want 1", th.now)
	}
}
