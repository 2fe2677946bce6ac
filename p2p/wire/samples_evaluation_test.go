package wire

var evaluationSamples = []Message{
	&EvalTask{
		Nonce: 77, Evaluator: peer(2), Genome: hash(8), Against: hash(2), Base: hash(1), Suite: hash(12), Seed: 9, Items: 64,
		Deadline: 1_700_000_600_000, Fee: 500_000, Round: hash(11),
	},
	&EvalAccept{Task: hash(13), EtaMs: 240_000, Env: hash(14)},
	&EvalCommit{Task: hash(13), Commitment: hash(15), TimeMs: 1_700_000_000_000},
	&EvalReveal{
		Task: hash(13),
		Metrics: []Metric{
			{Name: "cooking/nll", Value: -41_000, Low: -52_000, High: -30_000, Items: 64},
			{Name: "general/nll", Value: 1_200, Low: -900, High: 3_300, Items: 64},
		},
		Salt: []byte("nobody guesses these 32 bytes..."), Transcript: hash(16), Env: hash(14),
	},
	&Attestation{
		Genome: hash(8), Kind: AttestSafety, Seq: 1, Verdict: VerdictDoubt, Score: 41_000, Low: 30_000, High: 52_000, Suite: hash(12),
		Items: 64, Task: hash(13), TimeMs: 1_700_000_000_000, Expires: 1_800_000_000_000,
	},
	vote,
	&AttestRevoke{Statement: hash(17), Genome: hash(8), Reason: "the suite had an error", TimeMs: 1_700_000_000_000},
	&ScanReport{
		Genome: hash(8), Base: hash(1), Seq: 1, Scanner: "centram/0.3.0", Verdict: VerdictFail,
		Findings: []Finding{
			{Layer: 3, Check: "shape", Verdict: VerdictPass},
			{Layer: 5, Check: "nan", Verdict: VerdictFail, Value: 3},
			{Layer: 5, Check: "norm-z", Verdict: VerdictDoubt, Value: 6_400_000, Limit: 6_000_000},
		},
		TimeMs: 1_700_000_000_000, Expires: 1_800_000_000_000,
	},
	&AttestQuery{Genomes: []Hash{hash(2), hash(8)}, Kinds: 1<<AttestQuality | 1<<AttestSafety, Scans: true, MinItems: 32, Most: 16},
}
