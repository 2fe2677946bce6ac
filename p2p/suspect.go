package p2p

import (
	"context"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

const (
	suspicionLife = time.Minute
	maxSuspicions = 1024
)

// suspicions are the last words of nodes about others. When a connection is lost without a goodbye, all peers are told;
// those who are connected to the suspect ask it, and the suspect itself says that it is alive, if it is (SWIM, Das et al.
// 2002). So a node that is gone is gone for all in the time of one timeout, and a bad cable convicts nobody.
type suspicions struct {
	seq         uint64                    // of this node's last word
	incarnation uint64                    // under which this node has last said that it is alive
	heard       map[centram.PeerID]uint64 // by author: the last seq
}

// suspect tells all peers that the connection to one was lost.
func (n *Node) suspect(ctx context.Context, id centram.PeerID) {
	n.sayOf(ctx, id, 0, wire.Suspect)
}

// sayOf signs a word about a node and sends it to all peers.
func (n *Node) sayOf(ctx context.Context, id centram.PeerID, incarnation uint64, state wire.Presence) {
	now := time.Now()
	n.mu.Lock()
	n.suspicions.seq = max(n.suspicions.seq+1, uint64(now.UnixMilli())) // goes on over restarts
	seq := n.suspicions.seq
	n.mu.Unlock()
	f, err := wire.Seal(&wire.PeerSuspect{
		Subject: id, Incarnation: incarnation, State: state, Seq: seq, Expires: now.Add(suspicionLife).UnixMilli(),
	}, n.key, wire.Scope{Network: n.network}, 0, 0)
	if err != nil {
		n.log.WarnContext(ctx, "Suspicion not sent", "err", err)
		return
	}
	n.pass(ctx, wire.RecordOf(f), n.id)
}

// pass sends a record to all peers but its author and from.
func (n *Node) pass(ctx context.Context, r wire.Record, from centram.PeerID) {
	for _, p := range n.Peers() {
		if p.id != from {
			_ = p.Pass(ctx, r) // one that has left needs no news
		}
	}
}

// suspected takes a word about a node, passes it on once, and acts on it.
func (n *Node) suspected(ctx context.Context, p *Peer, m *wire.PeerSuspect) error {
	author := Author(ctx)
	now := time.Now()
	expires := time.UnixMilli(m.Expires)
	if author == n.id || expires.Before(now) || expires.After(now.Add(suspicionLife+clockSlack)) {
		return nil
	}
	n.mu.Lock()
	if m.Seq <= n.suspicions.heard[author] {
		n.mu.Unlock()
		return nil // it has come another way
	}
	if len(n.suspicions.heard) >= maxSuspicions {
		clear(n.suspicions.heard)
	}
	n.suspicions.heard[author] = m.Seq
	mine := m.Subject == n.id && m.State != wire.Alive
	if mine {
		n.suspicions.incarnation = max(n.suspicions.incarnation, m.Incarnation) + 1
	}
	incarnation := n.suspicions.incarnation
	subject := n.peers[m.Subject]
	n.mu.Unlock()

	n.pass(ctx, Received(ctx), p.id)
	switch {
	case mine:
		n.sayOf(ctx, n.id, incarnation, wire.Alive)
	case m.State == wire.Alive && m.Subject == author && subject == nil:
		n.book.nearby(m.Subject, n.id) // it is only this node that has lost it
		n.wake()
	case m.State != wire.Alive && subject != nil:
		n.tasks.Go(func() { n.alive(ctx, subject) })
	}
	return nil
}
