package p2p_test

import (
	"context"
	"crypto/ed25519"
	"testing"
	"testing/synctest"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/p2ptest"
	"github.com/centram/centram/p2p/wire"
)

// hostile is something that a bad actor does after it has come in as an honest peer does. It does it until it fails.
var hostile = []struct {
	name string
	act  func(r *p2ptest.Raw) error
}{
	{"a bad signature", func(r *p2ptest.Raw) error {
		f := r.Frame(&wire.Ping{Nonce: 1}, 0)
		f.Signature[5] ^= 1
		return r.Write(f.Append(nil))
	}},
	{"another key than its own", func(r *p2ptest.Raw) error {
		f, err := wire.Seal(&wire.Ping{Nonce: 1}, p2ptest.Key(99), r.Scope, 0, 0)
		if err != nil {
			return err
		}
		return r.Write(f.Append(nil))
	}},
	{"a message of another session", func(r *p2ptest.Raw) error {
		f, err := wire.Seal(&wire.Ping{Nonce: 1}, r.Key, wire.Scope{Network: r.Scope.Network, Session: wire.Hash{1}}, 0, 0)
		if err != nil {
			return err
		}
		return r.Write(f.Append(nil))
	}},
	{"a record of another network", func(r *p2ptest.Raw) error {
		f, err := wire.Seal(&wire.PeerSuspect{Subject: centram.PeerID{1}, Expires: time.Now().Add(time.Minute).UnixMilli()}, p2ptest.Key(98),
			wire.Scope{Network: wire.NetworkOf("other")}, 0, 0)
		if err != nil {
			return err
		}
		return r.Write(f.Append(nil))
	}},
	{"a frame over the limit", func(r *p2ptest.Raw) error {
		f := r.Frame(&wire.Ping{Nonce: 1}, 0)
		f.Body = make([]byte, 2<<10)
		return r.Write(f.Append(nil))
	}},
	{"a frame that says it is 4 GiB long", func(r *p2ptest.Raw) error {
		return r.Write([]byte{1, 2, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0})
	}},
	{"a compressed body, that may be a bomb", func(r *p2ptest.Raw) error {
		f := r.Frame(&wire.Ping{Nonce: 1}, 0)
		f.Flags |= 1 << 3
		return r.Write(f.Append(nil))
	}},
	{"bytes that are no frame", func(r *p2ptest.Raw) error { return r.Write([]byte("GET / HTTP/1.1\r\n\r\n")) }},
	{"a second hello", func(r *p2ptest.Raw) error {
		return r.Say(&wire.Hello{ProtoMin: 1, ProtoMax: 1, Network: r.Scope.Network, Caps: []string{}, Limits: wire.Limits{Requests: 1, Records: 1}, Port: 1})
	}},
	{"a request in the control stream", func(r *p2ptest.Raw) error {
		return r.Say(&wire.PeerQuery{Caps: []string{}, Most: 1, Known: []centram.PeerID{}})
	}},
	{"a body with a field too many", func(r *p2ptest.Raw) error {
		f := &wire.Frame{Type: wire.RowAs[wire.Ping]().Type, Body: []byte{0xa2, 1, 1, 2, 2}}
		return r.Write(resign(r, f).Append(nil))
	}},
	{"a flood of streams without a request", func(r *p2ptest.Raw) error {
		for {
			s, err := r.Conn.OpenStreamSync(context.Background())
			if err != nil {
				return err
			}
			if _, err := s.Write(nil); err != nil {
				return err
			}
			if err := s.Close(); err != nil {
				return err
			}
		}
	}},
	{"a flood of requests that nobody may make", func(r *p2ptest.Raw) error {
		for i := uint64(1); ; i++ {
			s, err := r.Conn.OpenStreamSync(context.Background())
			if err != nil {
				return err
			}
			f := r.Frame(&wire.PeerQuery{Caps: []string{}, Most: 1, Known: []centram.PeerID{}}, i)
			f.Body = append(f.Body, 0)
			if _, err := s.Write(f.Append(nil)); err != nil {
				return err
			}
		}
	}},
	{"answers that it does not read", func(r *p2ptest.Raw) error {
		for i := uint64(1); i <= 100; i++ {
			s, err := r.Conn.OpenStreamSync(context.Background())
			if err != nil {
				return err
			}
			if _, err := s.Write(r.Frame(&wire.CatRecon{Session: 1, Ranges: []byte{byte(i)}}, i).Append(nil)); err != nil {
				return err
			}
		}
		<-r.Conn.Context().Done()
		return context.Cause(r.Conn.Context())
	}},
}

