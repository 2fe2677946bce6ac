package wire

var evolutionSamples = []Message{
	&RoundOpen{
		Seq: 3, Base: hash(1), Trunk: hash(2), Founders: []Hash{hash(2), hash(6)}, Objective: "better recipes", Suite: hash(12),
		Population: 8, Survivors: 2, Generations: 5, SeedHash: hash(18), Pool: 10_000_000, Rules: hash(19),
		Abilities: []string{"train/1"}, Opens: 1_700_000_000_000, Deadline: 1_700_003_600_000,
	},
	&RoundJoin{
		Round: hash(11), Seq: 1, Slots: 2, Hardware: "cpu/x86_64", Abilities: []string{"eval/1", "train/1"}, Stake: 100_000,
		Expires: 1_700_003_600_000,
	},
	&RoundAssign{
		Round: hash(11), Worker: peer(2), Generation: 1,
		Jobs: []Job{
			{ID: 21, Work: WorkBreed, Operator: OpSLERP, Parents: []Hash{hash(2), hash(6)}, Seed: 9, Fee: 50_000},
			{ID: 22, Work: WorkEvaluate, Parents: []Hash{hash(8)}, Seed: 10, Fee: 20_000},
			{ID: 23, Work: WorkBreed, Operator: OpTrain, Parents: []Hash{}, Seed: 11},
		},
		Deadline: 1_700_001_000_000,
	},
	&RoundAssign{Round: hash(11), Worker: peer(2), Jobs: []Job{}, Deadline: 1_700_001_000_000},
	&Candidate{
		Round: hash(11), Generation: 1, Job: 21, Genome: hash(8), Lineage: hash(4), Score: 41_000, CostMs: 90_000, TimeMs: 1_700_000_000_000,
	},
	&ScoreSubmit{
		Round: hash(11), Generation: 1, Job: 22,
		Scores: []Score{
			{Genome: hash(6), Value: -2_000, Low: -9_000, High: 5_000, Items: 64},
			{Genome: hash(8), Value: 41_000, Low: 30_000, High: 52_000, Items: 64, Attestation: hash(17)},
		},
		TimeMs: 1_700_000_000_000,
	},
	&Selection{
		Round: hash(11), Generation: 1, Survivors: []Hash{hash(8)}, Eliminated: []Hash{hash(2), hash(6)}, Scores: hash(20),
		Seed: []byte("the link before in the chain...."), TimeMs: 1_700_000_000_000,
	},
	&RoundHeartbeat{Round: hash(11), Job: 21, Progress: 420, EtaMs: 52_000},
	&RoundClose{
		Round: hash(11), Outcome: RoundFlat, Winners: []Hash{hash(8)}, Rewards: []Reward{{Peer: peer(1), Amount: 20_000}, {Peer: peer(2), Amount: 50_000}},
		Results: hash(21), Reason: "the deadline came", TimeMs: 1_700_003_600_000,
	},
	&RoundClose{Round: hash(11), Outcome: RoundAborted, Winners: []Hash{}, Rewards: []Reward{}, TimeMs: 1_700_003_600_000},
}
