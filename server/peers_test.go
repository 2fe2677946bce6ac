package server

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/identity"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/p2ptest"
	"github.com/centram/centram/p2p/wire"
	"github.com/prometheus/client_golang/prometheus"
)

var _ Node = (*p2p.Node)(nil)

// among starts a server whose node is the first of a network, with the others by these names around it.
func among(t *testing.T, names ...string) (*node, *p2ptest.Node, []*p2ptest.Node) {
	t.Helper()
	net := p2ptest.New(t, 1, p2ptest.Faults{})
	events := NewEvents()
	own := net.Node(0, p2p.Config{Name: "own", Network: "home", Caps: []string{"test/1"}, Changed: events.Peer}, nil)
	var others []*p2ptest.Node
	for i, name := range names {
		others = append(others, net.Node(i+1, p2p.Config{Name: name, Network: "home", Version: "7.8"}, nil))
	}
	n := start(t, func(c *Config) {
		c.Events = events
		c.Network = Network{Node: own, ID: own.ID(), Name: "home"}
	})
	return n, own, others
}

// join adds the i-th node by its address and waits until it is connected.
func (n *node) join(i int) Peer {
	n.t.Helper()
	n.send(201, "POST", "/api/v1/peers", fmt.Sprintf(`{"address":%q}`, p2ptest.Addr(i)))
	var p Peer
	eventually(n.t, "a session", func() bool {
		r := n.do(n.request("GET", "/api/v1/peers/"+p2ptest.ID(i).String(), nil))
		if r.status == 200 {
			p = as[Peer](n.t, r)
		}
		return p.State == "connected" && p.Static // the book comes to know it a moment later
	})
	return p
}

func (n *node) peers() (list struct {
	Peers   []Peer
	Dialled []Dialled
},
) {
	n.t.Helper()
	return as[struct {
		Peers   []Peer
		Dialled []Dialled
	}](n.t, n.send(200, "GET", "/api/v1/peers", ""))
}

func TestWithoutANetworkEverythingSaysWhyAndWhatToDo(t *testing.T) {
	n := start(t, func(c *Config) {
		c.Network = Network{ID: p2ptest.ID(0), Off: func() error {
			return centram.Errorf(centram.Unavailable, "The keys are sealed.").WithHint("Unseal them.")
		}}
	})
	got := as[NodeState](t, n.send(200, "GET", "/api/v1/node", ""))
	if got.State != "failed" || got.Why != "The keys are sealed." || got.Hint != "Unseal them." || got.ID != p2ptest.ID(0).String() {
		t.Errorf("got %+v", got)
	}
	for _, row := range []struct{ method, path, body string }{
		{"GET", "/peers", ""},
		{"POST", "/peers", `{"address":"x:1"}`},
		{"GET", "/peers/x", ""},
		{"DELETE", "/peers/x", ""},
		{"POST", "/peers/x/ping", `{}`},
		{"POST", "/peers/x/pair", `{}`},
		{"GET", "/pairings", ""},
		{"POST", "/pairings/x", `{"agree":true}`},
		{"POST", "/pairing-code", `{}`},
		{"GET", "/records", ""},
		{"GET", "/blobs", ""},
		{"GET", "/hyperlink", ""},
		{"POST", "/hyperlink/plan", `{"model":"toy"}`},
		{"POST", "/hyperlink/up", `{"model":"toy"}`},
		{"POST", "/hyperlink/down", `{"model":"toy"}`},
	} {
		if got := as[Failure](t, n.send(503, row.method, "/api/v1"+row.path, row.body)).Problem; got.Hint == "" {
			t.Errorf("%s %s: got %+v, want a hint", row.method, row.path, got)
		}
	}
	n = start(t, nil)
	if got := as[NodeState](t, n.send(200, "GET", "/api/v1/node", "")); got.State != "off" {
		t.Errorf("got %+v", got)
	}
	if got := as[Failure](t, n.send(503, "GET", "/api/v1/peers", "")).Problem; !strings.Contains(got.Hint, "p2p_listen") {
		t.Errorf("got %+v", got)
	}
	n.send(401, "GET", "/api/v1/node", "", "Authorization", "")
	n.send(401, "POST", "/api/v1/pairing-code", "{}", "Authorization", "")
}

