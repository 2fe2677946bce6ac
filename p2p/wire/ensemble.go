package wire

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/centram/centram"
)

// QueryID names one question to an ensemble in all its messages. It is random.
type QueryID [16]byte

// maxPrompt bounds the text of a question and of an answer, in bytes.
const maxPrompt = 512 * kib

// prose wants text that people or models wrote. It has to come through as it was written, so any character may be in it:
// whoever shows it on a screen has to take care of what it shows.
func (c *check) prose(what, s string, limit int) {
	c.most(what, len(s), limit)
	c.that(utf8.ValidString(s), "%s: not UTF-8", what)
}

func (c *check) query(id QueryID) { c.that(id != QueryID{}, "query: missing") }

// GWPMode says how the answers become one.
type GWPMode uint8

const (
	VoteMode    GWPMode = iota // the answer that most gave
	RankMode                   // the answer that the participants rank highest
	MergeMode                  // written anew from all answers, round by round, until they no longer contradict each other
	WeightsMode                // from one model that the participants' adapters were merged into, by GWP_DELTA
)

var gwpModeNames = []string{"vote", "rank", "merge", "weights"}

func (m GWPMode) String() string { return nameOf(gwpModeNames, m) }

// Speaker says whose turn of a conversation it is.
type Speaker uint8

const (
	System Speaker = iota
	User
	Assistant
)

var speakerNames = []string{"system", "user", "assistant"}

func (s Speaker) String() string { return nameOf(speakerNames, s) }

// Turn is one message of a conversation.
type Turn struct {
	Speaker Speaker `cbor:"1,keyasint"`
	Text    string  `cbor:"2,keyasint"`
}

// GWPQuery asks a peer to take part in answering. The peer says what it will do with GWP_ACCEPT and then sends one
// GWP_ANSWER for each genome; a refusal is a STATUS. In a later round Answers has what all participants said before: a
// participant that is asked to rank sends its GWP_SCORES to the asker, one that is asked to merge answers again.
type GWPQuery struct {
	Query       QueryID  `cbor:"1,keyasint"`
	Mode        GWPMode  `cbor:"2,keyasint"`
	Round       uint8    `cbor:"3,keyasint"`           // 0 is the first
	Turns       []Turn   `cbor:"4,keyasint"`           // the conversation; the last turn is the question
	Answers     []Record `cbor:"5,keyasint,omitempty"` // GWP_ANSWERs of the round before
	Base        Hash     `cbor:"6,keyasint,omitzero"`  // model to answer with; absent: the participant chooses
	Genomes     []Hash   `cbor:"7,keyasint,omitempty"` // that may answer, in ascending order; absent: the participant chooses
	Most        uint8    `cbor:"8,keyasint"`           // answers that the participant may give
	MaxTokens   uint32   `cbor:"9,keyasint"`           // of an answer
	Temperature uint16   `cbor:"10,keyasint"`          // in thousandths
	Seed        uint64   `cbor:"11,keyasint,omitempty"`
	WithinMs    uint32   `cbor:"12,keyasint"`           // from now on, after which no answer counts
	Budget      uint64   `cbor:"13,keyasint,omitempty"` // micro-CEN that the participant may earn
	MinAttested uint8    `cbor:"14,keyasint,omitempty"` // attestations that a genome needs to take part
}

func (m *GWPQuery) Validate() error {
	var c check
	c.query(m.Query)
	among(&c, "mode", m.Mode, gwpModeNames)
	c.most("round", int(m.Round), 16)
	c.some("turns", len(m.Turns), 256)
	total := 0
	for i, t := range m.Turns {
		among(&c, "speaker", t.Speaker, speakerNames)
		c.that(t.Speaker != System || i == 0, "turns: the system's is not the first")
		c.prose("turn", t.Text, maxPrompt)
		total += len(t.Text)
	}
	c.most("bytes of all turns", total, maxPrompt)
	c.that(len(m.Turns) == 0 || m.Turns[len(m.Turns)-1].Speaker == User, "turns: the last one is no question")
	c.records("answers", m.Answers, 32, 0x92)
	c.that((m.Round == 0) == (len(m.Answers) == 0), "answers: %d in round %d", len(m.Answers), m.Round)
	ascending(&c, "genomes", m.Genomes, 64)
	c.some("most", int(m.Most), 32)
	c.some("max_tokens", int(m.MaxTokens), 1<<20)
	c.most("temperature", int(m.Temperature), 10_000)
	c.some("within_ms", int(m.WithinMs), 3600*1000)
	amount(&c, "budget", m.Budget)
	return c.err
}

