package hyperlink

import (
	"cmp"
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/wire"
)

// outlet writes frames to the next machine. Few bytes are written at once, since a token waits for them; many are written
// by a goroutine of their own while the next batch is computed.
type outlet struct {
	x     *p2p.Exchange
	queue chan []wire.Message
	stop  func()      // ends the stream; nil if that is another's
	main  atomic.Bool // the chain needs it: false for who computes along

	writing gate // held by who writes to the stream

	mu      sync.Mutex // guards the following
	waiting int        // batches in the queue or being written
	err     error      // of the last write; nothing is written after it
}

// newOutlet runs the writer, which wg counts, until ctx ends.
func newOutlet(ctx context.Context, x *p2p.Exchange, wg *sync.WaitGroup) *outlet {
	o := &outlet{x: x, queue: make(chan []wire.Message, queued), writing: newGate()}
	wg.Go(func() {
		for {
			select {
			case ms := <-o.queue:
				o.settle(o.write(ctx, ms))
			case <-ctx.Done():
				return
			}
		}
	})
	return o
}

const queued = 16 // batches that wait to be written

// offer has the frames written unless too many wait already, or the stream has ended. Their rows may be used again.
func (o *outlet) offer(ms []wire.Message) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return false
	}
	select {
	case o.queue <- clone(ms):
		o.waiting++
		return true
	default:
		return false
	}
}

// write writes frames in one piece. What is signed is alone in its batch.
func (o *outlet) write(ctx context.Context, ms []wire.Message) error {
	o.writing.Lock()
	defer o.writing.Unlock()
	if wire.RowFor(ms[0]).Signature != wire.ByNobody {
		return o.x.SendMore(ctx, ms[0])
	}
	return o.x.SendTogether(ctx, ms...)
}

// errEnded is why nothing is written to a stream whose other end has closed it.
var errEnded = centram.Errorf(centram.Unavailable, "the machine has ended the stream")

// fail has nothing written any more.
func (o *outlet) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = cmp.Or(o.err, err)
}

func (o *outlet) settle(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting--
	if err != nil && o.err == nil {
		o.err = err
	}
}

// send writes the frames, or has them written. Their rows may be used again when it returns.
func (o *outlet) send(ctx context.Context, ms []wire.Message) error {
	size := 0
	for _, m := range ms {
		size += rowBytes(m)
	}
	o.mu.Lock()
	err, idle := o.err, o.waiting == 0
	if !idle || size > inline {
		o.waiting++
	}
	o.mu.Unlock()
	if err != nil {
		return err
	}
	if idle && size <= inline {
		err := o.write(ctx, ms)
		runtime.Gosched() // QUIC sends from a goroutine of its own, which now need not wait until this one does
		return err
	}
	select {
	case o.queue <- clone(ms):
		return nil
	case <-ctx.Done():
		o.settle(nil)
		return context.Cause(ctx)
	}
}

func rowBytes(m wire.Message) int {
	switch m := m.(type) {
	case *wire.ActFwd:
		return len(m.Rows)
	case *wire.ActRet:
		return len(m.Rows)
	}
	return 0
}

// clone copies the frames with their rows.
func clone(ms []wire.Message) []wire.Message {
	out := make([]wire.Message, len(ms))
	for i, m := range ms {
		switch m := m.(type) {
		case *wire.ActFwd:
			c := *m
			c.Rows = append([]byte(nil), m.Rows...)
			out[i] = &c
		case *wire.ActRet:
			c := *m
			c.Rows = append([]byte(nil), m.Rows...)
			out[i] = &c
		default:
			out[i] = m
		}
	}
	return out
}
