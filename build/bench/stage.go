package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/engine/local"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hyperlink"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/wire"
)

// The two machines of a chain, by the seeds of their keys. The head has the first layers and asks.
const (
	headSeed  = 11
	stageSeed = 12
)

// benchNetwork has no other members, so they trust each other.
const benchNetwork = "bench"

// stageSetup says what a stage hosts. Without a model it computes nothing.
type stageSetup struct {
	Model   string
	Threads int
}

// stageReady is where a stage listens: the node, and bare QUIC that echoes.
type stageReady struct{ Address, Bare string }

func runStage(setup string) error {
	var s stageSetup
	if err := json.Unmarshal([]byte(setup), &s); err != nil {
		return err
	}
	runtime.GOMAXPROCS(s.Threads) // as on a machine that has no more cores; 0 leaves it
	open := func(_ context.Context, a hyperlink.Assignment) (engine.Stage, error) {
		return newIdle(int(a.Head.Width), a.Lanes, a.Context, int(a.Layers.End) == a.Whole), nil
	}
	if s.Model != "" {
		open = func(ctx context.Context, a hyperlink.Assignment) (engine.Stage, error) {
			cfg := local.Config{Context: a.Context, Sequences: a.Lanes, BatchSize: a.BatchSize, Threads: s.Threads, GPULayers: -1}
			return openShare(ctx, s.Model, gguf.Share{
				Layers: centram.LayerRange{First: int(a.Layers.First), End: int(a.Layers.End)},
				Tokens: gguf.TokenRange{End: int(a.Head.TailTokens)},
			}, cfg)
		}
	}
	m, err := startMember(stageSeed, "", open)
	if err != nil {
		return err
	}
	defer m.stop()
	b, err := listenBare(context.Background(), "")
	if err != nil {
		return err
	}
	defer b.close()
	if err := json.NewEncoder(os.Stdout).Encode(stageReady{fmt.Sprint("127.0.0.1:", m.Port()), b.address()}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// member is a node that hosts layers.
type member struct {
	*p2p.Node
	host *hyperlink.Host
	stop func()
}

func seededKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func seededID(seed byte) centram.PeerID {
	return centram.PeerID(seededKey(seed).Public().(ed25519.PublicKey))
}

// startMember runs a node, which dials peer unless that is empty.
func startMember(seed byte, peer string, open hyperlink.Opener) (*member, error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	cfg := p2p.Config{Key: seededKey(seed), Network: benchNetwork, Listen: "127.0.0.1:0", Quiet: true, Policy: p2p.PolicyOpen, Log: log}
	if peer != "" {
		cfg.Peers = []string{peer}
	}
	n, err := p2p.New(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	m := &member{Node: n, host: hyperlink.NewHost(hyperlink.HostConfig{Node: n, Open: open, Log: log})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { _ = n.Run(ctx); close(done) }()
	m.stop = func() { cancel(); <-done }
	return m, nil
}

// chain puts a model of so many layers together: those before cut are here, in cfg.Own, and the others at the stage.
func (m *member) chain(ctx context.Context, cfg hyperlink.ChainConfig, cut int) (*hyperlink.Chain, error) {
	cfg.Node, cfg.Host, cfg.Model, cfg.Log = m.Node, m.host, wire.Hash{1}, slog.New(slog.DiscardHandler)
	cfg.Stages = []wire.PlanStage{
		{Node: m.ID(), Layers: wire.LayerSpan{End: uint16(cut)}, Weights: wire.Hash{1, 1}},
		{Node: seededID(stageSeed), Layers: wire.LayerSpan{First: uint16(cut), End: uint16(cfg.Info.Layers)}, Weights: wire.Hash{1, 2}},
	}
	return hyperlink.Open(ctx, cfg)
}

// openShare cuts a share out of a model's file and loads it.
func openShare(ctx context.Context, model string, share gguf.Share, cfg local.Config) (engine.Stage, error) {
	g, err := gguf.OpenModel(model)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	f, err := os.CreateTemp("", "centram-bench-*.gguf")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name()) // once it is loaded, the memory map holds it
	if err := errors.Join(gguf.Slice(f, g, share), f.Close()); err != nil {
		return nil, err
	}
	return local.OpenStage(ctx, f.Name(), cfg)
}

// idle is a stage that computes nothing: what is left is the boundary.
type idle struct {
	info   engine.StageInfo
	best   []engine.Candidate // all are as likely
	logits [][]float32
	out    [][]engine.Candidate
}

const idleVocab = 256

func newIdle(width, lanes, context int, last bool) *idle {
	i := &idle{
		info: engine.StageInfo{Width: width, Layers: 1, Last: last, VocabSize: idleVocab, Context: context, Sequences: lanes, BatchSize: 2048},
		best: make([]engine.Candidate, idleVocab),
	}
	for t := range i.best {
		i.best[t].Token = engine.Token(t)
	}
	return i
}

func (i *idle) Run(_ context.Context, b engine.StageBatch) (engine.StageOutput, error) {
	if !i.info.Last {
		return engine.StageOutput{Hidden: b.Hidden}, nil
	}
	i.logits, i.out = i.logits[:0], i.out[:0]
	for _, r := range b.Rows {
		if r.Logits {
			i.logits, i.out = append(i.logits, nil), append(i.out, i.best[:r.Top])
		}
	}
	return engine.StageOutput{Logits: i.logits, Best: i.out}, nil
}

func (i *idle) Unembed(context.Context, engine.StageBatch) (engine.StageOutput, error) {
	return engine.StageOutput{}, errors.ErrUnsupported
}
func (i *idle) Trim(seq, pos int) error { return nil }
func (i *idle) Info() engine.StageInfo  { return i.info }
func (i *idle) Close() error            { return nil }
