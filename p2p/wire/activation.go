package wire

import (
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/centram/centram"
)

// The bodies of this file but the last are laid out by hand: a node writes one for every token and stage. Numbers in them
// are big-endian. Rows of numbers are as in GGUF: little-endian, one row after the other, so that they go to and from the
// engine as they are. No field before the rows is a float, so nothing there can be NaN; whether the rows are finite, the
// stage checks that reads them anyway.

// ChainID names one pipeline over several nodes. The head draws it at random for HL_PLAN.
type ChainID [16]byte

func (id ChainID) String() string { return hex.EncodeToString(id[:]) }

// IsZero says that there is no pipeline.
func (id ChainID) IsZero() bool { return id == ChainID{} }

// Step says where a frame belongs. Chain, Epoch and Seq name it: who gets it twice does nothing the second time, and who
// is in a later epoch, after a stage was replaced, refuses it. A stage forgets all positions of the lane from Pos on before
// it runs the frame, so that taking back, trying again and going on elsewhere are no messages of their own.
//
//	 0  chain  16
//	16  epoch  u32
//	20  seq    u32
//	24  pos    u32
//	28  lane   u16
type Step struct {
	Chain ChainID
	Epoch uint32 // grows when a stage is replaced
	Seq   uint32 // number of the frame in its epoch, over all lanes
	Pos   uint32 // absolute position, in the lane, of the first token
	Lane  uint16 // one sequence of those that the chain runs at once
}

const stepSize = 30

func (s *Step) append(b []byte) []byte {
	b = append(b, s.Chain[:]...)
	b = binary.BigEndian.AppendUint32(b, s.Epoch)
	b = binary.BigEndian.AppendUint32(b, s.Seq)
	b = binary.BigEndian.AppendUint32(b, s.Pos)
	return binary.BigEndian.AppendUint16(b, s.Lane)
}

// take reads what append wrote. b is long enough.
func (s *Step) take(b []byte) {
	copy(s.Chain[:], b)
	s.Epoch = binary.BigEndian.Uint32(b[16:])
	s.Seq = binary.BigEndian.Uint32(b[20:])
	s.Pos = binary.BigEndian.Uint32(b[24:])
	s.Lane = binary.BigEndian.Uint16(b[28:])
}

// check wants the frame's tokens to fit a lane.
func (s *Step) check(c *check, tokens int) {
	c.that(!s.Chain.IsZero(), "chain: zero")
	c.that(uint64(s.Pos)+uint64(tokens) <= maxPos, "pos: %d tokens from %d on", tokens, s.Pos)
}

const (
	maxPos   = 1<<31 - 1 // llama.cpp's positions are int32
	maxWidth = 1 << 20   // of a row, in numbers; the largest vocabularies have a quarter of it
)

// DType says how numbers in rows are written.
type DType uint8

const (
	F32 DType = iota // the default: what comes out is to the bit what one node alone computes
	F16              // for prompts over slow links, if both sides agreed to it
	Q8               // ggml's Q8_0: blocks of 32 numbers, each an F16 scale and 32 bytes
)

var dtypeNames = []string{"f32", "f16", "q8_0"}

func (d DType) String() string { return nameOf(dtypeNames, d) }

// row is the size of a row of n numbers, in bytes. It is 0 for what cannot be written.
func (d DType) row(n uint32) uint64 {
	switch {
	case n > maxWidth:
		return 0
	case d == F32:
		return 4 * uint64(n)
	case d == F16:
		return 2 * uint64(n)
	case d == Q8 && n%32 == 0:
		return uint64(n) / 32 * 34
	}
	return 0
}

// rows wants raw to be rows of the size row, and no byte more.
func rows(c *check, raw []byte, n, row uint64) {
	c.that(row > 0, "rows: of no known size")
	// No product overflows: at most 2^16 tokens times 2^10 layers times 2^23 bytes of keys and values.
	c.that(n*row == uint64(len(raw)), "rows: %d bytes, not %d of %d", len(raw), n, row)
}

