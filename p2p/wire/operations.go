package wire

import (
	"bytes"

	"github.com/centram/centram"
)

// NodeStatusGet asks for a node's health.
type NodeStatusGet struct {
	Sections []string `cbor:"1,keyasint"` // "counters", "engine", "host"; none means all, unknown ones mean nothing
}

func (m *NodeStatusGet) Validate() error {
	var c check
	c.words("sections", m.Sections, 16)
	return c.err
}

// NodeStatus answers NodeStatusGet. A section that was not asked for, or that the receiver may not see, is left out.
type NodeStatus struct {
	Version  string       `cbor:"1,keyasint"` // of the program
	Boot     uint64       `cbor:"2,keyasint"` // as in HELLO
	UptimeS  uint64       `cbor:"3,keyasint"` // seconds
	TimeMs   int64        `cbor:"4,keyasint"` // Unix time of the sender
	Host     HostHealth   `cbor:"5,keyasint,omitzero"`
	Engine   EngineHealth `cbor:"6,keyasint,omitzero"`
	Counters []Counter    `cbor:"7,keyasint,omitempty"` // since the start, in the order of their names
}

func (m *NodeStatus) Validate() error {
	var c check
	c.text("version", m.Version, 64)
	moment(&c, "time", m.TimeMs)
	m.Host.check(&c)
	m.Engine.check(&c)
	counters(&c, m.Counters)
	return c.err
}

// HostHealth is the machine as the node sees it.
type HostHealth struct {
	Load        uint16 `cbor:"1,keyasint"` // of its processors, in thousandths
	Cores       uint16 `cbor:"2,keyasint"`
	Memory      uint64 `cbor:"3,keyasint"` // bytes
	MemoryFree  uint64 `cbor:"4,keyasint"` // bytes
	Disk        uint64 `cbor:"5,keyasint"` // bytes, where the node keeps its files
	DiskFree    uint64 `cbor:"6,keyasint"` // bytes
	OnBattery   bool   `cbor:"7,keyasint,omitempty"`
	Peers       uint16 `cbor:"8,keyasint"` // sessions
	Goroutines  uint32 `cbor:"9,keyasint"`
	Descriptors uint32 `cbor:"10,keyasint"` // open files and sockets
}

func (h *HostHealth) check(c *check) {
	c.most("load", int(h.Load), 1000)
	c.that(h.MemoryFree <= h.Memory, "memory: %d of %d bytes free", h.MemoryFree, h.Memory)
	c.that(h.DiskFree <= h.Disk, "disk: %d of %d bytes free", h.DiskFree, h.Disk)
}

// EngineHealth is what the node's engine does now.
type EngineHealth struct {
	Models  []Hash `cbor:"1,keyasint,omitempty"` // that are loaded, in ascending order
	Slots   uint16 `cbor:"2,keyasint"`           // generations that can run at once
	Busy    uint16 `cbor:"3,keyasint"`           // of these
	Waiting uint32 `cbor:"4,keyasint"`           // requests
	Chains  uint16 `cbor:"5,keyasint"`           // hyperlinks that the node is a stage of
}

func (e *EngineHealth) check(c *check) {
	ascending(c, "models", e.Models, 64)
	c.that(e.Busy <= e.Slots, "slots: %d of %d busy", e.Busy, e.Slots)
}

// Counter is a number that only grows.
type Counter struct {
	Name  string `cbor:"1,keyasint"` // such as "wire/frames_in"
	Value uint64 `cbor:"2,keyasint"`
}

// counters wants each counter once, in the order of the names.
func counters(c *check, list []Counter) {
	c.most("counters", len(list), 512)
	for i, n := range list {
		c.word("counter", n.Name, 64)
		c.that(i == 0 || list[i-1].Name < n.Name, "counters: %q is out of order", n.Name)
	}
}

// Histogram sums up a measured quantity over a window. The name ends with the unit, as in "decode_us".
type Histogram struct {
	Name  string `cbor:"1,keyasint"`
	Count uint64 `cbor:"2,keyasint"`
	P50   uint64 `cbor:"3,keyasint"`
	P99   uint64 `cbor:"4,keyasint"`
	Max   uint64 `cbor:"5,keyasint"`
}

// MetricPush goes to another node of the same owner, who has to have asked for it in the configuration. It has sums over
// time only: no prompt, no name and no id of anyone.
type MetricPush struct {
	FromMs     int64       `cbor:"1,keyasint"` // Unix time that the window begins at
	WindowS    uint32      `cbor:"2,keyasint"` // seconds
	Histograms []Histogram `cbor:"3,keyasint"` // in the order of their names
	Counters   []Counter   `cbor:"4,keyasint"` // growth within the window, in the order of their names
}

func (m *MetricPush) Validate() error {
	var c check
	moment(&c, "from", m.FromMs)
	c.that(m.WindowS >= 1 && m.WindowS <= 24*3600, "window: %d s", m.WindowS)
	c.most("histograms", len(m.Histograms), 128)
	for i, h := range m.Histograms {
		c.word("histogram", h.Name, 64)
		c.that(i == 0 || m.Histograms[i-1].Name < h.Name, "histograms: %q is out of order", h.Name)
		c.that(h.Count > 0 && h.P50 <= h.P99 && h.P99 <= h.Max, "histogram %q: the numbers do not fit", h.Name)
	}
	counters(&c, m.Counters)
	return c.err
}

