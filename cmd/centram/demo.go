package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/engine/local"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hyperlink"
	"github.com/centram/centram/hyperlink/weights"
	"github.com/centram/centram/models/toy"
	"github.com/centram/centram/p2p/wire"
	"github.com/spf13/cobra"
)

// demo runs one model in this process, and then over several processes, and compares what comes out to the bit.
type demo struct {
	app     *app
	model   string // a file
	stages  int
	tokens  int
	threads int
	port    int
	dir     string
	network string
	ask     []engine.Token
}

// demoReport is what --json prints.
type demoReport struct {
	Model      string   `json:"model"`
	Stages     []string `json:"stages"` // which layers are where
	Threads    int      `json:"threads_per_stage"`
	Tokens     int      `json:"tokens"`
	SingleMs   float64  `json:"single_ms_per_token"`
	SplitMs    float64  `json:"split_ms_per_token"`
	Ratio      float64  `json:"split_speed_of_single"`
	Match      bool     `json:"tokens_match"`
	BitExact   bool     `json:"logits_bit_exact"`
	Verdict    string   `json:"verdict"`
	single     demoRun
	split      demoRun
	difference string
}

// demoRun is what came out of a model.
type demoRun struct {
	tokens []engine.Token
	logits [][]float32
	each   time.Duration // a token took
}

const demoContext = 2048

func (a *app) demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "demo", Short: "Split a model over processes and compare it with one", Args: cobra.NoArgs,
		Long: "Run a model in one process, then with its layers split over several processes that talk over QUIC as machines do,\n" +
			"and compare every token and every logit. The processes use the ports 9801, 9802 and so on. It exits with 1 if\n" +
			"anything differs.",
	}
	flags := cmd.Flags()
	model := flags.StringP("model", "m", "", "`name` or file of the model (the toy that comes with Centram)")
	stages := flags.Int("stages", 2, "`number` of processes")
	tokens := flags.IntP("tokens", "n", 64, "`number` of tokens to write")
	threads := flags.Int("threads", 1, "`number` of threads of each process")
	port := flags.Int("port", 9801, "first `port`")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *stages < 2 || *tokens < 2 || *tokens > demoContext/2 {
			return usageError{fmt.Errorf("there are at least 2 stages, and 2 to %d tokens", demoContext/2), "See: centram hyperlink demo --help"}
		}
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		d := &demo{app: a, stages: *stages, tokens: *tokens, threads: *threads, port: *port, network: "demo-" + rand.Text()}
		report, err := d.run(ctx, *model)
		if err != nil {
			return err
		}
		if *asJSON {
			err = a.printJSON(report)
		} else {
			err = report.print(a.out)
		}
		if err == nil && report.Verdict != "PASS" {
			err = centram.Errorf(centram.Internal, "the split model does not compute what the single one does: %s", report.difference)
		}
		return err
	}
	return cmd
}