// ActFwd brings the hidden states of a few tokens to the next stage, in a stream that KV_TRIM has opened. The tail answers
// with ActRet in the stream of the head's HL_PLAN, and so does every other stage now and then, without rows, so that the head
// knows how each is doing.
//
//	 0  step      30
//	30  tokens    u16
//	32  width     u32  numbers of a row
//	36  dtype     u8
//	37  want      u8   what the head wants back
//	38  flags     u16
//	40  top       u32  how many candidates it wants, if want is top
//	44  adapters  32   zero: none
//	76  rows      tokens × row
type ActFwd struct {
	Step
	Tokens   uint16
	Width    uint32
	DType    DType
	Want     Result
	Flags    FwdFlags
	Top      uint32
	Adapters Hash // which set of HL_PLAN's adapters is on; KV caches of different sets never mix
	Rows     []byte
}

const fwdHead = 76

// FwdFlags are the bits of ActFwd's flags.
type FwdFlags uint16

const (
	FwdDraft  FwdFlags = 1 << 0 // the tokens are guesses: some may be taken back
	FwdReplay FwdFlags = 1 << 1 // fills the cache of a replacement; nothing is wanted back
	FwdJoin   FwdFlags = 1 << 2 // to be run in one batch with the next frame, which is of another lane
	FwdEvery  FwdFlags = 1 << 3 // a row is wanted back for every token, not for the last one only

	knownFwdFlags = FwdDraft | FwdReplay | FwdJoin | FwdEvery
)

// Result says what the rows of ActRet are.
type Result uint8

const (
	NoRows     Result = iota // none, as for the tokens of a prompt that goes on
	HiddenRows               // hidden states of the last layer
	TopRows                  // the best candidates: their ids, as u32, then their logits, likeliest first
	LogitRows                // logits of the whole vocabulary: for grammars, penalties and probabilities
)

var resultNames = []string{"nothing", "hidden", "top", "logits"}

func (r Result) String() string { return nameOf(resultNames, r) }

func (m *ActFwd) Validate() error {
	var c check
	m.check(&c, int(m.Tokens))
	c.that(m.Tokens > 0, "tokens: none")
	c.that(m.Flags&^knownFwdFlags == 0, "flags: %#x", uint16(m.Flags))
	among(&c, "want", m.Want, resultNames)
	c.that(m.Want != NoRows || m.Flags&FwdEvery == 0, "a row for every token, but nothing is wanted")
	c.that(m.Want == NoRows || m.Flags&FwdReplay == 0, "replay: %s wanted", m.Want)
	c.that((m.Want == TopRows) == (m.Top > 0) && m.Top <= maxWidth, "top: %d of %s", m.Top, m.Want)
	among(&c, "dtype", m.DType, dtypeNames)
	rows(&c, m.Rows, uint64(m.Tokens), m.DType.row(m.Width))
	return c.err
}

func (m *ActFwd) AppendBinary(b []byte) ([]byte, error) {
	b = slices.Grow(b, fwdHead+len(m.Rows))
	b = m.append(b)
	b = binary.BigEndian.AppendUint16(b, m.Tokens)
	b = binary.BigEndian.AppendUint32(b, m.Width)
	b = append(b, byte(m.DType), byte(m.Want))
	b = binary.BigEndian.AppendUint16(b, uint16(m.Flags))
	b = binary.BigEndian.AppendUint32(b, m.Top)
	b = append(b, m.Adapters[:]...)
	return append(b, m.Rows...), nil
}

func (m *ActFwd) UnmarshalBinary(b []byte) error {
	if len(b) < fwdHead {
		return malformed("%d bytes, at least %d", len(b), fwdHead)
	}
	m.take(b)
	m.Tokens = binary.BigEndian.Uint16(b[30:])
	m.Width = binary.BigEndian.Uint32(b[32:])
	m.DType, m.Want = DType(b[36]), Result(b[37])
	m.Flags = FwdFlags(binary.BigEndian.Uint16(b[38:]))
	m.Top = binary.BigEndian.Uint32(b[40:])
	copy(m.Adapters[:], b[44:])
	m.Rows = b[fwdHead:]
	return m.Validate()
}

