package wire

import (
	"bytes"
	"math/bits"

	"github.com/centram/centram"
)

const (
	// MaxAmount bounds every amount, in micro-CEN: a whole number up to here is exact in JavaScript too.
	MaxAmount = 1 << 53

	// MaxEntry bounds the body of a ledger entry, in bytes.
	MaxEntry = 4 * kib

	wholeBP = 10_000 // basis points of a whole
)

// SignedEntry is one entry of an account's chain as it is stored and passed on: key (32 bytes), signature (64), body.
// Entries are not messages of the table: they are carried in some. The package ledger reads them and checks them; here
// nothing but the length is known.
type SignedEntry []byte

// Body is what the signature is over. The entry has to be valid.
func (e SignedEntry) Body() []byte { return e[trailerSize:] }

func (e SignedEntry) valid() bool { return len(e) > trailerSize && len(e) <= trailerSize+MaxEntry }

// entries wants at most n entries.
func (c *check) entries(what string, list []SignedEntry, n int) {
	c.most(what, len(list), n)
	for _, e := range list {
		c.that(e.valid(), "%s: an entry of %d bytes", what, len(e))
	}
}

// AccountHead says how far somebody knows an account's chain.
type AccountHead struct {
	Account centram.PeerID `cbor:"1,keyasint"` // its root key
	Length  uint64         `cbor:"2,keyasint"` // entries
	Head    Hash           `cbor:"3,keyasint"` // id of the last one; zero if there is none
}

func (h *AccountHead) check(c *check, what string) {
	account(c, what+": account", h.Account)
	c.that((h.Length == 0) == h.Head.IsZero(), "%s: %d entries do not fit the head", what, h.Length)
}

// LedgerHello comes from both sides when a session begins, and again when the sender's ledger has changed. Where the
// digests differ, LEDGER_RECON follows; what is in News is fetched with ENTRY_GET at once, and that is how new entries
// spread. Who came back from a backup learns from Yours that its account had gone further than it remembers, before it
// signs a second entry at a place that is taken.
type LedgerHello struct {
	Rules      Hash          `cbor:"1,keyasint"`           // that the sender books by
	Accounts   uint64        `cbor:"2,keyasint"`           // that the sender knows
	Entries    uint64        `cbor:"3,keyasint"`           // that the sender has, of all accounts
	Digest     []byte        `cbor:"4,keyasint"`           // of the heads of all accounts; see HeadRange
	Own        AccountHead   `cbor:"5,keyasint"`           // the sender's account
	Yours      AccountHead   `cbor:"6,keyasint,omitzero"`  // the receiver's account as the sender knows it
	News       []AccountHead `cbor:"7,keyasint,omitempty"` // accounts that grew since the last hello
	Checkpoint Hash          `cbor:"8,keyasint,omitzero"`  // record id of the sender's newest CHECKPOINT
	Ask        bool          `cbor:"9,keyasint,omitempty"` // wants a LEDGER_HELLO back
}

func (m *LedgerHello) Validate() error {
	var c check
	given(&c, "rules", m.Rules)
	c.that(len(m.Digest) == reconDigest, "digest: %d bytes", len(m.Digest))
	m.Own.check(&c, "own")
	if m.Yours != (AccountHead{}) {
		m.Yours.check(&c, "yours")
	}
	c.most("news", len(m.News), 32)
	for i := range m.News {
		m.News[i].check(&c, "news")
	}
	return c.err
}

// LedgerRecon is one step of finding out whose chains differ. The ids that are reconciled are SHA-256 of account, length
// in eight bytes, and head, of every account. When the asker knows which of the other's ids it lacks, it asks which heads
// they are, and then for the entries.
type LedgerRecon struct {
	Session uint64        `cbor:"1,keyasint"` // random: the same in all steps of one reconciliation
	Step    uint8         `cbor:"2,keyasint"` // from 0 on, replies counted too
	Ranges  []byte        `cbor:"3,keyasint"` // a message of package rbsr; empty when it comes to the heads
	Ask     []Hash        `cbor:"4,keyasint"` // ids whose heads the sender wants to know, in ascending order
	Heads   []AccountHead `cbor:"5,keyasint"` // that were asked for
}