func TestPeersOverREST(t *testing.T) {
	n, own, others := among(t, "alice", "bob")
	news := n.view("/api/v1/events")
	if got := n.peers(); len(got.Peers) != 0 || got.Dialled == nil {
		t.Errorf("got %+v", got)
	}
	p := n.join(1)
	if name, data := news.next(); name != "peer" || data != `{"id":"`+p.ID+`","change":"joined"}` {
		t.Errorf("got %s %s", name, data)
	}
	if p.Name != "alice" || p.Trust != "stranger" || !p.Static || p.Version != "7.8" || p.Address != p2ptest.Addr(1).String() || p.Since == nil ||
		p.RTT == nil || p.Short != others[0].ID().Short() || p.Received == 0 {
		t.Errorf("got %+v", p)
	}
	if got := n.peers(); len(got.Peers) != 1 || len(got.Dialled) != 1 || got.Dialled[0].Peer != p.ID {
		t.Errorf("got %+v", got)
	}
	for _, name := range []string{p.ID, strings.ToLower(p.ID), p.Short, p.Short[:3], "alice", "ALICE", p.ID[:20]} {
		if got := as[Peer](t, n.send(200, "GET", "/api/v1/peers/"+name, "")); got.ID != p.ID {
			t.Errorf("%s: got %s, want %s", name, got.ID, p.ID)
		}
		if got := as[Pong](t, n.send(200, "POST", "/api/v1/peers/"+name+"/ping", `{}`)); got.RTT <= 0 {
			t.Errorf("%s: got %v", name, got)
		}
	}
	typo := "A" + p.ID[1:]
	if p.ID[0] == 'A' {
		typo = "B" + p.ID[1:]
	}
	n.send(400, "GET", "/api/v1/peers/"+typo, "")
	n.send(404, "GET", "/api/v1/peers/carol", "")
	n.send(404, "GET", "/api/v1/peers/"+others[1].ID().String(), "")
	n.send(400, "POST", "/api/v1/peers", `{"address":":1"}`)
	n.send(400, "POST", "/api/v1/peers", `{"address":""}`)

	got := as[NodeState](t, n.send(200, "GET", "/api/v1/node", ""))
	if got.State != "on" || got.ID != own.ID().String() || got.Words != identity.Words(own.ID()) || got.Name != "own" || got.Network != "home" ||
		got.Policy != "paired" || got.Port != p2p.DefaultPort || got.Peers != 1 || fmt.Sprint(got.Addresses) != "[10.0.0.0:9743]" ||
		fmt.Sprint(got.Abilities) != "[test/1]" {
		t.Errorf("got %+v", got)
	}

	others[0].Stop()
	eventually(t, "the peer to leave", func() bool { return own.Peer(others[0].ID()) == nil })
	if got := as[Peer](t, n.send(200, "GET", "/api/v1/peers/alice", "")); got.State != "away" || got.LastSeen == nil || got.Since != nil {
		t.Errorf("got %+v", got)
	}
	if got := n.send(503, "POST", "/api/v1/peers/alice/ping", `{}`); !strings.Contains(string(got.body), "not connected") {
		t.Errorf("got %s", got.body)
	}
	n.send(204, "DELETE", "/api/v1/peers/alice", "")
	n.send(404, "DELETE", "/api/v1/peers/alice", "")
	if got := n.peers(); len(got.Peers) != 0 || len(got.Dialled) != 0 {
		t.Errorf("got %+v, want nothing left", got)
	}
}

func TestAnAddressWhereNobodyAnswersCanBeTakenBack(t *testing.T) {
	n, _, _ := among(t)
	for _, address := range []string{"10.9.9.9:9743", "fd00::9", "nowhere.example"} {
		d := as[Dialled](t, n.send(201, "POST", "/api/v1/peers", fmt.Sprintf(`{"address":%q}`, address)))
		if !strings.HasSuffix(d.Address, ":9743") || d.Peer != "" || len(n.peers().Dialled) != 1 {
			t.Errorf("got %+v of %+v", d, n.peers())
		}
		n.send(204, "DELETE", "/api/v1/peers/"+url.PathEscape(address), "")
		if got := n.peers().Dialled; len(got) != 0 {
			t.Errorf("got %+v, want none", got)
		}
	}
}

