package wire

import (
	"crypto/sha256"
	"reflect"
	"testing"
)

var (
	hlChain = ChainID{0: 0xD0, 15: 1}
	hlRow   = []byte("a row of hidden states")
	hlSums  = append(make([]byte, 32), sum(hlRow)...)
)

var hyperlinkSamples = []Message{
	&HLOffer{
		Seq: 4, Model: hash(1), Resident: []LayerSpan{{First: 0, End: 12}, {First: 20, End: 24}}, Memory: 8 << 30, ReadRate: 20e9,
		MulRate: 400e9, Context: 32768, Lanes: 8, Backend: "cpu", Build: "llama.cpp/v0.5.0", Price: 900, OnBattery: true,
		Expires: 1_700_000_000_000,
	},
	&HLOffer{
		Seq: 1, Resident: []LayerSpan{}, Memory: 1 << 30, ReadRate: 1, MulRate: 1, Context: 512, Backend: "cpu",
		Build: "llama.cpp/v0.5.0", Expires: 1_700_000_000_000,
	},
	&HLPlan{
		Chain: hlChain, Epoch: 2, Model: hash(1), Layers: 24, Width: 896,
		Stages: []PlanStage{
			{Node: peer(1), Layers: LayerSpan{First: 0, End: 10}, Weights: hash(2)},
			{Node: peer(2), Layers: LayerSpan{First: 10, End: 24}, Weights: hash(3), Standby: peer(3)},
		},
		Stage: 1, Standby: true, Rows: F16, PromptRows: F16, Keys: F16, Values: Q8, Context: 8192, Lanes: 4, Tokens: 256, Frames: 2,
		Adapters: []AdapterSet{{{Genome: hash(4), Scale: 1_000_000}, {Genome: hash(5), Scale: -250_000}}},
		Privacy:  Friend, Quote: hash(6), ReadyMs: 20_000, Parts: []Hash{hash(9), {}}, TailTokens: 75_968,
	},
	&HLAccept{
		Chain: hlChain, Epoch: 2, Stage: 1, Head: peer(1), Plan: hash(7), Lanes: 4, Price: 12, Quote: hash(6),
		Expires: 1_700_000_000_000,
	},
	&HLReady{Chain: hlChain, Epoch: 2, Stage: 1, Weights: hash(3), Adapters: hash(8), WarmMs: 1800, StepUs: 5200, Free: 1 << 30},
	&HLReroute{
		Chain: hlChain, Epoch: 3, Stage: 1, Cause: StageLeaving, Node: peer(4), Cache: CacheFetch,
		Lanes: []LanePos{{Lane: 0, Pos: 300}, {Lane: 2, Pos: 41}}, Replay: 1,
	},
	&HLReroute{Chain: hlChain, Epoch: 2, Stage: 1, Cause: StageLeaving, Lanes: []LanePos{}},
	&HLAuditReq{Chain: hlChain, Epoch: 2, Stage: 1, Kind: AuditRows, Picks: []AuditPick{{Window: 9, Row: 1}}},
	&HLAuditRsp{
		Chain: hlChain, Epoch: 2, Stage: 1, Head: peer(1), Kind: AuditRows,
		Openings: []AuditOpening{{Commit: hash(9), Hashes: hlSums, Row: 1, Data: hlRow}},
	},
	&HLClose{
		Chain: hlChain, Epoch: 2, Stage: 1, Head: peer(1), Node: peer(2), TokensIn: 340, TokensOut: 312, Bytes: 340 * 896 * 4, Windows: 10,
		Code: ChainReplaced, Detail: "two audits failed", Quote: hash(6), TimeMs: 1_700_000_000_000,
	},
}

func sum(b []byte) []byte {
	h := sha256.Sum256(b)
	return h[:]
}

// wrong is a sample with one thing in it spoilt.
type wrong struct {
	what  string
	spoil func() Message
}

func refused(t *testing.T, rows []wrong) {
	t.Helper()
	for _, row := range rows {
		if m := row.spoil(); m.Validate() == nil {
			t.Errorf("%s is accepted: %+v", row.what, m)
		}
	}
}

