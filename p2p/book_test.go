package p2p

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
	"github.com/centram/centram/store"
)

func bookIn(t *testing.T, dir string) (*Book, func()) {
	t.Helper()
	db, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := OpenBook(t.Context(), db.DB)
	if err != nil {
		t.Fatal(err)
	}
	return b, func() { db.Close() }
}

var home = netip.MustParseAddrPort("192.0.2.7:9743")

func TestTheBookIsThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	friend, stranger, gone := centram.PeerID{1}, centram.PeerID{2}, centram.PeerID{3}
	b, closeBook := bookIn(t, dir)
	for _, err := range []error{
		b.AddStatic(t.Context(), "nas.example:9743"),
		b.met(t.Context(), friend, "Ana's laptop", home, "nas.example:9743"),
		b.Trust(t.Context(), friend, wire.Friend),
		b.met(t.Context(), stranger, "x", netip.AddrPort{}, ""),
		b.met(t.Context(), gone, "y", netip.AddrPort{}, ""),
		b.Forget(t.Context(), gone),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 4 {
		if _, err := b.penalise(t.Context(), stranger, penaltyForFault); err != nil {
			t.Fatal(err)
		}
	}
	closeBook()
	b, closeBook = bookIn(t, dir)
	defer closeBook()
	c, ok := b.Contact(friend)
	if !ok || c.Name != "Ana's laptop" || c.Trust != wire.Friend || !c.Static || len(c.Addresses) != 1 || c.Addresses[0].Address != home || time.Since(c.LastSeen) > time.Minute {
		t.Errorf("got %+v, want the friend as it was", c)
	}
	if !b.banned(stranger) || b.banned(friend) {
		t.Error("the ban was forgotten, or is another's")
	}
	if _, ok := b.Contact(gone); ok {
		t.Error("who was forgotten is there again")
	}
	list, _ := b.due(func(centram.PeerID) bool { return false }, centram.PeerID{9})
	if len(list) != 2 || list[0].host != "nas.example:9743" || list[1].id != friend {
		t.Errorf("to be dialled: %+v, want the owner's address and the friend", list)
	}
}

func TestBansGetLongerAndPointsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := OpenBook(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		id := centram.PeerID{1}
		fault := func() time.Time {
			until, err := b.penalise(t.Context(), id, penaltyForFault)
			if err != nil {
				t.Fatal(err)
			}
			return until
		}
		for range 20 { // a slip an hour
			fault()
			time.Sleep(time.Hour)
		}
		if b.banned(id) {
			t.Error("banned for one fault an hour")
		}
		for _, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute} {
			var until time.Time
			for range 4 {
				until = fault()
			}
			if got := time.Until(until); got != want {
				t.Errorf("banned for %v, want %v", got, want)
			}
			time.Sleep(want)
			if b.banned(id) {
				t.Error("the ban does not end")
			}
		}
		if err := b.Trust(t.Context(), id, wire.Friend); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			fault()
		}
		if c, _ := b.Contact(id); time.Until(c.BannedUntil) != time.Minute {
			t.Errorf("banned for %v after the owner has forgiven all, want a minute", time.Until(c.BannedUntil))
		}
	})
}

// TestTheBookIsNotFilledByStrangers has anybody make up nodes: friends and what was banned stay.
func TestTheBookIsNotFilledByStrangers(t *testing.T) {
	b, err := OpenBook(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	friend := centram.PeerID{1}
	if err := b.Trust(t.Context(), friend, wire.Friend); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * maxStrangers {
		id := centram.PeerID{2, byte(i >> 8), byte(i)}
		for k := range 3 * maxAddresses {
			b.heard(id, fmt.Sprint(i), FromPeer, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(k)}), 1))
		}
	}
	list := b.Contacts()
	if len(list) > maxStrangers+1 {
		t.Errorf("%d peers are in the book, want %d at most", len(list), maxStrangers+1)
	}
	for _, c := range list {
		if len(c.Addresses) > maxAddresses {
			t.Fatalf("%d addresses of one peer, want %d at most", len(c.Addresses), maxAddresses)
		}
	}
	if _, ok := b.Contact(friend); !ok {
		t.Error("the friend had to make room")
	}
}

func TestAddressesFromBetterSourcesStay(t *testing.T) {
	b, err := OpenBook(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	id := centram.PeerID{1}
	b.heard(id, "", FromLink, home)
	for k := range 2 * maxAddresses {
		b.heard(id, "", FromPeer, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(k)}), 1))
	}
	c, _ := b.Contact(id)
	if c.Addresses[0].Address != home {
		t.Errorf("got %+v first, want the one where there was a session", c.Addresses[0])
	}
}