func TestANameOfTwoIsNotGuessed(t *testing.T) {
	n, own, _ := among(t)
	a, b := p2ptest.ID(1), p2ptest.ID(2)
	own.Hint(a, "twin", p2ptest.Addr(1))
	own.Hint(b, "Twin", p2ptest.Addr(2))
	got := as[Failure](t, n.send(409, "DELETE", "/api/v1/peers/twin", "")).Problem
	if !strings.Contains(got.Message, a.Short()) || !strings.Contains(got.Message, b.Short()) || got.Hint == "" {
		t.Errorf("got %+v", got)
	}
	own.Hint(b, "", p2ptest.Addr(2))
	own.Hint(p2ptest.ID(3), a.Short(), p2ptest.Addr(3)) // who calls itself what another's id begins with takes nothing over
	n.send(409, "DELETE", "/api/v1/peers/"+a.Short(), "")
	n.send(204, "DELETE", "/api/v1/peers/"+a.String(), "")
}

func TestNamesOfStrangersCannotDraw(t *testing.T) {
	n, own, _ := among(t)
	own.Hint(p2ptest.ID(1), "a\x1b[2Jb\u202ec\u2066d\r\n\tü", netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), 1))
	if got := n.peers().Peers[0].Name; got != "a[2Jbcdü" {
		t.Errorf("got %q", got)
	}
}

func TestACodePairs(t *testing.T) {
	n, own, others := among(t, "alice")
	alice := others[0]
	n.join(1)
	n.send(400, "POST", "/api/v1/peers/alice/pair", `{"code":"12"}`)
	n.send(403, "POST", "/api/v1/peers/alice/pair", `{"code":"1234-5678"}`) // none is shown
	shown := alice.ShowCode().Code
	wrong := "0000-0000"
	if shown == "00000000" {
		wrong = "1111-1111"
	}
	if got := n.send(403, "POST", "/api/v1/peers/alice/pair", `{"code":"`+wrong+`"}`); !strings.Contains(string(got.body), "centram peer code") {
		t.Errorf("got %s, want a hint", got.body)
	}
	done := as[Pairing](t, n.send(200, "POST", "/api/v1/peers/alice/pair", `{"code":"`+shown+`"}`))
	if done.State != "paired" || done.Name != "alice" || own.Peer(alice.ID()).Trust() != wire.Friend || alice.Peer(own.ID()).Trust() != wire.Friend {
		t.Errorf("got %+v", done)
	}
	if got := as[Peer](t, n.send(200, "GET", "/api/v1/peers/alice", "")); got.Trust != "paired" {
		t.Errorf("got %+v", got)
	}
}

func TestALinkLeadsToTheNodeThatShowsIt(t *testing.T) {
	n, own, others := among(t, "alice", "bob")
	alice := others[0]
	code := as[PairingCode](t, n.send(201, "POST", "/api/v1/pairing-code", `{}`))
	link, err := url.Parse(code.Link)
	if err != nil || link.Scheme != "centram" || link.Opaque != "pair" || time.Until(code.Expires) < time.Minute {
		t.Fatalf("got %+v, %v", code, err)
	}
	q := link.Query()
	if id, err := centram.ParsePeerID(q.Get("id")); err != nil || id != own.ID() || q.Get("code") != strings.ReplaceAll(code.Code, "-", "") ||
		q.Get("at") != p2ptest.Addr(0).String() {
		t.Errorf("got %s, %v", code.Link, err)
	}
	if err := alice.AddPeer(t.Context(), q.Get("at")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a session", func() bool { return alice.Peer(own.ID()) != nil })
	if err := alice.PairWithCode(t.Context(), own.ID(), code.Code); err != nil {
		t.Fatal(err)
	}
	// The other way round: bob shows the code, and is not known here at all.
	body := fmt.Sprintf(`{"code":%q,"at":[%q]}`, others[1].ShowCode().Code, p2ptest.Addr(2))
	n.send(200, "POST", "/api/v1/peers/"+others[1].ID().String()+"/pair", body)
	n.send(400, "POST", "/api/v1/peers/"+own.ID().String()+"/pair", body)
	n.send(400, "POST", "/api/v1/peers/bob/pair", `{"code":"1234-5678","at":["somewhere"]}`)
}

func TestWordsPairWhenBothSidesAgree(t *testing.T) {
	n, own, others := among(t, "alice", "bob")
	alice, bob := others[0], others[1]
	n.join(1)
	n.join(2)
	begun := as[Pairing](t, n.send(200, "POST", "/api/v1/peers/alice/pair", `{}`))
	if !begun.Outgoing || begun.State != "waiting" || len(strings.Fields(begun.Words)) != 6 {
		t.Errorf("got %+v", begun)
	}
	n.send(409, "POST", "/api/v1/peers/alice/pair", `{}`)
	eventually(t, "alice to be asked", func() bool { return len(alice.Pairings()) == 1 })
	if got := identity.WordsOf(alice.Pairings()[0].Secret); got != begun.Words {
		t.Errorf("alice sees %q, want %q", got, begun.Words)
	}
	if got := as[Pairing](t, n.send(200, "POST", "/api/v1/pairings/alice", `{"agree":true}`)); got.State != "waiting" || !got.Mine || got.Theirs {
		t.Errorf("got %+v", got)
	}
	n.send(404, "POST", "/api/v1/pairings/alice", `{"agree":true}`) // it was said already
	if err := alice.Decide(t.Context(), own.ID(), true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both to be friends", func() bool {
		return own.Peer(alice.ID()).Trust() == wire.Friend && alice.Peer(own.ID()).Trust() == wire.Friend
	})

	// Bob begins, and is refused here.
	if _, err := bob.StartPairing(own.ID()); err != nil {
		t.Fatal(err)
	}
	var asked Pairing
	eventually(t, "bob's wish", func() bool {
		for _, p := range as[struct{ Pairings []Pairing }](t, n.send(200, "GET", "/api/v1/pairings", "")).Pairings {
			if p.Name == "bob" {
				asked = p
			}
		}
		return asked.Name != ""
	})
	if asked.Outgoing || asked.State != "waiting" {
		t.Errorf("got %+v", asked)
	}
	if got := as[Pairing](t, n.send(200, "POST", "/api/v1/pairings/bob", `{"agree":false}`)); got.State != "failed" || got.Reason == "" {
		t.Errorf("got %+v", got)
	}
	eventually(t, "bob to hear", func() bool { p := bob.Pairings(); return len(p) == 1 && p[0].Failed != "" })
	if own.Peer(bob.ID()).Trust() != wire.Stranger {
		t.Error("bob was refused, and is a friend")
	}
	n.send(404, "POST", "/api/v1/pairings/carol", `{"agree":true}`)
}

