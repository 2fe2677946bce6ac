package p2p_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/centram/centram/p2p"
)

// What the peers' issue promises, shown by real nodes on real sockets in network namespaces.
const (
	seenWithin = 3 * time.Second
	goneWithin = 15 * time.Second
)

func TestNetnsNodesFindEachOther(t *testing.T) {
	if !withNamespaces(t) {
		return
	}
	var (
		beacon  = setup{NoMDNS: true}
		mdns    = setup{NoBeacon: true}
		quiet   = setup{Quiet: true}
		global6 = []string{"fd09::%d/64"}
	)
	for name, c := range map[string]struct {
		wiring        wiring
		first, second setup
		static        func(*machine) string // the first one's address, which the second is told
	}{
		"by beacon":                                    {wiring: usual, first: beacon, second: beacon},
		"by mDNS":                                      {wiring: usual, first: mdns, second: mdns},
		"by both":                                      {wiring: usual},
		"by address":                                   {wiring: usual, first: quiet, second: quiet, static: v4},
		"by beacon with IPv6 that is local":            {wiring: wiring{linkLocal: true}, first: beacon, second: beacon},
		"by mDNS with IPv6 that is local":              {wiring: wiring{linkLocal: true}, first: mdns, second: mdns},
		"by address with IPv6 that is local":           {wiring: wiring{linkLocal: true}, first: quiet, second: quiet, static: local},
		"by beacon with IPv6 that is global":           {wiring: wiring{addrs: global6}, first: beacon, second: beacon},
		"by mDNS with IPv6 that is global":             {wiring: wiring{addrs: global6}, first: mdns, second: mdns},
		"by address with IPv6 that is global":          {wiring: wiring{addrs: global6}, first: quiet, second: quiet, static: v6},
		"by beacon without IPv6":                       {wiring: wiring{addrs: usual.addrs, noIPv6: true}, first: beacon, second: beacon},
		"by mDNS without IPv6":                         {wiring: wiring{addrs: usual.addrs, noIPv6: true}, first: mdns, second: mdns},
		"by broadcast of interfaces without multicast": {wiring: wiring{addrs: usual.addrs, deaf: true}},
		"by broadcast where multicast is dropped":      {wiring: wiring{addrs: usual.addrs, drops: []string{"multicast"}}},
		"by multicast where broadcast is dropped":      {wiring: wiring{addrs: usual.addrs, drops: []string{"broadcast"}}, first: beacon, second: beacon},
		"by address where both are dropped": {
			wiring: wiring{addrs: usual.addrs, drops: []string{"multicast", "broadcast"}}, static: v4,
		},
		"by IPv6 where their IPv4 does not fit": {wiring: wiring{addrs: []string{"10.9.%d.1/24"}, linkLocal: true}, first: beacon, second: beacon},
		"by IPv6 where their IPv4 leads nowhere": {
			wiring: wiring{addrs: []string{"10.9.%d.1/24"}, router: "10.9.%d.254", linkLocal: true}, first: beacon, second: beacon,
		},
		"by beacon with another port": {wiring: usual, first: beacon, second: setup{NoMDNS: true, Listen: ":9744"}},
	} {
		bothWays(t, name, func(t *testing.T, first, second int) {
			l := lanOf(t, 2, c.wiring)
			c := c
			c.first.Key, c.second.Key = first, second
			if c.static != nil {
				c.second.Peers = []string{c.static(l.hosts[0])}
			}
			a := l.hosts[0].start(c.first)
			b := l.hosts[1].start(c.second)
			t.Logf("seen after %v", met(t, b.began, seenWithin, a, b))
			talk(t, time.Now(), seenWithin, a, b)
		})
	}
}

// bothWays runs a test of two nodes twice: whose id is the lower decides who calls whom. It is told the nodes' keys.
func bothWays(t *testing.T, name string, f func(t *testing.T, first, second int)) {
	for _, way := range []struct {
		name          string
		first, second int
	}{{name, 1, 2}, {name + ", the other way round", 2, 1}} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			f(t, way.first, way.second)
		})
	}
}

func v4(m *machine) string    { return m.ip(0).String() }
func v6(m *machine) string    { return "[" + m.ip(0).String() + "]:9743" }
func local(m *machine) string { return "[" + m.own("eth0").String() + "%eth0]:9743" }

