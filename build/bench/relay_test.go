package main

import (
	"net"
	"slices"
	"testing"
	"time"
)

// through sends n datagrams through a relay to a server that sends them back, and returns how long each was under way.
// Zero is one that was lost.
func through(t *testing.T, d delay, n int) []time.Duration {
	t.Helper()
	server, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 1)
		for {
			_, from, err := server.ReadFromUDP(buf)
			if err != nil {
				return
			}
			_, _ = server.WriteToUDP(buf, from)
		}
	}()
	defer server.Close()
	r, err := newRelay(server.LocalAddr().String(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	client, err := net.Dial("udp", r.address())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	took := make([]time.Duration, n)
	for i := range took {
		began := time.Now()
		if _, err := client.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		_ = client.SetReadDeadline(began.Add(d.RTT + 100*time.Millisecond))
		answer := make([]byte, 1)
		for { // one that came too late is not this one
			if _, err := client.Read(answer); err != nil {
				break
			}
			if answer[0] == byte(i) {
				took[i] = time.Since(began)
				break
			}
		}
	}
	return took
}

func TestARelayPassesNothingOnTooEarlyAndLittleTooLate(t *testing.T) {
	for _, rtt := range []time.Duration{0, 5 * time.Millisecond, 20 * time.Millisecond} {
		took := through(t, delay{RTT: rtt}, 40)
		slices.Sort(took)
		least, median := took[0], took[len(took)/2]
		if least < rtt {
			t.Errorf("with an RTT of %v one datagram took %v", rtt, least)
		}
		t.Logf("RTT %v: %v too late in the median, %v at the most", rtt, median-rtt, took[len(took)-1]-rtt)
		if late := median - rtt; late > 20*time.Millisecond { // the machine may be busy with other tests
			t.Errorf("with an RTT of %v the median was %v too late", rtt, late)
		}
	}
}

func TestARelayLosesWhatItsSeedSays(t *testing.T) {
	lost := func(seed uint64) []bool {
		var out []bool
		for _, took := range through(t, delay{Loss: 20, Seed: seed}, 30) {
			out = append(out, took == 0)
		}
		return out
	}
	first, again, other := lost(1), lost(1), lost(2)
	if !slices.Equal(first, again) {
		t.Errorf("with one seed it lost %v and then %v", first, again)
	}
	if slices.Equal(first, other) || !slices.Contains(first, true) || !slices.Contains(first, false) {
		t.Errorf("with another seed it lost %v, and with the first %v", other, first)
	}
}
