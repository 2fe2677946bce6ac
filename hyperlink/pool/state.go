package pool

import (
	"slices"
	"strings"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/hyperlink"
	"github.com/centram/centram/p2p/wire"
)

// Sharing is what this node gives to the chains of others now.
type Sharing struct {
	Memory, Taken     int64   // bytes that they may have together, and that they have
	ReadRate, MulRate float64 // of this machine, as in an offer; 0 until it was measured
}

// Sharing says what this node gives to the chains of others now.
func (p *Pool) Sharing() Sharing {
	share := p.cfg.Share()
	p.mu.Lock()
	defer p.mu.Unlock()
	return Sharing{share, p.taken, p.rates.read, p.rates.mul}
}

// Known is an offer of another node that holds.
type Known struct {
	ID    centram.PeerID
	Offer *wire.HLOffer
	Why   string // it is not made use of: a sentence for people. Empty if it is
}

// Known lists the offers that hold, in the order of the ids.
func (p *Pool) Known() []Known {
	now := time.Now().UnixMilli()
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []Known
	for id, o := range p.offers {
		if id != p.cfg.Node.ID() && o.Expires > now {
			list = append(list, Known{id, o, p.unused(id, o)})
		}
	}
	slices.SortFunc(list, func(a, b Known) int { return strings.Compare(a.ID.String(), b.ID.String()) })
	return list
}

// unused says why a node is not asked to compute, or nothing.
func (p *Pool) unused(id centram.PeerID, o *wire.HLOffer) string {
	peer := p.cfg.Node.Peer(id)
	switch {
	case p.cfg.Privacy == LocalOnly:
		return "This node asks no other to compute: the setting hyperlink is local."
	case peer == nil:
		return "It is not connected."
	case p.mute[id] == peer:
		return "It does not answer."
	case !slices.Contains(peer.Caps(), hyperlink.Ability):
		return "It computes for nobody now."
	case p.cfg.Privacy == TrustedPeers && peer.Trust() == wire.Stranger:
		return "It is not paired with this node."
	case o.OnBattery:
		return "It runs on battery."
	}
	return ""
}
