package p2p

import (
	"encoding/binary"
	"net"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// On Linux the kernel may hand over packets of one sender in one piece, up to 64 KiB (UDP_GRO). What a peer sends in one
// piece then passes through the kernel once instead of packet by packet, which costs more than all that QUIC does. quic-go
// does so when it sends and not when it receives.

const (
	coalescedReads = 8         // pieces that are read at once
	coalescedSize  = 64 * 1024 // the most of a piece
	controlSize    = 128       // of what the kernel says of a piece: its interface, its ECN bits, and the packets' size
)

// coalesced is a socket whose packets come in pieces. quic-go reads it through ReadBatch, from one goroutine.
type coalesced struct {
	*net.UDPConn
	pieces *ipv4.PacketConn // which serves IPv6 as well
	read   []ipv4.Message   // the pieces that were read last
	rows   []piece          // what is in them
	given  int              // rows that were given away
}

// piece is a row of packets of one sender. All have the same size but the last, which may be smaller.
type piece struct {
	data, control []byte
	size          int
	from          net.Addr
}

// coalesce has the kernel hand over packets in pieces, if it can.
func coalesce(socket net.PacketConn) net.PacketConn {
	udp, ok := socket.(*net.UDPConn)
	if !ok {
		return socket
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		return socket
	}
	var refused error
	err = raw.Control(func(fd uintptr) { refused = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1) })
	if err != nil || refused != nil { // before Linux 5.0
		return socket
	}
	c := &coalesced{UDPConn: udp, pieces: ipv4.NewPacketConn(udp), read: make([]ipv4.Message, coalescedReads)}
	for i := range c.read {
		c.read[i] = ipv4.Message{Buffers: [][]byte{make([]byte, coalescedSize)}, OOB: make([]byte, controlSize)}
	}
	return c
}

// ReadBatch reads packets, at least one and as many as there are without waiting for more.
func (c *coalesced) ReadBatch(packets []ipv4.Message, flags int) (int, error) {
	if c.given == len(c.rows) {
		n, err := c.pieces.ReadBatch(c.read, flags)
		if err != nil {
			return n, err
		}
		c.rows, c.given = c.rows[:0], 0
		for i := range c.read[:n] {
			m := &c.read[i]
			data, control := m.Buffers[0][:m.N], m.OOB[:m.NN]
			c.rows = append(c.rows, piece{data, control, packetSize(control, len(data)), m.Addr})
		}
	}
	n := 0
	for ; n < len(packets) && c.given < len(c.rows); n++ {
		m, p := &packets[n], &c.rows[c.given]
		size := min(p.size, len(p.data))
		m.N, m.NN, m.Addr = copy(m.Buffers[0], p.data[:size]), copy(m.OOB, p.control), p.from
		if p.data = p.data[size:]; len(p.data) == 0 {
			c.given++
		}
	}
	return n, nil
}

// packetSize is how long the packets of a piece are, by what the kernel says of it; whole if it is one packet.
func packetSize(control []byte, whole int) int {
	for len(control) > 0 {
		h, value, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			break
		}
		if h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(value) >= 2 {
			if size := int(binary.NativeEndian.Uint16(value)); size > 0 {
				return size
			}
		}
		control = rest
	}
	return whole
}
