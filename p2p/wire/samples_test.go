package wire

import (
	"slices"

	"github.com/centram/centram"
)

// samples has one value or more of every type, with all fields set at least once. Their bytes are the golden files.
var samples = slices.Concat(sessionSamples, catalogueSamples, lineageSamples, evaluationSamples, evolutionSamples,
	hyperlinkSamples, activationSamples, ensembleSamples, ledgerSamples, operationsSamples)

var sessionSamples = []Message{
	&Hello{
		ProtoMin: 1, ProtoMax: 2, Network: hash(1), Version: "0.3.0", Name: "Ana's laptop", Boot: 77,
		Caps: []string{"hl/1", "transfer/1"}, Limits: Limits{Requests: 64, Records: 600, Bulk: 1 << 20},
		ClockMs: 1_700_000_000_000, Port: 9743, Membership: recordOf(&Invite{Network: "home", Member: make([]byte, 32), Seq: 1, Expires: 1}),
	},
	&HelloAck{Proto: 1, Caps: []string{"transfer/1"}, Limits: Limits{Requests: 8, Records: 60}, Observed: "192.0.2.7:9743", Trust: Friend},
	&Ping{Nonce: 5},
	&Pong{Nonce: 5, Queue: 2, Load: 750},
	&Status{Code: Busy, RetryMs: 250, Detail: "the queue is full", Hint: "try again"},
	&Cancel{Request: 9, Reason: "the person left"},
	&CapsUpdate{Added: []string{"genome/1"}, Removed: []string{"hl/1"}, Limits: Limits{Requests: 1, Records: 1}},
	&KeyRotate{Root: peer(1), Seq: 2, Scope: LedgerKey, NextHash: hash(2), Expires: 3, OldSig: make([]byte, 64)},
	&Goodbye{Code: Restarting, Reason: "new version", ReconnectMs: 5000},
	&Beacon{Boot: 77, Seq: 3, TimeMs: 1_700_000_000_000, Port: 9743, Addrs: []string{"192.0.2.7:9743", "[2001:db8::7]:9743"}, Name: "Ana's laptop", Bye: true},
	&Probe{Boot: 77, Seq: 4, TimeMs: 1_700_000_000_000, Nonce: 6, Target: peer(2), Pad: make([]byte, 960)},
	&ProbeAck{Nonce: 6, Beacon: recordOf(&Beacon{Boot: 77, Seq: 3, TimeMs: 1_700_000_000_000, Port: 9743})},
	&PeerRecord{Seq: 8, Addrs: []string{"192.0.2.7:9743"}, Caps: []string{"hl/1"}, Name: "Ana's laptop", Expires: 1_700_000_000_000},
	&PeerQuery{Caps: []string{"hl/1"}, Most: 16, Known: []centram.PeerID{peer(1)}},
	&PeerList{Peers: []Record{recordOf(&PeerRecord{Seq: 8, Addrs: []string{"192.0.2.7:9743"}, Caps: []string{}, Expires: 1})}},
	&PeerSuspect{Subject: peer(2), Incarnation: 4, State: Suspect, Seq: 1, Expires: 1_700_000_000_000},
	&PairRequest{Name: "Ana's laptop", Share: make([]byte, 32)},
	&PairRequest{Name: "Ana's laptop", Proof: make([]byte, 32)},
	&PairConfirm{Name: "Ben's desktop", Share: make([]byte, 32), Proof: make([]byte, 32), Done: true},
	&Invite{Network: "home", Member: make([]byte, 32), Seq: 1, Expires: 1_700_000_000_000},
	&LinkReport{WindowMs: 30000, MedianUs: 400, P99Us: 2500, Sent: 1 << 20, Received: 1 << 21, Best: 1 << 27},
	&ManifestGet{Blob: hash(3)},
	&Manifest{Blob: hash(3), Size: ChunkSize + 1, Chunks: append(make([]byte, 32), hashBytes(3)...)},
	&HaveMap{Blob: hash(3), Bits: []byte{0b101}},
	&HaveMap{Blob: hash(3), Complete: true},
	&ChunkGet{Blob: hash(3), Ranges: []ChunkRange{{First: 0, Count: 2}, {First: 7, Count: 1}}, Quote: hash(4)},
	&ChunkData{Index: 7, Data: []byte("chunk")},
	&ChunkReject{Index: 7, Code: RejectChoked, RetryMs: 100},
	&TransferOffer{Blob: hash(3), Manifest: hash(5), Size: 5, Name: "adapter.gguf", Kind: "genome", Price: 6, Quote: hash(4), Expires: 7},
	&TransferDone{Blob: hash(3), Sender: peer(2), Bytes: 5, Bad: []uint32{1}, TimeMs: 9, Whole: true},
}

func hash(n byte) Hash {
	h := Hash{31: n}
	h[0] = 0xA0
	return h
}

func hashBytes(n byte) []byte {
	h := hash(n)
	return h[:]
}

func peer(n byte) centram.PeerID { return centram.PeerID{0: 0xB0, 31: n} }

// recordOf returns m as a record that the test's key signed in the test's network.
func recordOf(m Message) Record {
	f, err := Seal(m, testKey, testScope, 0, 0)
	if err != nil {
		panic(err)
	}
	return RecordOf(f)
}
