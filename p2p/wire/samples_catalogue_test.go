package wire

var catalogueSamples = []Message{
	&CatSummary{Count: 2, Digest: make([]byte, 16), Fresh: []Hash{hash(1), hash(2)}},
	&CatSummary{Digest: make([]byte, 16), Fresh: []Hash{}},
	&CatRecon{Session: 77, Step: 1, Ranges: []byte{0}},
	&RecordGet{IDs: []Hash{hash(1)}, Genomes: []Hash{hash(2)}},
	&Records{
		Records: []Record{recordOf(&GenomeRetract{Genome: hash(2), Seq: 2, Reason: "worse than it seemed", TimeMs: 1_700_000_000_000})},
		Cursor:  []byte{1},
	},
	&GenomeAnnounce{
		Genome: hash(2), Seq: 1, Name: "Ana's recipes", Kind: Trunk, Arch: "qwen2", Base: hash(1), Rank: 16,
		Targets: []string{"attn_k", "attn_q"}, DType: F16, Size: 131072, Manifest: hash(3), Fingerprint: []byte("a fingerprint has 256 bits: 32 B"),
		Lineage: hash(4), Licence: "CC-BY-4.0", Price: 2_000_000, Tags: []string{"cooking"}, Examples: 2000, Tokens: 600_000,
		Privacy: Privacy{
			Mode: DPSGD, Rate: 32_000_000, Noise: 850_000, Clip: 1_000_000, Steps: 94, Delta: 10_000_000, Epsilon: 4_000_000,
			Accountant: "rdp/1", Dataset: hash(5), Spent: 6_000_000,
		},
		Domain: 41_000, General: -1_200, Created: 1_700_000_000_000, Expires: 1_800_000_000_000,
	},
	&GenomeAnnounce{
		Genome: hash(6), Seq: 1, Name: "toy", Arch: "qwen2", Base: hash(1), Rank: 16, Targets: []string{"attn_q"}, Size: 262144,
		Manifest: hash(3), Fingerprint: make([]byte, 32), Lineage: hash(4), Licence: "MIT", Tags: []string{},
		Created: 1_700_000_000_000, Expires: 1_800_000_000_000,
	},
	&GenomeSearch{Base: hash(1), Tags: []string{"cooking"}, MinScore: 5_000, MaxSize: 1 << 25, Most: 20, Cursor: []byte{1}},
	&GenomeRetract{Genome: hash(2), Seq: 2, Reason: "worse than it seemed", Successor: hash(6), TimeMs: 1_700_000_000_000},
}
