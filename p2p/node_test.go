package p2p_test

import (
	"context"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/p2ptest"
	"github.com/centram/centram/p2p/wire"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if !slices.ContainsFunc(os.Args, func(a string) bool { return strings.HasPrefix(a, "-test.fuzz") }) {
		_ = flag.Set("test.parallel", "32") // unless go test was told another number: those that run in parallel mostly wait
	}
	goleak.VerifyTestMain(m)
}

func static(i int) []string { return []string{p2ptest.Addr(i).String()} }

// connected waits until a has a session with b.
func connected(t *testing.T, a, b *p2ptest.Node) *p2p.Peer {
	t.Helper()
	p2ptest.Eventually(t, 15*time.Second, "a session", func() bool { return a.Peer(b.ID()) != nil })
	return a.Peer(b.ID())
}

func TestTwoNodesMeetAndAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: 5 * time.Millisecond})
		a := net.Node(1, p2p.Config{Name: "Ana's laptop", Version: "1.2"}, func(n *p2p.Node) {
			p2p.Answer(n.Mux(), func(_ context.Context, p *p2p.Peer, q *wire.PeerQuery) (*wire.PeerList, error) {
				if q.Most == 1 {
					return nil, centram.Errorf(centram.NotFound, "nobody can do this").WithHint("Ask later.")
				}
				return &wire.PeerList{Peers: []wire.Record{}}, nil
			})
		})
		b := net.Node(2, p2p.Config{Peers: static(1)}, nil)
		p := connected(t, b, a)
		if p.Name() != "Ana's laptop" || p.Version() != "1.2" {
			t.Errorf("got %q %q, want the name and version of a", p.Name(), p.Version())
		}
		if rtt, err := p.Ping(t.Context()); err != nil || rtt < 10*time.Millisecond || rtt > 20*time.Millisecond {
			t.Errorf("ping: %v %v, want 10 ms and a little", rtt, err)
		}
		list, err := p2p.Ask[wire.PeerList](t.Context(), p, &wire.PeerQuery{Caps: []string{}, Most: 5, Known: []centram.PeerID{}})
		if err != nil || len(list.Peers) != 0 {
			t.Errorf("got %v %v, want an empty list", list, err)
		}
		_, err = p2p.Ask[wire.PeerList](t.Context(), p, &wire.PeerQuery{Caps: []string{}, Most: 1, Known: []centram.PeerID{}})
		if centram.CodeOf(err) != centram.NotFound || centram.HintOf(err) != "Ask later." {
			t.Errorf("got %v (%s), want the peer's own not found and hint", err, centram.HintOf(err))
		}
		_, err = p2p.Ask[wire.NodeStatus](t.Context(), p, &wire.NodeStatusGet{})
		if centram.CodeOf(err) != centram.Forbidden {
			t.Errorf("got %v, want forbidden: the nodes are not paired", err)
		}
		_, err = p2p.Ask[wire.Quote](t.Context(), p, &wire.QuoteReq{})
		if err == nil {
			t.Error("a request that nobody handles was answered")
		}
		if back := connected(t, a, b); back.Secret() != p.Secret() {
			t.Error("the two ends do not have the same secret")
		}
	})
}

func TestNodesThatDialEachOtherKeepOneSession(t *testing.T) {
	for _, first := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			net := p2ptest.New(t, 1, p2ptest.Faults{Latency: 20 * time.Millisecond})
			other := 3 - first
			a := net.Node(first, p2p.Config{Peers: static(other)}, nil)
			b := net.Node(other, p2p.Config{Peers: static(first)}, nil)
			connected(t, a, b)
			time.Sleep(30 * time.Second)
			p, q := a.Peer(b.ID()), b.Peer(a.ID())
			if p == nil || q == nil || p.Secret() != q.Secret() {
				t.Fatalf("got %v and %v, want the same session at both ends", p, q)
			}
			if time.Since(p.Since()) < 25*time.Second {
				t.Errorf("the session is %v old: it was replaced again and again", time.Since(p.Since()))
			}
		})
	}
}

func TestADeadPeerIsGoneInFifteenSecondsAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: time.Millisecond})
		a := net.Node(1, p2p.Config{}, nil)
		b := net.Node(2, p2p.Config{Peers: static(1)}, nil)
		connected(t, b, a)
		a.Kill()
		began := time.Now()
		p2ptest.Eventually(t, 15*time.Second, "b sees that a is gone", func() bool { return b.Peer(a.ID()) == nil })
		t.Logf("gone after %v", time.Since(began))
		a = net.Node(1, p2p.Config{}, nil)
		p2ptest.Eventually(t, 2*time.Minute, "b finds a again", func() bool { return b.Peer(a.ID()) != nil })
	})
}

func TestAPeerThatLeavesSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: time.Millisecond})
		a := net.Node(1, p2p.Config{}, nil)
		b := net.Node(2, p2p.Config{Peers: static(1)}, nil)
		connected(t, b, a)
		a.Stop()
		p2ptest.Eventually(t, time.Second, "b sees that a has left", func() bool { return b.Peer(a.ID()) == nil })
	})
}

func TestNodesOfDifferentNetworksDoNotMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: time.Millisecond})
		a := net.Node(1, p2p.Config{Network: "home"}, nil)
		b := net.Node(2, p2p.Config{Network: "office", Peers: static(1)}, nil)
		time.Sleep(20 * time.Second)
		if len(a.Peers())+len(b.Peers()) != 0 {
			t.Errorf("got %d and %d sessions, want none", len(a.Peers()), len(b.Peers()))
		}
	})
}

func TestPairingByCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: time.Millisecond})
		a := net.Node(1, p2p.Config{}, nil)
		b := net.Node(2, p2p.Config{Peers: static(1)}, nil)
		p := connected(t, b, a)
		if err := b.PairWithCode(t.Context(), a.ID(), "12345678"); centram.CodeOf(err) != centram.Forbidden {
			t.Errorf("with no code shown: got %v, want forbidden", err)
		}
		code := a.ShowCode()
		wrong := "00000000"
		if code.Code == wrong {
			wrong = "00000001"
		}
		for range 4 {
			if err := b.PairWithCode(t.Context(), a.ID(), wrong); centram.CodeOf(err) != centram.Forbidden {
				t.Fatalf("a wrong code: got %v, want forbidden", err)
			}
		}
		if err := b.PairWithCode(t.Context(), a.ID(), code.Code[:4]+" "+code.Code[4:]); err != nil {
			t.Fatalf("the right code: %v", err)
		}
		if p.Trust() != wire.Friend || a.Peer(b.ID()).Trust() != wire.Friend {
			t.Errorf("got %v and %v, want both paired", p.Trust(), a.Peer(b.ID()).Trust())
		}
		if err := b.PairWithCode(t.Context(), a.ID(), code.Code); centram.CodeOf(err) != centram.Forbidden {
			t.Errorf("the code again: got %v, want forbidden", err)
		}
		code = a.ShowCode()
		for range 5 {
			_ = b.PairWithCode(t.Context(), a.ID(), wrong)
		}
		if err := b.PairWithCode(t.Context(), a.ID(), code.Code); centram.CodeOf(err) != centram.Forbidden {
			t.Errorf("after five attempts: got %v, want forbidden", err)
		}
		code = a.ShowCode()
		time.Sleep(2*time.Minute + time.Second)
		if err := b.PairWithCode(t.Context(), a.ID(), code.Code); centram.CodeOf(err) != centram.Forbidden {
			t.Errorf("after two minutes: got %v, want forbidden", err)
		}
	})
}

func TestPairingByWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: time.Millisecond})
		a := net.Node(1, p2p.Config{}, nil)
		b := net.Node(2, p2p.Config{Name: "b", Peers: static(1)}, nil)
		connected(t, b, a)
		out, err := b.StartPairing(a.ID())
		if err != nil {
			t.Fatal(err)
		}
		p2ptest.Eventually(t, time.Second, "a is asked", func() bool { return len(a.Pairings()) == 1 })
		in := a.Pairings()[0]
		if in.Secret != out.Secret || in.Peer != b.ID() || in.Name != "b" {
			t.Errorf("got %+v at the one end and %+v at the other", in, out)
		}
		if err := a.Decide(t.Context(), b.ID(), true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := b.Peer(a.ID()).Trust(); got != wire.Stranger {
			t.Errorf("got %v before b's owner has agreed, want stranger", got)
		}
		if err := b.Decide(t.Context(), a.ID(), true); err != nil {
			t.Fatal(err)
		}
		if x, y := b.Peer(a.ID()).Trust(), a.Peer(b.ID()).Trust(); x != wire.Friend || y != wire.Friend {
			t.Errorf("got %v and %v, want both paired", x, y)
		}
		if err := b.Forget(t.Context(), a.ID()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if a.Peer(b.ID()) != nil {
			t.Error("a dials b, which has forgotten it, again and again")
		}
	})
}

