package wire

import (
	"bytes"

	"github.com/centram/centram"
)

// RoundOpen starts an evolution round. Its author runs the round, and its record id names it. Workers answer with
// RoundJoin.
//
// The author fixes all seeds before it sees a candidate: SeedHash is the last link of a chain of SHA-256, one link for
// each generation, and every SELECTION reveals the link before.
type RoundOpen struct {
	Seq         uint64   `cbor:"1,keyasint"` // of the author's rounds: two equal ones are two rounds
	Base        Hash     `cbor:"2,keyasint"`
	Trunk       Hash     `cbor:"3,keyasint,omitzero"` // genome that offspring have to beat; absent: the base alone
	Founders    []Hash   `cbor:"4,keyasint"`          // first parents, in ascending order
	Objective   string   `cbor:"5,keyasint"`          // for people
	Suite       Hash     `cbor:"6,keyasint"`          // that fitness is measured on
	Population  uint16   `cbor:"7,keyasint"`          // offspring of a generation
	Survivors   uint16   `cbor:"8,keyasint"`          // at most, of a generation
	Generations uint16   `cbor:"9,keyasint"`
	SeedHash    Hash     `cbor:"10,keyasint"`
	Pool        uint64   `cbor:"11,keyasint"` // micro-CEN for all rewards together
	Rules       Hash     `cbor:"12,keyasint"` // SHA-256 of how offspring are selected and rewards are split
	Abilities   []string `cbor:"13,keyasint"` // that a worker needs, such as "train/1"
	Opens       int64    `cbor:"14,keyasint"` // Unix milliseconds
	Deadline    int64    `cbor:"15,keyasint"` // Unix milliseconds; nothing counts after it
}

func (m *RoundOpen) Validate() error {
	var c check
	c.that(m.Seq != 0, "seq: 0")
	given(&c, "base", m.Base)
	ascending(&c, "founders", m.Founders, maxPopulation)
	c.text("objective", m.Objective, 256)
	given(&c, "suite", m.Suite)
	c.some("population", int(m.Population), maxPopulation)
	c.some("survivors", int(m.Survivors), maxPopulation)
	c.some("generations", int(m.Generations), 1000)
	given(&c, "seed hash", m.SeedHash)
	amount(&c, "pool", m.Pool)
	given(&c, "rules", m.Rules)
	c.words("abilities", m.Abilities, 16)
	moment(&c, "opens", m.Opens)
	moment(&c, "deadline", m.Deadline)
	c.that(m.Opens < m.Deadline, "ends before it opens")
	return c.err
}

// maxPopulation bounds a generation, so that a SELECTION of it and of its parents fits a frame.
const maxPopulation = 512

// RoundJoin offers work to a round's author. RoundAssign follows, or a STATUS that refuses.
type RoundJoin struct {
	Round     Hash     `cbor:"1,keyasint"` // record id of the ROUND_OPEN
	Seq       uint64   `cbor:"2,keyasint"` // of the author in this round; highest wins
	Slots     uint16   `cbor:"3,keyasint"` // jobs at the same time
	Hardware  string   `cbor:"4,keyasint"` // class, such as "cpu/x86_64" or "cuda/24g"
	Abilities []string `cbor:"5,keyasint"` // such as "train/1"
	Stake     uint64   `cbor:"6,keyasint"` // micro-CEN that the worker loses if its work proves forged
	Expires   int64    `cbor:"7,keyasint"` // Unix milliseconds
}

func (m *RoundJoin) Validate() error {
	var c check
	given(&c, "round", m.Round)
	c.that(m.Seq != 0, "seq: 0")
	c.some("slots", int(m.Slots), maxJobs)
	c.word("hardware", m.Hardware, 32)
	c.words("abilities", m.Abilities, 16)
	amount(&c, "stake", m.Stake)
	moment(&c, "expires", m.Expires)
	return c.err
}

// maxJobs bounds the jobs of one worker.
const maxJobs = 256

// RoundAssign hands out work to the worker that asked, with MORE as long as there may be more.
type RoundAssign struct {
	Round      Hash           `cbor:"1,keyasint"` // record id of the ROUND_OPEN
	Worker     centram.PeerID `cbor:"2,keyasint"`
	Generation uint16         `cbor:"3,keyasint"` // from 0 on
	Jobs       []Job          `cbor:"4,keyasint"` // in ascending order of their numbers; empty: not now
	Deadline   int64          `cbor:"5,keyasint"` // Unix milliseconds; then the jobs go to somebody else
}