// ActRet answers ActFwd: from the tail with what was wanted, from all other stages with NoRows. It has the frame's Chain,
// Epoch, Seq and Lane; Pos is that of the first row, or the next position if there is no row.
//
//	 0  step        30
//	30  tokens      u16  rows
//	32  width       u32  numbers of a row, or candidates
//	36  dtype       u8
//	37  kind        u8
//	38  stage       u16  of the sender, from 0 at the head
//	40  compute_us  u32  that the frame took in the sender's engine
//	44  queue_us    u32  that it waited for it
//	48  kv_free     u32  positions that the sender's cache still has room for
//	52  rows        tokens × row; a row of top has 4 × width bytes more, for the ids
type ActRet struct {
	Step
	Tokens    uint16
	Width     uint32
	DType     DType
	Kind      Result
	Stage     uint16
	ComputeUs uint32
	QueueUs   uint32
	KVFree    uint32
	Rows      []byte
}

const retHead = 52

func (m *ActRet) Validate() error {
	var c check
	m.check(&c, int(m.Tokens))
	among(&c, "kind", m.Kind, resultNames)
	among(&c, "dtype", m.DType, dtypeNames)
	row := m.DType.row(m.Width)
	switch m.Kind {
	case NoRows:
		c.that(m.Tokens == 0 && m.Width == 0 && m.DType == 0 && len(m.Rows) == 0, "rows: %d bytes of nothing", len(m.Rows))
		return c.err
	case TopRows:
		row += 4 * uint64(m.Width)
	}
	c.that(m.Kind == HiddenRows || m.DType != Q8, "dtype: %s of %s", m.DType, m.Kind)
	c.that(m.Tokens > 0, "tokens: none")
	rows(&c, m.Rows, uint64(m.Tokens), row)
	return c.err
}

func (m *ActRet) AppendBinary(b []byte) ([]byte, error) {
	b = slices.Grow(b, retHead+len(m.Rows))
	b = m.append(b)
	b = binary.BigEndian.AppendUint16(b, m.Tokens)
	b = binary.BigEndian.AppendUint32(b, m.Width)
	b = append(b, byte(m.DType), byte(m.Kind))
	b = binary.BigEndian.AppendUint16(b, m.Stage)
	b = binary.BigEndian.AppendUint32(b, m.ComputeUs)
	b = binary.BigEndian.AppendUint32(b, m.QueueUs)
	b = binary.BigEndian.AppendUint32(b, m.KVFree)
	return append(b, m.Rows...), nil
}

func (m *ActRet) UnmarshalBinary(b []byte) error {
	if len(b) < retHead {
		return malformed("%d bytes, at least %d", len(b), retHead)
	}
	m.take(b)
	m.Tokens = binary.BigEndian.Uint16(b[30:])
	m.Width = binary.BigEndian.Uint32(b[32:])
	m.DType, m.Kind = DType(b[36]), Result(b[37])
	m.Stage = binary.BigEndian.Uint16(b[38:])
	m.ComputeUs = binary.BigEndian.Uint32(b[40:])
	m.QueueUs = binary.BigEndian.Uint32(b[44:])
	m.KVFree = binary.BigEndian.Uint32(b[48:])
	m.Rows = b[retHead:]
	return m.Validate()
}

