package wire

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/centram/centram"
)

const (
	maxStages      = 64
	maxLanes       = 1024
	MaxAdapterSets = 32 // of a chain
)

// LayerSpan is the layers of a model with First <= layer < End.
type LayerSpan struct {
	First uint16 `cbor:"1,keyasint"`
	End   uint16 `cbor:"2,keyasint"`
}

func (s LayerSpan) check(c *check) {
	c.that(s.First < s.End && s.End <= maxLayers, "layers: from %d to %d", s.First, s.End)
}

// HLOffer says that its author would host layers. It promises nothing: HL_ACCEPT does. A planner wants times, so the two
// rates are measured ones. Who leaves withdraws it by an offer that expires at once.
type HLOffer struct {
	Seq       uint64      `cbor:"1,keyasint"`          // of the author; highest wins for one model
	Model     Hash        `cbor:"2,keyasint,omitzero"` // as Base in GENOME_ANNOUNCE; absent: any, its tensors are fetched first
	Resident  []LayerSpan `cbor:"3,keyasint"`          // layers that need not be fetched, in ascending order
	Memory    uint64      `cbor:"4,keyasint"`          // bytes for weights and caches together
	ReadRate  uint64      `cbor:"5,keyasint"`          // bytes of weights a second, at one token a step
	MulRate   uint64      `cbor:"6,keyasint"`          // multiply-adds a second, in a batch of a prompt
	Context   uint32      `cbor:"7,keyasint"`          // most positions of a lane
	Lanes     uint16      `cbor:"8,keyasint"`          // sequences at once that are free now
	Backend   string      `cbor:"9,keyasint"`          // such as "cpu": a replacement on another one may differ in the last bits
	Build     string      `cbor:"10,keyasint"`         // of the engine, such as "llama.cpp/v0.5.0", for the same reason
	Price     uint64      `cbor:"11,keyasint"`         // micro-CEN for a million tokens through one layer; a hint: QUOTE binds
	OnBattery bool        `cbor:"12,keyasint,omitempty"`
	Expires   int64       `cbor:"13,keyasint"` // Unix milliseconds
}

func (m *HLOffer) Validate() error {
	var c check
	c.that(m.Seq != 0, "seq: 0")
	c.most("resident", len(m.Resident), 64)
	for i, s := range m.Resident {
		s.check(&c)
		c.that(i == 0 || m.Resident[i-1].End < s.First, "resident: spans that touch or are out of order")
	}
	c.that(len(m.Resident) == 0 || !m.Model.IsZero(), "resident: layers of no model")
	c.that(m.Memory > 0 && m.ReadRate > 0 && m.MulRate > 0, "memory or a rate is 0")
	c.that(m.Context > 0 && m.Context <= maxPos, "context: %d", m.Context)
	c.most("lanes", int(m.Lanes), maxLanes)
	c.word("backend", m.Backend, 32)
	c.word("build", m.Build, 64)
	amount(&c, "price", m.Price)
	moment(&c, "expires", m.Expires)
	return c.err
}

// PlanStage is one stage of a chain.
type PlanStage struct {
	Node    centram.PeerID `cbor:"1,keyasint"`
	Layers  LayerSpan      `cbor:"2,keyasint"`
	Weights Hash           `cbor:"3,keyasint"`          // SHA-256 of the hashes of the stage's tensors, in the order of their names
	Standby centram.PeerID `cbor:"4,keyasint,omitzero"` // gets the same frames, to take over without a replay
}

// AdapterScale is an adapter and how strongly it counts.
type AdapterScale struct {
	Genome Hash  `cbor:"1,keyasint"`
	Scale  int64 `cbor:"2,keyasint"` // millionths
}

// AdapterSet is what may be laid over the model at one time, in the order in which it is applied.
type AdapterSet []AdapterScale

