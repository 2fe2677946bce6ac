package wire

import (
	"testing"

	"github.com/centram/centram"
)

var operationsSamples = []Message{
	&NodeStatusGet{Sections: []string{"host", "engine"}},
	&NodeStatus{
		Version: "0.3.0", Boot: 77, UptimeS: 3600, TimeMs: 1_700_000_000_000,
		Host: HostHealth{
			Load: 250, Cores: 8, Memory: 16 << 30, MemoryFree: 6 << 30, Disk: 1 << 40, DiskFree: 1 << 39, OnBattery: true,
			Peers: 4, Goroutines: 120, Descriptors: 60,
		},
		Engine:   EngineHealth{Models: []Hash{hash(1), hash(2)}, Slots: 8, Busy: 3, Waiting: 1, Chains: 2},
		Counters: []Counter{{Name: "ledger/entries", Value: 40}, {Name: "wire/frames_in", Value: 9000}},
	},
	&NodeStatus{Version: "0.3.0", Boot: 77, UptimeS: 1, TimeMs: 1_700_000_000_000},
	&MetricPush{
		FromMs: 1_700_000_000_000, WindowS: 300,
		Histograms: []Histogram{{Name: "decode_us", Count: 1000, P50: 900, P99: 2200, Max: 5000}},
		Counters:   []Counter{{Name: "wire/frames_in", Value: 700}},
	},
	&AbuseReport{
		Subject: peer(3), Kind: AbuseWork, Evidence: []Hash{hash(3), hash(4)}, Detail: "two audits in a row failed",
		Seq: 1, Expires: 1_700_000_000_000,
	},
	&PolicyUpdate{
		Seq: 5, MinProto: 1, Rules: hash(5), Params: []PolicyParam{{Name: "ledger/limit", Value: -1}, {Name: "ledger/witnesses", Value: 4}},
		Expelled: []centram.PeerID{peer(3), peer(4)}, Active: 1_700_000_000_000,
	},
	&VersionNotice{Seq: 2, Version: "0.4.0", Build: hash(6), MinProto: 1, Critical: true, Expires: 1_700_000_000_000},
	&DebugTrace{Trace: [16]byte{0: 1, 15: 2}, Node: peer(2), ForS: 60, QLog: true, Expires: 1_700_000_000_000},
}

func TestWrongOperationsMessagesAreRefused(t *testing.T) {
	list := operationsSamples
	refused(t, []wrong{
		{"more free than there is", spoilt(list, func(m *NodeStatus) { m.Host.MemoryFree = m.Host.Memory + 1 })},
		{"more busy than there are", spoilt(list, func(m *NodeStatus) { m.Engine.Busy = m.Engine.Slots + 1 })},
		{"a counter twice", spoilt(list, func(m *NodeStatus) { m.Counters = []Counter{{Name: "a"}, {Name: "a"}} })},
		{"a counter with a person's name", spoilt(list, func(m *MetricPush) { m.Counters = []Counter{{Name: "Ana Maria"}} })},
		{"a median over the maximum", spoilt(list, func(m *MetricPush) { m.Histograms = []Histogram{{Name: "a", Count: 1, P50: 2, P99: 2, Max: 1}} })},
		{"a complaint without evidence", spoilt(list, func(m *AbuseReport) { m.Evidence = []Hash{} })},
		{"a policy out of order", spoilt(list, func(m *PolicyUpdate) { m.Params = []PolicyParam{{Name: "b"}, {Name: "a"}} })},
		{"a member expelled twice", spoilt(list, func(m *PolicyUpdate) { m.Expelled = []centram.PeerID{peer(3), peer(3)} })},
		{"a version with an address", spoilt(list, func(m *VersionNotice) { m.Version = "get it at https://example.org?x" })},
		{"a trace for ever", spoilt(list, func(m *DebugTrace) { m.ForS = 1 << 31 })},
		{"a trace by any node", spoilt(list, func(m *DebugTrace) { m.Node = centram.PeerID{} })},
	})
}