func (m *LedgerRecon) Validate() error {
	var c check
	c.that(m.Session != 0, "session: 0")
	c.that(m.Step < maxSteps, "step: %d, at most %d", m.Step, maxSteps-1)
	c.most("ranges", len(m.Ranges), maxRecon)
	ascending(&c, "ask", m.Ask, 512)
	c.most("heads", len(m.Heads), 512)
	for i := range m.Heads {
		m.Heads[i].check(&c, "heads")
		c.that(m.Heads[i].Length > 0, "heads: an account without entries")
	}
	return c.err
}

// EntryRange is the entries of an account with From <= seq < End.
type EntryRange struct {
	Account centram.PeerID `cbor:"1,keyasint"`
	From    uint64         `cbor:"2,keyasint"`
	End     uint64         `cbor:"3,keyasint"`
}

// EntryGet asks for entries. They come in ENTRY_BATCHes, all but the last with the flag for more; what the sender does not
// have is left out.
type EntryGet struct {
	Ranges []EntryRange `cbor:"1,keyasint"`
	IDs    []Hash       `cbor:"2,keyasint"` // single entries, such as the sources of claims, in ascending order
}

func (m *EntryGet) Validate() error {
	var c check
	c.most("ranges", len(m.Ranges), 256)
	for _, r := range m.Ranges {
		account(&c, "range: account", r.Account)
		c.that(r.From < r.End, "range: from %d to %d", r.From, r.End)
	}
	ascending(&c, "ids", m.IDs, 1024)
	c.that(len(m.Ranges)+len(m.IDs) > 0, "nothing is asked for")
	return c.err
}

// EntryBatch answers EntryGet. An entry comes after those that it needs, where the batch has them.
type EntryBatch struct {
	Entries []SignedEntry `cbor:"1,keyasint"`
}

func (m *EntryBatch) Validate() error {
	var c check
	c.entries("entries", m.Entries, 4096)
	return c.err
}

// ForkProof comes from whoever first holds two entries that one account signed for one place in its chain. It proves
// itself: the receiver checks both entries, and the author's word counts for nothing. The lower body is first, so that
// everybody's proof of one fork reads the same. One body signed twice is no fork.
type ForkProof struct {
	A SignedEntry `cbor:"1,keyasint"`
	B SignedEntry `cbor:"2,keyasint"`
}

func (m *ForkProof) Validate() error {
	var c check
	c.entries("entries", []SignedEntry{m.A, m.B}, 2)
	if c.err == nil {
		c.that(bytes.Compare(m.A.Body(), m.B.Body()) < 0, "entries: equal, or the higher one first")
	}
	return c.err
}

// Checkpoint says where its author's account stands, so that a new node need not replay it from the beginning, and so that
// two nodes who were told different things find out. The longest one counts.
type Checkpoint struct {
	Account centram.PeerID `cbor:"1,keyasint"`
	Length  uint64         `cbor:"2,keyasint"` // entries
	Head    Hash           `cbor:"3,keyasint"` // id of the last one
	Balance int64          `cbor:"4,keyasint"` // micro-CEN after it
	Claimed Hash           `cbor:"5,keyasint"` // root over the entries of others that the account has claimed
	Rules   Hash           `cbor:"6,keyasint"`
	Cosigns []Record       `cbor:"7,keyasint"` // COSIGNs of the last entry
	TimeMs  int64          `cbor:"8,keyasint"` // Unix time, for people
}

func (m *Checkpoint) Validate() error {
	var c check
	account(&c, "account", m.Account)
	c.that(m.Length > 0 && !m.Head.IsZero(), "no entries")
	c.that(-MaxAmount <= m.Balance && m.Balance <= MaxAmount, "balance: %d micro-CEN", m.Balance)
	given(&c, "rules", m.Rules)
	c.records("cosigns", m.Cosigns, 64, 0xA7)
	moment(&c, "time", m.TimeMs)
	return c.err
}