// AbuseKind says what a complaint is about.
type AbuseKind uint8

const (
	AbuseFlood   AbuseKind = iota // too much of anything
	AbuseData                     // chunks or records that are not what they claim
	AbuseWork                     // layers, evaluations or answers that were not computed
	AbuseWeights                  // a genome with a trap in it
	AbuseLineage                  // a copied genome, or parents that are not
	AbusePay                      // used and did not pay, or charged for nothing
)

var abuseNames = []string{"flood", "false data", "false work", "poisoned weights", "false lineage", "payment"}

func (k AbuseKind) String() string { return nameOf(abuseNames, k) }

// AbuseReport is a complaint. It changes nobody's score but through the evidence: a receiver fetches that and judges for
// itself, and a report whose evidence it cannot get means nothing.
type AbuseReport struct {
	Subject  centram.PeerID `cbor:"1,keyasint"`
	Kind     AbuseKind      `cbor:"2,keyasint"`
	Evidence []Hash         `cbor:"3,keyasint"` // ids of records and ledger entries, in ascending order
	Detail   string         `cbor:"4,keyasint,omitempty"`
	Seq      uint64         `cbor:"5,keyasint"` // of the author; highest about a subject and kind wins
	Expires  int64          `cbor:"6,keyasint"` // Unix milliseconds
}

func (m *AbuseReport) Validate() error {
	var c check
	account(&c, "subject", m.Subject)
	among(&c, "kind", m.Kind, abuseNames)
	c.that(len(m.Evidence) > 0, "evidence: none")
	ascending(&c, "evidence", m.Evidence, 32)
	c.text("detail", m.Detail, 512)
	c.that(m.Seq != 0, "seq: 0")
	moment(&c, "expires", m.Expires)
	return c.err
}

// PolicyParam is one number of a policy, such as "ledger/witnesses".
type PolicyParam struct {
	Name  string `cbor:"1,keyasint"`
	Value int64  `cbor:"2,keyasint"`
}

// PolicyUpdate changes the rules of a private network. Its author is the network's key, whose id is the network's.
type PolicyUpdate struct {
	Seq      uint64           `cbor:"1,keyasint"`           // highest wins
	MinProto uint16           `cbor:"2,keyasint"`           // version of the protocol, as in HELLO
	Rules    Hash             `cbor:"3,keyasint"`           // of the ledger
	Params   []PolicyParam    `cbor:"4,keyasint"`           // in the order of their names; unknown ones mean nothing
	Expelled []centram.PeerID `cbor:"5,keyasint,omitempty"` // members whose INVITEs have ended before they expire
	Active   int64            `cbor:"6,keyasint"`           // Unix milliseconds from which on it holds
}

func (m *PolicyUpdate) Validate() error {
	var c check
	c.that(m.Seq != 0, "seq: 0")
	c.that(m.MinProto >= 1, "min_proto: 0")
	given(&c, "rules", m.Rules)
	c.most("params", len(m.Params), 256)
	for i, p := range m.Params {
		c.word("param", p.Name, 64)
		c.that(i == 0 || m.Params[i-1].Name < p.Name, "params: %q is out of order", p.Name)
	}
	c.most("expelled", len(m.Expelled), 1024)
	for i, p := range m.Expelled {
		c.that(i == 0 || before(m.Expelled[i-1], p), "expelled: out of order")
	}
	moment(&c, "active", m.Active)
	return c.err
}

// VersionNotice says that there is a newer Centram. A node shows it to its owner if it trusts the author to say so; it never
// fetches and never runs anything because of it. It has no address on purpose.
type VersionNotice struct {
	Seq      uint64 `cbor:"1,keyasint"` // of the author; highest wins
	Version  string `cbor:"2,keyasint"`
	Build    Hash   `cbor:"3,keyasint"` // of the reproducible build's source archive, to compare with what the owner gets
	MinProto uint16 `cbor:"4,keyasint"` // that this version still speaks
	Critical bool   `cbor:"5,keyasint"` // closes a hole
	Expires  int64  `cbor:"6,keyasint"` // Unix milliseconds
}

func (m *VersionNotice) Validate() error {
	var c check
	c.that(m.Seq != 0, "seq: 0")
	c.word("version", m.Version, 64)
	given(&c, "build", m.Build)
	c.that(m.MinProto >= 1, "min_proto: 0")
	moment(&c, "expires", m.Expires)
	return c.err
}

// DebugTrace makes one node of the owner write a trace for a while, on its own disk. It names the node and expires, so that
// nobody can send an old one to another.
type DebugTrace struct {
	Trace   [16]byte       `cbor:"1,keyasint"` // random; names the trace's file
	Node    centram.PeerID `cbor:"2,keyasint"` // that is to write it
	ForS    uint32         `cbor:"3,keyasint"` // seconds
	QLog    bool           `cbor:"4,keyasint"` // of the QUIC connections too
	Expires int64          `cbor:"5,keyasint"` // Unix milliseconds, for the order to arrive
}

func (m *DebugTrace) Validate() error {
	var c check
	c.that(m.Trace != [16]byte{}, "trace: 0")
	account(&c, "node", m.Node)
	c.that(m.ForS >= 1 && m.ForS <= 3600, "for: %d s", m.ForS)
	moment(&c, "expires", m.Expires)
	return c.err
}

func before(a, b centram.PeerID) bool { return bytes.Compare(a[:], b[:]) < 0 }