// GWPAccept says that the sender takes part with this genome. One comes for each genome, before its answer.
type GWPAccept struct {
	Query  QueryID `cbor:"1,keyasint"`
	Base   Hash    `cbor:"2,keyasint"`           // model
	Genome Hash    `cbor:"3,keyasint,omitzero"`  // absent: the model alone
	EtaMs  uint32  `cbor:"4,keyasint"`           // until the answer
	Price  uint64  `cbor:"5,keyasint,omitempty"` // of the whole answer at most, in micro-CEN
	Quote  Hash    `cbor:"6,keyasint,omitzero"`  // that the price is from
}

func (m *GWPAccept) Validate() error {
	var c check
	c.query(m.Query)
	given(&c, "base", m.Base)
	c.that(m.EtaMs <= 3600*1000, "eta_ms: %d", m.EtaMs)
	amount(&c, "price", m.Price)
	c.that(m.Price == 0 || !m.Quote.IsZero(), "price without a quote")
	return c.err
}

// FinishCode says why an answer ends.
type FinishCode uint8

const (
	FinishStop FinishCode = iota // the model was done
	FinishLength
	FinishDeadline
)

var finishNames = []string{"stop", "length", "deadline"}

func (f FinishCode) String() string { return nameOf(finishNames, f) }

// GWPAnswer is one contribution. Its author stands by it: it may be shown to others in the next round, and it is evidence in
// a dispute. Asked binds it to what the question was, Asker to who asked.
type GWPAnswer struct {
	Query       QueryID        `cbor:"1,keyasint"`
	Asker       centram.PeerID `cbor:"2,keyasint"`
	Asked       Hash           `cbor:"3,keyasint"` // SHA-256 of the GWP_QUERY body
	Base        Hash           `cbor:"4,keyasint"` // model
	Genome      Hash           `cbor:"5,keyasint,omitzero"`
	Text        string         `cbor:"6,keyasint"`
	Tokens      uint32         `cbor:"7,keyasint"`
	MeanLogprob int64          `cbor:"8,keyasint"`  // of the tokens, in micronats
	LowLogprob  int64          `cbor:"9,keyasint"`  // of the least likely tenth of them, their mean, in micronats
	Confidence  uint16         `cbor:"10,keyasint"` // that the author has in it, in basis points
	Finish      FinishCode     `cbor:"11,keyasint"`
	TookMs      uint32         `cbor:"12,keyasint"`
	Quote       Hash           `cbor:"13,keyasint,omitzero"` // as in GWP_ACCEPT
}

func (m *GWPAnswer) Validate() error {
	var c check
	c.query(m.Query)
	account(&c, "asker", m.Asker)
	given(&c, "asked", m.Asked)
	given(&c, "base", m.Base)
	c.prose("text", m.Text, maxPrompt)
	c.that(m.Tokens <= 1<<20, "tokens: %d", m.Tokens)
	c.that(m.LowLogprob <= m.MeanLogprob && m.MeanLogprob <= 0, "logprob: mean %d, low %d", m.MeanLogprob, m.LowLogprob)
	c.most("confidence", int(m.Confidence), wholeBP)
	among(&c, "finish", m.Finish, finishNames)
	return c.err
}

// GWPScore is what the author of GWP_SCORES thinks of one answer.
type GWPScore struct {
	Answer Hash   `cbor:"1,keyasint"` // record id
	Score  uint16 `cbor:"2,keyasint"` // basis points
}

// GWPScores goes from a participant to the asker, who answers with STATUS. Nobody's score of its own answer counts.
type GWPScores struct {
	Query  QueryID        `cbor:"1,keyasint"`
	Asker  centram.PeerID `cbor:"2,keyasint"`
	Round  uint8          `cbor:"3,keyasint"` // that the answers were given in
	Scores []GWPScore     `cbor:"4,keyasint"` // in ascending order of the answers
}