// CosignReq asks a witness to bind itself to Target, which comes with what the witness may lack to check it. COSIGN answers,
// or STATUS: DEPENDENCY_MISSING if more is needed, STALE if the witness is bound to another entry at this place.
type CosignReq struct {
	Account centram.PeerID `cbor:"1,keyasint"`
	Target  SignedEntry    `cbor:"2,keyasint"`
	Missing []SignedEntry  `cbor:"3,keyasint"` // parents first
}

func (m *CosignReq) Validate() error {
	var c check
	account(&c, "account", m.Account)
	c.entries("target", []SignedEntry{m.Target}, 1)
	c.entries("missing", m.Missing, 2048)
	return c.err
}

// Cosign is its author's promise as a witness: never to sign another entry of this account at this place. The witness has
// made the promise durable before it sends it.
type Cosign struct {
	Account centram.PeerID `cbor:"1,keyasint"`
	Seq     uint64         `cbor:"2,keyasint"` // place in the account's chain, from 0 on
	Entry   Hash           `cbor:"3,keyasint"` // id
}

func (m *Cosign) Validate() error {
	var c check
	account(&c, "account", m.Account)
	given(&c, "entry", m.Entry)
	return c.err
}

// Service is what is paid for. It says what a unit is.
type Service uint8

const (
	GenomeService     Service = iota // subject: genome; unit: one copy
	LayerService                     // subject: model; unit: one token through the provider's layers
	EvaluationService                // subject: genome; unit: one item of the suite
	AnswerService                    // subject: genome, or model without one; unit: one token of an answer
	TrainingService                  // subject: round; unit: one job
)

var serviceNames = []string{"genome", "layers", "evaluation", "answer", "training"}

func (s Service) String() string { return nameOf(serviceNames, s) }

// QuoteReq asks a provider for a price.
type QuoteReq struct {
	Service  Service        `cbor:"1,keyasint"`
	Subject  Hash           `cbor:"2,keyasint"`
	Consumer centram.PeerID `cbor:"3,keyasint"`           // account that will pay
	Units    uint64         `cbor:"4,keyasint"`           // at most
	MaxPrice uint64         `cbor:"5,keyasint,omitempty"` // micro-CEN a unit, over which no quote is of use; 0 means no limit
}

func (m *QuoteReq) Validate() error {
	var c check
	among(&c, "service", m.Service, serviceNames)
	given(&c, "subject", m.Subject)
	account(&c, "consumer", m.Consumer)
	c.that(m.Units > 0, "units: 0")
	amount(&c, "max_price", m.MaxPrice)
	return c.err
}

// PayRole says what an account is paid for.
type PayRole uint8

const (
	ProviderShare PayRole = iota // does the work
	CreatorShare                 // made the genome
	AncestorShare                // made a genome that it descends from
	PayeeShare                   // none of these: a plain transfer
)

var payRoleNames = []string{"provider", "creator", "ancestor", "payee"}

func (r PayRole) String() string { return nameOf(payRoleNames, r) }

// Payout is one account's part of a payment.
type Payout struct {
	To    centram.PeerID `cbor:"1,keyasint"`
	Role  PayRole        `cbor:"2,keyasint"`
	Share uint16         `cbor:"3,keyasint"` // basis points of the whole
}

// Quote is a binding offer to the consumer it names. Other messages refer to it by its record id. What is paid in the end
// is the split of the rules over the amount; the one here is for people to see before they agree.
type Quote struct {
	Service  Service        `cbor:"1,keyasint"`
	Subject  Hash           `cbor:"2,keyasint"`
	Consumer centram.PeerID `cbor:"3,keyasint"`           // account that may use it
	Provider centram.PeerID `cbor:"4,keyasint"`           // account of the author
	Price    uint64         `cbor:"5,keyasint"`           // micro-CEN a unit
	Units    uint64         `cbor:"6,keyasint"`           // at most
	Split    []Payout       `cbor:"7,keyasint"`           // none if it is free
	Credit   uint64         `cbor:"8,keyasint,omitempty"` // micro-CEN that the provider works for before it wants a payment
	Cosigns  uint8          `cbor:"9,keyasint,omitempty"` // witnesses that have to bind themselves to the payment
	Rules    Hash           `cbor:"10,keyasint"`          // that the split follows
	Nonce    uint64         `cbor:"11,keyasint"`          // random: keeps two equal offers apart
	Expires  int64          `cbor:"12,keyasint"`          // Unix milliseconds
}

