package wire

var activationSamples = []Message{
	&ActFwd{
		Step: step, Tokens: 2, Width: 3, DType: F16, Want: TopRows, Flags: FwdDraft | FwdJoin | FwdEvery, Top: 40, Adapters: hash(22),
		Rows: []byte("two rows of 6"[:12]),
	},
	&ActFwd{Step: step, Tokens: 1, Width: 2, Rows: []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0x40}},
	&ActFwd{Step: step, Tokens: 1, Width: 32, DType: Q8, Flags: FwdReplay, Rows: make([]byte, 34)},
	&ActRet{
		Step: step, Tokens: 1, Width: 2, DType: F16, Kind: TopRows, Stage: 1, ComputeUs: 900, QueueUs: 50, KVFree: 4096,
		Rows: []byte{7, 0, 0, 0, 9, 0, 0, 0, 0, 0x3c, 0, 0x38},
	},
	&ActRet{Step: step, Tokens: 1, Width: 2, Kind: LogitRows, Stage: 1, Rows: []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0x40}},
	&ActRet{Step: step, Stage: 1, ComputeUs: 900, QueueUs: 50, KVFree: 4096, Rows: []byte{}},
	&KVSync{
		Step: step, Tokens: 2, End: 1000, First: 12, Layers: 3, KeyWidth: 32, ValueWidth: 2, KeyDType: Q8, ValueDType: F16, Stage: 1,
		Adapters: hash(22), Rows: make([]byte, 2*3*(34+4)),
	},
	&KVTrim{Step: step},
	&SpecBatch{Step: step, Tokens: []uint32{106, 117, 109, 112, 115, 32}},
	&WinCommit{
		Chain: step.Chain, Head: peer(1), Stage: 1, Epoch: 2, Lane: 4, Window: 5, First: 64, End: 96, Adapters: hash(22), In: hash(23),
		Out: hash(24), Fingerprint: make([]byte, 258),
	},
}

var step = Step{Chain: ChainID{1, 15: 2}, Epoch: 2, Seq: 3, Pos: 77, Lane: 4}
