package wire

// LineageRecord declares where a genome comes from. Its author is the genome's. Royalties and the search for cycles rest
// on it.
type LineageRecord struct {
	Genome   Hash     `cbor:"1,keyasint"`
	Base     Hash     `cbor:"2,keyasint"` // as in GENOME_ANNOUNCE: all ancestors have the same
	Parents  []Parent `cbor:"3,keyasint"` // in ascending order of their ids
	Operator Operator `cbor:"4,keyasint"`
	Params   Hash     `cbor:"5,keyasint"`          // SHA-256 of the operator's parameters as they stand in the genome's file
	Seed     uint64   `cbor:"6,keyasint"`          // of whatever was random: with it, anybody can merge again to the bit
	Data     Hash     `cbor:"7,keyasint,omitzero"` // salted hash of the training data
	Depth    uint32   `cbor:"8,keyasint"`          // one more than that of the deepest parent; 0 without parents
	Round    Hash     `cbor:"9,keyasint,omitzero"` // record id of the ROUND_OPEN that it was made for
	TimeMs   int64    `cbor:"10,keyasint"`         // Unix time
}

// Parent is one of a genome's direct ancestors.
type Parent struct {
	Genome Hash   `cbor:"1,keyasint"`
	Weight uint16 `cbor:"2,keyasint"` // its share, in basis points; all shares make 10000
}

func (m *LineageRecord) Validate() error {
	var c check
	given(&c, "genome", m.Genome)
	given(&c, "base", m.Base)
	among(&c, "operator", m.Operator, operatorNames)
	parents := make([]Hash, len(m.Parents))
	weights := 0
	for i, p := range m.Parents {
		parents[i] = p.Genome
		weights += int(p.Weight)
		c.that(p.Genome != m.Genome, "a genome is its own parent")
		c.that(p.Weight > 0, "weight: 0")
	}
	ascending(&c, "parents", parents, maxParents)
	c.that(len(parents) == 0 || weights == wholeBP, "weights: %d basis points, not %d", weights, wholeBP)
	least, most := m.Operator.parents()
	c.that(len(parents) >= least && len(parents) <= most, "%s of %d parents", m.Operator, len(parents))
	c.that((m.Depth == 0) == (len(parents) == 0), "depth: %d with %d parents", m.Depth, len(parents))
	given(&c, "params", m.Params)
	moment(&c, "time", m.TimeMs)
	return c.err
}

// Operator says how a genome was made.
type Operator uint8

const (
	OpTrain  Operator = iota // from the base, or from one parent
	OpMutate                 // from one parent, with random changes
	OpImport                 // elsewhere
	OpLinear                 // weighted mean of the products B·A; this and all that follow merge several parents
	OpSum
	OpSLERP
	OpTIES
	OpDARETIES
	OpCTM // in a basis that the parents share
	OpIso // with equal singular values
)

var operatorNames = []string{"train", "mutate", "import", "linear", "sum", "slerp", "ties", "dare-ties", "ctm", "iso"}

func (o Operator) String() string { return nameOf(operatorNames, o) }

// parents is how many parents the operator takes.
func (o Operator) parents() (least, most int) {
	switch o {
	case OpTrain:
		return 0, 1
	case OpMutate:
		return 1, 1
	case OpImport:
		return 0, maxParents
	case OpSLERP:
		return 2, 2
	}
	return 2, maxParents
}

// maxParents is how many accounts one payment can have.
const maxParents = 64

// LineageGet asks for a genome's ancestors. LineageDAG follows.
type LineageGet struct {
	Genome Hash   `cbor:"1,keyasint"`
	Depth  uint16 `cbor:"2,keyasint"` // generations, the genome's own counted
	Known  []Hash `cbor:"3,keyasint"` // genomes whose lineage need not come again, in ascending order
}

func (m *LineageGet) Validate() error {
	var c check
	given(&c, "genome", m.Genome)
	c.some("depth", int(m.Depth), 1024)
	ascending(&c, "known", m.Known, 1024)
	return c.err
}

// LineageDAG answers LineageGet: the LINEAGE_RECORD of every ancestor and of the genome, each after those of its parents.
// In this order a cycle cannot be written: one of its records would name a parent that is still to come.
type LineageDAG struct {
	Records   []Record `cbor:"1,keyasint"`
	Truncated bool     `cbor:"2,keyasint"` // there are deeper ones
}

