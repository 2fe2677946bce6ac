package hyperlink_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/engine/local"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hyperlink"
	"github.com/centram/centram/llama"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runConfig is how all models of these tests are run: one thread a stage, since all stages share this machine.
var runConfig = local.Config{Context: 256, Sequences: 8, BatchSize: 128, MicroBatch: 32, Threads: 1}

// node is one machine: a node on the loopback interface, and what it hosts.
type node struct {
	*p2p.Node
	host *hyperlink.Host
}

func key(i int) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, ed25519.SeedSize))
}

// network starts n machines that know each other and trust everybody.
func network(t testing.TB, n int, open hyperlink.Opener, adapt hyperlink.AdapterOpener) []*node {
	t.Helper()
	var nodes []*node
	var peers []string
	for i := range n {
		cfg := p2p.Config{
			Key: key(i), Listen: "127.0.0.1:0", Quiet: true, Policy: p2p.PolicyOpen, Peers: slices.Clone(peers), Log: slog.New(slog.DiscardHandler),
		}
		p, err := p2p.New(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, fmt.Sprint("127.0.0.1:", p.Port()))
		nodes = append(nodes, &node{p, hyperlink.NewHost(hyperlink.HostConfig{Node: p, Open: open, OpenAdapter: adapt, Log: slog.New(slog.DiscardHandler)})})
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	for _, p := range nodes {
		wg.Go(func() { _ = p.Run(ctx) })
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
	return nodes
}

// model is a model file and how to cut it.
type model struct {
	path string
	file *gguf.Model
	tail int // tokens that the last machine gives logits of, and the first of the others. 0: of all

	mu    sync.Mutex           // guards parts
	parts map[wire.Hash]string // files of adapters by their recipes
}

func generate(t testing.TB, s gguf.Shape) *model {
	t.Helper()
	m := &model{path: filepath.Join(t.TempDir(), "model.gguf"), parts: map[wire.Hash]string{}}
	f, err := os.Create(m.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := gguf.Generate(f, s, 1); err != nil {
		t.Fatal(err)
	}
	return m.open(t)
}

func (m *model) open(t testing.TB) *model {
	t.Helper()
	var err error
	if m.file, err = gguf.OpenModel(m.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.file.Close() })
	return m
}

// stage cuts layers out of the file and loads them.
func (m *model) stage(dir string, layers wire.LayerSpan, cfg local.Config) (engine.Stage, error) {
	f, err := os.CreateTemp(dir, "slice-*.gguf")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := gguf.Slice(f, m.file, m.share(layers)); err != nil {
		return nil, err
	}
	return local.OpenStage(context.Background(), f.Name(), cfg)
}

func (m *model) share(layers wire.LayerSpan) gguf.Share {
	s := gguf.Share{Layers: centram.LayerRange{First: int(layers.First), End: int(layers.End)}}
	if s.Layers.End == m.file.Summary.Layers {
		s.Tokens.End = m.tail
	}
	return s
}

// rest is what the first machine has of the output matrix.
func (m *model) rest() gguf.Share {
	return gguf.Share{
		Layers: centram.LayerRange{First: m.file.Summary.Layers - 1, End: m.file.Summary.Layers},
		Tokens: gguf.TokenRange{First: m.tail, End: m.file.Summary.VocabSize},
	}
}

// output loads that.
func (m *model) output(t testing.TB, cfg local.Config) engine.Stage {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "output.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := gguf.Slice(f, m.file, m.rest()); err != nil {
		t.Fatal(err)
	}
	stage, err := local.OpenStage(t.Context(), f.Name(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return stage
}

// opener opens what a plan asks for out of the file.
func (m *model) opener(t testing.TB, cfg local.Config) hyperlink.Opener {
	dir := t.TempDir()
	return func(_ context.Context, a hyperlink.Assignment) (engine.Stage, error) {
		return m.stage(dir, a.Layers, cfg)
	}
}

// chain puts the model together from machines, cut at the layers given.
func (m *model) chain(t testing.TB, nodes []*node, cfg local.Config, cuts ...int) *hyperlink.Chain {
	t.Helper()
	c, err := hyperlink.Open(t.Context(), m.chainConfig(t, nodes, cfg, cuts...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (m *model) chainConfig(t testing.TB, nodes []*node, cfg local.Config, cuts ...int) hyperlink.ChainConfig {
	t.Helper()
	var stages []wire.PlanStage
	first := 0
	for i, end := range append(cuts, m.file.Summary.Layers) {
		stages = append(stages, wire.PlanStage{
			Node: nodes[i].ID(), Layers: wire.LayerSpan{First: uint16(first), End: uint16(end)}, Weights: wire.Hash{1, byte(i)},
		})
		first = end
	}
	text, info, err := local.OpenText(t.Context(), m.path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	table, err := local.OpenTable(m.path)
	if err != nil {
		t.Fatal(err)
	}
	own, err := m.stage(t.TempDir(), stages[0].Layers, cfg)
	if err != nil {
		t.Fatal(err)
	}
	var said reports
	t.Cleanup(func() { said.wantNone(t, " wrong: ") })
	cc := hyperlink.ChainConfig{
		Adapter: func(_ context.Context, a engine.AdapterScale) (hyperlink.Adapter, error) {
			return m.adapter(t, a.Path, stages)
		},
		Node: nodes[0].Node, Host: nodes[0].host, Text: text, Table: table, Own: own, Info: info, Model: wire.Hash{1}, Stages: stages, Log: slog.New(&said),
	}
	if m.tail > 0 {
		cc.Output = m.output(t, cfg)
	}
	if _, measured := t.(*testing.B); !measured {
		cc.AuditEvery = time.Hour // nobody computes along, but commitments have to fit
	}
	return cc
}

func (m *model) solo(t testing.TB, cfg local.Config) *local.Model {
	t.Helper()
	solo, err := local.Open(t.Context(), m.path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { solo.Close() })
	return solo
}

func prompts(n, length int) [][]engine.Token {
	out := make([][]engine.Token, n)
	for i := range out {
		for j := range length + i {
			out[i] = append(out[i], engine.Token((i*31+j*7+11)%250))
		}
	}
	return out
}

// adapter cuts an adapter for the stages.
func (m *model) adapter(t testing.TB, path string, stages []wire.PlanStage) (hyperlink.Adapter, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return hyperlink.Adapter{}, err
	}
	defer f.Close()
	out := hyperlink.Adapter{ID: sha256.Sum256([]byte(path))}
	var shares []gguf.Share
	for _, s := range stages {
		shares = append(shares, m.share(s.Layers))
	}
	if m.tail > 0 {
		shares = append(shares, m.rest())
	}
	for i, share := range shares {
		r, err := gguf.CutAdapter(f, m.file.Summary, share, f.Hash)
		if err != nil {
			return out, err
		}
		if r == nil {
			out.Parts = append(out.Parts, wire.Hash{})
			continue
		}
		part, err := os.Create(filepath.Join(t.TempDir(), "part.gguf"))
		if err != nil {
			return out, err
		}
		defer part.Close()
		sources, err := r.Sources(f)
		if err != nil {
			return out, err
		}
		data := map[[32]byte]gguf.Source{}
		for _, in := range r.Tensors {
			data[in.Hash] = sources[in.Name]
		}
		if err := r.Write(part, func(h [32]byte, _ int64) (io.ReadCloser, error) {
			return io.NopCloser(data[h].File.Data(data[h].Tensor)), nil
		}); err != nil {
			return out, err
		}
		id, err := r.ID()
		if err != nil {
			return out, err
		}
		out.Parts = append(out.Parts, id)
		m.mu.Lock()
		m.parts[id] = part.Name()
		m.mu.Unlock()
		switch i {
		case 0:
			out.Own = part.Name()
		case len(stages):
			out.Output = part.Name()
		}
	}
	out.Parts = out.Parts[:len(stages)]
	return out, nil
}

func (m *model) openAdapter(_ context.Context, _ hyperlink.Assignment, recipe wire.Hash) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if path, ok := m.parts[recipe]; ok {
		return path, nil
	}
	return "", errors.New("no such part")
}

// writeAdapter makes a LoRA adapter of rank 4 of several matrices of every second layer and of the output.
func writeAdapter(t testing.TB, m *gguf.Model, seed int) string {
	t.Helper()
	const rank = 4
	fill := func(n int) func(io.Writer) error {
		return func(w io.Writer) error {
			b := make([]byte, 0, 4*n)
			for i := range n {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32((i*7+seed)%13-6)/40))
			}
			_, err := w.Write(b)
			return err
		}
	}
	var tensors []gguf.TensorData
	for layer := 0; layer < m.Summary.Layers; layer += 2 {
		for _, matrix := range []string{"attn_q", "attn_v", "ffn_down"} {
			name := fmt.Sprintf("blk.%d.%s.weight", layer, matrix)
			base, _ := m.Tensor(name)
			tensors = append(tensors,
				gguf.TensorData{Name: name + ".lora_a", Type: gguf.F32, Dims: []uint64{base.Dims[0], rank}, Write: fill(int(base.Dims[0]) * rank)},
				gguf.TensorData{Name: name + ".lora_b", Type: gguf.F32, Dims: []uint64{rank, base.Dims[1]}, Write: fill(int(base.Dims[1]) * rank)})
		}
	}
	if base, untied := m.Tensor("output.weight"); untied {
		tensors = append(tensors,
			gguf.TensorData{Name: "output.weight.lora_a", Type: gguf.F32, Dims: []uint64{base.Dims[0], rank}, Write: fill(int(base.Dims[0]) * rank)},
			gguf.TensorData{Name: "output.weight.lora_b", Type: gguf.F32, Dims: []uint64{rank, base.Dims[1]}, Write: fill(int(base.Dims[1]) * rank)})
	}
	path := filepath.Join(t.TempDir(), "adapter.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = gguf.Write(f, []gguf.KV{
		{Key: "general.architecture", Value: gguf.Of(m.Summary.Architecture)},
		{Key: "general.type", Value: gguf.Of("adapter")},
		{Key: "adapter.type", Value: gguf.Of("lora")},
		{Key: "adapter.lora.alpha", Value: gguf.Of(float32(rank))},
	}, tensors)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// asLlama writes a qwen2 model as one of the llama architecture, which has no biases and another order of RoPE.
func (m *model) asLlama(t testing.TB) *model {
	t.Helper()
	var metadata []gguf.KV
	for _, kv := range m.file.Parts[0].Metadata {
		if rest, ok := strings.CutPrefix(kv.Key, "qwen2."); ok {
			kv.Key = "llama." + rest
		}
		if kv.Key == "general.architecture" {
			kv.Value = gguf.Of("llama")
		}
		metadata = append(metadata, kv)
	}
	var tensors []gguf.TensorData
	for _, tensor := range m.file.Tensors {
		if !strings.HasSuffix(tensor.Name, ".bias") {
			tensors = append(tensors, gguf.TensorData{Name: tensor.Name, Type: tensor.Type, Dims: tensor.Dims, Write: gguf.Copy(m.file.Data(tensor))})
		}
	}
	out := &model{path: filepath.Join(t.TempDir(), "llama.gguf"), parts: map[wire.Hash]string{}}
	f, err := os.Create(out.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := gguf.Write(f, metadata, tensors); err != nil {
		t.Fatal(err)
	}
	return out.open(t)
}

func (m *model) quantized(t testing.TB, to llama.Quantization) *model {
	t.Helper()
	out := &model{path: filepath.Join(t.TempDir(), "quantized.gguf"), parts: map[wire.Hash]string{}}
	if err := llama.Quantize(m.path, out.path, to, 0); err != nil {
		t.Fatal(err)
	}
	return out.open(t)
}

// TestASplitModelComputesToTheBitWhatOneMachineDoes compares all logits of greedy answers.
func TestASplitModelComputesToTheBitWhatOneMachineDoes(t *testing.T) {
	shape := gguf.Toy()
	shape.Layers, shape.Embedding, shape.FeedForward, shape.KVHeads = 6, 256, 512, 2 // K-quants have blocks of 256
	f32 := generate(t, shape)
	untied := shape
	untied.Tied = false
	even := shape // its vocabulary can be cut
	even.VocabSize = 5 * gguf.TokenStep
	evenUntied := even
	evenUntied.Tied = false
	shared := func(m *model) *model { m.tail = 2 * gguf.TokenStep; return m }
	for _, c := range []struct {
		name  string
		model *model
	}{
		{"qwen2 F32", f32},
		{"qwen2 Q8_0", f32.quantized(t, llama.Q8_0)},
		{"qwen2 Q4_K_M", f32.quantized(t, llama.Q4KM)},
		{"qwen2 untied Q4_K_M", generate(t, untied).quantized(t, llama.Q4KM)},
		{"llama F32", f32.asLlama(t)},
		{"llama Q8_0", f32.asLlama(t).quantized(t, llama.Q8_0)},
		{"llama Q4_K_M", f32.asLlama(t).quantized(t, llama.Q4KM)},
		{"qwen2 F32, output shared", shared(generate(t, even))},
		{"qwen2 Q8_0, output shared", shared(generate(t, even).quantized(t, llama.Q8_0))},
		{"qwen2 Q4_K_M, output shared", shared(generate(t, even).quantized(t, llama.Q4KM))},
		{"qwen2 untied F32, output shared", shared(generate(t, evenUntied))},
		{"qwen2 untied Q4_K_M, output shared", shared(generate(t, evenUntied).quantized(t, llama.Q4KM))},
	} {
		t.Run(c.name, func(t *testing.T) { c.model.compare(t) })
	}
}

// compare holds chains of two, three and five machines against one machine, with one and eight chats, with and without an
// adapter, and again after some of what was read is taken back.
func (m *model) compare(t *testing.T) {
	solo := m.solo(t, runConfig)
	nodes := network(t, 5, m.opener(t, runConfig), m.openAdapter)
	adapter := []engine.AdapterScale{{Path: writeAdapter(t, m.file, 1), Scale: 0.7}, {Path: writeAdapter(t, m.file, 2), Scale: -0.3}}
	var chains []*hyperlink.Chain
	for _, cuts := range [][]int{{3}, {1, 4}, {1, 2, 3, 5}} {
		chains = append(chains, m.chain(t, nodes, runConfig, cuts...))
	}
	plain := ""
	for _, adapters := range [][]engine.AdapterScale{nil, adapter} {
		for _, chats := range []int{1, 8} {
			q := question{prompts: prompts(chats, 6), tokens: 12, adapters: adapters}
			wantTokens, wantLogits := q.greedy(t, solo)
			if adapters == nil && chats == 1 {
				plain = fmt.Sprint(wantTokens)
			} else if chats == 1 && fmt.Sprint(wantTokens) == plain {
				t.Fatal("the adapters change nothing, so they prove nothing")
			}
			for _, c := range chains {
				what := fmt.Sprintf("%d chats over %d machines, %d adapters", chats, len(c.Stages()), len(adapters))
				for _, again := range []string{"", ", again after a rollback"} {
					tokens, logits := q.greedy(t, c)
					if got, want := fmt.Sprint(tokens), fmt.Sprint(wantTokens); got != want {
						t.Errorf("%s%s: got tokens %s, want %s", what, again, got, want)
					}
					if !slices.EqualFunc(logits, wantLogits, slices.Equal) {
						t.Errorf("%s%s: the logits differ", what, again)
					}
				}
				if got, want := q.goBack(t, c), q.goBack(t, solo); !slices.EqualFunc(got, want, slices.Equal) {
					t.Errorf("%s, gone back to the middle: the logits differ", what)
				}
				some := q
				some.top = 40
				tokens, logits := some.greedy(t, c)
				if fmt.Sprint(tokens) != fmt.Sprint(wantTokens) {
					t.Errorf("%s, with the 40 likeliest alone: got tokens %v, want %v", what, tokens, wantTokens)
				}
				for i := range logits {
					if err := areLikeliest(logits[i], wantLogits[i], some.top); err != nil {
						t.Errorf("%s, with the 40 likeliest alone, row %d: %v", what, i, err)
					}
				}
			}
		}
	}
}

// areLikeliest says what is wrong with the logits of the n likeliest tokens, the others being -Inf.
func areLikeliest(got, want []float32, n int) error {
	least, count := float32(math.Inf(1)), 0
	for i, l := range got {
		if math.IsInf(float64(l), -1) {
			continue
		}
		if l != want[i] {
			return fmt.Errorf("token %d has logit %v, want %v", i, l, want[i])
		}
		least, count = min(least, l), count+1
	}
	if count != n {
		return fmt.Errorf("%d tokens, want %d", count, n)
	}
	for i, l := range want {
		if l > least && got[i] != l {
			return fmt.Errorf("token %d with %v is missing, one with %v is there", i, l, least)
		}
	}
	return nil
}

// TestAChainTakesAsManyChoicesOfAdaptersAsComeOneAfterTheOther has more of them come than a plan may have, and early ones again.
func TestAChainTakesAsManyChoicesOfAdaptersAsComeOneAfterTheOther(t *testing.T) {
	m := generate(t, gguf.Toy())
	solo := m.solo(t, runConfig)
	c := m.chain(t, network(t, 3, m.opener(t, runConfig), m.openAdapter), runConfig, 1, 2)
	path := writeAdapter(t, m.file, 1)
	for i := range wire.MaxAdapterSets + 8 {
		for _, scale := range []int{i, i / 4} { // one that is new, and one of before
			q := question{prompts: prompts(2, 4), tokens: 3, adapters: []engine.AdapterScale{{Path: path, Scale: float32(1+scale) / 64}}}
			_, want := q.greedy(t, solo)
			if _, got := q.greedy(t, c); !slices.EqualFunc(got, want, slices.Equal) {
				t.Fatalf("choice %d after %d: the logits differ", scale, i)
			}
		}
	}
}

// question is what greedy asks.
type question struct {
	prompts  [][]engine.Token
	tokens   int
	top      int
	adapters []engine.AdapterScale
}

// greedy reads prompts side by side and answers with the likeliest tokens. It returns the tokens and all logits, -Inf where
// only the likeliest are known.
func (q question) greedy(t testing.TB, r engine.Runner) (tokens [][]engine.Token, logits [][]float32) {
	t.Helper()
	prompts := q.prompts
	tokens = make([][]engine.Token, len(prompts))
	pos := make([]int, len(prompts))
	pending := slices.Clone(prompts)
	for seq := range prompts {
		if err := r.Trim(seq, 0); err != nil {
			t.Fatal(err)
		}
	}
	for range q.tokens {
		b := engine.Batch{Adapters: q.adapters}
		for seq, rest := range pending {
			for i, tok := range rest {
				b.Rows = append(b.Rows, engine.Row{Token: tok, Seq: seq, Pos: pos[seq], Logits: i == len(rest)-1, Top: q.top})
				pos[seq]++
			}
		}
		out, err := r.Step(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		for seq, l := range out.Logits {
			if q.top > 0 && out.Best != nil {
				l = slices.Repeat([]float32{float32(math.Inf(-1))}, r.Info().VocabSize)
				for _, c := range out.Best[seq] {
					l[c.Token] = c.Logit
				}
			}
			best := 0
			for i := range l {
				if l[i] > l[best] {
					best = i
				}
			}
			tokens[seq] = append(tokens[seq], engine.Token(best))
			logits = append(logits, slices.Clone(l))
			pending[seq] = []engine.Token{engine.Token(best)}
		}
	}
	return tokens, logits
}

// goBack answers, takes half of the answers back, goes on with other tokens, and returns the logits after that.
func (q question) goBack(t testing.TB, r engine.Runner) (logits [][]float32) {
	t.Helper()
	q.greedy(t, r)
	for step := range 4 {
		b := engine.Batch{Adapters: q.adapters}
		for seq, prompt := range q.prompts {
			pos := len(prompt) + q.tokens/2
			if step == 0 {
				if err := r.Trim(seq, pos); err != nil {
					t.Fatal(err)
				}
			}
			b.Rows = append(b.Rows, engine.Row{Token: engine.Token(60 + 7*step + seq), Seq: seq, Pos: pos + step, Logits: true})
		}
		out, err := r.Step(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range out.Logits {
			logits = append(logits, slices.Clone(l))
		}
	}
	return logits
}

// greedy answers without adapters.
func greedy(t testing.TB, r engine.Runner, prompts [][]engine.Token, n, top int) (tokens [][]engine.Token, logits [][]float32) {
	t.Helper()
	return question{prompts: prompts, tokens: n, top: top}.greedy(t, r)
}