func TestNetnsSessionRecovers(t *testing.T) {
	if !withNamespaces(t) {
		return
	}
	const within = 10 * time.Second // of the end of what befell it
	off := func(wait time.Duration) func(*machine) {
		return func(m *machine) {
			m.down("eth0")
			time.Sleep(wait)
			m.up("eth0")
		}
	}
	unplugged := func(wait time.Duration) func(*machine) {
		return func(m *machine) {
			m.pull()
			time.Sleep(wait)
			m.mend()
		}
	}
	moved := func(to string) func(*machine) {
		return func(m *machine) {
			_, bits, _ := strings.Cut(m.wiring.addrs[0], "/")
			m.move("eth0", m.ip(0).String()+"/"+bits, to+"/"+bits)
		}
	}
	replaced := func(m *machine) {
		m.lose("eth0")
		m.plug("eth0", m.lan)
	}
	ipv4, ipv6, local6 := wiring{addrs: usual.addrs}, wiring{addrs: []string{"fd09::%d/64"}}, wiring{linkLocal: true}
	for name, c := range map[string]struct {
		wiring wiring
		setup  setup
		befall func(*machine)
	}{
		"an interface that is down for a second":            {usual, setup{}, off(time.Second)},
		"an interface that is down for a while":             {usual, setup{}, off(5 * time.Second)},
		"an interface that is down for long":                {usual, setup{}, off(14 * time.Second)},
		"an interface that is down, with IPv6 alone":        {local6, setup{}, off(5 * time.Second)},
		"an interface that is down, quiet":                  {ipv4, setup{Quiet: true}, off(5 * time.Second)},
		"a cable that is unplugged for a while":             {usual, setup{}, unplugged(5 * time.Second)},
		"a cable that is unplugged for long":                {usual, setup{}, unplugged(14 * time.Second)},
		"another address":                                   {usual, setup{}, moved("10.9.0.77")},
		"another address of another network":                {usual, setup{}, moved("10.8.0.77")},
		"another address, with IPv4 alone and beacons":      {ipv4, setup{NoMDNS: true}, moved("10.9.0.77")},
		"another address, with IPv4 alone and mDNS":         {ipv4, setup{NoBeacon: true}, moved("10.9.0.77")},
		"another address, with IPv6 alone":                  {ipv6, setup{}, moved("fd09::77")},
		"another address, quiet":                            {ipv4, setup{Quiet: true}, moved("10.9.0.77")},
		"another interface of the name":                     {usual, setup{}, replaced},
		"another interface of the name, with IPv6 alone":    {local6, setup{}, replaced},
		"another interface of the name, with IPv6 and mDNS": {local6, setup{NoBeacon: true}, replaced},
	} {
		bothWays(t, name, func(t *testing.T, first, second int) {
			l := lanOf(t, 2, c.wiring)
			one, other := c.setup, c.setup
			one.Key, other.Key = first, second
			if c.setup.Quiet {
				other.Peers = []string{v4(l.hosts[0])}
			}
			a, b := l.hosts[0].start(one), l.hosts[1].start(other)
			met(t, b.began, seenWithin, a, b)
			talk(t, time.Now(), seenWithin, a, b)
			c.befall(b.machine)
			t.Logf("recovered after %v", talk(t, time.Now(), within, a, b))
		})
	}
}

func TestNetnsADeadNodeIsGone(t *testing.T) {
	if !withNamespaces(t) {
		return
	}
	for name, end := range map[string]func(*node){
		"killed":       func(n *node) { n.kill() },
		"unplugged":    func(n *node) { n.pull() },
		"switched off": func(n *node) { n.down("eth0") },
	} {
		bothWays(t, name, func(t *testing.T, first, second int) {
			l := lanOf(t, 2, usual)
			a, b := l.hosts[0].start(setup{Key: first}), l.hosts[1].start(setup{Key: second})
			met(t, b.began, seenWithin, a, b)
			time.Sleep(time.Duration(first) * 1300 * time.Millisecond) // the time since the last packet differs
			since := time.Now()
			end(b)
			t.Logf("gone after %v", gone(t, b, since, goneWithin, a))
		})
	}
}