func TestMetricsOfOthersAreTold(t *testing.T) {
	registry := prometheus.NewRegistry()
	net := p2ptest.New(t, 1, p2ptest.Faults{})
	own := net.Node(0, p2p.Config{Metrics: registry}, nil)
	net.Node(1, p2p.Config{}, nil)
	n := start(t, func(c *Config) {
		c.Network = Network{Node: own, ID: own.ID()}
		c.Collectors = []prometheus.Collector{registry}
	})
	n.send(200, "POST", "/api/v1/peers/"+n.join(1).ID+"/ping", `{}`)
	text := string(n.send(200, "GET", "/metrics", "").body)
	for _, want := range []string{"centram_peers 1", `centram_peer_messages_total{direction="received",type="PONG"}`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
}

func TestRecordsAreListed(t *testing.T) {
	n := start(t, func(c *Config) {
		own := p2ptest.New(t, 1, p2ptest.Faults{}).Node(0, p2p.Config{}, nil)
		c.Network = Network{Node: own, ID: own.ID(), Records: func() []Record { return []Record{{ID: "x", Type: "PEER_RECORD", Size: 7}} }}
	})
	got := as[struct{ Records []Record }](t, n.send(200, "GET", "/api/v1/records", "")).Records
	if len(got) != 1 || got[0].Type != "PEER_RECORD" || got[0].Size != 7 {
		t.Errorf("got %+v", got)
	}
}

func TestAFetchEndsWithTheServer(t *testing.T) {
	blobs, _ := blobStore(t)
	begun := make(chan struct{})
	own := p2ptest.New(t, 1, p2ptest.Faults{}).Node(0, p2p.Config{}, nil)
	n := start(t, func(c *Config) {
		c.Network = Network{Node: own, ID: own.ID(), Blobs: blobs, Fetch: func(ctx context.Context, _ wire.Hash, _ time.Duration, progress func(int, int)) error {
			progress(1, 2)
			close(begun)
			<-ctx.Done()
			return ctx.Err()
		}}
	})
	v := n.fetch(wire.Hash{1})
	<-begun
	go func() { _ = n.stop() }()
	last, data := "", ""
	for name, d := v.next(); name != ""; name, d = v.next() {
		last, data = name, d
	}
	if last != "failed" || !strings.Contains(data, "Centram is ending") {
		t.Errorf("got %s %s", last, data)
	}
	if err := n.stop(); err != nil {
		t.Error(err)
	}
}
