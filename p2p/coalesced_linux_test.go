package p2p

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// The packets of a piece are those that were sent, whatever their number, and however few are read at a time.
func TestCoalescedPacketsAreThoseThatWereSent(t *testing.T) {
	for _, network := range []string{"127.0.0.1", "::1"} {
		t.Run(network, func(t *testing.T) {
			socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(network)})
			if err != nil {
				t.Skipf("this machine has no %s: %v", network, err)
			}
			defer socket.Close()
			c, ok := coalesce(socket).(*coalesced)
			if !ok {
				t.Skip("this kernel does not coalesce packets")
			}
			sender, err := net.DialUDP("udp", nil, socket.LocalAddr().(*net.UDPAddr))
			if err != nil {
				t.Fatal(err)
			}
			defer sender.Close()
			largest := 0
			for _, sent := range []struct{ bytes, size int }{{1, 1200}, {1200, 1200}, {1201, 1200}, {40*1200 + 7, 1200}, {30 * 1452, 1452}, {0, 1200}, {64 * 9, 9}} {
				data := make([]byte, sent.bytes)
				for i := range data {
					data[i] = byte(i*7 + i/256)
				}
				if _, _, err := sender.WriteMsgUDP(data, segmented(sent.size), nil); err != nil {
					t.Fatalf("send %d bytes in packets of %d: %v", sent.bytes, sent.size, err)
				}
				var got []byte
				for done := false; !done; done = len(got) >= len(data) {
					packets := make([]ipv4.Message, 3)
					for i := range packets {
						packets[i] = ipv4.Message{Buffers: [][]byte{make([]byte, 1452)}, OOB: make([]byte, controlSize)}
					}
					if err := socket.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
						t.Fatal(err)
					}
					n, err := c.ReadBatch(packets, 0)
					if err != nil {
						t.Fatalf("after %d bytes of %d: %v", len(got), len(data), err)
					}
					largest = max(largest, c.read[0].N)
					for _, p := range packets[:n] {
						if want := min(sent.size, len(data)-len(got)); p.N != want {
							t.Fatalf("a packet of %d bytes, want %d", p.N, want)
						}
						if want := sender.LocalAddr().String(); p.Addr.String() != want {
							t.Fatalf("a packet from %s, want %s", p.Addr, want)
						}
						got = append(got, p.Buffers[0][:p.N]...)
					}
				}
				if !bytes.Equal(got, data) {
					t.Errorf("%d bytes in packets of %d: other bytes came", sent.bytes, sent.size)
				}
			}
			if largest <= 1452 {
				t.Errorf("the largest piece has %d bytes: nothing was coalesced", largest)
			}
		})
	}
}

// segmented asks the kernel to cut a message into packets of a size, as quic-go does.
func segmented(size int) []byte {
	b := make([]byte, unix.CmsgSpace(2))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], uint16(size))
	return b
}
