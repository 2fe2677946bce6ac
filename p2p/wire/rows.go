package wire

// Table is the whole protocol. Numbers are permanent: append, never reuse. Every row has a struct in the file of its
// family, golden bytes in testdata/golden and a line in docs/PROTOCOL.md, which is printed from here.
var Table = []Row{
	// 0_ Session (session.go)
	row[Hello](0x00, "HELLO", Tell, Control, ByPeer, Anyone, 64*kib, "first frame of both sides: offers versions, abilities and limits"),
	row[HelloAck](0x01, "HELLO_ACK", Tell, Control, ByPeer, Anyone, 64*kib, "fixes the session, and tells the peer the address it is seen at"),
	row[Ping](0x02, "PING", Tell, Control, ByPeer, Member, 1*kib, "are you there, and how long does it take"),
	row[Pong](0x03, "PONG", Tell, Control, ByPeer, Member, 1*kib, "answers PING, with the load"),
	row[Status](0x04, "STATUS", Answer, Request, ByPeer, Anyone, 4*kib, "success, refusal or back-off, where no other reply fits"),
	row[Cancel](0x05, "CANCEL", Tell, Control, ByPeer, Member, 1*kib, "stops a request that runs"),
	row[CapsUpdate](0x06, "CAPS_UPDATE", Tell, Control, ByPeer, Member, 64*kib, "abilities or limits changed"),
	row[KeyRotate](0x07, "KEY_ROTATE", Spread, Control, ByAuthor, Member, 4*kib, "replaces or delegates a key; signed by the next key"),
	row[Goodbye](0x08, "GOODBYE", Tell, Control, ByPeer, Anyone, 4*kib, "last frame before a planned end"),

	// 1_ Discovery and pairing (discovery.go, pairing.go)
	row[Beacon](0x10, "BEACON", Spread, Datagram, ByAuthor, Anyone, MaxDatagram-headerSize-trailerSize, "a node is here; every 30 s and on change"),
	row[Probe](0x11, "PROBE", Spread, Datagram, ByAuthor, Anyone, MaxDatagram-headerSize-trailerSize, "asks for a beacon; padded to the largest datagram"),
	row[ProbeAck](0x12, "PROBE_ACK", Spread, Datagram, ByAuthor, Anyone, MaxDatagram-headerSize-trailerSize, "answers PROBE with a beacon, never larger than the question"),
	row[PeerRecord](0x13, "PEER_RECORD", Spread, Control, ByAuthor, Member, 4*kib, "a node's addresses, certified by itself, for others to pass on"),
	row[PeerQuery](0x14, "PEER_QUERY", Ask, Request, ByPeer, Member, 64*kib, "who can do this", 0x15),
	row[PeerList](0x15, "PEER_LIST", Answer, Request, ByPeer, Member, 64*kib, "certified records of peers"),
	row[PeerSuspect](0x16, "PEER_SUSPECT", Spread, Control, ByAuthor, Member, 1*kib, "a peer seems gone, is gone, or is here after all (SWIM)"),
	row[PairRequest](0x17, "PAIR_REQUEST", Ask, Request, ByPeer, Member, 4*kib, "proposes to trust each other; with a code, the first half of a key agreement", 0x18),
	row[PairConfirm](0x18, "PAIR_CONFIRM", Answer, Request, ByPeer, Member, 4*kib, "agrees, proves to know the code, or refuses"),
	row[Invite](0x19, "INVITE", Spread, Control, ByAuthor, Anyone, 4*kib, "membership of a private network, signed by the network's key"),
	row[LinkReport](0x1A, "LINK_REPORT", Tell, Control, ByPeer, Member, 4*kib, "measured round trip and throughput, for plans"),

	// 2_ Catalogue of records (catalogue.go)
	row[CatSummary](0x20, "CAT_SUMMARY", Tell, Control, ByPeer, Member, 64*kib, "what is new in the catalogue, and a digest of all of it"),
	row[CatRecon](0x21, "CAT_RECON", Ask, Request, ByPeer, Member, 64*kib, "one step of reconciling two catalogues", 0x21),
	row[RecordGet](0x22, "RECORD_GET", Ask, Request, ByPeer, Member, 64*kib, "records of any type, by id", 0x23),
	row[Records](0x23, "RECORDS", Answer, Request, ByPeer, Member, 1*mib, "the records that were asked for"),
	row[GenomeAnnounce](0x24, "GENOME_ANNOUNCE", Spread, Control, ByAuthor, Member, 64*kib, "publishes a genome"),
	row[GenomeSearch](0x25, "GENOME_SEARCH", Ask, Request, ByPeer, Member, 64*kib, "genomes that fit a base model", 0x23),
	row[GenomeRetract](0x26, "GENOME_RETRACT", Spread, Control, ByAuthor, Member, 4*kib, "the creator withdraws a genome"),

	// 3_ Transfer of blobs (transfer.go)
	row[ManifestGet](0x30, "MANIFEST_GET", Ask, Request, ByPeer, Paired, 4*kib, "the list of a blob's chunks", 0x31),
	row[Manifest](0x31, "MANIFEST", Answer, Request, ByPeer, Member, 1*mib, "chunk hashes; proves itself by the manifest's hash"),
	row[HaveMap](0x32, "HAVE_MAP", Tell, Control, ByPeer, Member, 64*kib, "which chunks of a blob the sender has"),
	row[ChunkGet](0x33, "CHUNK_GET", Ask, Bulk, ByPeer, Paired, 4*kib, "asks for ranges of chunks", 0x34, 0x35),
	row[ChunkData](0x34, "CHUNK_DATA", Answer, Bulk, ByNobody, Member, 1*mib+1*kib, "one chunk; held against its hash before it is written"),
	row[ChunkReject](0x35, "CHUNK_REJECT", Answer, Bulk, ByPeer, Member, 1*kib, "a chunk that will not come, and why"),
	row[TransferOffer](0x36, "TRANSFER_OFFER", Ask, Request, ByPeer, Paired, 4*kib, "offers a blob that was not asked for"),
	row[TransferDone](0x37, "TRANSFER_DONE", Tell, Control, ByAuthor, Member, 4*kib, "receipt for what arrived"),

	// 4_ Lineage (lineage.go)
	row[LineageRecord](0x40, "LINEAGE_RECORD", Spread, Control, ByAuthor, Member, 4*kib, "declares a genome's parents"),
	row[LineageGet](0x41, "LINEAGE_GET", Ask, Request, ByPeer, Member, 64*kib, "asks for a genome's ancestors", 0x42),
	row[LineageDAG](0x42, "LINEAGE_DAG", Answer, Request, ByPeer, Member, 1*mib, "ancestors, parents before children"),
	row[LineageChallenge](0x43, "LINEAGE_CHALLENGE", Spread, Control, ByAuthor, Member, 64*kib, "disputes a declared ancestry"),
	row[LineageRuling](0x44, "LINEAGE_RULING", Spread, Control, ByAuthor, Member, 64*kib, "what attestors found about a dispute"),

	// 5_ Evaluation and attestation (evaluation.go)
	row[EvalTask](0x50, "EVAL_TASK", Ask, Request, ByAuthor, Paired, 4*kib, "orders an evaluation", 0x51, 0x52, 0x53),
	row[EvalAccept](0x51, "EVAL_ACCEPT", Answer, Request, ByPeer, Member, 4*kib, "the evaluator takes the task"),
	row[EvalCommit](0x52, "EVAL_COMMIT", Answer, Request, ByAuthor, Member, 4*kib, "binds the evaluator before others show their results"),
	row[EvalReveal](0x53, "EVAL_REVEAL", Answer, Request, ByAuthor, Member, 64*kib, "opens the commitment"),
	row[Attestation](0x54, "ATTESTATION", Spread, Control, ByAuthor, Member, 4*kib, "a statement about a genome's quality that others can check"),
	row[AttestRevoke](0x55, "ATTEST_REVOKE", Spread, Control, ByAuthor, Member, 4*kib, "withdraws one's own statement"),
	row[ScanReport](0x56, "SCAN_REPORT", Spread, Control, ByAuthor, Member, 4*kib, "what a scan of a genome's weights found"),
	row[AttestQuery](0x57, "ATTEST_QUERY", Ask, Request, ByPeer, Member, 64*kib, "asks for statements about genomes", 0x23),

	// 6_ Evolution rounds (evolution.go)
	row[RoundOpen](0x60, "ROUND_OPEN", Spread, Control, ByAuthor, Member, 64*kib, "starts a round"),
	row[RoundJoin](0x61, "ROUND_JOIN", Ask, Request, ByAuthor, Paired, 4*kib, "offers to work in a round", 0x62),
	row[RoundAssign](0x62, "ROUND_ASSIGN", Answer, Request, ByAuthor, Member, 64*kib, "hands out work"),
	row[Candidate](0x63, "CANDIDATE", Spread, Control, ByAuthor, Member, 4*kib, "submits an offspring"),
	row[ScoreSubmit](0x64, "SCORE_SUBMIT", Ask, Request, ByAuthor, Paired, 64*kib, "an evaluator's scores"),
	row[Selection](0x65, "SELECTION", Spread, Control, ByAuthor, Member, 64*kib, "who survives a generation, so that anybody can check it"),
	row[RoundHeartbeat](0x66, "ROUND_HEARTBEAT", Tell, Control, ByPeer, Member, 1*kib, "a worker is at it"),
	row[RoundClose](0x67, "ROUND_CLOSE", Spread, Control, ByAuthor, Member, 64*kib, "ends a round"),

	// 7_ Hyperlink sessions (hyperlink.go)
	row[HLOffer](0x70, "HL_OFFER", Spread, Control, ByAuthor, Member, 64*kib, "offers to host layers"),
	row[HLPlan](0x71, "HL_PLAN", Ask, Hyperlink, ByPeer, Paired, 64*kib, "proposes a pipeline", 0x72, 0x73, 0x77, 0x81, 0x85),
	row[HLAccept](0x72, "HL_ACCEPT", Answer, Hyperlink, ByAuthor, Member, 4*kib, "a stage binds itself to terms"),
	row[HLReady](0x73, "HL_READY", Answer, Hyperlink, ByPeer, Member, 4*kib, "the weights are loaded, and are the right ones"),
	row[HLReroute](0x74, "HL_REROUTE", Tell, Control, ByPeer, Paired, 4*kib, "another node takes the place of a stage that failed"),
	row[HLAuditReq](0x75, "HL_AUDIT_REQ", Ask, Request, ByPeer, Paired, 4*kib, "checks a stage's work", 0x76),
	row[HLAuditRsp](0x76, "HL_AUDIT_RSP", Answer, Request, ByAuthor, Member, 64*kib, "opens earlier commitments"),
	row[HLClose](0x77, "HL_CLOSE", Answer, Hyperlink, ByAuthor, Member, 4*kib, "ends a pipeline, with the counters both sides sign"),

	// 8_ Activations (activation.go)
	row[ActFwd](0x80, "ACT_FWD", Tell, Hyperlink, ByNobody, Member, 16*mib+1*kib, "hidden states for the next stage"),
	row[ActRet](0x81, "ACT_RET", Answer, Hyperlink, ByNobody, Member, 16*mib+1*kib, "the last stage's result for the head"),
	row[KVSync](0x82, "KV_SYNC", Tell, Bulk, ByNobody, Paired, 16*mib+1*kib, "moves a part of a KV cache to a replacement"),
	row[KVTrim](0x83, "KV_TRIM", Ask, Hyperlink, ByNobody, Member, 1*kib, "opens the stream of frames from a neighbour; later, forgets positions of a lane"),
	row[SpecBatch](0x84, "SPEC_BATCH", Tell, Hyperlink, ByNobody, Paired, 64*kib, "draft tokens to check in one hop"),
	row[WinCommit](0x85, "WIN_COMMIT", Answer, Hyperlink, ByAuthor, Member, 4*kib, "a stage's commitment to 32 tokens of its work"),

	// 9_ Ensemble (ensemble.go)
	row[GWPQuery](0x90, "GWP_QUERY", Ask, Request, ByPeer, Paired, 1*mib, "asks several genomes at once", 0x91, 0x92),
	row[GWPAccept](0x91, "GWP_ACCEPT", Answer, Request, ByPeer, Member, 4*kib, "a participant joins"),
	row[GWPAnswer](0x92, "GWP_ANSWER", Answer, Request, ByAuthor, Member, 1*mib, "one contribution"),
	row[GWPScores](0x93, "GWP_SCORES", Ask, Request, ByAuthor, Member, 64*kib, "a participant ranks the answers"),
	row[GWPDelta](0x94, "GWP_DELTA", Tell, Bulk, ByNobody, Paired, 16*mib, "a part of an adapter, for merging in weight space"),
	row[GWPResult](0x95, "GWP_RESULT", Tell, Control, ByAuthor, Member, 64*kib, "the reconciled answer's hash, and who earns"),
	row[GWPDispute](0x96, "GWP_DISPUTE", Ask, Request, ByAuthor, Member, 64*kib, "contests a share or an answer"),

	// A_ Ledger (ledger.go)
	row[LedgerHello](0xA0, "LEDGER_HELLO", Tell, Control, ByPeer, Member, 4*kib, "a fingerprint of the ledger; what is my head?"),
	row[LedgerRecon](0xA1, "LEDGER_RECON", Ask, Request, ByPeer, Member, 64*kib, "one step of reconciling the sets of account heads", 0xA1),
	row[EntryGet](0xA2, "ENTRY_GET", Ask, Request, ByPeer, Member, 64*kib, "entries by range or id", 0xA3),
	row[EntryBatch](0xA3, "ENTRY_BATCH", Answer, Request, ByPeer, Member, 1*mib, "entries, parents first"),
	row[ForkProof](0xA4, "FORK_PROOF", Spread, Control, ByAuthor, Member, 16*kib, "two entries of one account at one place"),
	row[Checkpoint](0xA5, "CHECKPOINT", Spread, Control, ByAuthor, Member, 64*kib, "where an account stands, with witnesses"),
	row[CosignReq](0xA6, "COSIGN_REQ", Ask, Request, ByPeer, Member, 1*mib, "asks a witness to bind itself to an entry", 0xA7),
	row[Cosign](0xA7, "COSIGN", Answer, Request, ByAuthor, Member, 4*kib, "a witness will never sign another entry here"),
	row[QuoteReq](0xA8, "QUOTE_REQ", Ask, Request, ByPeer, Member, 4*kib, "asks for a price", 0xA9),
	row[Quote](0xA9, "QUOTE", Answer, Request, ByAuthor, Member, 64*kib, "a binding offer"),
	row[UsageReceipt](0xAA, "USAGE_RECEIPT", Ask, Request, ByAuthor, Member, 4*kib, "what was used, signed by the provider"),
	row[CreditLine](0xAB, "CREDIT_LINE", Spread, Control, ByAuthor, Member, 4*kib, "how far one account trusts another"),

	// B_ Operations (operations.go)
	row[NodeStatusGet](0xB0, "NODE_STATUS_GET", Ask, Request, ByPeer, Paired, 4*kib, "asks for a node's health", 0xB1),
	row[NodeStatus](0xB1, "NODE_STATUS", Answer, Request, ByPeer, Member, 64*kib, "a node's health"),
	row[MetricPush](0xB2, "METRIC_PUSH", Tell, Control, ByPeer, Owner, 64*kib, "sums over time, without prompts and ids; opt-in"),
	row[AbuseReport](0xB3, "ABUSE_REPORT", Spread, Control, ByAuthor, Member, 4*kib, "a complaint with evidence"),
	row[PolicyUpdate](0xB4, "POLICY_UPDATE", Spread, Control, ByAuthor, Member, 64*kib, "rules of a private network, signed by its key"),
	row[VersionNotice](0xB5, "VERSION_NOTICE", Spread, Control, ByAuthor, Member, 4*kib, "there is a newer Centram; nothing is run"),
	row[DebugTrace](0xB6, "DEBUG_TRACE", Ask, Request, ByAuthor, Owner, 4*kib, "traces a while, for the owner"),
}