// Job is one piece of work.
type Job struct {
	ID       uint64   `cbor:"1,keyasint"` // in the round
	Work     Work     `cbor:"2,keyasint"`
	Operator Operator `cbor:"3,keyasint"` // unless it evaluates
	Parents  []Hash   `cbor:"4,keyasint"` // or what is to be evaluated; in ascending order
	Seed     uint64   `cbor:"5,keyasint"` // of whatever is random
	Fee      uint64   `cbor:"6,keyasint"` // micro-CEN, if the job is done in time
}

func (m *RoundAssign) Validate() error {
	var c check
	given(&c, "round", m.Round)
	account(&c, "worker", m.Worker)
	c.most("generation", int(m.Generation), 999)
	c.most("jobs", len(m.Jobs), maxJobs)
	for i, j := range m.Jobs {
		c.that(j.ID != 0, "job: 0")
		c.that(i == 0 || m.Jobs[i-1].ID < j.ID, "jobs: not in ascending order")
		among(&c, "work", j.Work, workNames)
		among(&c, "operator", j.Operator, operatorNames)
		ascending(&c, "parents", j.Parents, maxParents)
		if j.Work == WorkEvaluate {
			c.that(j.Operator == 0 && len(j.Parents) > 0, "job %d: evaluates %d genomes by %s", j.ID, len(j.Parents), j.Operator)
		} else {
			least, most := j.Operator.parents()
			c.that(j.Operator != OpImport, "job %d: nothing can be imported", j.ID)
			c.that(len(j.Parents) >= least && len(j.Parents) <= most, "job %d: %s of %d parents", j.ID, j.Operator, len(j.Parents))
		}
		amount(&c, "fee", j.Fee)
	}
	moment(&c, "deadline", m.Deadline)
	return c.err
}

// Work says what a job is.
type Work uint8

const (
	WorkBreed    Work = iota // make an offspring; CANDIDATE follows
	WorkEvaluate             // SCORE_SUBMIT follows
)

var workNames = []string{"breed", "evaluate"}

func (w Work) String() string { return nameOf(workNames, w) }

// Candidate submits an offspring. Its GENOME_ANNOUNCE and LINEAGE_RECORD go before it.
type Candidate struct {
	Round      Hash   `cbor:"1,keyasint"` // record id of the ROUND_OPEN
	Generation uint16 `cbor:"2,keyasint"`
	Job        uint64 `cbor:"3,keyasint"` // the first candidate for a job counts
	Genome     Hash   `cbor:"4,keyasint"`
	Lineage    Hash   `cbor:"5,keyasint"` // record id of the LINEAGE_RECORD
	Score      int64  `cbor:"6,keyasint"` // the worker's own measure: gain over the trunk, in micronats per token
	CostMs     uint64 `cbor:"7,keyasint"` // processor time
	TimeMs     int64  `cbor:"8,keyasint"` // Unix time
}

func (m *Candidate) Validate() error {
	var c check
	given(&c, "round", m.Round)
	c.most("generation", int(m.Generation), 999)
	c.that(m.Job != 0, "job: 0")
	given(&c, "genome", m.Genome)
	given(&c, "lineage", m.Lineage)
	moment(&c, "time", m.TimeMs)
	return c.err
}

// ScoreSubmit brings an evaluator's scores to the round's author. STATUS follows.
type ScoreSubmit struct {
	Round      Hash    `cbor:"1,keyasint"` // record id of the ROUND_OPEN
	Generation uint16  `cbor:"2,keyasint"`
	Job        uint64  `cbor:"3,keyasint"`
	Scores     []Score `cbor:"4,keyasint"` // in ascending order of the genomes' ids
	TimeMs     int64   `cbor:"5,keyasint"` // Unix time
}

// Score is what one evaluator measured of one candidate.
type Score struct {
	Genome      Hash   `cbor:"1,keyasint"`
	Value       int64  `cbor:"2,keyasint"` // gain over the trunk, in micronats per token
	Low         int64  `cbor:"3,keyasint"` // ends of the interval that holds the true value with 95 %
	High        int64  `cbor:"4,keyasint"`
	Items       uint32 `cbor:"5,keyasint"`
	Attestation Hash   `cbor:"6,keyasint,omitzero"` // record id of the same as a public statement
}

func (m *ScoreSubmit) Validate() error {
	var c check
	given(&c, "round", m.Round)
	c.most("generation", int(m.Generation), 999)
	c.that(m.Job != 0, "job: 0")
	c.some("scores", len(m.Scores), maxPopulation)
	for i, s := range m.Scores {
		given(&c, "genome", s.Genome)
		c.that(i == 0 || bytes.Compare(m.Scores[i-1].Genome[:], s.Genome[:]) < 0, "scores: not in ascending order")
		c.that(s.Low <= s.Value && s.Value <= s.High, "score: %d is not from %d to %d", s.Value, s.Low, s.High)
		c.some("items", int(s.Items), maxItems)
	}
	moment(&c, "time", m.TimeMs)
	return c.err
}

