package download

import (
	"context"
	"errors"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/centram/centram"
	"github.com/centram/centram/models/hub"
)

const (
	atOnce = 2 // connections that are made at once
	later  = time.Second
)

// connect has some connections get what is missing. More than a few are for what takes a while: on a fast network they are in
// each other's way.
func (t *fetch) connect(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	t.working, t.allTaken = t.cfg.Connections, make(chan struct{})
	for i := range t.working {
		g.Go(func() error {
			if i >= atOnce {
				select {
				case <-time.After(later):
				case <-t.allTaken:
				case <-ctx.Done():
				}
			}
			return t.work(ctx)
		})
	}
	return g.Wait()
}

// work gets one part after the other.
func (t *fetch) work(ctx context.Context) error {
	for {
		s, ok := t.take()
		if !ok {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.working--
			select {
			case <-t.allTaken:
			default:
				close(t.allTaken)
			}
			return nil
		}
		n, err := t.get(ctx, s)
		if s.from += n; s.from < s.to {
			t.giveBack(s)
		}
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err == nil {
			continue
		}
		if again, err := t.again(ctx, err, n > 0); !again {
			return err
		}
	}
}

// take returns the next part that nobody gets. Parts are taken in order, so that hashing can follow.
func (t *fetch) take() (span, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.taken.gap(t.file.Size)
	if !ok {
		return span{}, false
	}
	each := (t.file.Size - t.taken.total()) / int64(t.cfg.Connections)
	s.to = min(s.to, s.from+min(max(each, 1<<20), reach))
	t.taken = t.taken.add(s)
	return s, true
}

// giveBack lets others get a part.
func (t *fetch) giveBack(s span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var rest spans
	for _, a := range t.taken {
		rest = rest.add(span{a.from, min(a.to, s.from)})
		rest = rest.add(span{max(a.from, s.to), a.to})
	}
	t.taken = rest
}

// again says whether to go on after an error, and waits before it.
func (t *fetch) again(ctx context.Context, err error, progress bool) (bool, error) {
	switch code := centram.CodeOf(err); {
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case errors.Is(err, hub.ErrWhole), code != centram.Unavailable && code != centram.Internal:
		return false, err
	}
	if _, mine := errors.AsType[*diskError](err); mine {
		return false, err
	}
	busy, asked := errors.AsType[hub.Busy](err)
	t.mu.Lock()
	if progress {
		t.failures = 0
	} else {
		t.failures++
	}
	n := t.failures
	if asked && t.working > 1 { // fewer connections may be welcome
		t.working--
		t.mu.Unlock()
		return false, nil
	}
	t.mu.Unlock()
	if n >= t.cfg.Tries {
		return false, giveUp(err)
	}
	wait := max(t.cfg.Wait*time.Duration(n*n), busy.For)
	select {
	case <-time.After(wait):
		return true, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// giveUp says what a person can do after the last try.
func giveUp(err error) error {
	if _, ok := errors.AsType[*centram.Error](err); ok {
		return err
	}
	return centram.Errorf(centram.Unavailable, "The connection broke again and again: %w.", err).
		WithHint("What came stays. Download it again when the network is better, and it goes on where it stopped.")
}

// errStalled says that nothing came for a long time.
var errStalled = errors.New("nothing came for a while")

// diskError is an error of this machine's disk, which another try would not change.
type diskError struct{ error }

func (e *diskError) Unwrap() error { return e.error }

// get gets a part, and says how many bytes of its beginning have been written.
func (t *fetch) get(ctx context.Context, s span) (written int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(t.cfg.Stall, func() { cancel(errStalled) })
	defer watchdog.Stop()
	body, err := t.src.Open(ctx, s.from, s.to)
	if err != nil {
		return 0, whyEnded(ctx, err)
	}
	defer body.Close()
	for at := s.from; at < s.to; {
		buf := t.recent.buffer()
		n, err := t.fill(ctx, body, buf[:min(grain, s.to-at)], watchdog)
		if n > 0 {
			fresh, err := t.partial.write(buf[:n], at)
			if err != nil {
				return at - s.from, &diskError{err}
			}
			if fresh { // else other bytes may be on the disk
				t.recent.put(at, buf[:n])
			}
			at += int64(n)
			t.tell(int64(n))
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return at - s.from, whyEnded(ctx, err)
		}
	}
	return s.len(), nil
}

// whyEnded is why a context was cancelled, if it was, else the error that showed.
func whyEnded(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// fill reads until the buffer is full, or some time has passed, so that little is lost whenever this ends.
func (t *fetch) fill(ctx context.Context, r io.Reader, buf []byte, watchdog *time.Timer) (n int, err error) {
	began := time.Now()
	for n < len(buf) && err == nil && time.Since(began) < flushIn {
		var m int
		m, err = r.Read(buf[n:])
		n += m
		watchdog.Reset(t.cfg.Stall)
		if m > 0 && t.cfg.Limit != nil {
			if err := waitFor(ctx, t.cfg.Limit, m); err != nil {
				return n, err
			}
			watchdog.Reset(t.cfg.Stall)
		}
	}
	if n == len(buf) {
		err = nil // what comes behind it is of no interest
	}
	return n, err
}

// waitFor waits until so many bytes may have come.
func waitFor(ctx context.Context, l *rate.Limiter, n int) error {
	for n > 0 {
		now := min(n, l.Burst())
		if err := l.WaitN(ctx, now); err != nil {
			return err
		}
		n -= now
	}
	return nil
}

// fromTheStart gets the whole file in one answer, as often as it takes, from a server that cannot do otherwise.
func (t *fetch) fromTheStart(ctx context.Context) error {
	t.mu.Lock()
	t.whole, t.failures, t.working = true, 0, 1
	t.mu.Unlock()
	for furthest := int64(0); ; {
		n, err := t.get(ctx, span{0, t.file.Size})
		if err == nil {
			return nil
		}
		further := n > furthest
		furthest = max(furthest, n)
		if again, err := t.again(ctx, err, further); !again {
			return err
		}
	}
}
