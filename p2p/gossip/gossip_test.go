package gossip_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/gossip"
	"github.com/centram/centram/p2p/p2ptest"
	"github.com/centram/centram/p2p/wire"
	"github.com/centram/centram/store"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// place is a node with a catalogue.
type place struct {
	*p2ptest.Node
	*gossip.Catalogue

	mu   sync.Mutex        // guards seen
	seen map[wire.Hash]int // how often each record was accepted
}

func (p *place) note(id wire.Hash) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen[id]++
}

func (p *place) times(id wire.Hash) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[id]
}

// start runs the i-th node with a catalogue that keeps version notices, peer records and genomes.
func start(t *testing.T, net *p2ptest.Net, i int, db *store.DB, peers ...int) *place {
	t.Helper()
	p := &place{seen: map[wire.Hash]int{}}
	cfg := p2p.Config{}
	for _, k := range peers {
		cfg.Peers = append(cfg.Peers, p2ptest.Addr(k).String())
	}
	p.Node = net.Node(i, cfg, func(n *p2p.Node) {
		g := gossip.Config{Node: n, Key: p2ptest.Key(i), Network: wire.NetworkOf("")}
		if db != nil {
			g.DB = db.DB
		}
		p.Catalogue = gossip.New(g)
		gossip.Keep(p.Catalogue, func(_ context.Context, e gossip.Entry, m *wire.VersionNotice) error {
			if m.Version == "bad" {
				return &wire.Status{Code: wire.Denied}
			}
			p.note(e.ID)
			return nil
		})
		gossip.Keep(p.Catalogue, func(_ context.Context, e gossip.Entry, _ *wire.PolicyUpdate) error {
			p.note(e.ID)
			return nil
		})
		if err := p.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.Catalogue.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return p
}

func notice(seq int, version string) *wire.VersionNotice {
	return &wire.VersionNotice{Seq: uint64(seq), Version: version, Build: wire.Hash{1}, MinProto: 1, Expires: time.Now().Add(time.Hour).UnixMilli()}
}

// large is a record that is announced by its id.
func large(seq int) *wire.PolicyUpdate {
	return &wire.PolicyUpdate{Seq: uint64(seq), MinProto: 1, Rules: wire.Hash{1}, Params: []wire.PolicyParam{}, Expelled: many(200), Active: 1}
}

func many(n int) []centram.PeerID {
	list := make([]centram.PeerID, n)
	for i := range list {
		list[i] = centram.PeerID{byte(i >> 8), byte(i), 1}
	}
	return list
}

func same(places ...*place) bool {
	n, digest := places[0].Count()
	for _, p := range places[1:] {
		if m, d := p.Count(); m != n || d != digest {
			return false
		}
	}
	return true
}

func TestARecordReachesAllNodesOverOthersAndOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: 5 * time.Millisecond})
		line := []*place{start(t, net, 1, nil)}
		for i := 2; i <= 5; i++ {
			line = append(line, start(t, net, i, nil, i-1)) // 1 - 2 - 3 - 4 - 5
		}
		time.Sleep(5 * time.Second)
		for name, m := range map[string]wire.Message{"small": notice(1, "2.0"), "large": large(1)} {
			id, err := line[0].Publish(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			for i, p := range line {
				if n := p.times(id); n != 1 {
					t.Errorf("%s: node %d accepted it %d times, want once", name, i+1, n)
				}
			}
		}
	})
}

func TestTheNewerRecordCountsEverywhereWhateverTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: 5 * time.Millisecond})
		a, b := start(t, net, 1, nil), start(t, net, 2, nil, 1)
		time.Sleep(5 * time.Second)
		for _, seq := range []int{5, 3, 9} {
			_, _ = a.Publish(t.Context(), notice(seq, fmt.Sprint("1.", seq)))
		}
		time.Sleep(time.Second)
		for _, p := range []*place{a, b} {
			list := gossip.All[wire.VersionNotice](p.Catalogue)
			if len(list) != 1 || list[0].Message.(*wire.VersionNotice).Seq != 9 {
				t.Errorf("got %+v, want the notice 9 alone", list)
			}
		}
	})
}

