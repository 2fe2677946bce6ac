package engine

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// oracleModel is a model without a network: the next token is a function of the whole sequence so far. It keeps what a
// KV cache would, and refuses a row that does not follow on it, so a slip in positions, trimming, forking or prefix
// reuse shows as an error or as another answer than oracle's.
type oracleModel struct {
	info  Info
	delay time.Duration                // of a step
	each  func(rows int) time.Duration // and of its rows. Nil: nothing
	// endless answers have an e where others end.
	endless bool
	wrong   uint32 // with so many texts of a hundred it says something else than another oracle
	fail    func(b Batch) error

	mu    sync.Mutex // guards what follows, for the tests that look
	kv    map[int][]Token
	steps int
	rows  int
	last  Batch
	shut  bool
}

const (
	oracleEnd   = 256 // ends an answer
	oracleVocab = 257
)

func newOracle(sequences, size int) *oracleModel {
	return &oracleModel{info: Info{Context: size, Sequences: sequences, BatchSize: 64, VocabSize: oracleVocab, MemoryBytes: 100}, kv: map[int][]Token{}}
}

// nextToken is printable ASCII, and now and then the end.
func nextToken(seq []Token, adapters []AdapterScale) Token {
	h := fnv.New32a()
	for _, t := range seq {
		h.Write([]byte{byte(t), byte(t >> 8)})
	}
	fmt.Fprint(h, adapters)
	n := h.Sum32()
	if n%41 == 0 {
		return oracleEnd
	}
	return Token('a' + n/64%26)
}

// oracle is the answer to a prompt: at most max tokens (0: any number) within a context.
func oracle(prompt string, adapters []AdapterScale, max, size int) string {
	var seq []Token
	for _, b := range []byte(prompt) {
		seq = append(seq, Token(b))
	}
	var out strings.Builder
	for n := 0; ; n++ {
		if t := nextToken(seq, adapters); t != oracleEnd {
			seq = append(seq, t)
			out.WriteByte(byte(t))
			if n+1 != max && len(seq) < size {
				continue
			}
		}
		return out.String()
	}
}

func (m *oracleModel) Step(ctx context.Context, b Batch) (Output, error) {
	d := m.delay
	if m.each != nil {
		d += m.each(len(b.Rows))
	}
	if d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return Output{}, ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = Batch{Rows: append([]Row(nil), b.Rows...), Adapters: b.Adapters}
	if m.fail != nil {
		if err := m.fail(b); err != nil {
			return Output{}, err
		}
	}
	if len(b.Rows) == 0 || len(b.Rows) > m.info.BatchSize {
		return Output{}, fmt.Errorf("a batch of %d rows", len(b.Rows))
	}
	if m.info.Outputs > 0 && wantedRows(b) > m.info.Outputs {
		return Output{}, fmt.Errorf("%d rows want logits, there is room for %d", wantedRows(b), m.info.Outputs)
	}
	m.steps++
	m.rows += len(b.Rows)
	var out Output
	for _, r := range b.Rows {
		if r.Pos != len(m.kv[r.Seq]) || r.Pos >= m.info.Context {
			return Output{}, fmt.Errorf("sequence %d has %d positions, a row comes at %d", r.Seq, len(m.kv[r.Seq]), r.Pos)
		}
		m.kv[r.Seq] = append(m.kv[r.Seq], r.Token)
		if r.Logits {
			logits := make([]float32, oracleVocab)
			logits[m.next(m.kv[r.Seq], b.Adapters)] = 1
			out.Logits = append(out.Logits, logits)
		}
	}
	return out, nil
}

func (m *oracleModel) next(seq []Token, adapters []AdapterScale) Token {
	t := nextToken(seq, adapters)
	if h := fnv.New32a(); m.wrong > 0 {
		fmt.Fprint(h, seq)
		if h.Sum32()/7%100 < m.wrong {
			return 'W'
		}
	}
	if t == oracleEnd && m.endless {
		return 'e'
	}
	return t
}

func wantedRows(b Batch) (n int) {
	for _, r := range b.Rows {
		if r.Logits {
			n++
		}
	}
	return n
}

func (m *oracleModel) Trim(seq, pos int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if pos > len(m.kv[seq]) {
		return fmt.Errorf("trim of sequence %d at %d, but it has %d", seq, pos, len(m.kv[seq]))
	}
	m.kv[seq] = m.kv[seq][:pos]
	return nil
}

func (m *oracleModel) Fork(from, to, n, kept int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n < kept+3 {
		return kept, nil // does not pay
	}
	m.kv[to] = append([]Token(nil), m.kv[from][:n]...)
	return n, nil
}

func (m *oracleModel) Info() Info { return m.info }

func (m *oracleModel) Tokenize(text string, _, _ bool) ([]Token, error) {
	tokens := make([]Token, len(text))
	for i := range len(text) {
		tokens[i] = Token(text[i])
	}
	return tokens, nil
}

func (m *oracleModel) Piece(t Token, _ bool) []byte {
	if t >= oracleEnd {
		return nil
	}
	return []byte{byte(t)}
}
func (m *oracleModel) EndOfGeneration(t Token) bool { return t == oracleEnd }

func (m *oracleModel) RenderChat(c Chat) (RenderedChat, error) {
	var b strings.Builder
	for _, msg := range c.Messages {
		b.WriteString(msg.Role + ":" + msg.Content + "\n")
	}
	return RenderedChat{Prompt: b.String()}, nil
}

func (m *oracleModel) Embed(context.Context, [][]Token) ([][]float32, error) {
	return [][]float32{{3, 4}}, nil
}

func (m *oracleModel) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shut = true
	return nil
}

type argmax struct{}

func (a argmax) Sample(logits []float32) (Token, error) {
	best := 0
	for i, l := range logits {
		if l > logits[best] {
			best = i
		}
	}
	return Token(best), nil
}

func (argmax) Choose(best []Candidate) (Token, error) { return best[0].Token, nil }
func (argmax) Accept(Token)                           {}
func (argmax) Close()                                 {}

func (m *oracleModel) NewSampler(cfg SamplerConfig) (Sampler, error) {
	if cfg.Temperature <= 0 && cfg.Grammar.GBNF == "" && !cfg.penalises() {
		return argmax{}, nil
	}
	seed := uint64(0)
	if cfg.Seed != nil {
		seed = uint64(*cfg.Seed)
	}
	return &dice{cfg: cfg, rand: rand.New(rand.NewPCG(seed, 1))}, nil
}

// dice is a sampler that depends on all that one may depend on: how often it drew before, what it picked before, and a
// grammar, which is a list of the letters allowed.
type dice struct {
	argmax
	cfg  SamplerConfig
	rand *rand.Rand
	last Token
}

func (d *dice) Sample(logits []float32) (Token, error) {
	t, _ := d.argmax.Sample(logits)
	return d.from(t), nil
}

func (d *dice) Choose(best []Candidate) (Token, error) { return d.from(best[0].Token), nil }

func (d *dice) from(t Token) Token {
	if d.cfg.Temperature > 0 && d.rand.Float32() < d.cfg.Temperature {
		t = Token('a' + d.rand.IntN(3))
	}
	if d.cfg.penalises() && t == d.last {
		t = 'r'
	}
	if g := d.cfg.Grammar.GBNF; g != "" && t != oracleEnd && !strings.Contains(g, string(rune(t))) {
		t = Token(g[int(t)%len(g)])
	}
	d.last = t
	return t
}