// KVSync brings a part of a lane's KV cache from a stage that leaves to its replacement, where that is faster than
// computing it again. The parts may come in any order; the replacement is ready when it has all positions up to End of all
// its layers.
//
//	 0  step         30
//	30  tokens       u16
//	32  end          u32  position after the last one that comes at all
//	36  first        u16  layer of the whole model
//	38  layers       u16
//	40  key_width    u32  numbers of a row of keys
//	44  value_width  u32  numbers of a row of values
//	48  key_dtype    u8
//	49  value_dtype  u8
//	50  stage        u16  whose cache it is
//	52  adapters     32   that it was computed with
//	84  rows         for each layer the keys of all tokens, then the values of all tokens
type KVSync struct {
	Step
	Tokens     uint16
	End        uint32
	First      uint16
	Layers     uint16
	KeyWidth   uint32
	ValueWidth uint32
	KeyDType   DType
	ValueDType DType
	Stage      uint16
	Adapters   Hash
	Rows       []byte
}

const (
	syncHead  = 84
	maxLayers = 1 << 10
)

func (m *KVSync) Validate() error {
	var c check
	m.check(&c, int(m.Tokens))
	c.that(m.Tokens > 0, "tokens: none")
	c.that(uint64(m.Pos)+uint64(m.Tokens) <= uint64(m.End) && m.End <= maxPos, "end: %d tokens from %d on, up to %d", m.Tokens, m.Pos, m.End)
	c.some("layers", int(m.Layers), maxLayers)
	c.most("first", int(m.First)+int(m.Layers), maxLayers)
	among(&c, "key dtype", m.KeyDType, dtypeNames)
	among(&c, "value dtype", m.ValueDType, dtypeNames)
	keys, values := m.KeyDType.row(m.KeyWidth), m.ValueDType.row(m.ValueWidth)
	c.that(keys > 0 && values > 0, "rows: of no known size")
	rows(&c, m.Rows, uint64(m.Tokens)*uint64(m.Layers), keys+values)
	return c.err
}

func (m *KVSync) AppendBinary(b []byte) ([]byte, error) {
	b = slices.Grow(b, syncHead+len(m.Rows))
	b = m.append(b)
	b = binary.BigEndian.AppendUint16(b, m.Tokens)
	b = binary.BigEndian.AppendUint32(b, m.End)
	b = binary.BigEndian.AppendUint16(b, m.First)
	b = binary.BigEndian.AppendUint16(b, m.Layers)
	b = binary.BigEndian.AppendUint32(b, m.KeyWidth)
	b = binary.BigEndian.AppendUint32(b, m.ValueWidth)
	b = append(b, byte(m.KeyDType), byte(m.ValueDType))
	b = binary.BigEndian.AppendUint16(b, m.Stage)
	b = append(b, m.Adapters[:]...)
	return append(b, m.Rows...), nil
}

func (m *KVSync) UnmarshalBinary(b []byte) error {
	if len(b) < syncHead {
		return malformed("%d bytes, at least %d", len(b), syncHead)
	}
	m.take(b)
	m.Tokens = binary.BigEndian.Uint16(b[30:])
	m.End = binary.BigEndian.Uint32(b[32:])
	m.First = binary.BigEndian.Uint16(b[36:])
	m.Layers = binary.BigEndian.Uint16(b[38:])
	m.KeyWidth = binary.BigEndian.Uint32(b[40:])
	m.ValueWidth = binary.BigEndian.Uint32(b[44:])
	m.KeyDType, m.ValueDType = DType(b[48]), DType(b[49])
	m.Stage = binary.BigEndian.Uint16(b[50:])
	copy(m.Adapters[:], b[52:])
	m.Rows = b[syncHead:]
	return m.Validate()
}

// KVTrim is the first frame that a stage gets from the one before in an epoch: it opens the stream of ACT_FWD, and trims
// nothing then. A stage takes it from the node that its HL_PLAN names, paired or not, and before that it takes nothing as
// large as a frame. Later in that stream it tells the stage to forget the lane's positions from Pos on, now rather than with
// the next frame: at the end of a request, to make room. Its body is the Step alone.
type KVTrim struct {
	Step
}

func (m *KVTrim) Validate() error {
	var c check
	m.check(&c, 0)
	return c.err
}

