package wire

import "github.com/centram/centram"

// Hello is the first frame of both sides. Its signature covers a value that both derive from the TLS handshake, so a peer
// that got here holds the private half of the key that the handshake showed.
type Hello struct {
	ProtoMin   uint16   `cbor:"1,keyasint"`
	ProtoMax   uint16   `cbor:"2,keyasint"`
	Network    Hash     `cbor:"3,keyasint"`
	Version    string   `cbor:"4,keyasint"`           // of the program, for people
	Name       string   `cbor:"5,keyasint"`           // that the owner gave the node
	Boot       uint64   `cbor:"6,keyasint"`           // random at every start: tells a restart from a new connection
	Caps       []string `cbor:"7,keyasint"`           // abilities, such as "transfer/1"; unknown ones mean nothing
	Limits     Limits   `cbor:"8,keyasint"`           // what the sender takes
	ClockMs    int64    `cbor:"9,keyasint"`           // Unix time of the sender, for hints about a wrong clock only
	Port       uint16   `cbor:"10,keyasint"`          // UDP port that the sender listens on
	Membership Record   `cbor:"11,keyasint,omitzero"` // an INVITE, in a private network
}

func (m *Hello) Validate() error {
	var c check
	c.that(m.ProtoMin >= 1 && m.ProtoMin <= m.ProtoMax, "proto: from %d to %d", m.ProtoMin, m.ProtoMax)
	c.text("version", m.Version, 64)
	c.text("name", m.Name, 64)
	c.words("caps", m.Caps, 128)
	c.that(m.Port != 0, "port: 0")
	if len(m.Membership) > 0 {
		c.records("membership", []Record{m.Membership}, 1, 0x19)
	}
	m.Limits.check(&c)
	return c.err
}

// Limits are what one side of a session takes from the other; the smaller of both sides' holds.
type Limits struct {
	Requests uint16 `cbor:"1,keyasint"` // running at the same time
	Records  uint16 `cbor:"2,keyasint"` // gossiped ones, a minute
	Bulk     uint64 `cbor:"3,keyasint"` // bytes a second; 0 means no limit
}

func (l *Limits) check(c *check) {
	c.that(l.Requests >= 1 && l.Requests <= 1024, "limits: %d requests", l.Requests)
	c.that(l.Records >= 1, "limits: no records")
}

// HelloAck fixes the session: the version both speak and the abilities both have.
type HelloAck struct {
	Proto    uint16   `cbor:"1,keyasint"`
	Caps     []string `cbor:"2,keyasint"`
	Limits   Limits   `cbor:"3,keyasint"`
	Observed string   `cbor:"4,keyasint"` // the IP:port that the receiver is seen at
	Trust    Trust    `cbor:"5,keyasint"` // what the sender takes the receiver for
}

func (m *HelloAck) Validate() error {
	var c check
	c.that(m.Proto >= 1, "proto: 0")
	c.words("caps", m.Caps, 128)
	c.addresses("observed", []string{m.Observed}, 1)
	among(&c, "trust", m.Trust, trustNames)
	m.Limits.check(&c)
	return c.err
}

// Trust is what a node takes a peer for.
type Trust uint8

const (
	Stranger Trust = iota
	Friend         // paired
	Own            // of the same owner
)

var trustNames = []string{"stranger", "paired", "own"}

func (t Trust) String() string { return nameOf(trustNames, t) }

// Ping asks for Pong.
type Ping struct {
	Nonce uint64 `cbor:"1,keyasint"`
}

func (m *Ping) Validate() error { return nil }

// Pong answers Ping with the same nonce.
type Pong struct {
	Nonce uint64 `cbor:"1,keyasint"`
	Queue uint16 `cbor:"2,keyasint"` // requests that wait for the sender's engine
	Load  uint16 `cbor:"3,keyasint"` // of its processors, in thousandths
}

func (m *Pong) Validate() error {
	var c check
	c.most("load", int(m.Load), 1000)
	return c.err
}

// Cancel stops a request of the sender.
type Cancel struct {
	Request uint64 `cbor:"1,keyasint"`
	Reason  string `cbor:"2,keyasint,omitempty"`
}

func (m *Cancel) Validate() error {
	var c check
	c.that(m.Request != 0, "request: 0")
	c.text("reason", m.Reason, 256)
	return c.err
}

// CapsUpdate changes what HELLO said, without a new connection.
type CapsUpdate struct {
	Added   []string `cbor:"1,keyasint"`
	Removed []string `cbor:"2,keyasint"`
	Limits  Limits   `cbor:"3,keyasint"`
}

func (m *CapsUpdate) Validate() error {
	var c check
	c.words("added", m.Added, 128)
	c.words("removed", m.Removed, 128)
	m.Limits.check(&c)
	return c.err
}

// KeyScope says what a key may sign for.
type KeyScope uint8

const (
	NetworkKey KeyScope = iota
	LedgerKey
	AttestKey
)

var keyScopeNames = []string{"network", "ledger", "attest"}

// KeyRotate replaces a key by the one that it committed to (key pre-rotation, as in KERI). Its author is the next key.
type KeyRotate struct {
	Root     centram.PeerID `cbor:"1,keyasint"` // the identity whose key changes
	Seq      uint64         `cbor:"2,keyasint"` // highest wins
	Scope    KeyScope       `cbor:"3,keyasint"`
	NextHash Hash           `cbor:"4,keyasint"`           // of the key after this one
	Expires  int64          `cbor:"5,keyasint,omitempty"` // Unix milliseconds; 0 means never
	OldSig   []byte         `cbor:"6,keyasint,omitempty"` // the old key's signature over the new key, if it still exists
}

func (m *KeyRotate) Validate() error {
	var c check
	c.that(m.Root != centram.PeerID{}, "root: zero")
	among(&c, "scope", m.Scope, keyScopeNames)
	c.that(len(m.OldSig) == 0 || len(m.OldSig) == 64, "old_sig: %d bytes", len(m.OldSig))
	c.that(m.Expires >= 0, "expires: negative")
	return c.err
}

// Goodbye says that the sender ends the session on purpose.
type Goodbye struct {
	Code        GoodbyeCode `cbor:"1,keyasint"`
	Reason      string      `cbor:"2,keyasint,omitempty"`
	ReconnectMs uint32      `cbor:"3,keyasint,omitempty"` // when the sender will be back; 0 means unknown
}

// GoodbyeCode says why a session ends.
type GoodbyeCode uint8

const (
	ShuttingDown GoodbyeCode = iota
	Restarting
	Duplicate // another connection to the same peer is kept
	WrongNetwork
	NoCommonVersion
	Misbehaviour
	Crowded
	Forgotten // the owner removed the peer
	Private   // strangers are not let in
	Stalled   // what was sent was not read
)

var goodbyeNames = []string{
	"shutting down", "restarting", "duplicate connection", "another network", "no common version", "misbehaviour",
	"too many peers", "forgotten", "private", "stalled",
}

func (g GoodbyeCode) String() string { return nameOf(goodbyeNames, g) }

func (m *Goodbye) Validate() error {
	var c check
	among(&c, "code", m.Code, goodbyeNames)
	c.text("reason", m.Reason, 256)
	return c.err
}