func (m *GWPScores) Validate() error {
	var c check
	c.query(m.Query)
	account(&c, "asker", m.Asker)
	c.most("round", int(m.Round), 16)
	c.that(len(m.Scores) > 0, "scores: none")
	answers := make([]Hash, len(m.Scores))
	for i, s := range m.Scores {
		answers[i] = s.Answer
		c.most("score", int(s.Score), wholeBP)
	}
	ascending(&c, "scores", answers, 256)
	return c.err
}

// GWPDelta is a part of one tensor of a genome. Several peers send theirs to whoever merges them. The parts of a tensor
// come in any order; the genome's manifest proves them when all are there.
//
//	 0  query    16
//	16  genome   32   content id
//	48  rows     u32
//	52  columns  u32
//	56  offset   u32  of data within the tensor, in bytes
//	60  weight   i32  of the genome in the merge, in millionths
//	64  layer    u16  65535 for what is in no layer
//	66  type     u8   F32 or F16
//	67  length   u8   of name
//	68  name          within the layer, such as "attn_q.weight.lora_a"
//	    data          whole elements, little-endian, row by row
type GWPDelta struct {
	Query   QueryID
	Genome  Hash
	Rows    uint32
	Columns uint32
	Offset  uint32
	Weight  int32
	Layer   uint16
	Type    DType
	Name    string
	Data    []byte
}

const (
	gwpDeltaHead   = 68
	maxDeltaTensor = 1 << 30 // bytes, so that every offset fits
	maxDeltaPart   = 16*mib - gwpDeltaHead - 255
)

func (m *GWPDelta) Validate() error {
	var c check
	c.query(m.Query)
	given(&c, "genome", m.Genome)
	element := uint64(2)
	if m.Type == F32 {
		element = 4
	}
	c.that(m.Type == F32 || m.Type == F16, "type: %s", m.Type)
	c.that(m.Rows > 0 && m.Columns > 0, "shape: %d x %d", m.Rows, m.Columns)
	// The product of two 32-bit numbers fits 64 bits, but times the size of an element it need not.
	elements := uint64(m.Rows) * uint64(m.Columns)
	c.that(elements <= maxDeltaTensor/element, "shape: %d x %d is too large", m.Rows, m.Columns)
	c.word("name", m.Name, 255)
	c.some("data", len(m.Data), maxDeltaPart)
	c.that(uint64(m.Offset)%element == 0 && uint64(len(m.Data))%element == 0, "data: not whole elements")
	c.that(c.err != nil || uint64(m.Offset)+uint64(len(m.Data)) <= elements*element, "data: %d bytes from %d go past the end", len(m.Data), m.Offset)
	return c.err
}

func (m *GWPDelta) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, m.Query[:]...)
	b = append(b, m.Genome[:]...)
	b = binary.BigEndian.AppendUint32(b, m.Rows)
	b = binary.BigEndian.AppendUint32(b, m.Columns)
	b = binary.BigEndian.AppendUint32(b, m.Offset)
	b = binary.BigEndian.AppendUint32(b, uint32(m.Weight))
	b = binary.BigEndian.AppendUint16(b, m.Layer)
	b = append(b, byte(m.Type), byte(len(m.Name)))
	b = append(b, m.Name...)
	return append(b, m.Data...), nil
}

func (m *GWPDelta) UnmarshalBinary(b []byte) error {
	if len(b) < gwpDeltaHead {
		return malformed("%d bytes, at least %d", len(b), gwpDeltaHead)
	}
	name := int(b[67])
	if len(b)-gwpDeltaHead < name {
		return malformed("a name of %d bytes in %d", name, len(b)-gwpDeltaHead)
	}
	*m = GWPDelta{
		Query:   QueryID(b[:16]),
		Genome:  Hash(b[16:48]),
		Rows:    binary.BigEndian.Uint32(b[48:]),
		Columns: binary.BigEndian.Uint32(b[52:]),
		Offset:  binary.BigEndian.Uint32(b[56:]),
		Weight:  int32(binary.BigEndian.Uint32(b[60:])),
		Layer:   binary.BigEndian.Uint16(b[64:]),
		Type:    DType(b[66]),
		Name:    string(b[gwpDeltaHead:][:name]),
		Data:    b[gwpDeltaHead+name:],
	}
	return nil
}