func (d *demo) run(ctx context.Context, model string) (_ *demoReport, err error) {
	if d.dir, err = os.MkdirTemp("", "centram-demo"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(d.dir)
	// Each process is a machine with so many cores, the single one as well. More processors for Go only have goroutines
	// wake threads that find nothing to do.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(d.threads))
	name, err := d.find(ctx, model)
	if err != nil {
		return nil, err
	}
	r := &demoReport{Model: name, Threads: d.threads, Tokens: d.tokens}
	if r.single, err = d.single(ctx); err != nil {
		return nil, err
	}
	if r.split, err = d.split(ctx, r); err != nil {
		return nil, err
	}
	r.compare()
	return r, nil
}

// find finds the model.
func (d *demo) find(ctx context.Context, model string) (name string, err error) {
	if model != "" {
		name, d.model, err = d.app.modelFile(ctx, model)
		return name, err
	}
	d.model = filepath.Join(d.dir, "toy.gguf")
	return "toy (comes with Centram)", os.WriteFile(d.model, toy.GGUF, 0o600)
}

func (d *demo) config() local.Config {
	return local.Config{Context: demoContext, Sequences: 1, Threads: d.threads, GPULayers: -1}
}

func (d *demo) single(ctx context.Context) (demoRun, error) {
	d.app.hint("One process: the whole model.")
	m, err := local.Open(ctx, d.model, d.config())
	if err != nil {
		return demoRun{}, err
	}
	defer m.Close()
	if d.ask, err = m.Tokenize("Once upon a time, there was a little girl named Lily. She loved to play", true, false); err != nil {
		return demoRun{}, err
	}
	return d.measure(ctx, m)
}

// measure answers greedily: once to warm up, and once by the clock.
func (d *demo) measure(ctx context.Context, r engine.Runner) (run demoRun, err error) {
	for range 2 {
		if err := r.Trim(0, 0); err != nil {
			return run, err
		}
		run = demoRun{}
		pending, pos := d.ask, 0
		var began time.Time
		for len(run.tokens) < d.tokens {
			if len(run.tokens) == 1 {
				began = time.Now() // the prompt is another matter
			}
			var b engine.Batch
			for i, t := range pending {
				b.Rows = append(b.Rows, engine.Row{Token: t, Pos: pos + i, Logits: i == len(pending)-1})
			}
			out, err := r.Step(ctx, b)
			if err != nil {
				return run, err
			}
			pos += len(pending)
			best := engine.Token(slices.Index(out.Logits[0], slices.Max(out.Logits[0])))
			run.tokens, run.logits = append(run.tokens, best), append(run.logits, slices.Clone(out.Logits[0]))
			pending = []engine.Token{best}
		}
		run.each = time.Since(began) / time.Duration(d.tokens-1)
	}
	return run, nil
}

func (d *demo) split(ctx context.Context, r *demoReport) (_ demoRun, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	head, err := startShard(ctx, shardConfig{Port: d.port, Network: d.network, Dir: filepath.Join(d.dir, "0"), Run: d.config(), Log: log})
	if err != nil {
		return demoRun{}, centram.Errorf(centram.CodeOf(err), "the first process: %w", err).WithHint("Choose another port with --port.")
	}
	defer func() { err = errors.Join(err, head.stop()) }()
	published, err := head.layers.Publish(ctx, d.model, nil)
	if err != nil {
		return demoRun{}, err
	}
	if published.Summary.Layers < d.stages {
		return demoRun{}, centram.Errorf(centram.Invalid, "the model has %d layers, which is too few for %d stages", published.Summary.Layers, d.stages)
	}
	stages, err := d.cut(ctx, published)
	if err != nil {
		return demoRun{}, err
	}
	stages[0].Node = head.ID()
	children, err := d.start(ctx, stages)
	defer func() {
		for _, c := range children {
			c.end()
		}
	}()
	if err != nil {
		return demoRun{}, err
	}
	for i, s := range stages {
		r.Stages = append(r.Stages, fmt.Sprintf("127.0.0.1:%d layers %d-%d", d.port+i, s.Layers.First, s.Layers.End-1))
	}
	chain, err := d.chain(ctx, head, published, stages)
	if err != nil {
		return demoRun{}, err
	}
	defer chain.Close()
	d.app.hint("%d processes: %s.", d.stages, strings.Join(r.Stages, ", "))
	return d.measure(ctx, chain)
}

// cut gives each stage the same number of layers, as near as can be.
func (d *demo) cut(ctx context.Context, p *weights.Published) ([]wire.PlanStage, error) {
	stages := make([]wire.PlanStage, d.stages)
	n := p.Summary.Layers
	for i := range stages {
		r := centram.LayerRange{First: i * n / d.stages, End: (i + 1) * n / d.stages}
		share := gguf.Share{Layers: r}
		if i == d.stages-1 {
			share.Tokens.End = d.tail(p.Summary)
		}
		recipe, err := p.Recipe(ctx, share)
		if err != nil {
			return nil, err
		}
		stages[i].Layers, stages[i].Weights = wire.LayerSpan{First: uint16(r.First), End: uint16(r.End)}, recipe
	}
	return stages, nil
}

// tail is of how many tokens the last process gives logits, when the first gives those of the others: half of them, if the
// vocabulary can be cut and there is enough to do. 0: of all.
func (d *demo) tail(m gguf.Summary) int {
	if d.stages < 2 || m.VocabSize%gguf.TokenStep != 0 || m.VocabSize*m.Embedding < worthSharing {
		return 0
	}
	return m.VocabSize / gguf.TokenStep / 2 * gguf.TokenStep
}

const worthSharing = 10_000_000 // numbers of an output matrix

// child is another process.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

// end has the process end, as it does when nobody holds its standard input.
func (c *child) end() {
	c.stdin.Close()
	_ = c.cmd.Wait()
}

// start starts the processes after the first, and notes who they are.
func (d *demo) start(ctx context.Context, stages []wire.PlanStage) (children []*child, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	peers := []string{fmt.Sprint("127.0.0.1:", d.port)}
	for i := 1; i < len(stages); i++ {
		cmd := exec.CommandContext(ctx, self, "hyperlink", "shard", "--port", fmt.Sprint(d.port+i), "--peers", strings.Join(peers, " "),
			"--dir", filepath.Join(d.dir, fmt.Sprint(i)), "--threads", fmt.Sprint(d.threads))
		cmd.Env = append(os.Environ(), networkVariable+"="+d.network, "CENTRAM_LOG_LEVEL=error")
		var complaint strings.Builder
		cmd.Stderr = &complaint
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return children, err
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			return children, err
		}
		if err := cmd.Start(); err != nil {
			return children, err
		}
		children = append(children, &child{cmd, stdin})
		line, err := bufio.NewReader(stdout).ReadString('\n')
		if err != nil {
			stdin.Close()
			return children, centram.Errorf(centram.Unavailable, "process %d did not start: %s", i+1, cmp.Or(strings.TrimSpace(complaint.String()), err.Error())).
				WithHint("Choose other ports with --port.")
		}
		if stages[i].Node, err = centram.ParsePeerID(strings.TrimSpace(line)); err != nil {
			return children, err
		}
		peers = append(peers, fmt.Sprint("127.0.0.1:", d.port+i))
	}
	return children, nil
}

