package p2p

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/centram/centram"
)

// Static is an address that the owner typed.
type Static struct {
	Host string         // HOST:PORT
	Peer centram.PeerID // that answered there last; zero if nobody has
}

// Statics returns the addresses that the owner typed.
func (b *Book) Statics() []Static {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]Static, 0, len(b.statics))
	for _, s := range b.statics {
		list = append(list, Static{s.host, s.id})
	}
	slices.SortFunc(list, func(x, y Static) int { return cmp.Compare(x.Host, y.Host) })
	return list
}

// RemoveStatic forgets an address that the owner typed. It fails with centram.NotFound.
func (b *Book) RemoveStatic(ctx context.Context, host string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.statics[host] == nil {
		return centram.Errorf(centram.NotFound, "%s is not an address that is dialled", host).WithHint("See which there are with: centram peer list")
	}
	if b.db != nil {
		if _, err := b.db.ExecContext(ctx, `DELETE FROM static_peers WHERE address = ?`, host); err != nil {
			return fmt.Errorf("forget an address: %w", err)
		}
	}
	delete(b.statics, host)
	return nil
}

// DialSoon dials a peer of the book that is not connected without waiting until its turn comes.
func (n *Node) DialSoon(id centram.PeerID) {
	n.book.mu.Lock()
	if c := n.book.peers[id]; c != nil && !c.retry.busy {
		c.retry = retry{}
	}
	n.book.mu.Unlock()
	n.wake()
}
