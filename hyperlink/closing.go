package hyperlink

// How a chain ends: with a goodbye that every machine answers with its account, or all at once.

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

// Close ends the chain and frees what is here.
func (c *Chain) Close() error {
	c.sayGoodbye()
	c.end(centram.Errorf(centram.Unavailable, "the model was unloaded"))
	c.deaf()
	c.wg.Wait()
	var output error
	if c.cfg.Output != nil {
		output = c.cfg.Output.Close()
	}
	return errors.Join(c.cfg.Own.Close(), output, c.cfg.Table.Close(), c.cfg.Text.Close())
}

// sayGoodbye has every machine give its account, and does not wait long for it.
func (c *Chain) sayGoodbye() {
	if c.ctx.Err() != nil {
		return
	}
	c.closing.Store(true)
	c.mu.Lock()
	machines := slices.Clone(c.remote)
	c.mu.Unlock()
	patience := time.After(goodbyeFor)
	for _, r := range machines {
		if r != nil {
			_ = r.x.CloseSend()
		}
	}
	for _, r := range machines {
		if r == nil {
			continue
		}
		select {
		case <-r.gone:
		case <-patience:
			return
		}
	}
}

const goodbyeFor = 500 * time.Millisecond

// Accounts is what the machines say that they have done, of those that the chain has said goodbye to.
func (c *Chain) Accounts() []*wire.HLClose {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*wire.HLClose
	for _, r := range c.remote {
		if r == nil {
			continue
		}
		r.mu.Lock()
		if r.closed != nil {
			list = append(list, r.closed)
		}
		r.mu.Unlock()
	}
	return list
}

// end ends the chain, and what is under way with the reason.
func (c *Chain) end(why error) {
	c.cancel(why)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.flight {
		p.end(context.Cause(c.ctx))
	}
	c.flight = nil
	clear(c.frames)
}
