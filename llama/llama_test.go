package llama

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/centram/centram/gguf"
)

// toyPath writes the toy model: random weights, real everything else.
func toyPath(t testing.TB) string { return generated(t, gguf.Toy()) }

func generated(t testing.TB, s gguf.Shape) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "toy.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := gguf.Generate(f, s, 1); err != nil {
		t.Fatal(err)
	}
	return path
}

func toy(t testing.TB) *Model {
	t.Helper()
	m, err := LoadModel(context.Background(), []string{toyPath(t)}, ModelConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func newContext(t testing.TB, m *Model, cfg ContextConfig) *Context {
	t.Helper()
	c, err := m.NewContext(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// logitsAfter runs text from position pos of a sequence and copies the logits of its last token.
func logitsAfter(t testing.TB, c *Context, text string, pos, seq int) []float32 {
	t.Helper()
	var b Batch
	for i := range len(text) {
		b.Add(Token(text[i]), pos+i, seq, i == len(text)-1)
	}
	if err := c.Decode(&b); err != nil {
		t.Fatal(err)
	}
	l, err := c.Logits(len(text) - 1)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(l)
}

func TestTheToyModelIsWhatItSaysItIs(t *testing.T) {
	m := toy(t)
	info, err := m.Info()
	if err != nil {
		t.Fatal(err)
	}
	if info.Parameters != 842_496 || info.Layers != 4 || info.Architecture != "qwen2" || info.VocabSize != 289 {
		t.Errorf("got %+v, want 842496 parameters, 4 layers, qwen2, 289 tokens", info)
	}
	got, err := m.Tokenize("jumps ", false, false)
	if want := []Token{106, 117, 109, 112, 115, 32}; err != nil || !slices.Equal(got, want) {
		t.Errorf(`"jumps " is %v, %v, want %v`, got, err, want)
	}
	if got, err := m.Tokenize("", false, false); err != nil || len(got) != 0 {
		t.Errorf("the empty text is %v, %v, want no token", got, err)
	}
	if got := m.Piece(1<<20, true); got != nil {
		t.Errorf("a token outside the vocabulary has the text %q, want none", got)
	}
}

func TestEverythingReturnsErrClosedAfterClose(t *testing.T) {
	m, err := LoadModel(t.Context(), []string{toyPath(t)}, ModelConfig{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.NewContext(ContextConfig{Size: 64})
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.NewSampler(SamplerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // Close twice is Close once
		s.Close()
		c.Close()
	}
	for range 2 {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var b Batch
	b.Add(1, 0, 0, true)
	calls := map[string]func() error{
		"Decode":      func() error { return c.Decode(&b) },
		"Logits":      func() error { _, err := c.Logits(0); return err },
		"Trim":        func() error { return c.Trim(0, 0, -1) },
		"SaveState":   func() error { return c.SaveState("x", nil) },
		"SetAdapters": func() error { return c.SetAdapters(nil, nil) },
		"Sample":      func() error { _, err := s.Sample(make([]float32, 289)); return err },
		"Tokenize":    func() error { _, err := m.Tokenize("x", false, false); return err },
		"Info":        func() error { _, err := m.Info(); return err },
		"NewContext":  func() error { _, err := m.NewContext(ContextConfig{}); return err },
		"NewSampler":  func() error { _, err := m.NewSampler(SamplerConfig{}); return err },
		"LoadAdapter": func() error { _, err := m.LoadAdapter("x"); return err },
		"Template":    func() error { _, err := m.ApplyTemplate(ChatRequest{}); return err },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: got %v, want ErrClosed", name, err)
		}
	}
}

func TestAWrongFileIsAnErrorThatNamesItAndTheReason(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	whole, err := os.ReadFile(toyPath(t))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		write("text.gguf", "this is no model"):          "magic",
		write("empty.gguf", ""):                         "load",
		write("cut.gguf", string(whole[:len(whole)/2])): "load",
		filepath.Join(dir, "missing.gguf"):              "No such file",
	} {
		_, err := LoadModel(t.Context(), []string{path}, ModelConfig{})
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %s and %q", err, path, want)
		}
	}
	m := toy(t)
	if _, err := m.LoadAdapter(toyPath(t)); err == nil {
		t.Error("a model was taken for an adapter")
	}
}

func TestACancelledLoadReturnsTheReason(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := LoadModel(ctx, []string{toyPath(t)}, ModelConfig{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestBatchesThatLlamaWouldAssertOnAreErrors(t *testing.T) {
	c := newContext(t, toy(t), ContextConfig{Size: 32, Batch: 8, Sequences: 2})
	for name, fill := range map[string]func(*Batch){
		"empty":    func(*Batch) {},
		"token":    func(b *Batch) { b.Add(289, 0, 0, true) },
		"negative": func(b *Batch) { b.Add(-1, 0, 0, true) },
		"sequence": func(b *Batch) { b.Add(1, 0, 2, true) },
		"position": func(b *Batch) { b.Add(1, -1, 0, true) },
		"too long": func(b *Batch) {
			for i := range 9 {
				b.Add(1, i, 0, false)
			}
		},
		"not aligned": func(b *Batch) { b.Add(1, 0, 0, true); b.Seqs = nil },
	} {
		var b Batch
		fill(&b)
		if err := c.Decode(&b); err == nil {
			t.Errorf("%s: decoded, want an error", name)
		}
	}
	if _, err := c.Logits(0); err == nil {
		t.Error("logits of a row that was never run")
	}
	logitsAfter(t, c, "fine", 0, 0) // and the context still works
}

func TestAFullCacheIsSaidAndNothingIsLost(t *testing.T) {
	c := newContext(t, toy(t), ContextConfig{Size: 256, Sequences: 1})
	logitsAfter(t, c, strings.Repeat("x", 256), 0, 0)
	var b Batch
	b.Add('y', 256, 0, true)
	if err := c.Decode(&b); !errors.Is(err, ErrCacheFull) {
		t.Fatalf("got %v, want ErrCacheFull", err)
	}
	if err := c.Trim(0, 100, -1); err != nil {
		t.Fatal(err)
	}
	logitsAfter(t, c, "y", 100, 0)
}

func TestTrimCopyAndSavedStateGiveTheSameLogits(t *testing.T) {
	t.Run("apart", func(t *testing.T) { trimCopyAndSave(t, ContextConfig{Size: 256, Sequences: 2, Threads: 1}) })
	t.Run("unified", func(t *testing.T) {
		trimCopyAndSave(t, ContextConfig{Size: 256, Sequences: 2, Threads: 1, Unified: true})
	})
}

func trimCopyAndSave(t *testing.T, cfg ContextConfig) {
	m := toy(t)
	c := newContext(t, m, cfg)
	logitsAfter(t, c, "the quick brown", 0, 0)
	want := logitsAfter(t, c, " fox", 15, 0)

	if err := c.Trim(0, 15, -1); err != nil {
		t.Fatal(err)
	}
	if got := logitsAfter(t, c, " fox", 15, 0); !slices.Equal(got, want) {
		t.Error("other logits after Trim")
	}
	if err := c.Copy(0, 1, 15); err != nil {
		t.Fatal(err)
	}
	if got := logitsAfter(t, c, " fox", 15, 1); !slices.Equal(got, want) {
		t.Error("other logits after Copy")
	}
	if first, last, err := c.Positions(1); err != nil || first != 0 || last != 18 {
		t.Errorf("sequence 1 holds %d..%d, %v, want 0..18", first, last, err)
	}

	path := filepath.Join(t.TempDir(), "state")
	c2 := newContext(t, m, cfg)
	logitsAfter(t, c2, "the quick brown", 0, 0)
	if err := c2.SaveState(path, []Token{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	c3 := newContext(t, m, cfg)
	tokens, err := c3.LoadState(path)
	if err != nil || !slices.Equal(tokens, []Token{1, 2, 3}) {
		t.Fatalf("got tokens %v, %v, want [1 2 3]", tokens, err)
	}
	if got := logitsAfter(t, c3, " fox", 15, 0); !slices.Equal(got, want) {
		t.Error("other logits after LoadState")
	}
	if _, err := c3.LoadState(toyPath(t)); err == nil {
		t.Error("a model was taken for a saved state")
	}
}

func TestSamplers(t *testing.T) {
	m := toy(t)
	logits := make([]float32, 289)
	for i := range logits {
		logits[i] = float32(math.Sin(float64(i)))
	}
	logits['q'] = 3
	one := func(cfg SamplerConfig) Token {
		t.Helper()
		s, err := m.NewSampler(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		tok, err := s.Sample(logits)
		if err != nil {
			t.Fatal(err)
		}
		return tok
	}
	if got := one(SamplerConfig{}); got != 'q' {
		t.Errorf("greedy took %d, want %d", got, 'q')
	}
	if got := one(SamplerConfig{LogitBias: map[Token]float32{'z': 100}}); got != 'z' {
		t.Errorf("with a bias greedy took %d, want %d", got, 'z')
	}
	if got := one(SamplerConfig{Temperature: 2, TopK: 1, Seed: 5}); got != 'q' {
		t.Errorf("top-k of 1 took %d, want %d", got, 'q')
	}
	a, b := SamplerConfig{Temperature: 1.5, Seed: 7}, SamplerConfig{Temperature: 1.5, Seed: 7}
	if x, y := one(a), one(b); x != y {
		t.Errorf("one seed took %d and %d", x, y)
	}
	if _, err := m.NewSampler(SamplerConfig{LogitBias: map[Token]float32{900: 1}}); err == nil {
		t.Error("a bias for a token outside the vocabulary was taken")
	}
	penal, err := m.NewSampler(SamplerConfig{PresencePenalty: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer penal.Close()
	penal.Accept('q')
	if got, err := penal.Sample(logits); err != nil || got == 'q' {
		t.Errorf("took %d, %v after a penalty on it", got, err)
	}
	if _, err := penal.Sample(logits[:5]); err == nil {
		t.Error("a row of 5 logits was taken for a vocabulary of 289")
	}
}

// generate samples a text from the toy model under a grammar, until it ends.
// The vocabulary is longer than the blocks that the sampler looks at, and ends within one.
func TestGreedyIsTheFirstOfTheLikeliestWhereverItIs(t *testing.T) {
	shape := gguf.Toy()
	shape.VocabSize = 1501
	path := filepath.Join(t.TempDir(), "wide.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := gguf.Generate(f, shape, 1); err != nil {
		t.Fatal(err)
	}
	m, err := LoadModel(t.Context(), []string{path}, ModelConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s, err := m.NewSampler(SamplerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	logits := make([]float32, shape.VocabSize)
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for at := range logits {
		for i := range logits {
			logits[i] = -50 - float32((i*37)%101)
		}
		logits[at], logits[len(logits)-1] = -49, -49 // a tie with the last one
		if at > 0 {
			logits[at-1] = nan
		}
		if got, err := s.Sample(logits); err != nil || int(got) != at {
			t.Fatalf("the likeliest is at %d; got %d, %v", at, got, err)
		}
	}
	for i := range logits {
		logits[i] = -inf
	}
	if got, err := s.Sample(logits); err != nil || got != 0 {
		t.Errorf("where all are impossible: got %d, %v, want the first", got, err)
	}
	logits[700] = inf
	if got, err := s.Sample(logits); err != nil || got != 700 {
		t.Errorf("where one is infinite: got %d, %v, want it", got, err)
	}
}

func generate(t *testing.T, m *Model, g *Grammar, seed uint32) string {
	t.Helper()
	c := newContext(t, m, ContextConfig{Size: 512})
	defer c.Close()
	s, err := m.NewSampler(SamplerConfig{Temperature: 1, Seed: seed, Grammar: g})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var b Batch
	b.Add('x', 0, 0, true)
	var text []byte
	for pos := 1; pos < 500; pos++ {
		if err := c.Decode(&b); err != nil {
			t.Fatal(err)
		}
		logits, err := c.Logits(0)
		if err != nil {
			t.Fatal(err)
		}
		tok, err := s.Sample(logits)
		if err != nil {
			t.Fatal(err)
		}
		if m.EndOfGeneration(tok) {
			break
		}
		text = append(text, m.Piece(tok, false)...)
		b.Reset()
		b.Add(tok, pos, 0, true)
	}
	return string(text)
}

func TestAGrammarHoldsForEveryAnswer(t *testing.T) {
	m := toy(t)
	shape := regexp.MustCompile(`^(yes|no)[0-9]{2,4}!$`)
	for seed := range uint32(30) {
		if got := generate(t, m, &Grammar{GBNF: `root ::= ("yes" | "no") [0-9]{2,4} "!"`}, seed); !shape.MatchString(got) {
			t.Errorf("seed %d: got %q, want what matches %s", seed, got, shape)
		}
	}
	if _, err := m.NewSampler(SamplerConfig{Grammar: &Grammar{GBNF: "root ::= ("}}); err == nil {
		t.Error("a grammar that does not parse was taken")
	}
	if _, err := m.NewSampler(SamplerConfig{Grammar: &Grammar{GBNF: "root ::= other"}}); err == nil {
		t.Error("a grammar with an undefined rule was taken")
	}
}

func TestASchemaBecomesAGrammarOfIt(t *testing.T) {
	gbnf, err := SchemaToGrammar(`{"type":"object","properties":{"n":{"type":"integer","minimum":0,"maximum":99},"b":{"type":"boolean"}},"required":["n","b"],"additionalProperties":false}`)
	if err != nil {
		t.Fatal(err)
	}
	m := toy(t)
	for seed := range uint32(10) {
		var got struct {
			N *int
			B *bool
		}
		text := generate(t, m, &Grammar{GBNF: gbnf}, seed)
		if err := json.Unmarshal([]byte(text), &got); err != nil || got.N == nil || got.B == nil || *got.N > 99 {
			t.Errorf("seed %d: %q is not what the schema asks for: %v", seed, text, err)
		}
	}
	for _, bad := range []string{`{`, `{"type":"nothing"}`, `{"$ref":"#/none"}`, `[]`} {
		if _, err := SchemaToGrammar(bad); err == nil {
			t.Errorf("the schema %s gave a grammar, want an error", bad)
		}
	}
}

func TestChatsAreRenderedAndToolCallsRead(t *testing.T) {
	m := toy(t)
	p, err := m.ApplyTemplate(ChatRequest{Messages: json.RawMessage(`[{"role":"user","content":"hi"}]`), ToolChoice: "auto"})
	if err != nil {
		t.Fatal(err)
	}
	if want := "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"; p.Prompt != want {
		t.Errorf("got %q, want %q", p.Prompt, want)
	}
	p, err = m.ApplyTemplate(ChatRequest{Messages: json.RawMessage(`[{"role":"user","content":"a"},{"role":"assistant","content":"half an ans"}]`), ToolChoice: "auto", Continue: true})
	if err != nil || !strings.HasSuffix(p.Prompt, "half an ans") {
		t.Errorf("got %q, %v, want a prompt that ends with the answer to go on with", p.Prompt, err)
	}
	for _, bad := range []string{`{}`, `[{"content":"x"}]`, `[1]`, `[{"role":"user","content":7}]`} {
		if _, err := m.ApplyTemplate(ChatRequest{Messages: json.RawMessage(bad), ToolChoice: "auto"}); err == nil {
			t.Errorf("the messages %s were taken", bad)
		}
	}
}

// The template is Qwen's own, from the pinned source: what it makes of tools is what users of Qwen 2.5 get.
func TestToolCallsOfQwenAreConstrainedAndRead(t *testing.T) {
	template, err := os.ReadFile("../build/native/src/models/templates/Qwen-Qwen2.5-7B-Instruct.jinja")
	if err != nil {
		t.Fatal(err)
	}
	m, err := LoadModel(t.Context(), []string{toyPath(t)}, ModelConfig{ChatTemplate: string(template)})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	r := ChatRequest{
		Messages:   json.RawMessage(`[{"role":"user","content":"rain?"}]`),
		Tools:      json.RawMessage(`[{"type":"function","function":{"name":"weather","description":"now","parameters":{"type":"object","properties":{"sunny":{"type":"boolean"}},"required":["sunny"],"additionalProperties":false}}}]`),
		ToolChoice: "required",
	}
	p, err := m.ApplyTemplate(r)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(p.Prompt, "<tools>") || !strings.Contains(p.Prompt, `"weather"`) {
		t.Errorf("the prompt does not tell of the tool:\n%s", p.Prompt)
	}
	if p.GBNF == "" || p.Lazy || !p.KnowsTools {
		t.Fatalf("a required call has grammar %q, lazy %v, knows tools %v", p.GBNF, p.Lazy, p.KnowsTools)
	}
	sampler, err := m.NewSampler(SamplerConfig{Grammar: &Grammar{GBNF: p.GBNF, Prefill: p.Prefill}})
	if err != nil {
		t.Fatal(err)
	}
	sampler.Close()
	const text = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"sunny\": true}}\n</tool_call>"
	raw, err := p.Parse(text, false)
	if err != nil {
		t.Fatal(err)
	}
	var msg struct {
		ToolCalls []struct {
			Function struct{ Name, Arguments string }
		} `json:"tool_calls"`
	}
	if err := json.Unmarshal(raw, &msg); err != nil || len(msg.ToolCalls) != 1 || msg.ToolCalls[0].Function.Name != "weather" {
		t.Fatalf("%q was read as %s, want a call of weather", text, raw)
	}
	var args struct{ Sunny *bool }
	if err := json.Unmarshal([]byte(msg.ToolCalls[0].Function.Arguments), &args); err != nil || args.Sunny == nil || !*args.Sunny {
		t.Errorf("arguments %s, want sunny true", msg.ToolCalls[0].Function.Arguments)
	}
	for cut := range text { // a stream is read at every point
		if _, err := p.Parse(text[:cut], true); err != nil {
			t.Errorf("%q: partial: %v", text[:cut], err)
		}
	}
	r.ToolChoice = "auto"
	if p, err = m.ApplyTemplate(r); err != nil || !p.Lazy || len(p.Patterns)+len(p.Tokens) == 0 {
		t.Errorf("an optional call has lazy %v and triggers %q %v (%v), want a lazy grammar with a trigger", p.Lazy, p.Patterns, p.Tokens, err)
	}
}

func TestTheLogArrivesInSlog(t *testing.T) {
	var out strings.Builder
	SetLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	defer SetLogger(nil)
	toy(t)
	SetLogger(nil)
	if !strings.Contains(out.String(), "general.architecture") {
		t.Errorf("got %d bytes of log without general.architecture", out.Len())
	}
}

func TestThePinIsTheOneThisPackageIsWrittenFor(t *testing.T) {
	pin, err := os.ReadFile("../vendor-cpp/VERSION")
	if err != nil {
		t.Fatal(err)
	}
	if want := "LLAMA_TAG=" + Version + "\n"; !strings.Contains(string(pin), want) {
		t.Errorf("vendor-cpp/VERSION has no line %q", want)
	}
}

// A tool asked for from one clone is built on what another clone has built; CMake refuses that if its tree is tied to a
// folder of the first.
func TestTheBuildTreeIsTiedToNoCheckout(t *testing.T) {
	cache, err := os.ReadFile("../build/native/obj/CMakeCache.txt")
	if err != nil {
		t.Fatal(err)
	}
	native, err := filepath.EvalSymlinks("../build/native")
	if err != nil {
		t.Fatal(err)
	}
	home := regexp.MustCompile(`(?m)^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$`).FindSubmatch(cache)
	if home == nil || !strings.HasPrefix(string(home[1]), native) {
		t.Errorf("the build tree is that of %q, want a folder of the cache, %s", home, native)
	}
}
