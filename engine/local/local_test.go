package local

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/gguf"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newEngine serves the toy model as "toy".
func newEngine(t *testing.T, cfg Config) *engine.Engine {
	t.Helper()
	path := generate(t, t.TempDir(), "toy.gguf", gguf.Toy())
	e := engine.New(engine.Config{Open: func(ctx context.Context, _ string, p func(float64)) (engine.Model, error) {
		cfg.Progress = p
		return Open(ctx, path, cfg)
	}})
	t.Cleanup(func() { e.Close() })
	return e
}

func answer(t *testing.T, e *engine.Engine, r engine.Request) engine.Result {
	t.Helper()
	r.Model, r.TopLogprobs = "toy", -1
	res, err := e.Generate(t.Context(), r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// near is how far log probabilities may lie apart that are the same but for the order of sums.
const near = 0.02

// likeliest is the log probability of the likeliest token after a text. Numbers, not tokens, are compared here: llama.cpp
// computes a row in a batch with other kernels than alone, so the last bits differ, and with them a token now and then.
func likeliest(e *engine.Engine, text string, adapters ...engine.AdapterScale) (float64, error) {
	var got float64
	_, err := e.Generate(context.Background(), engine.Request{Model: "toy", Text: text, MaxTokens: 1, TopLogprobs: 1, Adapters: adapters}, func(ev engine.Event) error {
		for _, tok := range ev.Tokens {
			got = float64(tok.Top[0].Logprob)
		}
		return nil
	})
	return got, err
}

// writeAdapter makes a rank-2 LoRA adapter of the toy model's query matrices, with every value of B set to size.
func writeAdapter(t *testing.T, size float32) string {
	t.Helper()
	const dim, rank = 128, 2
	fill := func(n int, f func(i int) float32) func(io.Writer) error {
		return func(w io.Writer) error {
			var b []byte
			for i := range n {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f(i)))
			}
			_, err := w.Write(b)
			return err
		}
	}
	var tensors []gguf.TensorData
	for _, layer := range []string{"0", "1", "2", "3"} {
		name := "blk." + layer + ".attn_q.weight.lora_"
		tensors = append(tensors,
			gguf.TensorData{Name: name + "a", Type: gguf.F32, Dims: []uint64{dim, rank}, Write: fill(dim*rank, func(i int) float32 { return float32(i%7) - 3 })},
			gguf.TensorData{Name: name + "b", Type: gguf.F32, Dims: []uint64{rank, dim}, Write: fill(dim*rank, func(i int) float32 { return size * float32(i%5-2) })})
	}
	path := filepath.Join(t.TempDir(), "adapter.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = gguf.Write(f, []gguf.KV{
		{Key: "general.architecture", Value: gguf.Of("qwen2")},
		{Key: "general.type", Value: gguf.Of("adapter")},
		{Key: "adapter.type", Value: gguf.Of("lora")},
		{Key: "adapter.lora.alpha", Value: gguf.Of(float32(rank))},
	}, tensors)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAdaptersAreAppliedPerRequestAndNeverToAnother(t *testing.T) {
	e := newEngine(t, Config{Context: 256, Sequences: 4, Threads: 1})
	strong, zero := writeAdapter(t, 0.05), writeAdapter(t, 0)
	const text = "the quick brown fox"
	ask := func(adapters ...engine.AdapterScale) float64 {
		t.Helper()
		got, err := likeliest(e, text, adapters...)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	plain, with := ask(), ask(engine.AdapterScale{Path: strong, Scale: 1})
	if math.Abs(with-plain) < 10*near {
		t.Fatalf("an adapter changed %v to %v, which is nothing", plain, with)
	}
	if got := ask(engine.AdapterScale{Path: zero, Scale: 1}); math.Abs(got-plain) > near {
		t.Errorf("an adapter of zeros gave %v, want the plain %v", got, plain)
	}
	if got := ask(engine.AdapterScale{Path: strong, Scale: 0}); math.Abs(got-plain) > near {
		t.Errorf("a scale of zero gave %v, want the plain %v", got, plain)
	}
	var wg sync.WaitGroup
	for i := range 24 { // mixed in the same slots, one after the other and at once
		wg.Go(func() {
			want, adapters := plain, []engine.AdapterScale(nil)
			if i%2 == 0 {
				want, adapters = with, []engine.AdapterScale{{Path: strong, Scale: 1}}
			}
			if got, err := likeliest(e, text, adapters...); err != nil || math.Abs(got-want) > near {
				t.Errorf("request %d: got %v, %v, want %v", i, got, err, want)
			}
		})
	}
	wg.Wait()
	_, err := e.Generate(t.Context(), engine.Request{Model: "toy", Text: "x", Adapters: []engine.AdapterScale{{Path: "/none.gguf", Scale: 1}}}, nil)
	if centram.CodeOf(err) != centram.Invalid || !strings.Contains(err.Error(), "none.gguf") {
		t.Errorf("got %v, want an error that names the adapter", err)
	}
}

func TestABadFileIsRefusedByNameAndReasonBeforeLlamaSeesIt(t *testing.T) {
	whole, err := os.ReadFile(generate(t, t.TempDir(), "toy.gguf", gguf.Toy()))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"cut.gguf":   whole[:len(whole)-100],
		"empty.gguf": nil,
		"text.gguf":  []byte("hello, I am a text"),
		"arch.gguf":  bytes.Replace(whole, []byte("qwen2"), []byte("qwen9"), 1),
		"layers.gguf": bytes.Replace(whole, append([]byte("qwen2.block_count\x04\x00\x00\x00"), 4, 0, 0, 0),
			append([]byte("qwen2.block_count\x04\x00\x00\x00"), 255, 255, 0, 0), 1),
	} {
		path := filepath.Join(t.TempDir(), name)
		if bytes.Equal(content, whole) {
			t.Fatalf("%s is no bad file", name)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(t.Context(), path, Config{})
		if c := centram.CodeOf(err); (c != centram.Invalid && c != centram.Unsupported) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v (%s), want an error that names the file", name, err, c)
		}
	}
}

