package wire

// CatSummary says what the sender's catalogue is: when a session begins, now and then, and whenever there is something new.
// The receiver asks for those of Fresh that it lacks. If Digest differs from its own all the same, it goes on with CatRecon.
//
// The catalogue is the set of all valid records that have not expired; see Row.Kept.
type CatSummary struct {
	Count  uint64 `cbor:"1,keyasint"` // records
	Digest []byte `cbor:"2,keyasint"` // of all record ids; see package rbsr
	Fresh  []Hash `cbor:"3,keyasint"` // ids of records that came since the last summary, in ascending order
}

func (m *CatSummary) Validate() error {
	var c check
	c.that(len(m.Digest) == reconDigest, "digest: %d bytes", len(m.Digest))
	ascending(&c, "fresh", m.Fresh, 256)
	return c.err
}

// reconDigest is the size of a set's digest, and maxRecon that of one step's ranges; see package rbsr.
const (
	reconDigest = 16
	maxRecon    = 60 * kib
)

// CatRecon is one step of finding out which records only one of both sides has. The side that answers keeps nothing
// between two steps, so the catalogue may change meanwhile.
type CatRecon struct {
	Session uint64 `cbor:"1,keyasint"` // random: the same in all steps of one reconciliation
	Step    uint8  `cbor:"2,keyasint"` // from 0 on, replies counted too
	Ranges  []byte `cbor:"3,keyasint"` // a message of package rbsr
}

func (m *CatRecon) Validate() error {
	var c check
	c.that(m.Session != 0, "session: 0")
	c.that(m.Step < maxSteps, "step: %d, at most %d", m.Step, maxSteps-1)
	c.some("ranges", len(m.Ranges), maxRecon)
	return c.err
}

const maxSteps = 64

// RecordGet asks for records by their ids, or for all records about some genomes. Records follows, without those that the
// other side does not have.
type RecordGet struct {
	IDs     []Hash `cbor:"1,keyasint"` // record ids
	Genomes []Hash `cbor:"2,keyasint"` // content ids
}

func (m *RecordGet) Validate() error {
	var c check
	c.some("ids and genomes", len(m.IDs)+len(m.Genomes), 256)
	for _, h := range m.IDs {
		given(&c, "record", h)
	}
	for _, h := range m.Genomes {
		given(&c, "genome", h)
	}
	return c.err
}

// Records answers RecordGet and GenomeSearch. What does not fit one frame follows in further ones.
type Records struct {
	Records []Record `cbor:"1,keyasint"`
	Cursor  []byte   `cbor:"2,keyasint,omitempty"` // where a search goes on; empty: there is no more
}

func (m *Records) Validate() error {
	var c check
	c.records("records", m.Records, 1024)
	for _, r := range m.Records {
		row := RowOf(Type(r[0])) // records has checked that there is one
		c.that(c.err != nil || row.Kept(), "records: %v", row)
	}
	c.most("cursor", len(m.Cursor), maxCursor)
	return c.err
}

// maxCursor is the size of a place in a list that only whoever answers understands.
const maxCursor = 64

// GenomeAnnounce publishes a genome: an adapter that anybody can hold against its hash, and what its author says about it.
// Who its parents are is in the LINEAGE_RECORD that it names. What it is worth, others say in ATTESTATION.
type GenomeAnnounce struct {
	Genome      Hash       `cbor:"1,keyasint"` // content id: SHA-256 of the adapter's file
	Seq         uint64     `cbor:"2,keyasint"` // highest wins for one author and genome, GENOME_RETRACT included
	Name        string     `cbor:"3,keyasint"` // for people
	Kind        GenomeKind `cbor:"4,keyasint"`
	Arch        string     `cbor:"5,keyasint"` // of the base model, such as "qwen2"
	Base        Hash       `cbor:"6,keyasint"` // digest of the base model's tokenizer, shape and weights
	Rank        uint16     `cbor:"7,keyasint"` // alpha is the same: the scale is folded into the weights
	Targets     []string   `cbor:"8,keyasint"` // kinds of matrices, such as "attn_q"
	DType       DType      `cbor:"9,keyasint"`
	Size        uint64     `cbor:"10,keyasint"` // bytes of the file
	Manifest    Hash       `cbor:"11,keyasint"` // SHA-256 of the MANIFEST body, so that every chunk can be checked
	Fingerprint []byte     `cbor:"12,keyasint"` // signs of 256 projections of B·A: few differ between near copies, however factored
	Lineage     Hash       `cbor:"13,keyasint"` // record id of the LINEAGE_RECORD
	Licence     string     `cbor:"14,keyasint"` // SPDX expression
	Price       uint64     `cbor:"15,keyasint"` // of a copy, in micro-CEN; a hint: QUOTE binds
	Tags        []string   `cbor:"16,keyasint"`
	Examples    uint32     `cbor:"17,keyasint"`          // that it was trained on
	Tokens      uint64     `cbor:"18,keyasint"`          // seen in training, repeats counted
	Privacy     Privacy    `cbor:"19,keyasint,omitzero"` // of the training data; absent: none
	Domain      int64      `cbor:"20,keyasint"`          // claimed gain on its own subject over the base, in micronats per token
	General     int64      `cbor:"21,keyasint"`          // the same on general text; negative: it got worse
	Created     int64      `cbor:"22,keyasint"`          // Unix milliseconds
	Expires     int64      `cbor:"23,keyasint"`          // Unix milliseconds
}