// ID names the set in the frames: SHA-256 of each genome and its scale (8 bytes, big-endian).
func (s AdapterSet) ID() Hash {
	var b []byte
	for _, a := range s {
		b = append(b, a.Genome[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(a.Scale))
	}
	return sha256.Sum256(b)
}

// HLPlan goes from the head to every stage and standby, each on its own stream. The stage answers with HL_ACCEPT, with the
// flag for more, and with HL_READY once the weights are loaded, or with STATUS instead of either. Then frames may flow:
// ACT_FWD from stage to stage, in a stream for each pair of neighbours, and ACT_RET as a further answer to the plan, from
// the tail straight to the head. The chain ends with this stream: the head ends its side, the stage answers HL_CLOSE. The head may send the plan again, with the same
// chain and epoch and further adapters, and is answered in the same way. A stage can read the prompt: Privacy is what the
// head demands of every node in the plan, so that a stage that knows better can refuse.
type HLPlan struct {
	Chain      ChainID      `cbor:"1,keyasint"`
	Epoch      uint32       `cbor:"2,keyasint"`           // 1 at first, higher with every HL_REROUTE
	Model      Hash         `cbor:"3,keyasint"`           // as Base in GENOME_ANNOUNCE
	Layers     uint16       `cbor:"4,keyasint"`           // of the whole model
	Width      uint32       `cbor:"5,keyasint"`           // numbers of a hidden state
	Stages     []PlanStage  `cbor:"6,keyasint"`           // in the order of their layers, the head's own first
	Stage      uint16       `cbor:"7,keyasint"`           // the receiver's place in Stages
	Standby    bool         `cbor:"8,keyasint,omitempty"` // the receiver is that stage's standby
	Rows       DType        `cbor:"9,keyasint"`           // of hidden states
	PromptRows DType        `cbor:"10,keyasint"`          // of those of prompts: F16 where the link is slow, but then the results are not exact
	Keys       DType        `cbor:"11,keyasint"`          // of the cache
	Values     DType        `cbor:"12,keyasint"`
	Context    uint32       `cbor:"13,keyasint"` // positions of a lane
	Lanes      uint16       `cbor:"14,keyasint"` // sequences at once
	Tokens     uint16       `cbor:"15,keyasint"` // most of a frame, so that buffers are made once
	Frames     uint16       `cbor:"16,keyasint"` // that may be on their way to a stage unanswered
	Adapters   []AdapterSet `cbor:"17,keyasint"` // that frames may ask for
	Privacy    Trust        `cbor:"18,keyasint"`
	Quote      Hash         `cbor:"19,keyasint,omitzero"` // of the receiver
	ReadyMs    uint32       `cbor:"20,keyasint"`          // from now on, after which the head gives up
	// Parts are the recipes of what each adapter of each set, in this order, has for the receiver's layers. Zero: nothing.
	Parts []Hash `cbor:"21,keyasint"`
	// TailTokens is how many tokens, from the first on, the last stage gives logits of; the head has the rest of the output
	// matrix. What goes into the matrix comes then, as HiddenRows, in an ACT_RET ahead of the one that answers a frame. 0: it
	// gives those of all.
	TailTokens uint32 `cbor:"22,keyasint,omitempty"`
}

func (m *HLPlan) Validate() error {
	var c check
	chain(&c, m.Chain, m.Epoch)
	given(&c, "model", m.Model)
	c.some("width", int(m.Width), maxWidth)
	c.some("stages", len(m.Stages), maxStages)
	end := uint16(0)
	for _, s := range m.Stages {
		account(&c, "stage", s.Node)
		s.Layers.check(&c)
		c.that(s.Layers.First == end, "layers: a stage begins at %d, not at %d", s.Layers.First, end)
		end = s.Layers.End
		given(&c, "weights", s.Weights)
		c.that(s.Standby != s.Node, "a stage is its own standby")
	}
	c.that(m.Layers == end, "layers: %d, but the stages have %d", m.Layers, end)
	c.that(int(m.Stage) < len(m.Stages), "stage: %d of %d", m.Stage, len(m.Stages))
	c.that(!m.Standby || c.err != nil || m.Stages[m.Stage].Standby != centram.PeerID{}, "standby: the stage has none")
	c.that(m.Rows == F32 || m.Rows == F16, "rows: %s", m.Rows)
	c.that(m.PromptRows == F32 || m.PromptRows == F16, "prompt rows: %s", m.PromptRows)
	among(&c, "keys", m.Keys, dtypeNames)
	among(&c, "values", m.Values, dtypeNames)
	c.that(m.Context > 0 && m.Context <= maxPos, "context: %d", m.Context)
	c.some("lanes", int(m.Lanes), maxLanes)
	c.some("tokens", int(m.Tokens), 4096)
	c.some("frames", int(m.Frames), 1024)
	c.most("adapters", len(m.Adapters), MaxAdapterSets)
	parts := 0
	for _, s := range m.Adapters {
		parts += len(s)
		c.some("adapters", len(s), 8)
		for _, a := range s {
			given(&c, "adapter", a.Genome)
			c.that(a.Scale != 0 && -1e9 <= a.Scale && a.Scale <= 1e9, "adapter: scale of %d millionths", a.Scale)
		}
	}
	c.that(m.TailTokens <= maxWidth, "tail_tokens: %d", m.TailTokens)
	c.that(len(m.Parts) == parts, "parts: %d of %d adapters", len(m.Parts), parts)
	among(&c, "privacy", m.Privacy, trustNames)
	c.some("ready_ms", int(m.ReadyMs), 3600*1000)
	return c.err
}

// chain wants the name of a chain at some time of its life.
func chain(c *check, id ChainID, epoch uint32) {
	c.that(!id.IsZero(), "chain: zero")
	c.that(epoch >= 1, "epoch: 0")
}

// HLAccept binds a stage to the plan it got. It holds whatever else the stage has promised: its lanes are set aside until
// Expires, and for good with the first frame.
type HLAccept struct {
	Chain   ChainID        `cbor:"1,keyasint"`
	Epoch   uint32         `cbor:"2,keyasint"`
	Stage   uint16         `cbor:"3,keyasint"`
	Head    centram.PeerID `cbor:"4,keyasint"`          // whom it is promised to
	Plan    Hash           `cbor:"5,keyasint"`          // SHA-256 of the HL_PLAN body
	Lanes   uint16         `cbor:"6,keyasint"`          // that it can run at once, at most the plan's
	Price   uint64         `cbor:"7,keyasint"`          // micro-CEN for a token through all of its layers
	Quote   Hash           `cbor:"8,keyasint,omitzero"` // that the price is from
	Expires int64          `cbor:"9,keyasint"`          // Unix milliseconds
}

func (m *HLAccept) Validate() error {
	var c check
	chain(&c, m.Chain, m.Epoch)
	c.most("stage", int(m.Stage), maxStages-1)
	account(&c, "head", m.Head)
	given(&c, "plan", m.Plan)
	c.some("lanes", int(m.Lanes), maxLanes)
	amount(&c, "price", m.Price)
	c.that(m.Price == 0 || !m.Quote.IsZero(), "price without a quote")
	moment(&c, "expires", m.Expires)
	return c.err
}

// HLReady says that a stage waits for frames. The head compares the roots with the plan's and the times with what it
// foresaw.
type HLReady struct {
	Chain    ChainID `cbor:"1,keyasint"`
	Epoch    uint32  `cbor:"2,keyasint"`
	Stage    uint16  `cbor:"3,keyasint"`
	Weights  Hash    `cbor:"4,keyasint"`          // as in the plan, computed over what is loaded
	Adapters Hash    `cbor:"5,keyasint,omitzero"` // SHA-256 of the hashes of the adapters' tensors in the stage, set by set
	WarmMs   uint32  `cbor:"6,keyasint"`          // that it took since the plan came
	StepUs   uint32  `cbor:"7,keyasint"`          // of one token through the stage's layers, as just tried
	Free     uint64  `cbor:"8,keyasint"`          // bytes that are left of the stage's memory
}

func (m *HLReady) Validate() error {
	var c check
	chain(&c, m.Chain, m.Epoch)
	c.most("stage", int(m.Stage), maxStages-1)
	given(&c, "weights", m.Weights)
	return c.err
}

// RerouteCause says why a stage is replaced.
type RerouteCause uint8

const (
	StageLost    RerouteCause = iota // its connection ended
	StageLate                        // over its deadline
	StageWrong                       // its work did not stand up to audits
	StageLeaving                     // on purpose: it serves until the other is ready
	StageWatched                     // it is not replaced: Node computes along for a while, from what the stage before gives it
)

var rerouteNames = []string{"lost", "late", "wrong", "leaving", "watched"}

func (r RerouteCause) String() string { return nameOf(rerouteNames, r) }

// CacheSource is where a replacement gets the keys and values of the tokens so far from.
type CacheSource uint8

const (
	CacheReplay CacheSource = iota // a stage sends its frames again
	CacheFetch                     // KV_SYNC from the stage that leaves
	CacheShadow                    // the replacement was the standby: it has them
)

var cacheNames = []string{"replay", "fetch", "shadow"}

func (s CacheSource) String() string { return nameOf(cacheNames, s) }

// LanePos is where a lane goes on.
type LanePos struct {
	Lane uint16 `cbor:"1,keyasint"`
	Pos  uint32 `cbor:"2,keyasint"`
}

// HLReroute goes from the head to the stages when Node takes the place of a stage; Node itself gets an HL_PLAN of the new
// epoch. From then on frames of an older epoch are dropped. A stage that is about to leave sends it to the head, with its
// own epoch and without Node; so does one that cannot reach the next, and one that gets from the stage before what cannot be
// right. The head answers with one of its own.
type HLReroute struct {
	Chain ChainID        `cbor:"1,keyasint"`
	Epoch uint32         `cbor:"2,keyasint"` // that begins
	Stage uint16         `cbor:"3,keyasint"`
	Cause RerouteCause   `cbor:"4,keyasint"`
	Node  centram.PeerID `cbor:"5,keyasint,omitzero"`
	Cache CacheSource    `cbor:"6,keyasint"`
	Lanes []LanePos      `cbor:"7,keyasint"` // in ascending order; a lane that is not here has ended
	// Replay is the first stage whose cache is filled again, by the stage before it; what it computes fills those of the
	// stages after it. 0: none is.
	Replay uint16 `cbor:"8,keyasint,omitempty"`
}

func (m *HLReroute) Validate() error {
	var c check
	chain(&c, m.Chain, m.Epoch)
	c.most("stage", int(m.Stage), maxStages-1)
	among(&c, "cause", m.Cause, rerouteNames)
	c.that(m.Node != centram.PeerID{} || m.Cause != StageLate, "node: missing")
	among(&c, "cache", m.Cache, cacheNames)
	c.that(m.Replay <= m.Stage, "replay: from stage %d on, when stage %d is another", m.Replay, m.Stage)
	c.that(m.Cache != CacheFetch || m.Cause == StageLeaving, "cache: from a stage that is %s", m.Cause)
	c.most("lanes", len(m.Lanes), 256)
	for i, l := range m.Lanes {
		c.that(i == 0 || m.Lanes[i-1].Lane < l.Lane, "lanes: not in ascending order")
		c.that(l.Pos <= maxPos, "lane %d: position %d", l.Lane, l.Pos)
	}
	return c.err
}

// AuditKind says how much an audit wants to see.
type AuditKind uint8

const (
	AuditHashes AuditKind = iota // of all rows of the window
	AuditRows                    // and the row itself, to hold it against another node's
)

var auditNames = []string{"hashes", "rows"}

func (k AuditKind) String() string { return nameOf(auditNames, k) }

// AuditPick is one row that a stage sent out.
type AuditPick struct {
	Window uint32 `cbor:"1,keyasint"` // as in WIN_COMMIT
	Row    uint8  `cbor:"2,keyasint"` // in the window, from 0 on
}

// HLAuditReq goes from the head to a stage some time after the stage committed itself, for windows that the head draws at
// random. HL_AUDIT_RSP follows. A canary, a prompt whose outcome the head knows, is audited like any other, so that the
// stage cannot tell.
type HLAuditReq struct {
	Chain ChainID     `cbor:"1,keyasint"`
	Epoch uint32      `cbor:"2,keyasint"`
	Stage uint16      `cbor:"3,keyasint"`
	Kind  AuditKind   `cbor:"4,keyasint"`
	Picks []AuditPick `cbor:"5,keyasint"`
}

func (m *HLAuditReq) Validate() error {
	var c check
	chain(&c, m.Chain, m.Epoch)
	c.most("stage", int(m.Stage), maxStages-1)
	among(&c, "kind", m.Kind, auditNames)
	c.some("picks", len(m.Picks), 16)
	for _, p := range m.Picks {
		c.most("row", int(p.Row), CommitTokens-1)
	}
	return c.err
}

// AuditOpening opens the commitment to one window. Its hashes, hashed together, are the commitment's Out.
type AuditOpening struct {
	Commit Hash   `cbor:"1,keyasint"`           // record id of the WIN_COMMIT
	Hashes []byte `cbor:"2,keyasint"`           // SHA-256 of every row of the window, one after the other
	Row    uint8  `cbor:"3,keyasint"`           // that was picked
	Data   []byte `cbor:"4,keyasint,omitempty"` // that row as it was sent, if rows are wanted
}

// HLAuditRsp answers HLAuditReq, in the order of the picks. What does not fit one frame follows in further ones. It is a
// record, since it may prove that its author committed itself to something else than it sent.
type HLAuditRsp struct {
	Chain    ChainID        `cbor:"1,keyasint"`
	Epoch    uint32         `cbor:"2,keyasint"`
	Stage    uint16         `cbor:"3,keyasint"`
	Head     centram.PeerID `cbor:"4,keyasint"`
	Kind     AuditKind      `cbor:"5,keyasint"`
	Openings []AuditOpening `cbor:"6,keyasint"`
}

func (m *HLAuditRsp) Validate() error {
	var c check
	chain(&c, m.Chain, m.Epoch)
	c.most("stage", int(m.Stage), maxStages-1)
	account(&c, "head", m.Head)
	among(&c, "kind", m.Kind, auditNames)
	c.some("openings", len(m.Openings), 16)
	for _, o := range m.Openings {
		given(&c, "commit", o.Commit)
		rows := len(o.Hashes) / sha256.Size
		c.that(len(o.Hashes)%sha256.Size == 0, "hashes: %d bytes", len(o.Hashes))
		c.some("hashes", rows, CommitTokens)
		c.that(int(o.Row) < rows, "row: %d of %d", o.Row, rows)
		c.most("row", len(o.Data), 48*kib)
		c.that((len(o.Data) > 0) == (m.Kind == AuditRows), "row: %d bytes for an audit of %s", len(o.Data), m.Kind)
		c.that(len(o.Data) == 0 || c.err != nil || sha256.Sum256(o.Data) == [32]byte(o.Hashes[int(o.Row)*sha256.Size:][:sha256.Size]), "row: its hash is another")
	}
	return c.err
}

// CloseCode says why a chain ends for a stage.
type CloseCode uint8

const (
	ChainDone CloseCode = iota
	ChainCancelled
	ChainFailed
	ChainReplaced // another node has the place; see HL_REROUTE
	ChainLeaving
)

var closeNames = []string{"done", "cancelled", "failed", "replaced", "leaving"}

func (r CloseCode) String() string { return nameOf(closeNames, r) }

// HLClose comes from whichever side ends first, and the other side sends its own back before it ends the stream. Where
// both have the same counters, both have signed what was used, and a USAGE_RECEIPT refers to the two.
type HLClose struct {
	Chain     ChainID        `cbor:"1,keyasint"`
	Epoch     uint32         `cbor:"2,keyasint"`
	Stage     uint16         `cbor:"3,keyasint"`
	Head      centram.PeerID `cbor:"4,keyasint"`
	Node      centram.PeerID `cbor:"5,keyasint"` // the stage's
	TokensIn  uint64         `cbor:"6,keyasint"` // that the stage ran, replays left out
	TokensOut uint64         `cbor:"7,keyasint"` // of these, that no later frame took back
	Bytes     uint64         `cbor:"8,keyasint"` // of the rows of the frames that the stage ran
	Windows   uint32         `cbor:"9,keyasint"` // that the stage committed itself to
	Code      CloseCode      `cbor:"10,keyasint"`
	Detail    string         `cbor:"11,keyasint,omitempty"` // for people
	Quote     Hash           `cbor:"12,keyasint,omitzero"`
	TimeMs    int64          `cbor:"13,keyasint"` // Unix time
}

func (m *HLClose) Validate() error {
	var c check
	chain(&c, m.Chain, m.Epoch)
	c.most("stage", int(m.Stage), maxStages-1)
	account(&c, "head", m.Head)
	account(&c, "node", m.Node)
	c.that(m.TokensOut <= m.TokensIn, "tokens: %d in, %d out", m.TokensIn, m.TokensOut)
	among(&c, "code", m.Code, closeNames)
	c.text("detail", m.Detail, 512)
	moment(&c, "time", m.TimeMs)
	return c.err
}