// resign gives a frame with any body the signature of an honest peer.
func resign(r *p2ptest.Raw, f *wire.Frame) *wire.Frame {
	row := wire.RowOf(f.Type)
	f.Flags |= wire.Signed
	f.Author = centram.PeerID(r.Key.Public().(ed25519.PublicKey))
	b := append([]byte{byte(len(wire.ALPN) + 1 + len(row.Name))}, wire.ALPN+"/"+row.Name...)
	b = append(append(b, r.Scope.Network[:]...), r.Scope.Session[:]...)
	header := f.Append(nil)[:16]
	copy(f.Signature[:], ed25519.Sign(r.Key, append(append(b, header...), f.Body...)))
	return f
}

// TestBadActorsAreCutOffAndOthersGoOn lets one do its worst while another peer asks in a steady rhythm.
func TestBadActorsAreCutOffAndOthersGoOn(t *testing.T) {
	for _, h := range hostile {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				net := p2ptest.New(t, 1, p2ptest.Faults{Latency: 2 * time.Millisecond})
				big := make([]byte, 60<<10)
				a := net.Node(1, p2p.Config{}, func(n *p2p.Node) {
					p2p.Answer(n.Mux(), func(_ context.Context, _ *p2p.Peer, q *wire.CatRecon) (*wire.CatRecon, error) {
						return &wire.CatRecon{Session: q.Session, Ranges: big[:max(1, int(q.Ranges[0])*600)]}, nil
					})
				})
				honest := net.Node(2, p2p.Config{Peers: static(1)}, nil)
				p := connected(t, honest, a)
				alone := answersIn(t, p, 2*time.Second)

				r := net.Raw(3, 1)
				if err := r.Hello(); err != nil {
					t.Fatal(err)
				}
				id := centram.PeerID(r.Key.Public().(ed25519.PublicKey))
				p2ptest.Eventually(t, time.Second, "the bad actor is in", func() bool { return a.Peer(id) != nil })
				began := time.Now()
				done := make(chan struct{})
				go func() {
					defer close(done)
					for h.act(r) == nil {
						time.Sleep(time.Millisecond)
					}
				}()
				together := answersIn(t, p, 2*time.Second)
				p2ptest.Eventually(t, 10*time.Second-time.Since(began), "it is cut off", func() bool { return a.Peer(id) == nil })
				<-done
				if together < alone*8/10 {
					t.Errorf("the honest peer got %d answers in 2 s, and %d before: want 80 %% or more", together, alone)
				}
				if honest.Peer(a.ID()) != p {
					t.Error("the honest peer has lost its session")
				}
			})
		})
	}
}

// answersIn counts the answers that a peer gives in a while to one who asks again as soon as it has got one.
func answersIn(t *testing.T, p *p2p.Peer, limit time.Duration) int {
	t.Helper()
	n := 0
	for began := time.Now(); time.Since(began) < limit; n++ {
		if _, err := p2p.Ask[wire.CatRecon](t.Context(), p, &wire.CatRecon{Session: 1, Ranges: []byte{0}}); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestForgedBeaconsLeadNowhere has datagrams that lie: nobody is dialled, and nobody is written down.
func TestForgedBeaconsLeadNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: time.Millisecond})
		a := net.Node(1, p2p.Config{NoMDNS: true}, nil)
		victim := net.Node(2, p2p.Config{}, nil)
		r := net.Raw(3, 1)
		beacon := func(key ed25519.PrivateKey, scope wire.Scope, at time.Time, seq uint64) []byte {
			f, err := wire.Seal(&wire.Beacon{Boot: 7, Seq: seq, TimeMs: at.UnixMilli(), Port: p2p.DefaultPort, Addrs: []string{p2ptest.Addr(2).String()}}, key, scope, 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			return f.Append(nil)
		}
		here := wire.Scope{Network: wire.NetworkOf("")}
		forged := beacon(p2ptest.Key(9), here, time.Now(), 1)
		forged[len(forged)-1] ^= 1
		for what, b := range map[string][]byte{
			"forged":             forged,
			"of another network": beacon(p2ptest.Key(9), wire.Scope{Network: wire.NetworkOf("x")}, time.Now(), 1),
			"old":                beacon(p2ptest.Key(9), here, time.Now().Add(-time.Hour), 1),
			"from the future":    beacon(p2ptest.Key(9), here, time.Now().Add(time.Hour), 1),
			"cut":                beacon(p2ptest.Key(9), here, time.Now(), 1)[:100],
			"garbage":            []byte("\x01garbage"),
		} {
			for range 50 {
				if err := r.Datagram(b, 1); err != nil {
					t.Fatal(what, err)
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
		if list := a.Book().Contacts(); len(list) != 0 || len(victim.Peers()) != 0 {
			t.Errorf("got %+v in the book and %d sessions at the victim, want none", list, len(victim.Peers()))
		}
		time.Sleep(5 * time.Second)
		if err := r.Datagram(beacon(p2ptest.Key(2), here, time.Now(), 1), 1); err != nil {
			t.Fatal(err)
		}
		p2ptest.Eventually(t, 5*time.Second, "an honest beacon is still heard", func() bool { return a.Peer(victim.ID()) != nil })
	})
}