func TestNetnsNetworkThatComesLater(t *testing.T) {
	if !withNamespaces(t) {
		return
	}
	const within = 6 * time.Second
	for name, c := range map[string]struct{ first, second wiring }{ // of two LANs
		"with IPv4":       {usual, wiring{addrs: []string{"10.8.0.%d/24"}, linkLocal: true}},
		"with IPv6 alone": {wiring{linkLocal: true}, wiring{linkLocal: true}},
	} {
		t.Run("at the only interface, "+name, func(t *testing.T) {
			t.Parallel()
			l := lanOf(t, 2, c.first)
			l.hosts[1].down("eth0")
			a, b := l.hosts[0].start(setup{}), l.hosts[1].start(setup{})
			time.Sleep(1500 * time.Millisecond)
			since := time.Now()
			b.up("eth0")
			t.Logf("seen after %v", met(t, since, within, a, b))
		})
		t.Run("just before the start, "+name, func(t *testing.T) {
			t.Parallel()
			l := lanOf(t, 2, c.first)
			a := l.hosts[0].start(setup{NoMDNS: true})
			l.hosts[1].down("eth0")
			time.Sleep(time.Second)
			l.hosts[1].up("eth0")
			b := l.hosts[1].start(setup{NoMDNS: true})
			t.Logf("seen after %v", met(t, b.began, within, a, b))
		})
		t.Run("at a second interface, "+name, func(t *testing.T) {
			t.Parallel()
			l, other := lanOf(t, 2, c.first), lanOf(t, 0, c.second)
			l.hosts[1].lose("eth0")
			l.hosts[1].plug("eth0", other)
			l.hosts[1].settled("eth0")
			a, b := l.hosts[0].start(setup{}), l.hosts[1].start(setup{})
			time.Sleep(1500 * time.Millisecond)
			a.never(b)
			since := time.Now()
			a.plug("eth1", other)
			t.Logf("seen after %v", met(t, since, within, a, b))
			talk(t, time.Now(), seenWithin, a, b)
		})
	}
}

func TestNetnsFiveNodesLoseOneAndHaveItBack(t *testing.T) {
	if !withNamespaces(t) {
		return
	}
	l := lanOf(t, 5, usual)
	var nodes []*node
	for _, m := range l.hosts {
		nodes = append(nodes, m.start(setup{}))
	}
	last, others := nodes[4], nodes[:4]
	t.Logf("all seen by all after %v", met(t, last.began, seenWithin, nodes...))
	for i, a := range nodes {
		for _, b := range nodes[:i] {
			talk(t, time.Now(), seenWithin, a, b)
		}
	}
	since := last.kill()
	t.Logf("gone after %v", gone(t, last, since, goneWithin, others...))

	last = last.machine.start(setup{})
	t.Logf("back after %v", met(t, last.began, seenWithin, append(others, last)...))

	last.kill()
	last = last.machine.start(setup{}) // before anybody has noticed
	t.Logf("back from a quick restart after %v", met(t, last.began, seenWithin, append(others, last)...))
	for _, o := range others {
		talk(t, last.began, seenWithin, last, o)
	}
}

func TestNetnsPairedNodesMayAskMore(t *testing.T) {
	if !withNamespaces(t) {
		return
	}
	l := lanOf(t, 2, usual)
	a, b := l.hosts[0].start(setup{}), l.hosts[1].start(setup{})
	met(t, b.began, seenWithin, a, b)
	if r, err := b.order(order{Do: "ask", Peer: a.id}); err == nil || !strings.Contains(err.Error(), "paired") {
		t.Errorf("before: got %q %v, want a word about pairing", r.Code, err)
	}
	code, err := a.order(order{Do: "code"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.order(order{Do: "pair", Peer: a.id, Code: "00000000"}); err == nil {
		t.Error("paired with a wrong code")
	}
	if _, err := b.order(order{Do: "pair", Peer: a.id, Code: code.Code}); err != nil {
		t.Fatalf("with the right code: %v", err)
	}
	for _, n := range [][2]*node{{a, b}, {b, a}} {
		if r, err := n[0].order(order{Do: "ask", Peer: n[1].id}); err != nil || r.Code != fmt.Sprint("of node ", n[1].number) {
			t.Errorf("after: got %q %v, want the answer of node %d", r.Code, err, n[1].number)
		}
	}
}

func TestNetnsNodesOfOtherNetworksNeverMeet(t *testing.T) {
	if !withNamespaces(t) {
		return
	}
	l := lanOf(t, 3, usual)
	a, b := l.hosts[0].start(setup{Network: "home"}), l.hosts[1].start(setup{Network: "home"})
	c := l.hosts[2].start(setup{Network: "office", Peers: []string{v4(l.hosts[0])}})
	met(t, c.began, seenWithin, a, b)
	time.Sleep(5 * time.Second)
	c.never(a)
	c.never(b)
	a.never(c)
	b.never(c)
}

func TestNetnsHiddenNodesAreNotFound(t *testing.T) {
	if !withNamespaces(t) {
		return
	}
	for name, s := range map[string]setup{"quiet": {Quiet: true}, "private": {Policy: p2p.PolicyPrivate}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lanOf(t, 3, usual)
			hidden := l.hosts[0].start(s)
			a, b := l.hosts[1].start(setup{}), l.hosts[2].start(setup{})
			met(t, b.began, seenWithin, a, b)
			time.Sleep(3 * time.Second)
			for _, n := range []*node{a, b} {
				if _, err := n.order(order{Do: "know", Peer: hidden.id}); err == nil {
					t.Errorf("node %d has heard of the hidden one", n.number)
				}
				hidden.never(n)
			}
		})
	}
}
