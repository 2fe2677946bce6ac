package hyperlink_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/engine/local"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hyperlink"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/wire"
	"go.uber.org/goleak"
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
func network(t testing.TB, n int, open hyperlink.Opener) []*node {
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
		nodes = append(nodes, &node{p, hyperlink.NewHost(hyperlink.HostConfig{Node: p, Open: open, Log: slog.New(slog.DiscardHandler)})})
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
}

func generate(t testing.TB, s gguf.Shape) *model {
	t.Helper()
	m := &model{path: filepath.Join(t.TempDir(), "model.gguf")}
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
	if err := gguf.Slice(f, m.file, centram.LayerRange{First: int(layers.First), End: int(layers.End)}); err != nil {
		return nil, err
	}
	return local.OpenStage(context.Background(), f.Name(), cfg)
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
	c, err := hyperlink.Open(t.Context(), hyperlink.ChainConfig{
		Node: nodes[0].Node, Host: nodes[0].host, Text: text, Table: table, Own: own, Info: info, Model: wire.Hash{1}, Stages: stages, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
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

// greedy reads prompts side by side and answers with the likeliest tokens. It returns the tokens and all logits.
func greedy(t testing.TB, r engine.Runner, prompts [][]engine.Token, n, top int) (tokens [][]engine.Token, logits [][]float32) {
	t.Helper()
	tokens = make([][]engine.Token, len(prompts))
	pos := make([]int, len(prompts))
	pending := slices.Clone(prompts)
	for seq := range prompts {
		if err := r.Trim(seq, 0); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		var b engine.Batch
		for seq, rest := range pending {
			for i, tok := range rest {
				b.Rows = append(b.Rows, engine.Row{Token: tok, Seq: seq, Pos: pos[seq], Logits: i == len(rest)-1, Top: top})
				pos[seq]++
			}
		}
		out, err := r.Step(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		for seq, l := range out.Logits {
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

func prompts(n, length int) [][]engine.Token {
	out := make([][]engine.Token, n)
	for i := range out {
		for j := range length + i {
			out[i] = append(out[i], engine.Token((i*31+j*7+11)%250))
		}
	}
	return out
}

func TestASplitModelComputesToTheBitWhatOneMachineDoes(t *testing.T) {
	shape := gguf.Toy()
	shape.Layers = 6
	m := generate(t, shape)
	solo := m.solo(t, runConfig)
	nodes := network(t, 5, m.opener(t, runConfig))
	for _, chats := range []int{1, 8} {
		wantTokens, wantLogits := greedy(t, solo, prompts(chats, 6), 16, 0)
		for _, cuts := range [][]int{{3}, {1, 4}, {1, 2, 3, 5}} {
			t.Run(fmt.Sprintf("%d chats over %d machines", chats, len(cuts)+1), func(t *testing.T) {
				c := m.chain(t, nodes, runConfig, cuts...)
				began := time.Now()
				tokens, logits := greedy(t, c, prompts(chats, 6), 16, 0)
				t.Log(time.Since(began))
				if got, want := fmt.Sprint(tokens), fmt.Sprint(wantTokens); got != want {
					t.Errorf("got tokens %s, want %s", got, want)
				}
				for i := range wantLogits {
					if !slices.Equal(logits[i], wantLogits[i]) {
						t.Fatalf("logits %d: got %v..., want %v...", i, logits[i][:3], wantLogits[i][:3])
					}
				}
				tokens, _ = greedy(t, c, prompts(chats, 6), 16, 40)
				if got, want := fmt.Sprint(tokens), fmt.Sprint(wantTokens); got != want {
					t.Errorf("with the 40 likeliest alone: got tokens %s, want %s", got, want)
				}
			})
		}
	}
}