func TestNodesThatWereApartReconcile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: 5 * time.Millisecond})
		var all []*place
		for i := 1; i <= 6; i++ { // six authors, of whom each side has three
			all = append(all, start(t, net, i, nil))
		}
		for i, p := range all {
			for k := range 20 {
				if _, err := p.Publish(t.Context(), large(1+k)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := p.Publish(t.Context(), notice(1, fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		for i, p := range all[1:] {
			if err := p.AddPeer(t.Context(), p2ptest.Addr(i+1).String()); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		p2ptest.Eventually(t, 3*time.Minute, "all have the same records", func() bool { return same(all...) })
		if n, _ := all[0].Count(); n != 12 {
			t.Errorf("got %d records, want 12: each author's notice and last policy", n)
		}
		t.Logf("after %v", time.Since(began))
	})
}

func TestRecordsThatAreRefusedOrExpiredAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: 5 * time.Millisecond})
		a, b := start(t, net, 1, nil), start(t, net, 2, nil, 1)
		time.Sleep(2 * time.Second)
		if _, err := a.Publish(t.Context(), notice(1, "bad")); err == nil {
			t.Error("a record that the service refuses was published")
		}
		old := notice(2, "old")
		old.Expires = 1
		if _, err := a.Publish(t.Context(), old); err == nil {
			t.Error("a record that has expired was published")
		}
		soon := notice(3, "soon")
		soon.Expires = time.Now().Add(10 * time.Second).UnixMilli()
		if _, err := a.Publish(t.Context(), soon); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if n, _ := b.Count(); n != 1 {
			t.Errorf("got %d records, want the one that is still good", n)
		}
		time.Sleep(2 * time.Minute)
		if n, _ := b.Count(); n != 0 {
			t.Errorf("got %d records after it has expired, want none", n)
		}
	})
}

func TestRecordsAreThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	open := func() *store.DB {
		db, err := store.Open(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	net := p2ptest.New(t, 1, p2ptest.Faults{})
	db := open()
	a := start(t, net, 1, db)
	for _, seq := range []int{1, 2} {
		if _, err := a.Publish(t.Context(), notice(seq, "2.0")); err != nil {
			t.Fatal(err)
		}
	}
	_, before := a.Count()
	a.Stop()
	db.Close()
	db = open()
	defer db.Close()
	b := start(t, net, 1, db)
	defer b.Stop()
	if n, after := b.Count(); n != 1 || after != before {
		t.Errorf("got %d records, digest %x, want 1, %x", n, after, before)
	}
}

// TestWhoKnowsOneNodeComesToKnowAll has five nodes that are told of the first alone.
func TestWhoKnowsOneNodeComesToKnowAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: 5 * time.Millisecond})
		var all []*p2ptest.Node
		for i := 1; i <= 5; i++ {
			var run []func(context.Context) error
			cfg := p2p.Config{Name: fmt.Sprint("node ", i), Caps: []string{fmt.Sprint("can/", i%2)}}
			if i > 1 {
				cfg.Peers = []string{p2ptest.Addr(1).String()}
			}
			all = append(all, net.Node(i, cfg, func(n *p2p.Node) {
				c := gossip.New(gossip.Config{Node: n, Key: p2ptest.Key(i), Network: wire.NetworkOf("")})
				x := gossip.NewPeers(c)
				run = append(run, c.Run, x.Run)
			}))
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{}, len(run))
			for _, f := range run {
				go func() { _ = f(ctx); done <- struct{}{} }()
			}
			t.Cleanup(func() {
				cancel()
				for range run {
					<-done
				}
			})
		}
		began := time.Now()
		p2ptest.Eventually(t, time.Minute, "each has a session with each", func() bool {
			for _, n := range all {
				if len(n.Peers()) != len(all)-1 {
					return false
				}
			}
			return true
		})
		t.Logf("after %v", time.Since(began))
	})
}

func TestAPeerThatSendsOldRecordsAgainAndAgainIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: 2 * time.Millisecond})
		a := start(t, net, 1, nil)
		r := net.Raw(3, 1)
		if err := r.Hello(); err != nil {
			t.Fatal(err)
		}
		id := centram.PeerID(r.Key.Public().(ed25519.PublicKey))
		p2ptest.Eventually(t, time.Second, "it is in", func() bool { return a.Peer(id) != nil })
		began := time.Now()
		for seq := 2; r.Say(notice(seq, "x")) == nil; seq = 1 { // one that is new, and then older ones
			time.Sleep(time.Millisecond)
			if time.Since(began) > 10*time.Second {
				t.Fatal("it may do so for 10 s")
			}
		}
		p2ptest.Eventually(t, time.Second, "it is cut off", func() bool { return a.Peer(id) == nil })
		if n, _ := a.Count(); n != 1 {
			t.Errorf("got %d records, want the new one", n)
		}
	})
}
