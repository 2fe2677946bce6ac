package p2p_test

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/p2ptest"
	"github.com/centram/centram/p2p/wire"
)

func TestASessionHasNoLastRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: time.Millisecond})
		a := net.Node(1, p2p.Config{}, func(n *p2p.Node) {
			p2p.Answer(n.Mux(), func(_ context.Context, _ *p2p.Peer, q *wire.LedgerRecon) (*wire.LedgerRecon, error) { return q, nil })
		})
		b := net.Node(2, p2p.Config{Peers: static(1)}, nil)
		p := connected(t, b, a)
		for i := range 300 { // more than there may be streams at the same time
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := p2p.Ask[wire.LedgerRecon](ctx, p, &wire.LedgerRecon{Session: 1}); err != nil {
				t.Fatalf("request %d: %v", i, err)
			}
			cancel()
		}
	})
}

func TestNobodyIsBlamedForWhatAThirdNodeAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: time.Millisecond})
		third := centram.PeerID(p2ptest.Key(3).Public().(ed25519.PublicKey))
		var a *p2ptest.Node
		a = net.Node(1, p2p.Config{}, func(n *p2p.Node) {
			p2p.Answer(n.Mux(), func(ctx context.Context, _ *p2p.Peer, q *wire.LedgerRecon) (*wire.LedgerRecon, error) {
				return p2p.Ask[wire.LedgerRecon](ctx, a.Peer(third), q)
			})
		})
		b := net.Node(2, p2p.Config{Peers: static(1)}, nil)
		p := connected(t, b, a)
		r := net.Raw(3, 1)
		if err := r.Hello(); err != nil {
			t.Fatal(err)
		}
		p2ptest.Eventually(t, time.Second, "the third node is in", func() bool { return a.Peer(third) != nil })
		go func() {
			s, err := r.Conn.AcceptStream(t.Context())
			if err != nil {
				return
			}
			q, err := wire.Read(s)
			if err != nil {
				return
			}
			_, _ = s.Write(r.Frame(&wire.EntryBatch{Entries: []wire.SignedEntry{}}, q.Request).Append(nil))
		}()
		_, err := p2p.Ask[wire.LedgerRecon](t.Context(), p, &wire.LedgerRecon{Session: 1})
		if centram.CodeOf(err) != centram.Unavailable {
			t.Errorf("got %v, want unavailable", err)
		}
		time.Sleep(3 * time.Second)
		if b.Peer(a.ID()) != p {
			t.Error("the node that asked lost its session for what the third one answered")
		}
		if a.Peer(third) != nil {
			t.Error("the third node has kept its session")
		}
	})
}

func TestNodesOfAnotherNetworkAreNotBlamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: time.Millisecond})
		log := slog.New(strict{t, slog.DiscardHandler})
		net.Node(1, p2p.Config{Network: "home", Log: log}, nil)
		b := net.Node(2, p2p.Config{Network: "office", Peers: static(1), Log: log}, nil)
		time.Sleep(20 * time.Second)
		b.Stop()
		b = net.Node(2, p2p.Config{Network: "home", Peers: static(1), Log: log}, nil)
		p2ptest.Eventually(t, 5*time.Second, "the node is let in, now that it is of the same network", func() bool { return len(b.Peers()) == 1 })
	})
}