func (m *Quote) Validate() error {
	var c check
	among(&c, "service", m.Service, serviceNames)
	given(&c, "subject", m.Subject)
	account(&c, "consumer", m.Consumer)
	account(&c, "provider", m.Provider)
	c.that(m.Units > 0, "units: 0")
	over, all := bits.Mul64(m.Price, m.Units)
	c.that(over == 0 && all <= MaxAmount, "price: %d micro-CEN for each of %d units is too much", m.Price, m.Units)
	c.that(m.Price == 0 || len(m.Split) > 0, "split: nobody is paid")
	c.most("split", len(m.Split), 64)
	sum := 0
	for _, p := range m.Split {
		account(&c, "split: account", p.To)
		among(&c, "split: role", p.Role, payRoleNames)
		c.that(p.Share > 0, "split: nothing for an account")
		sum += int(p.Share)
	}
	c.that(len(m.Split) == 0 || sum == wholeBP, "split: %d basis points of %d", sum, wholeBP)
	amount(&c, "credit", m.Credit)
	given(&c, "rules", m.Rules)
	moment(&c, "expires", m.Expires)
	return c.err
}

// UsageReceipt comes from the provider after a step of the work and says what was used since the last receipt. The consumer
// checks it against its own count and answers with STATUS; its signed half is the USAGE entry in its chain, which refers to
// the receipt by its record id.
type UsageReceipt struct {
	Quote    Hash           `cbor:"1,keyasint"`
	Consumer centram.PeerID `cbor:"2,keyasint"` // account
	Provider centram.PeerID `cbor:"3,keyasint"` // account of the author
	Subject  Hash           `cbor:"4,keyasint"`
	Seq      uint32         `cbor:"5,keyasint"`          // of the receipt under its quote, from 1 on
	Units    uint64         `cbor:"6,keyasint"`          // since the last receipt
	Amount   uint64         `cbor:"7,keyasint"`          // micro-CEN for them
	Evidence Hash           `cbor:"8,keyasint,omitzero"` // root over the records that show it: TRANSFER_DONE, WIN_COMMIT, HL_CLOSE, GWP_RESULT
	TimeMs   int64          `cbor:"9,keyasint"`          // Unix time
}

func (m *UsageReceipt) Validate() error {
	var c check
	given(&c, "quote", m.Quote)
	account(&c, "consumer", m.Consumer)
	account(&c, "provider", m.Provider)
	given(&c, "subject", m.Subject)
	c.that(m.Seq != 0, "seq: 0")
	c.that(m.Units > 0, "units: 0")
	amount(&c, "amount", m.Amount)
	moment(&c, "time", m.TimeMs)
	return c.err
}

// CreditLine says how much its author lends an account on trust. It is a statement about the author's own policy: what binds
// both in the ledger is the CREDIT entry that follows it.
type CreditLine struct {
	Grantor centram.PeerID `cbor:"1,keyasint"` // account of the author
	Grantee centram.PeerID `cbor:"2,keyasint"` // account
	Limit   uint64         `cbor:"3,keyasint"` // micro-CEN; 0 takes the line back
	Seq     uint64         `cbor:"4,keyasint"` // of the pair of accounts; highest wins
	Expires int64          `cbor:"5,keyasint"` // Unix milliseconds
}

func (m *CreditLine) Validate() error {
	var c check
	account(&c, "grantor", m.Grantor)
	account(&c, "grantee", m.Grantee)
	c.that(m.Grantor != m.Grantee, "grantor and grantee are one account")
	amount(&c, "limit", m.Limit)
	c.that(m.Seq != 0, "seq: 0")
	moment(&c, "expires", m.Expires)
	return c.err
}