// Selection says who survives a generation. With the scores under Scores and the rules, anybody gets the same result, or
// sees that the author cheated.
type Selection struct {
	Round      Hash   `cbor:"1,keyasint"` // record id of the ROUND_OPEN
	Generation uint16 `cbor:"2,keyasint"`
	Survivors  []Hash `cbor:"3,keyasint"` // in ascending order
	Eliminated []Hash `cbor:"4,keyasint"` // in ascending order
	Scores     Hash   `cbor:"5,keyasint"` // root over the record ids of all SCORE_SUBMIT that count
	Seed       []byte `cbor:"6,keyasint"` // its SHA-256 is the seed of the generation before, or ROUND_OPEN's SeedHash
	TimeMs     int64  `cbor:"7,keyasint"` // Unix time
}

func (m *Selection) Validate() error {
	var c check
	given(&c, "round", m.Round)
	c.most("generation", int(m.Generation), 999)
	ascending(&c, "survivors", m.Survivors, maxPopulation)
	ascending(&c, "eliminated", m.Eliminated, 2*maxPopulation)
	c.some("survivors and eliminated", len(m.Survivors)+len(m.Eliminated), 2*maxPopulation)
	out := make(map[Hash]bool, len(m.Eliminated))
	for _, h := range m.Eliminated {
		out[h] = true
	}
	for _, h := range m.Survivors {
		c.that(!out[h], "%s survives and is eliminated", h)
	}
	given(&c, "scores", m.Scores)
	c.that(len(m.Seed) == 32, "seed: %d bytes", len(m.Seed))
	moment(&c, "time", m.TimeMs)
	return c.err
}

// RoundHeartbeat says that a worker is at its job. Without one for a while, the job goes to somebody else.
type RoundHeartbeat struct {
	Round    Hash   `cbor:"1,keyasint"` // record id of the ROUND_OPEN
	Job      uint64 `cbor:"2,keyasint"`
	Progress uint16 `cbor:"3,keyasint"` // in thousandths
	EtaMs    uint32 `cbor:"4,keyasint"`
}

func (m *RoundHeartbeat) Validate() error {
	var c check
	given(&c, "round", m.Round)
	c.that(m.Job != 0, "job: 0")
	c.most("progress", int(m.Progress), 1000)
	return c.err
}

// RoundClose ends a round. The author's ledger entries pay the rewards.
type RoundClose struct {
	Round   Hash     `cbor:"1,keyasint"` // record id of the ROUND_OPEN
	Outcome Outcome  `cbor:"2,keyasint"`
	Winners []Hash   `cbor:"3,keyasint"`          // in ascending order
	Rewards []Reward `cbor:"4,keyasint"`          // in ascending order of the peers; together at most the pool
	Results Hash     `cbor:"5,keyasint,omitzero"` // root over the record ids of all SELECTION
	Reason  string   `cbor:"6,keyasint,omitempty"`
	TimeMs  int64    `cbor:"7,keyasint"` // Unix time
}

// Reward is a worker's part of the pool.
type Reward struct {
	Peer   centram.PeerID `cbor:"1,keyasint"`
	Amount uint64         `cbor:"2,keyasint"` // micro-CEN
}

func (m *RoundClose) Validate() error {
	var c check
	given(&c, "round", m.Round)
	among(&c, "outcome", m.Outcome, outcomeNames)
	ascending(&c, "winners", m.Winners, maxPopulation)
	c.most("rewards", len(m.Rewards), maxPopulation)
	total := uint64(0)
	for i, r := range m.Rewards {
		account(&c, "peer", r.Peer)
		c.that(i == 0 || before(m.Rewards[i-1].Peer, r.Peer), "rewards: not in ascending order")
		c.that(r.Amount > 0, "reward: 0")
		amount(&c, "reward", r.Amount)
		total += r.Amount // no overflow: 512 times 2^53
	}
	amount(&c, "rewards", total)
	c.that(m.Outcome == RoundAborted || !m.Results.IsZero(), "results: missing")
	c.text("reason", m.Reason, 256)
	moment(&c, "time", m.TimeMs)
	return c.err
}

// Outcome is how a round ended.
type Outcome uint8

const (
	RoundWon  Outcome = iota // there is something better than the trunk
	RoundFlat                // nothing was better
	RoundAborted
)

var outcomeNames = []string{"won", "flat", "aborted"}

func (o Outcome) String() string { return nameOf(outcomeNames, o) }