// spoilt returns a copy of the first sample of type T that change has been made to.
func spoilt[T any](list []Message, change func(m *T)) func() Message {
	return func() Message {
		for _, m := range list {
			if m, ok := any(m).(*T); ok {
				other := *m
				change(&other)
				return any(&other).(Message)
			}
		}
		panic("no sample of " + reflect.TypeFor[T]().Name())
	}
}

func TestWrongHyperlinkMessagesAreRefused(t *testing.T) {
	list := hyperlinkSamples
	stages := func(change func(s []PlanStage)) func() Message {
		return spoilt(list, func(m *HLPlan) {
			m.Stages = append([]PlanStage{}, m.Stages...)
			change(m.Stages)
		})
	}
	refused(t, []wrong{
		{"resident layers that overlap", spoilt(list, func(m *HLOffer) { m.Resident = []LayerSpan{{0, 12}, {11, 24}} })},
		{"an empty range of layers", spoilt(list, func(m *HLOffer) { m.Resident = []LayerSpan{{3, 3}} })},
		{"resident layers of any model", spoilt(list, func(m *HLOffer) { m.Model = Hash{} })},
		{"a plan with a gap", stages(func(s []PlanStage) { s[1].Layers.First++ })},
		{"a plan that begins late", stages(func(s []PlanStage) { s[0].Layers.First++ })},
		{"a plan that ends early", stages(func(s []PlanStage) { s[1].Layers.End-- })},
		{"a stage behind itself", stages(func(s []PlanStage) { s[1].Standby = s[1].Node })},
		{"a plan for no standby", stages(func(s []PlanStage) { s[1].Standby = [32]byte{} })},
		{"a plan without stages", spoilt(list, func(m *HLPlan) { m.Stages, m.Layers = nil, 0 })},
		{"a place outside of the plan", spoilt(list, func(m *HLPlan) { m.Stage = 2 })},
		{"hidden states in blocks", spoilt(list, func(m *HLPlan) { m.Rows = Q8 })},
		{"an empty set of adapters", spoilt(list, func(m *HLPlan) { m.Adapters = []AdapterSet{{}} })},
		{"epoch 0", spoilt(list, func(m *HLAccept) { m.Epoch = 0 })},
		{"a price of no quote", spoilt(list, func(m *HLAccept) { m.Quote = Hash{} })},
		{"a cache from a stage that is lost", spoilt(list, func(m *HLReroute) { m.Cause = StageLost })},
		{"a replacement by nobody", spoilt(list, func(m *HLReroute) { m.Cause, m.Cache, m.Node = StageLate, CacheReplay, [32]byte{} })},
		{"a lane twice", spoilt(list, func(m *HLReroute) { m.Lanes = []LanePos{{1, 2}, {1, 3}} })},
		{"a row outside of any window", spoilt(list, func(m *HLAuditReq) { m.Picks = []AuditPick{{Row: CommitTokens}} })},
		{"a row with another hash", spoilt(list, func(m *HLAuditRsp) {
			m.Openings = []AuditOpening{{Commit: hash(9), Hashes: hlSums, Row: 0, Data: hlRow}}
		})},
		{"a row outside of its window", spoilt(list, func(m *HLAuditRsp) {
			m.Openings = []AuditOpening{{Commit: hash(9), Hashes: hlSums, Row: 2, Data: hlRow}}
		})},
		{"half a hash", spoilt(list, func(m *HLAuditRsp) {
			m.Openings = []AuditOpening{{Commit: hash(9), Hashes: hlSums[:48], Row: 1, Data: hlRow}}
		})},
		{"a row that was not asked for", spoilt(list, func(m *HLAuditRsp) { m.Kind = AuditHashes })},
		{"more tokens kept than run", spoilt(list, func(m *HLClose) { m.TokensOut = m.TokensIn + 1 })},
	})
}

func TestAdapterSetsDifferByOrderAndScale(t *testing.T) {
	a, b := AdapterScale{Genome: hash(1), Scale: 1}, AdapterScale{Genome: hash(2), Scale: -1}
	ids := map[Hash]bool{}
	for _, s := range []AdapterSet{nil, {a}, {b}, {a, b}, {b, a}, {{Genome: hash(1), Scale: 2}}} {
		ids[s.ID()] = true
	}
	if len(ids) != 6 {
		t.Errorf("six sets have %d ids", len(ids))
	}
}