func (m *LineageDAG) Validate() error {
	var c check
	c.records("records", m.Records, 4096, 0x40)
	return c.err
}

// LineageClaim says what is wrong with a declared ancestry.
type LineageClaim uint8

const (
	ClaimCopied        LineageClaim = iota // the genome is a copy of Parent, or nearly
	ClaimMissingParent                     // Parent was merged and is not declared
	ClaimWrongWeight                       // Parent's share is Weight
	ClaimWrongResult                       // merging again gives other bytes
	ClaimCycle                             // the genome is among its own ancestors
)

var claimNames = []string{"copied", "missing parent", "wrong weight", "wrong result", "cycle"}

func (l LineageClaim) String() string { return nameOf(claimNames, l) }

// LineageChallenge disputes a LINEAGE_RECORD. Attestors look at it and answer with an ATTESTATION of kind AttestAncestry whose
// Task is the challenge; a LINEAGE_RULING collects those.
type LineageChallenge struct {
	Genome   Hash         `cbor:"1,keyasint"`
	Lineage  Hash         `cbor:"2,keyasint"` // record id of what is disputed
	Claim    LineageClaim `cbor:"3,keyasint"`
	Parent   Hash         `cbor:"4,keyasint,omitzero"`
	Weight   uint16       `cbor:"5,keyasint,omitempty"` // right share of Parent, in basis points
	Evidence []Hash       `cbor:"6,keyasint"`           // records and blobs, in ascending order
	Bond     uint64       `cbor:"7,keyasint"`           // micro-CEN that the author loses if the claim is wrong
	Detail   string       `cbor:"8,keyasint,omitempty"` // for people
	TimeMs   int64        `cbor:"9,keyasint"`           // Unix time
	Expires  int64        `cbor:"10,keyasint"`          // Unix milliseconds; votes after it do not count
}

func (m *LineageChallenge) Validate() error {
	var c check
	given(&c, "genome", m.Genome)
	given(&c, "lineage", m.Lineage)
	among(&c, "claim", m.Claim, claimNames)
	if m.Claim <= ClaimWrongWeight {
		given(&c, "parent", m.Parent)
	} else {
		c.that(m.Parent.IsZero(), "parent: %s needs none", m.Claim)
	}
	c.that(m.Parent != m.Genome, "a genome is its own parent")
	c.that(m.Claim == ClaimWrongWeight || m.Weight == 0, "weight: %s needs none", m.Claim)
	c.most("weight", int(m.Weight), wholeBP)
	ascending(&c, "evidence", m.Evidence, 64)
	amount(&c, "bond", m.Bond)
	c.text("detail", m.Detail, 512)
	moment(&c, "time", m.TimeMs)
	moment(&c, "expires", m.Expires)
	c.that(m.TimeMs < m.Expires, "expires before it is made")
	return c.err
}

// LineageRuling collects what attestors found about a challenge. It decides nothing by itself: every node weighs the votes
// by what it thinks of the attestors.
type LineageRuling struct {
	Challenge Hash     `cbor:"1,keyasint"` // record id
	Seq       uint64   `cbor:"2,keyasint"` // highest wins for one author and challenge: votes may be added
	Verdict   Ruling   `cbor:"3,keyasint"`
	Votes     []Record `cbor:"4,keyasint"`          // attestations
	Corrected Hash     `cbor:"5,keyasint,omitzero"` // record id of the LINEAGE_RECORD that should hold instead
	TimeMs    int64    `cbor:"6,keyasint"`          // Unix time
}

func (m *LineageRuling) Validate() error {
	var c check
	given(&c, "challenge", m.Challenge)
	c.that(m.Seq != 0, "seq: 0")
	among(&c, "verdict", m.Verdict, rulingNames)
	c.some("votes", len(m.Votes), 128)
	c.records("votes", m.Votes, 128, 0x54)
	c.that(m.Verdict == RulingUpheld || m.Corrected.IsZero(), "corrected: the challenge is %s", m.Verdict)
	moment(&c, "time", m.TimeMs)
	return c.err
}

// Ruling is what became of a challenge.
type Ruling uint8

const (
	RulingUndecided Ruling = iota
	RulingUpheld           // the challenge is right
	RulingRejected
)

var rulingNames = []string{"undecided", "upheld", "rejected"}

func (r Ruling) String() string { return nameOf(rulingNames, r) }