func TestEmbeddingsAreUnitVectorsThatDifferByText(t *testing.T) {
	e := newEngine(t, Config{Context: 128})
	res, err := e.Embed(t.Context(), engine.EmbedRequest{Model: "toy", Texts: []string{"one", "two", "one"}})
	if err != nil {
		t.Fatal(err)
	}
	dot := func(a, b []float32) (sum float64) {
		for i := range a {
			sum += float64(a[i]) * float64(b[i])
		}
		return sum
	}
	v := res.Vectors
	if len(v) != 3 || len(v[0]) != 128 || math.Abs(dot(v[0], v[0])-1) > 1e-5 {
		t.Fatalf("got %d vectors of %d, length %v", len(v), len(v[0]), dot(v[0], v[0]))
	}
	if same, other := dot(v[0], v[2]), dot(v[0], v[1]); same < 0.9999 || other > 0.9999 {
		t.Errorf("the same text is %v alike and another %v", same, other)
	}
	_, err = e.Embed(t.Context(), engine.EmbedRequest{Model: "toy", Texts: []string{strings.Repeat("x", 500)}})
	if centram.CodeOf(err) != centram.TooLong {
		t.Errorf("got %v, want %s", err, centram.TooLong)
	}
}

func TestAModelThatIsClosedMakesNoEmbeddings(t *testing.T) {
	m, err := Open(t.Context(), generate(t, t.TempDir(), "toy.gguf", gguf.Toy()), Config{Context: 128})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Embed(t.Context(), [][]engine.Token{{1}}); centram.CodeOf(err) != centram.Unavailable {
		t.Errorf("got %v, want %s", err, centram.Unavailable)
	}
}

func TestAJSONAnswerIsJSONAndNothingElse(t *testing.T) {
	e := newEngine(t, Config{Context: 512, Sequences: 2})
	schema := `{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"],"additionalProperties":false}`
	for seed := range uint32(10) {
		res := answer(t, e, engine.Request{
			Chat:     &engine.Chat{Messages: []engine.Message{{Role: "user", Content: "well?"}}, JSONSchema: []byte(schema)},
			Sampling: engine.Sampling{Temperature: 1, Seed: &seed}, MaxTokens: 400,
		})
		if !json.Valid([]byte(res.Message.Content)) || !strings.HasPrefix(res.Message.Content, "{") {
			t.Errorf("seed %d: got %q (%s), want an object", seed, res.Message.Content, res.Reason)
		}
	}
	_, err := e.Generate(t.Context(), engine.Request{Model: "toy", Chat: &engine.Chat{
		Messages: []engine.Message{{Role: "user", Content: "x"}}, JSONSchema: []byte(`{"type":"string","pattern":"a(?=b)"}`),
	}}, nil)
	if centram.CodeOf(err) != centram.Invalid {
		t.Errorf("a schema that cannot be kept to: got %v, want %s", err, centram.Invalid)
	}
	_, err = e.Generate(t.Context(), engine.Request{Model: "toy", Chat: &engine.Chat{
		Messages: []engine.Message{{Role: "user", Content: "x"}}, Tools: []engine.Tool{{Name: "f"}},
	}}, nil)
	if centram.CodeOf(err) != centram.Unsupported {
		t.Errorf("tools for a template without: got %v, want %s", err, centram.Unsupported)
	}
}

