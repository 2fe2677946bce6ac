package wire

import "github.com/centram/centram"

// EvalTask orders an evaluation. Its record id names the task. EvalAccept and EvalCommit follow; EvalReveal comes when all
// evaluators of the round have committed, or at the deadline.
type EvalTask struct {
	Nonce     uint64         `cbor:"1,keyasint"` // random: two equal orders are two tasks
	Evaluator centram.PeerID `cbor:"2,keyasint"` // whom it is for
	Genome    Hash           `cbor:"3,keyasint"`
	Against   Hash           `cbor:"4,keyasint,omitzero"` // genome to compare with; absent: the base alone
	Base      Hash           `cbor:"5,keyasint"`
	Suite     Hash           `cbor:"6,keyasint"`           // SHA-256 of the suite's description
	Seed      uint64         `cbor:"7,keyasint"`           // picks the items
	Items     uint32         `cbor:"8,keyasint"`           // of the suite; all metrics are over the same ones
	Deadline  int64          `cbor:"9,keyasint"`           // Unix milliseconds
	Fee       uint64         `cbor:"10,keyasint"`          // micro-CEN
	Round     Hash           `cbor:"11,keyasint,omitzero"` // record id of a ROUND_OPEN
}

func (m *EvalTask) Validate() error {
	var c check
	c.that(m.Nonce != 0, "nonce: 0")
	account(&c, "evaluator", m.Evaluator)
	given(&c, "genome", m.Genome)
	c.that(m.Against != m.Genome, "a genome against itself")
	given(&c, "base", m.Base)
	given(&c, "suite", m.Suite)
	c.some("items", int(m.Items), maxItems)
	moment(&c, "deadline", m.Deadline)
	amount(&c, "fee", m.Fee)
	return c.err
}

// maxItems bounds the items of an evaluation.
const maxItems = 1 << 20

// EvalAccept says that the evaluator takes the task. A refusal is a STATUS.
type EvalAccept struct {
	Task  Hash   `cbor:"1,keyasint"` // record id of the EVAL_TASK
	EtaMs uint32 `cbor:"2,keyasint"` // until the commitment comes
	Env   Hash   `cbor:"3,keyasint"` // what it will run on: SHA-256 over program, backend, precision and base file
}

func (m *EvalAccept) Validate() error {
	var c check
	given(&c, "task", m.Task)
	given(&c, "env", m.Env)
	return c.err
}

// EvalCommit binds the evaluator to its result before it can see another's.
type EvalCommit struct {
	Task       Hash  `cbor:"1,keyasint"` // record id of the EVAL_TASK
	Commitment Hash  `cbor:"2,keyasint"` // SHA-256 of the EVAL_REVEAL body, whose salt keeps it from being guessed
	TimeMs     int64 `cbor:"3,keyasint"` // Unix time
}

func (m *EvalCommit) Validate() error {
	var c check
	given(&c, "task", m.Task)
	given(&c, "commitment", m.Commitment)
	moment(&c, "time", m.TimeMs)
	return c.err
}

// EvalReveal opens the commitment.
type EvalReveal struct {
	Task       Hash     `cbor:"1,keyasint"` // record id of the EVAL_TASK
	Metrics    []Metric `cbor:"2,keyasint"` // in ascending order of their names
	Salt       []byte   `cbor:"3,keyasint"`
	Transcript Hash     `cbor:"4,keyasint"` // root over what was asked and answered, item by item
	Env        Hash     `cbor:"5,keyasint"` // as in EVAL_ACCEPT
}

// Metric is a measured number. For "nll" and other losses that is the genome's mean minus the other's, in micronats per
// token, over pairs of the same items; for "acc" and other rates it is in millionths.
type Metric struct {
	Name  string `cbor:"1,keyasint"` // subject and kind, such as "general/nll"
	Value int64  `cbor:"2,keyasint"`
	Low   int64  `cbor:"3,keyasint"` // ends of the interval that holds the true value with 95 %
	High  int64  `cbor:"4,keyasint"`
	Items uint32 `cbor:"5,keyasint"`
}