// Contribution is one participant's part in a result.
type Contribution struct {
	Node   centram.PeerID `cbor:"1,keyasint"`
	Genome Hash           `cbor:"2,keyasint,omitzero"`
	Answer Hash           `cbor:"3,keyasint,omitzero"` // record id of the GWP_ANSWER; absent if weights were merged
	Share  uint16         `cbor:"4,keyasint"`          // basis points of what is paid; all make 10000
}

// GWPResult goes from the asker to the participants: it ends the question and says who earns. The answer's text stays with
// the asker. USAGE entries follow; GWP_DISPUTE contests it.
type GWPResult struct {
	Query        QueryID        `cbor:"1,keyasint"`
	Asked        Hash           `cbor:"2,keyasint"` // SHA-256 of the first round's GWP_QUERY body
	Result       Hash           `cbor:"3,keyasint"` // SHA-256 of the reconciled answer
	Mode         GWPMode        `cbor:"4,keyasint"` // that it came about by
	Rounds       uint8          `cbor:"5,keyasint"` // that it took
	Converged    bool           `cbor:"6,keyasint"` // the last round found no contradiction
	Answers      Hash           `cbor:"7,keyasint"` // SHA-256 of the record ids of all answers, in ascending order
	Contributors []Contribution `cbor:"8,keyasint"`
	Amount       uint64         `cbor:"9,keyasint"`  // micro-CEN for all of them
	TimeMs       int64          `cbor:"10,keyasint"` // Unix time
}

func (m *GWPResult) Validate() error {
	var c check
	c.query(m.Query)
	given(&c, "asked", m.Asked)
	given(&c, "result", m.Result)
	among(&c, "mode", m.Mode, gwpModeNames)
	c.some("rounds", int(m.Rounds), 17)
	given(&c, "answers", m.Answers)
	c.some("contributors", len(m.Contributors), 256)
	sum := 0
	for _, p := range m.Contributors {
		account(&c, "contributor", p.Node)
		c.that(m.Mode == WeightsMode || !p.Answer.IsZero(), "contributor: no answer")
		sum += int(p.Share)
	}
	c.that(sum == wholeBP, "shares: %d basis points of %d", sum, wholeBP)
	amount(&c, "amount", m.Amount)
	moment(&c, "time", m.TimeMs)
	return c.err
}

// DisputeReason says what is wrong with a result or an answer.
type DisputeReason uint8

const (
	UnfairShare  DisputeReason = iota // the shares do not follow from the answers and scores
	WrongAnswer                       // not what the named genome says, or refuted by evidence
	CopiedAnswer                      // another participant's
	LeftOut                           // an answer that was given in time is not among the answers
)

var disputeNames = []string{"unfair share", "wrong answer", "copied answer", "left out"}

func (d DisputeReason) String() string { return nameOf(disputeNames, d) }

// GWPDispute goes from a participant to the asker, or from the asker to a participant, and is answered with STATUS. It holds
// back the payment, never the answer.
type GWPDispute struct {
	Query    QueryID       `cbor:"1,keyasint"`
	Result   Hash          `cbor:"2,keyasint,omitzero"` // record id of the GWP_RESULT, if there is one
	Answer   Hash          `cbor:"3,keyasint,omitzero"` // record id of the GWP_ANSWER that it is about
	Reason   DisputeReason `cbor:"4,keyasint"`
	Detail   string        `cbor:"5,keyasint,omitempty"`
	Evidence []Hash        `cbor:"6,keyasint"` // record ids, in ascending order
	TimeMs   int64         `cbor:"7,keyasint"` // Unix time
}

func (m *GWPDispute) Validate() error {
	var c check
	c.query(m.Query)
	c.that(!m.Result.IsZero() || !m.Answer.IsZero(), "neither a result nor an answer")
	among(&c, "reason", m.Reason, disputeNames)
	c.text("detail", m.Detail, 512)
	ascending(&c, "evidence", m.Evidence, 64)
	moment(&c, "time", m.TimeMs)
	return c.err
}
