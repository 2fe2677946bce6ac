package wire

var lineageSamples = []Message{
	merged,
	&LineageRecord{Genome: hash(2), Base: hash(1), Parents: []Parent{}, Operator: OpTrain, Params: hash(3), Seed: 9, Data: hash(5), TimeMs: 1_700_000_000_000},
	&LineageGet{Genome: hash(8), Depth: 8, Known: []Hash{hash(2), hash(6)}},
	&LineageDAG{Records: []Record{recordOf(merged)}, Truncated: true},
	&LineageChallenge{
		Genome: hash(8), Lineage: hash(4), Claim: ClaimWrongWeight, Parent: hash(6), Weight: 2500, Evidence: []Hash{hash(7)},
		Bond: 1_000_000, Detail: "merged again with 2500", TimeMs: 1_700_000_000_000, Expires: 1_700_600_000_000,
	},
	&LineageRuling{Challenge: hash(9), Seq: 1, Verdict: RulingUpheld, Votes: []Record{recordOf(vote)}, Corrected: hash(10), TimeMs: 1_700_000_000_000},
}

var merged = &LineageRecord{
	Genome: hash(8), Base: hash(1), Parents: []Parent{{Genome: hash(2), Weight: 8500}, {Genome: hash(6), Weight: 1500}},
	Operator: OpTIES, Params: hash(3), Seed: 9, Data: hash(5), Depth: 1, Round: hash(11), TimeMs: 1_700_000_000_000,
}

var vote = &Attestation{
	Genome: hash(8), Kind: AttestAncestry, Seq: 1, Verdict: VerdictPass, Task: hash(9), TimeMs: 1_700_000_000_000, Expires: 1_800_000_000_000,
}