func (m *EvalReveal) Validate() error {
	var c check
	given(&c, "task", m.Task)
	c.some("metrics", len(m.Metrics), 256)
	for i, x := range m.Metrics {
		c.word("name", x.Name, 64)
		c.that(i == 0 || m.Metrics[i-1].Name < x.Name, "metrics: not in ascending order")
		c.that(x.Low <= x.Value && x.Value <= x.High, "%s: %d is not from %d to %d", x.Name, x.Value, x.Low, x.High)
		c.some("items", int(x.Items), maxItems)
	}
	c.that(len(m.Salt) == 32, "salt: %d bytes", len(m.Salt))
	given(&c, "transcript", m.Transcript)
	given(&c, "env", m.Env)
	return c.err
}

// Attestation is a statement about a genome that stands by itself. Whoever reads it decides what its author's word is
// worth. The author sends it unasked when it has found something out; a later one of a higher Seq takes its place.
type Attestation struct {
	Genome  Hash       `cbor:"1,keyasint"`
	Kind    AttestKind `cbor:"2,keyasint"`
	Seq     uint64     `cbor:"3,keyasint"` // highest wins for one author, genome, kind and task
	Verdict Verdict    `cbor:"4,keyasint"`
	Score   int64      `cbor:"5,keyasint"` // gain over the base, in micronats per token; for other kinds millionths of the suite's own unit
	Low     int64      `cbor:"6,keyasint"` // ends of the interval that holds the true score with 95 %
	High    int64      `cbor:"7,keyasint"`
	Suite   Hash       `cbor:"8,keyasint,omitzero"`  // what was run; absent if the kind needs no run
	Items   uint32     `cbor:"9,keyasint,omitempty"` // of the suite
	Task    Hash       `cbor:"10,keyasint,omitzero"` // record id of the EVAL_TASK or LINEAGE_CHALLENGE that it answers
	TimeMs  int64      `cbor:"11,keyasint"`          // Unix time
	Expires int64      `cbor:"12,keyasint"`          // Unix milliseconds
}

func (m *Attestation) Validate() error {
	var c check
	given(&c, "genome", m.Genome)
	among(&c, "kind", m.Kind, attestKinds)
	c.that(m.Seq != 0, "seq: 0")
	among(&c, "verdict", m.Verdict, verdictNames)
	c.that(m.Low <= m.Score && m.Score <= m.High, "score: %d is not from %d to %d", m.Score, m.Low, m.High)
	c.that(m.Suite.IsZero() == (m.Items == 0), "suite and items: one without the other")
	c.that(m.Kind != AttestQuality || m.Items > 0, "quality without a suite")
	c.that(m.Kind != AttestAncestry || !m.Task.IsZero(), "ancestry without a challenge")
	c.most("items", int(m.Items), maxItems)
	moment(&c, "time", m.TimeMs)
	moment(&c, "expires", m.Expires)
	c.that(m.TimeMs < m.Expires, "expires before it is made")
	return c.err
}

// AttestKind says what an attestation is about.
type AttestKind uint8

const (
	AttestQuality  AttestKind = iota // the genome was measured on a suite
	AttestSafety                     // probes for backdoors and for lost refusals
	AttestMerge                      // the merge was done again, with the same bytes or others
	AttestPrivacy                    // an audit looked for training data in it
	AttestAncestry                   // a vote on a LINEAGE_CHALLENGE: VerdictPass upholds it, VerdictFail rejects it
)

var attestKinds = []string{"quality", "safety", "merge", "privacy", "ancestry"}

func (a AttestKind) String() string { return nameOf(attestKinds, a) }

// Verdict sums up what somebody found. The worse, the higher.
type Verdict uint8

const (
	VerdictPass  Verdict = iota
	VerdictDoubt         // to be quarantined until more is known
	VerdictFail
)

var verdictNames = []string{"pass", "doubt", "fail"}

func (v Verdict) String() string { return nameOf(verdictNames, v) }

