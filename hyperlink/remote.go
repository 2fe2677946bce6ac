package hyperlink

import (
	"context"
	"sync"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/wire"
)

// remote is a stage on another machine.
type remote struct {
	stage uint16
	epoch uint32 // of the plan that it was given
	id    centram.PeerID
	// along says of a standby that it is given what the stage is given. Else it has nothing in its cache.
	along bool
	peer  *p2p.Peer
	x     *p2p.Exchange
	// release is for when x has ended.
	release context.CancelFunc
	ready   *wire.HLReady
	sets    wire.Hash // of the adapters that it has

	readies chan *wire.HLReady // further ones, of adapters
	gone    chan struct{}      // closed when nothing more comes from it

	mu   sync.Mutex // guards the following
	took recent
	seq  uint32 // of the last frame that it has computed

	closed *wire.HLClose // what it has done, by its own account
}

// done is the last frame that it has computed.
func (r *remote) done() uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seq
}

// lost says whether nothing more comes from it.
func (r *remote) lost() bool {
	select {
	case <-r.gone:
		return true
	default:
		return false
	}
}

func (r *remote) over() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed != nil
}

// takes reads a machine's answer to the plan.
func (r *remote) takes(m wire.Message, weights wire.Hash) error {
	switch m := m.(type) {
	case *wire.HLAccept:
	case *wire.HLReady:
		if m.Weights != weights {
			return centram.Errorf(centram.Unavailable, "it has loaded other weights")
		}
		r.ready = m
	default:
		return centram.Errorf(centram.Unavailable, "it answered the plan with %s", wire.RowFor(m).Name)
	}
	return nil
}
