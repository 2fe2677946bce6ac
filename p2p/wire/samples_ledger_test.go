package wire

import (
	"bytes"
	"testing"
)

var ledgerSamples = []Message{
	&LedgerHello{
		Rules: hash(1), Accounts: 3, Entries: 40, Digest: make([]byte, 16), Own: headOf(1, 12), Yours: headOf(2, 7),
		News: []AccountHead{headOf(3, 21)}, Checkpoint: hash(2), Ask: true,
	},
	&LedgerHello{Rules: hash(1), Digest: make([]byte, 16), Own: AccountHead{Account: peer(1)}},
	&LedgerRecon{Session: 77, Step: 2, Ranges: []byte{0}, Ask: []Hash{hash(1)}, Heads: []AccountHead{headOf(1, 12), headOf(2, 7)}},
	&EntryGet{Ranges: []EntryRange{{Account: peer(1), From: 5, End: 12}}, IDs: []Hash{hash(3), hash(4)}},
	&EntryBatch{Entries: []SignedEntry{entry(1), entry(2)}},
	&ForkProof{A: entry(1), B: entry(2)},
	&Checkpoint{
		Account: peer(1), Length: 12, Head: hash(5), Balance: -2_500_000, Claimed: hash(6), Rules: hash(1),
		Cosigns: []Record{recordOf(&Cosign{Account: peer(1), Seq: 11, Entry: hash(5)})}, TimeMs: 1_700_000_000_000,
	},
	&CosignReq{Account: peer(1), Target: entry(2), Missing: []SignedEntry{entry(1)}},
	&Cosign{Account: peer(1), Seq: 11, Entry: hash(5)},
	&QuoteReq{Service: LayerService, Subject: hash(7), Consumer: peer(1), Units: 100_000, MaxPrice: 40},
	&Quote{
		Service: AnswerService, Subject: hash(8), Consumer: peer(1), Provider: peer(2), Price: 40, Units: 100_000,
		Split: []Payout{
			{To: peer(2), Role: ProviderShare, Share: 7000},
			{To: peer(3), Role: CreatorShare, Share: 2000},
			{To: peer(4), Role: AncestorShare, Share: 1000},
		},
		Credit: 200_000, Cosigns: 3, Rules: hash(1), Nonce: 9, Expires: 1_700_000_000_000,
	},
	&Quote{
		Subject: hash(8), Consumer: peer(1), Provider: peer(2), Units: 1, Split: []Payout{}, Rules: hash(1), Nonce: 10,
		Expires: 1_700_000_000_000,
	},
	&UsageReceipt{
		Quote: hash(9), Consumer: peer(1), Provider: peer(2), Subject: hash(8), Seq: 3, Units: 512, Amount: 20_480,
		Evidence: hash(10), TimeMs: 1_700_000_000_000,
	},
	&CreditLine{Grantor: peer(1), Grantee: peer(2), Limit: 5_000_000, Seq: 2, Expires: 1_700_000_000_000},
}

func headOf(n byte, length uint64) AccountHead {
	return AccountHead{Account: peer(n), Length: length, Head: hash(n)}
}

// entry returns what has the lengths of a signed entry; what is in it only the ledger knows.
func entry(n byte) SignedEntry { return bytes.Repeat([]byte{n}, 32+64+250) }

func TestWrongLedgerMessagesAreRefused(t *testing.T) {
	list := ledgerSamples
	refused(t, []wrong{
		{"a head of no entries", spoilt(list, func(m *LedgerHello) { m.Own.Length = 0 })},
		{"entries without a head", spoilt(list, func(m *LedgerHello) { m.Own.Head = Hash{} })},
		{"a short digest", spoilt(list, func(m *LedgerHello) { m.Digest = m.Digest[:15] })},
		{"an account without entries", spoilt(list, func(m *LedgerRecon) { m.Heads = []AccountHead{{Account: peer(1)}} })},
		{"an empty range", spoilt(list, func(m *EntryGet) { m.Ranges = []EntryRange{{Account: peer(1), From: 5, End: 5}} })},
		{"a question for nothing", spoilt(list, func(m *EntryGet) { m.Ranges, m.IDs = nil, nil })},
		{"an entry without a body", spoilt(list, func(m *EntryBatch) { m.Entries = []SignedEntry{entry(1)[:32+64]} })},
		{"an entry that is too long", spoilt(list, func(m *EntryBatch) { m.Entries = []SignedEntry{make([]byte, 32+64+MaxEntry+1)} })},
		{"one entry as a fork", spoilt(list, func(m *ForkProof) { m.B = m.A })},
		{"one body signed twice as a fork", spoilt(list, func(m *ForkProof) {
			m.B = bytes.Clone(m.A)
			m.B[40] ^= 1
		})},
		{"a fork in the other order", spoilt(list, func(m *ForkProof) { m.A, m.B = m.B, m.A })},
		{"half of a fork", spoilt(list, func(m *ForkProof) { m.A = nil })},
		{"another record as a cosignature", spoilt(list, func(m *Checkpoint) { m.Cosigns = []Record{recordOf(ledgerSamples[5])} })},
		{"a balance over all money", spoilt(list, func(m *Checkpoint) { m.Balance = -MaxAmount - 1 })},
		{"a sum over all money", spoilt(list, func(m *Quote) { m.Price = 1 << 33; m.Units = 1 << 33 })},
		{"a price that nobody gets", spoilt(list, func(m *Quote) { m.Split = nil })},
		{"shares of more than the whole", spoilt(list, func(m *Quote) { m.Split = append([]Payout{{To: peer(9), Share: 1}}, m.Split...) })},
		{"a receipt for nothing", spoilt(list, func(m *UsageReceipt) { m.Units = 0 })},
		{"credit to oneself", spoilt(list, func(m *CreditLine) { m.Grantee = m.Grantor })},
		{"too much credit", spoilt(list, func(m *CreditLine) { m.Limit = MaxAmount + 1 })},
	})
}