// AttestRevoke withdraws the author's own ATTESTATION or SCAN_REPORT for good.
type AttestRevoke struct {
	Statement Hash   `cbor:"1,keyasint"` // record id
	Genome    Hash   `cbor:"2,keyasint"` // that the statement is about
	Reason    string `cbor:"3,keyasint"` // for people
	TimeMs    int64  `cbor:"4,keyasint"` // Unix time
}

func (m *AttestRevoke) Validate() error {
	var c check
	given(&c, "statement", m.Statement)
	given(&c, "genome", m.Genome)
	c.text("reason", m.Reason, 256)
	moment(&c, "time", m.TimeMs)
	return c.err
}

// ScanReport says what the author's gate found in a genome's file and weights, before the genome was loaded. Receivers
// scan for themselves all the same: a report spares them a download, not a check.
type ScanReport struct {
	Genome   Hash      `cbor:"1,keyasint"`
	Base     Hash      `cbor:"2,keyasint"` // that norms and shapes were held against
	Seq      uint64    `cbor:"3,keyasint"` // highest wins for one author and genome
	Scanner  string    `cbor:"4,keyasint"` // program and version, such as "centram/0.3.0"
	Verdict  Verdict   `cbor:"5,keyasint"` // the worst of the findings'
	Findings []Finding `cbor:"6,keyasint"`
	TimeMs   int64     `cbor:"7,keyasint"` // Unix time
	Expires  int64     `cbor:"8,keyasint"` // Unix milliseconds
}

// Finding is what one check of the gate saw.
type Finding struct {
	Layer   uint8   `cbor:"1,keyasint"` // of the gate, 1 to 10
	Check   string  `cbor:"2,keyasint"` // such as "nan", "inf", "norm-z", "shape" or "backdoor"
	Verdict Verdict `cbor:"3,keyasint"`
	Value   int64   `cbor:"4,keyasint"` // a count, or a measure in millionths
	Limit   int64   `cbor:"5,keyasint"` // that Value was held against
}

func (m *ScanReport) Validate() error {
	var c check
	given(&c, "genome", m.Genome)
	given(&c, "base", m.Base)
	c.that(m.Seq != 0, "seq: 0")
	c.word("scanner", m.Scanner, 64)
	c.some("findings", len(m.Findings), 32)
	worst := VerdictPass
	for i, f := range m.Findings {
		c.some("layer", int(f.Layer), 10)
		c.word("check", f.Check, 32)
		among(&c, "verdict", f.Verdict, verdictNames)
		worst = max(worst, f.Verdict)
		if i > 0 {
			b := m.Findings[i-1]
			c.that(b.Layer < f.Layer || b.Layer == f.Layer && b.Check < f.Check, "findings: not in the order of layers and names")
		}
	}
	c.that(m.Verdict == worst, "verdict: %s, but the worst finding is %s", m.Verdict, worst)
	moment(&c, "time", m.TimeMs)
	moment(&c, "expires", m.Expires)
	c.that(m.TimeMs < m.Expires, "expires before it is made")
	return c.err
}

// AttestQuery asks for statements about genomes. They follow in Records, as they came from their authors.
type AttestQuery struct {
	Genomes  []Hash `cbor:"1,keyasint"`           // in ascending order
	Kinds    uint16 `cbor:"2,keyasint"`           // bit k: attestations of AttestKind k
	Scans    bool   `cbor:"3,keyasint"`           // scan reports too
	MinItems uint32 `cbor:"4,keyasint,omitempty"` // leaves out attestations over fewer items
	Most     uint16 `cbor:"5,keyasint"`           // for one genome
}

func (m *AttestQuery) Validate() error {
	var c check
	c.some("genomes", len(m.Genomes), 256)
	ascending(&c, "genomes", m.Genomes, 256)
	c.that(int(m.Kinds) < 1<<len(attestKinds), "kinds: %#x", m.Kinds)
	c.that(m.Kinds != 0 || m.Scans, "kinds: none")
	c.most("min items", int(m.MinItems), maxItems)
	c.some("most", int(m.Most), 64)
	return c.err
}
