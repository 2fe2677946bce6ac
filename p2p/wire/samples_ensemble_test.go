package wire

import (
	"bytes"
	"strings"
	"testing"
)

var (
	gwpQuery = QueryID{0: 0xC0, 15: 1}

	firstAnswer = &GWPAnswer{
		Query: gwpQuery, Asker: peer(1), Asked: hash(1), Base: hash(2), Genome: hash(3), Text: "Seven.\nOr 7, in digits.\n", Tokens: 9,
		MeanLogprob: -120_000, LowLogprob: -900_000, Confidence: 8500, Finish: FinishLength, TookMs: 1200, Quote: hash(4),
	}
)

var ensembleSamples = []Message{
	&GWPQuery{
		Query: gwpQuery, Mode: VoteMode, Turns: []Turn{{Speaker: User, Text: "How many days\thas a week?\n"}}, Most: 1, MaxTokens: 256,
		WithinMs: 30_000,
	},
	&GWPQuery{
		Query: gwpQuery, Mode: MergeMode, Round: 1,
		Turns: []Turn{
			{Speaker: System, Text: "Be brief."},
			{Speaker: User, Text: "Hello!"},
			{Speaker: Assistant, Text: "Hello. What would you like to know?"},
			{Speaker: User, Text: "How many days has a week?"},
		},
		Answers: []Record{recordOf(firstAnswer)}, Base: hash(2), Genomes: []Hash{hash(3), hash(5)}, Most: 2, MaxTokens: 256,
		Temperature: 700, Seed: 42, WithinMs: 30_000, Budget: 50_000, MinAttested: 2,
	},
	&GWPAccept{Query: gwpQuery, Base: hash(2), Genome: hash(3), EtaMs: 1500, Price: 360, Quote: hash(4)},
	firstAnswer,
	&GWPScores{Query: gwpQuery, Asker: peer(1), Round: 1, Scores: []GWPScore{{Answer: hash(6), Score: 9000}, {Answer: hash(7), Score: 0}}},
	&GWPDelta{
		Query: gwpQuery, Genome: hash(3), Rows: 16, Columns: 128, Offset: 256, Weight: -250_000, Layer: 3, Type: F16,
		Name: "attn_q.weight.lora_a", Data: []byte{0x00, 0x3c, 0x00, 0xbc},
	},
	&GWPDelta{
		Query: gwpQuery, Genome: hash(3), Rows: 1, Columns: 2, Weight: 1_000_000, Layer: 0xffff, Type: F32,
		Name: "output.weight.lora_b", Data: make([]byte, 8),
	},
	&GWPResult{
		Query: gwpQuery, Asked: hash(1), Result: hash(8), Mode: MergeMode, Rounds: 2, Converged: true, Answers: hash(9),
		Contributors: []Contribution{
			{Node: peer(2), Genome: hash(3), Answer: hash(6), Share: 6000},
			{Node: peer(3), Answer: hash(7), Share: 4000},
		},
		Amount: 720, TimeMs: 1_700_000_000_000,
	},
	&GWPDispute{
		Query: gwpQuery, Result: hash(10), Answer: hash(7), Reason: CopiedAnswer, Detail: "the same words, two seconds later",
		Evidence: []Hash{hash(6), hash(7)}, TimeMs: 1_700_000_000_000,
	},
}

func TestWrongEnsembleMessagesAreRefused(t *testing.T) {
	list := ensembleSamples
	refused(t, []wrong{
		{"a question that is an answer", spoilt(list, func(m *GWPQuery) { m.Turns = []Turn{{Speaker: Assistant, Text: "Hello."}} })},
		{"a second system prompt", spoilt(list, func(m *GWPQuery) { m.Turns = []Turn{{Speaker: System}, {Speaker: System}, {Speaker: User}} })},
		{"text that is not UTF-8", spoilt(list, func(m *GWPQuery) { m.Turns = []Turn{{Speaker: User, Text: "\xff"}} })},
		{"turns that are too long together", spoilt(list, func(m *GWPQuery) {
			half := Turn{Speaker: User, Text: strings.Repeat("a", maxPrompt/2+1)}
			m.Turns = []Turn{half, half}
		})},
		{"answers in the first round", spoilt(list, func(m *GWPQuery) { m.Answers = []Record{recordOf(firstAnswer)} })},
		{"a second round without answers", spoilt(list, func(m *GWPQuery) { m.Round = 1 })},
		{"a token likelier than certain", spoilt(list, func(m *GWPAnswer) { m.MeanLogprob = 1 })},
		{"an answer scored twice", spoilt(list, func(m *GWPScores) { m.Scores = []GWPScore{{Answer: hash(6)}, {Answer: hash(6)}} })},
		{"shares of less than the whole", spoilt(list, func(m *GWPResult) { m.Contributors = m.Contributors[:1] })},
		{"a dispute about nothing", spoilt(list, func(m *GWPDispute) { m.Result, m.Answer = Hash{}, Hash{} })},
		{"half an element", spoilt(list, func(m *GWPDelta) { m.Data = m.Data[:3] })},
		{"an offset within an element", spoilt(list, func(m *GWPDelta) { m.Offset = 1 })},
		{"data past the end", spoilt(list, func(m *GWPDelta) { m.Offset = 16*128*2 - 2 })},
		{"a shape whose size overflows", spoilt(list, func(m *GWPDelta) { m.Rows, m.Columns = 1<<31, 1<<31 })},
		{"a quantised part", spoilt(list, func(m *GWPDelta) { m.Type = Q8 })},
		{"a name that is too long", spoilt(list, func(m *GWPDelta) { m.Name = strings.Repeat("a", 256) })},
	})
}

// TestDeltaIsWrittenInOneWay changes every bit and cuts at every byte: what is still a message has to be written like that
// again.
func TestDeltaIsWrittenInOneWay(t *testing.T) {
	for _, m := range samplesOf(0x94) {
		body, err := Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		try := func(what string, n int, b []byte) {
			f := Frame{Type: 0x94, Body: b}
			back, err := f.Decode()
			if err != nil {
				return
			}
			if again, err := Encode(back); err != nil || !bytes.Equal(again, b) {
				t.Errorf("%s %d: got %x and %v, want %x", what, n, again, err, b)
			}
		}
		for i := range 8 * len(body) {
			changed := bytes.Clone(body)
			changed[i/8] ^= 1 << (i % 8)
			try("bit", i, changed)
		}
		for n := range body {
			try("length", n, body[:n])
		}
	}
}
