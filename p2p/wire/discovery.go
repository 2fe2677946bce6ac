package wire

import "github.com/centram/centram"

// Beacon says that its author is here. A receiver takes it only if Seq is over the last one of this Boot, and if TimeMs is
// within five minutes of its own clock. It proves nothing about the addresses: dialling them does.
type Beacon struct {
	Boot   uint64   `cbor:"1,keyasint"`
	Seq    uint64   `cbor:"2,keyasint"`
	TimeMs int64    `cbor:"3,keyasint"`           // Unix time
	Port   uint16   `cbor:"4,keyasint"`           // at the address that the datagram came from
	Addrs  []string `cbor:"5,keyasint,omitempty"` // further addresses
	Name   string   `cbor:"6,keyasint,omitempty"`
	Bye    bool     `cbor:"7,keyasint,omitempty"` // the node is about to leave
}

func (m *Beacon) Validate() error {
	var c check
	c.that(m.Boot != 0 && m.Seq != 0, "boot or seq: 0")
	c.that(m.Port != 0, "port: 0")
	c.addresses("addrs", m.Addrs, 8)
	c.text("name", m.Name, 64)
	return c.err
}

// Probe asks whoever it reaches, or Target alone, for a beacon. Its padding makes the answer the smaller datagram, so that
// nobody can use a node to flood a third party.
type Probe struct {
	Boot   uint64         `cbor:"1,keyasint"`
	Seq    uint64         `cbor:"2,keyasint"`
	TimeMs int64          `cbor:"3,keyasint"`
	Nonce  uint64         `cbor:"4,keyasint"`
	Target centram.PeerID `cbor:"5,keyasint"` // zero: anyone
	Pad    []byte         `cbor:"6,keyasint"`
}

func (m *Probe) Validate() error {
	var c check
	c.that(m.Boot != 0 && m.Seq != 0, "boot or seq: 0")
	c.that(len(m.Pad) >= 900, "pad: %d bytes, at least 900", len(m.Pad))
	return c.err
}

// ProbeAck answers the Probe with the same nonce.
type ProbeAck struct {
	Nonce  uint64 `cbor:"1,keyasint"`
	Beacon Record `cbor:"2,keyasint"`
}

func (m *ProbeAck) Validate() error {
	var c check
	c.records("beacon", []Record{m.Beacon}, 1, 0x10)
	return c.err
}

// PeerRecord is what others may pass on about its author.
type PeerRecord struct {
	Seq     uint64   `cbor:"1,keyasint"` // highest wins; not a time
	Addrs   []string `cbor:"2,keyasint"`
	Caps    []string `cbor:"3,keyasint"`
	Name    string   `cbor:"4,keyasint,omitempty"`
	Expires int64    `cbor:"5,keyasint"` // Unix milliseconds, at most a day ahead
}

func (m *PeerRecord) Validate() error {
	var c check
	c.that(m.Seq != 0, "seq: 0")
	c.addresses("addrs", m.Addrs, 16)
	c.words("caps", m.Caps, 64)
	c.text("name", m.Name, 64)
	c.that(m.Expires > 0, "expires: %d", m.Expires)
	return c.err
}

// PeerQuery asks for peers that have all of Caps.
type PeerQuery struct {
	Caps  []string         `cbor:"1,keyasint"`
	Most  uint16           `cbor:"2,keyasint"`
	Known []centram.PeerID `cbor:"3,keyasint"` // need not come again
}

func (m *PeerQuery) Validate() error {
	var c check
	c.words("caps", m.Caps, 16)
	c.some("most", int(m.Most), 64)
	c.most("known", len(m.Known), 1024)
	return c.err
}

// PeerList answers PeerQuery.
type PeerList struct {
	Peers []Record `cbor:"1,keyasint"`
}

func (m *PeerList) Validate() error {
	var c check
	c.records("peers", m.Peers, 64, 0x13)
	return c.err
}

// Presence is what an observer thinks of a peer.
type Presence uint8

const (
	Alive Presence = iota
	Suspect
	Dead
)

var presenceNames = []string{"alive", "suspect", "dead"}

func (p Presence) String() string { return nameOf(presenceNames, p) }

// PeerSuspect spreads a suspicion, or its refutation by the peer itself under a higher incarnation (SWIM, Das et al. 2002).
type PeerSuspect struct {
	Subject     centram.PeerID `cbor:"1,keyasint"`
	Incarnation uint64         `cbor:"2,keyasint"` // of the subject
	State       Presence       `cbor:"3,keyasint"`
	Seq         uint64         `cbor:"4,keyasint"` // of the author
	Expires     int64          `cbor:"5,keyasint"` // Unix milliseconds
}

func (m *PeerSuspect) Validate() error {
	var c check
	c.that(m.Subject != centram.PeerID{}, "subject: zero")
	among(&c, "state", m.State, presenceNames)
	c.that(m.Expires > 0, "expires: %d", m.Expires)
	return c.err
}

// LinkReport is what the sender measured of the way to the receiver in the last while.
type LinkReport struct {
	WindowMs uint32 `cbor:"1,keyasint"`
	MedianUs uint32 `cbor:"2,keyasint"` // median round trip, in microseconds
	P99Us    uint32 `cbor:"3,keyasint"`
	Sent     uint64 `cbor:"4,keyasint"` // bytes in the window
	Received uint64 `cbor:"5,keyasint"`
	Best     uint64 `cbor:"6,keyasint"` // highest rate seen, bytes a second
}

func (m *LinkReport) Validate() error {
	var c check
	c.that(m.WindowMs > 0, "window: 0")
	c.that(m.P99Us >= m.MedianUs, "round trip: p99 under the median")
	return c.err
}