func TestWhatWouldRunOverTheStackOrNeverEndIsRefused(t *testing.T) {
	e := newEngine(t, Config{Context: 512, Sequences: 1})
	deep := strings.Repeat(`{"type":"array","items":`, 5000) + `{}` + strings.Repeat("}", 5000)
	var doubling strings.Builder
	for i := range 60 {
		fmt.Fprintf(&doubling, "a%d ::= a%d | a%d\n", i, i+1, i+1)
	}
	said := engine.Message{Role: "assistant", ToolCalls: []engine.ToolCall{{Name: "f", Arguments: strings.Repeat("[", 1e6) + strings.Repeat("]", 1e6)}}}
	for name, r := range map[string]engine.Request{
		"grammar":  {Text: "x", Grammar: engine.Grammar{GBNF: "root ::= " + strings.Repeat("(", 50_000) + `"a"` + strings.Repeat(")", 50_000)}},
		"rules":    {Text: "x", Grammar: engine.Grammar{GBNF: strings.Repeat("a ::= b\n", 10_000)}},
		"schema":   {Chat: &engine.Chat{Messages: []engine.Message{{Role: "user"}}, JSONSchema: []byte(deep)}},
		"tool":     {Chat: &engine.Chat{Messages: []engine.Message{{Role: "user"}}, Tools: []engine.Tool{{Name: "f", Parameters: []byte(deep)}}}},
		"keyword":  {Chat: &engine.Chat{Messages: []engine.Message{{Role: "user"}}, JSONSchema: []byte(`{"properties":{"a":{"not":{}}}}`)}},
		"doubling": {Text: "x", Grammar: engine.Grammar{GBNF: "root ::= a0\n" + doubling.String() + `a60 ::= "x"`}},
		"copies":   {Text: "x", Grammar: engine.Grammar{GBNF: `root ::= "` + strings.Repeat("x", 100_000) + `"{2000}`}},
		"call":     {Chat: &engine.Chat{Messages: []engine.Message{{Role: "user"}, said}}},
		"no rule":  {Text: "x", Grammar: engine.Grammar{GBNF: `root ::= nothing`}},
		"no regex": {Chat: &engine.Chat{Messages: []engine.Message{{Role: "user"}}, JSONSchema: []byte(`{"type":"string","pattern":"^(a$"}`)}},
	} {
		r.Model = "toy"
		if _, err := e.Generate(t.Context(), r, nil); centram.CodeOf(err) != centram.Invalid {
			t.Errorf("%s: got %v, want %s", name, err, centram.Invalid)
		}
	}
}

func TestCopiesAreThoseThatAGrammarComesTo(t *testing.T) {
	for gbnf, want := range map[string]int{
		`root ::= "ab" | [a-z]+`:             0,
		`root ::= "abc"{7}`:                  28, // with the end of the literal
		`root ::= [^"\]{]{1,3} "{9}" x{,2}`:  5*3 + 2,
		`root ::= ("abc" x){5}`:              5,
		`root ::= x{1,99999999999999999999}`: 2000,
		`root ::= "a{2000}`:                  0,
		"root ::= x # \"{3}\nx ::= y{3}":     3,
		`root ::= x{`:                        0,
	} {
		if got := copies(gbnf); got != want {
			t.Errorf("%s: got %d, want %d", gbnf, got, want)
		}
	}
}

func TestTheDepthOfAnAnswerIsThatOfAnyJSONInIt(t *testing.T) {
	for text, want := range map[string]int{
		"":                               0,
		"It isn't \" [much]":             1,
		`<tool_call>{"a": [1, {"b":2}]}`: 3,
		`he said " {"a":"[[[[\"[["}`:     4, // what could be, if the first sign began a string
		`{"a":"]]]]"} {"b": [[`:          3,
		`["]",["]",["]",["]",[`:          5,
		`\"[`:                            1,
		"]]]][[":                         2,
	} {
		if got := deepest(text); got != want {
			t.Errorf("%s: got %d, want %d", text, got, want)
		}
	}
}

func TestABeginningCopiedFromAnotherSequenceIsAsGoodAsOneRead(t *testing.T) {
	e := newEngine(t, Config{Context: 512, Sequences: 4, Threads: 1})
	long := strings.Repeat("the same beginning, ", 12)
	tails := []string{"one", "two", "three", "four"}
	want := map[string]float64{}
	for _, tail := range tails {
		fresh := newEngine(t, Config{Context: 512, Sequences: 1, Threads: 1})
		var err error
		if want[tail], err = likeliest(fresh, long+tail); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := likeliest(e, long); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, tail := range tails { // at once, so that only one finds its beginning in a free slot
		wg.Go(func() {
			var cached int
			res, err := e.Generate(t.Context(), engine.Request{Model: "toy", Text: long + tail, MaxTokens: 1, TopLogprobs: 1}, func(ev engine.Event) error {
				for _, tok := range ev.Tokens {
					if got := float64(tok.Top[0].Logprob); math.Abs(got-want[tail]) > near {
						t.Errorf("%s: got %v, want %v", tail, got, want[tail])
					}
				}
				return nil
			})
			if cached = res.CachedTokens; err != nil || cached < len(long) {
				t.Errorf("%s: %d tokens of %d reused, %v", tail, cached, len(long), err)
			}
		})
	}
	wg.Wait()
}