func (m *GenomeAnnounce) Validate() error {
	var c check
	given(&c, "genome", m.Genome)
	c.that(m.Seq != 0, "seq: 0")
	c.text("name", m.Name, 64)
	among(&c, "kind", m.Kind, genomeKinds)
	c.word("arch", m.Arch, 32)
	given(&c, "base", m.Base)
	c.some("rank", int(m.Rank), 64)
	c.some("targets", len(m.Targets), 16)
	c.words("targets", m.Targets, 16)
	c.that(m.DType == F32 || m.DType == F16, "dtype: %s", m.DType) // merging wants plain floats
	c.that(m.Size > 0 && m.Size <= MaxChunks*ChunkSize, "size: %d", m.Size)
	given(&c, "manifest", m.Manifest)
	c.that(len(m.Fingerprint) == 32, "fingerprint: %d bytes", len(m.Fingerprint))
	given(&c, "lineage", m.Lineage)
	c.text("licence", m.Licence, 64)
	amount(&c, "price", m.Price)
	c.words("tags", m.Tags, 16)
	m.Privacy.check(&c)
	moment(&c, "created", m.Created)
	moment(&c, "expires", m.Expires)
	c.that(m.Created < m.Expires, "expires before it is created")
	return c.err
}

// GenomeKind says what a genome is to those who merge.
type GenomeKind uint8

const (
	Expert GenomeKind = iota // trained on one subject
	Trunk                    // merged of others
)

var genomeKinds = []string{"expert", "trunk"}

func (k GenomeKind) String() string { return nameOf(genomeKinds, k) }

// Privacy is what the author says about the training data's protection. Receivers compute Epsilon again from the other
// fields; that training ran like this, nobody can check.
type Privacy struct {
	Mode       PrivacyMode `cbor:"1,keyasint"`
	Rate       uint32      `cbor:"2,keyasint"` // chance of an example to be in a batch, in billionths
	Noise      uint64      `cbor:"3,keyasint"` // standard deviation as a multiple of Clip, in millionths
	Clip       uint64      `cbor:"4,keyasint"` // largest norm of one example's gradient, in millionths
	Steps      uint32      `cbor:"5,keyasint"`
	Delta      uint64      `cbor:"6,keyasint"`  // in 10^-12
	Epsilon    uint64      `cbor:"7,keyasint"`  // of this genome, in millionths
	Accountant string      `cbor:"8,keyasint"`  // how Epsilon was computed, such as "rdp/1"
	Dataset    Hash        `cbor:"9,keyasint"`  // the data, named so that only the author can tell which they are
	Spent      uint64      `cbor:"10,keyasint"` // epsilon of all genomes from Dataset up to this one, in millionths
}

func (p *Privacy) check(c *check) {
	among(c, "privacy", p.Mode, privacyModes)
	if p.Mode == NoPrivacy {
		c.that(*p == Privacy{}, "privacy: none, but it has parameters")
		return
	}
	c.that(p.Rate > 0 && p.Rate <= 1e9, "privacy: rate %d", p.Rate)
	c.that(p.Noise > 0 && p.Clip > 0 && p.Steps > 0, "privacy: noise, clip or steps are 0")
	c.that(p.Noise <= 1e12 && p.Clip <= 1e12, "privacy: noise %d or clip %d", p.Noise, p.Clip)
	c.that(p.Delta > 0 && p.Delta < 1e12, "privacy: delta %d", p.Delta)
	c.that(p.Epsilon > 0 && p.Epsilon <= p.Spent && p.Spent <= 1e15, "privacy: epsilon %d, spent %d", p.Epsilon, p.Spent)
	c.word("accountant", p.Accountant, 32)
	given(c, "dataset", p.Dataset)
}

// PrivacyMode says how training data are protected.
type PrivacyMode uint8

const (
	NoPrivacy PrivacyMode = iota
	DPSGD                 // differentially private gradient descent over examples (Abadi et al. 2016)
)

var privacyModes = []string{"none", "dp-sgd"}

func (p PrivacyMode) String() string { return nameOf(privacyModes, p) }

// GenomeSearch asks for announcements of genomes that fit a base model. GenomeRecords follows.
type GenomeSearch struct {
	Base     Hash     `cbor:"1,keyasint"`
	Tags     []string `cbor:"2,keyasint"`           // all of them
	MinScore int64    `cbor:"3,keyasint,omitempty"` // attested gain over the base, in micronats per token; 0: without attestation too
	MaxSize  uint64   `cbor:"4,keyasint,omitempty"` // bytes; 0: any
	Most     uint16   `cbor:"5,keyasint"`
	Cursor   []byte   `cbor:"6,keyasint,omitempty"` // from the answer before
}

func (m *GenomeSearch) Validate() error {
	var c check
	given(&c, "base", m.Base)
	c.words("tags", m.Tags, 16)
	c.some("most", int(m.Most), 256)
	c.most("cursor", len(m.Cursor), maxCursor)
	return c.err
}

// GenomeRetract withdraws the author's own genome: nobody should fetch or merge it from now on. What the ledger says about
// it stays.
type GenomeRetract struct {
	Genome    Hash   `cbor:"1,keyasint"`
	Seq       uint64 `cbor:"2,keyasint"` // over the announcement's
	Reason    string `cbor:"3,keyasint"` // for people
	Successor Hash   `cbor:"4,keyasint,omitzero"`
	TimeMs    int64  `cbor:"5,keyasint"` // Unix time
}

func (m *GenomeRetract) Validate() error {
	var c check
	given(&c, "genome", m.Genome)
	c.that(m.Seq != 0, "seq: 0")
	c.text("reason", m.Reason, 256)
	c.that(m.Successor != m.Genome, "a genome succeeds itself")
	moment(&c, "time", m.TimeMs)
	return c.err
}