func (m *KVTrim) AppendBinary(b []byte) ([]byte, error) { return m.append(b), nil }

func (m *KVTrim) UnmarshalBinary(b []byte) error {
	if len(b) != stepSize {
		return malformed("%d bytes, not %d", len(b), stepSize)
	}
	m.take(b)
	return m.Validate()
}

// SpecBatch goes from the head to the tail directly and says which tokens were guessed, from Pos on, in the ActFwd of the
// same Seq. The head sends it if it will take the likeliest token each time: then the tail returns rows up to the first
// guess that is wrong, and not one for each. Whoever draws tokens at random does that over all rows, and needs no SpecBatch.
//
//	 0  step    30
//	30  tokens  n × u32  the rest of the body
type SpecBatch struct {
	Step
	Tokens []uint32
}

const maxDraft = 1024 // tokens

func (m *SpecBatch) Validate() error {
	var c check
	m.check(&c, len(m.Tokens))
	c.some("tokens", len(m.Tokens), maxDraft)
	for _, t := range m.Tokens {
		c.that(t < maxWidth, "token: %d", t)
	}
	return c.err
}

func (m *SpecBatch) AppendBinary(b []byte) ([]byte, error) {
	b = m.append(b)
	for _, t := range m.Tokens {
		b = binary.BigEndian.AppendUint32(b, t)
	}
	return b, nil
}

func (m *SpecBatch) UnmarshalBinary(b []byte) error {
	if len(b) < stepSize || (len(b)-stepSize)%4 != 0 || len(b)-stepSize > 4*maxDraft {
		return malformed("%d bytes, not %d and at most %d tokens", len(b), stepSize, maxDraft)
	}
	m.take(b)
	m.Tokens = make([]uint32, (len(b)-stepSize)/4)
	for i := range m.Tokens {
		m.Tokens[i] = binary.BigEndian.Uint32(b[stepSize+4*i:])
	}
	return m.Validate()
}

// CommitTokens is how many positions a stage's commitment covers, unless the lane ends before.
const CommitTokens = 32

// WinCommit binds a stage to its work on up to 32 tokens: the frames themselves have no signature. HL_AUDIT_REQ may ask
// for it later. Out of one stage has to be In of the next; where another node computes the same, Fingerprint is compared
// instead, since other hardware gives other last bits. If tokens were taken back, a later window over their positions takes
// the place of this one.
type WinCommit struct {
	Chain       ChainID        `cbor:"1,keyasint"`
	Head        centram.PeerID `cbor:"2,keyasint"` // whose chain it is
	Stage       uint16         `cbor:"3,keyasint"`
	Epoch       uint32         `cbor:"4,keyasint"`
	Lane        uint16         `cbor:"5,keyasint"`
	Window      uint32         `cbor:"6,keyasint"` // number in the epoch, over all lanes
	First       uint32         `cbor:"7,keyasint"` // position
	End         uint32         `cbor:"8,keyasint"` // position after the last one
	Adapters    Hash           `cbor:"9,keyasint,omitzero"`
	In          Hash           `cbor:"10,keyasint"` // SHA-256 of the rows that came in, in order
	Out         Hash           `cbor:"11,keyasint"` // and of those that went out
	Fingerprint []byte         `cbor:"12,keyasint"` // of the rows that went out, made so that it bears rounding (TOPLOC)
}

func (m *WinCommit) Validate() error {
	var c check
	c.that(!m.Chain.IsZero(), "chain: zero")
	account(&c, "head", m.Head)
	// Windows never cross a multiple of 32, so that those of two stages can be compared.
	c.that(m.First < m.End && m.First/CommitTokens == (m.End-1)/CommitTokens && m.End <= maxPos, "window: from %d to %d", m.First, m.End)
	given(&c, "in", m.In)
	given(&c, "out", m.Out)
	c.some("fingerprint", len(m.Fingerprint), 512)
	return c.err
}