func TestAPairingThatIsRefusedOrForgottenLeavesStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: time.Millisecond})
		a := net.Node(1, p2p.Config{}, nil)
		b := net.Node(2, p2p.Config{Peers: static(1)}, nil)
		connected(t, b, a)
		for _, refuse := range []bool{true, false} {
			if _, err := b.StartPairing(a.ID()); err != nil {
				t.Fatal(err)
			}
			if err := b.Decide(t.Context(), a.ID(), true); err != nil {
				t.Fatal(err)
			}
			p2ptest.Eventually(t, time.Second, "a is asked", func() bool { return len(a.Pairings()) > 0 })
			if refuse {
				if err := a.Decide(t.Context(), b.ID(), false); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(2*time.Minute + time.Second)
			if x, y := b.Peer(a.ID()).Trust(), a.Peer(b.ID()).Trust(); x != wire.Stranger || y != wire.Stranger {
				t.Errorf("refused %t: got %v and %v, want strangers", refuse, x, y)
			}
			if list := b.Pairings(); len(list) != 1 || list[0].Failed == "" {
				t.Errorf("refused %t: got %+v, want one that failed", refuse, list)
			}
		}
	})
}

// TestAnAnswerThatDoesNotComeIsNotWaitedForForEver also wants the other end to learn that nobody waits any more.
func TestAnAnswerThatDoesNotComeIsNotWaitedForForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: time.Millisecond})
		stopped := make(chan time.Time, 1)
		a := net.Node(1, p2p.Config{}, func(n *p2p.Node) {
			p2p.Answer(n.Mux(), func(ctx context.Context, _ *p2p.Peer, _ *wire.PeerQuery) (*wire.PeerList, error) {
				<-ctx.Done()
				stopped <- time.Now()
				return nil, ctx.Err()
			})
		})
		b := net.Node(2, p2p.Config{Peers: static(1)}, nil)
		p := connected(t, b, a)
		began := time.Now()
		_, err := p2p.Ask[wire.PeerList](t.Context(), p, &wire.PeerQuery{Caps: []string{}, Most: 1, Known: []centram.PeerID{}})
		if err == nil || time.Since(began) != 30*time.Second {
			t.Errorf("got %v after %v, want an error after 30 s", err, time.Since(began))
		}
		if at := <-stopped; at.Sub(began) > 31*time.Second {
			t.Errorf("the other end worked for %v", at.Sub(began))
		}
		if b.Peer(a.ID()) != p {
			t.Error("the session did not go on")
		}
	})
}

func TestTwoOwnersWhoAskEachOtherAtTheSameTimePair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: 20 * time.Millisecond})
		a := net.Node(1, p2p.Config{}, nil)
		b := net.Node(2, p2p.Config{Peers: static(1)}, nil)
		connected(t, b, a)
		connected(t, a, b)
		for _, from := range []struct{ node, to *p2ptest.Node }{{a, b}, {b, a}} {
			if _, err := from.node.StartPairing(from.to.ID()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		for _, from := range []struct{ node, to *p2ptest.Node }{{a, b}, {b, a}} {
			if err := from.node.Decide(t.Context(), from.to.ID(), true); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if x, y := a.Peer(b.ID()).Trust(), b.Peer(a.ID()).Trust(); x != wire.Friend || y != wire.Friend {
			t.Errorf("got %v and %v, want both paired", x, y)
		}
	})
}

func TestAStrangerCannotAskTheOwnerAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: time.Millisecond})
		shown := 0
		a := net.Node(1, p2p.Config{Changed: func(c p2p.Change) {
			if c.Kind == "pairing" {
				shown++
			}
		}}, nil)
		b := net.Node(2, p2p.Config{Peers: static(1)}, nil)
		p := connected(t, b, a)
		for range 50 {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			_, _ = p2p.Ask[wire.PairConfirm](ctx, p, &wire.PairRequest{Name: "x"})
			cancel()
			time.Sleep(50 * time.Millisecond)
		}
		synctest.Wait()
		if shown > 8 {
			t.Errorf("the owner was told %d times in 5 s, want at most 3 wishes and their ends", shown)
		}
	})
}