func (d *demo) chain(ctx context.Context, head *shard, p *weights.Published, stages []wire.PlanStage) (*hyperlink.Chain, error) {
	text, info, err := local.OpenText(ctx, d.model, d.config())
	if err != nil {
		return nil, err
	}
	table, err := local.OpenTable(d.model)
	if err != nil {
		return nil, errors.Join(err, text.Close())
	}
	path, err := head.layers.Slice(ctx, stages[0].Weights, nil)
	if err != nil {
		return nil, errors.Join(err, text.Close(), table.Close())
	}
	own, err := local.OpenStage(ctx, path, d.config())
	if err != nil {
		return nil, errors.Join(err, text.Close(), table.Close())
	}
	cfg := hyperlink.ChainConfig{
		Node: head.Node, Host: head.host, Text: text, Table: table, Own: own, Info: info, Model: p.ID, Stages: stages,
		Log: slog.New(slog.DiscardHandler),
	}
	if cut := d.tail(p.Summary); cut > 0 {
		if cfg.Output, err = d.output(ctx, head, p, cut); err != nil {
			return nil, errors.Join(err, own.Close(), text.Close(), table.Close())
		}
	}
	return hyperlink.Open(ctx, cfg)
}

// output loads the first process's part of the output matrix: the tokens from cut on.
func (d *demo) output(ctx context.Context, head *shard, p *weights.Published, cut int) (engine.Stage, error) {
	n := p.Summary.Layers
	recipe, err := p.Recipe(ctx, gguf.Share{
		Layers: centram.LayerRange{First: n - 1, End: n}, Tokens: gguf.TokenRange{First: cut, End: p.Summary.VocabSize},
	})
	if err != nil {
		return nil, err
	}
	path, err := head.layers.Slice(ctx, recipe, nil)
	if err != nil {
		return nil, err
	}
	return local.OpenStage(ctx, path, d.config())
}

// compare fills in the verdict.
func (r *demoReport) compare() {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	r.SingleMs, r.SplitMs = ms(r.single.each), ms(r.split.each)
	r.Ratio = r.SingleMs / r.SplitMs
	r.Match = slices.Equal(r.single.tokens, r.split.tokens)
	r.BitExact = slices.EqualFunc(r.single.logits, r.split.logits, slices.Equal)
	r.Verdict = "PASS"
	switch {
	case !r.Match:
		r.difference = "other tokens"
	case !r.BitExact:
		r.difference = "other logits"
	}
	if r.difference != "" {
		r.Verdict = "FAIL"
	}
}

func (r *demoReport) print(w io.Writer) error {
	match := fmt.Sprint(r.Match)
	if r.BitExact {
		match += " (bit-exact)"
	}
	_, err := fmt.Fprintf(w, "model:  %s\nsingle: %.3f ms/token\nsplit:  %.3f ms/token over %d processes (%.2f of single)\nsingle tokens: %v\nsplit tokens:  %v\nmatch: %s\nVERDICT: %s\n",
		r.Model, r.SingleMs, r.SplitMs, len(r.Stages), r.Ratio, r.single.tokens, r.split.tokens, match, r.Verdict)
	return err
}
