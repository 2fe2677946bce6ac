// Command bench measures Centram beside the pinned llama.cpp's own llama-bench and llama-server, on models of the Qwen
// 2.5 0.5B shape with random weights that it makes itself. The two sides of every figure run in turn, A B B A, on the
// same machine, file and threads, and what counts is the median of the ratios pair by pair. `make bench` runs it.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama"
)

// config is where things are and how much is measured.
type config struct {
	centram, tools, rpcTools string
	vocab, cache             string
	threads, runs, repeat    int
	prompt, gen              int
	only                     string
}

// pair is one run of both sides.
type pair struct{ ours, theirs float64 }

// figure is what a row of the table is made of.
type figure struct {
	Name      string  `json:"name"`
	Reference string  `json:"reference"`
	Floor     float64 `json:"floor"`          // least ratio. Zero means none is promised
	Most      float64 `json:"most,omitempty"` // then not the ratio counts but the difference, which is to be no more
	pairs     []pair
	Ours      spread `json:"ours"`
	Theirs    spread `json:"theirs"`
	Ratio     spread `json:"ratio"` // or difference
}

type spread struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
}

func main() {
	if did, err := work(os.Args); did {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var c config
	flag.StringVar(&c.centram, "centram", "bin/centram", "the program to measure")
	flag.StringVar(&c.tools, "tools", "build/native/bin", "folder of llama-bench and llama-server")
	flag.StringVar(&c.rpcTools, "rpc-tools", "build/native-rpc/bin", "folder of ggml-rpc-server and a llama-bench that can use it")
	flag.StringVar(&c.vocab, "vocab", "build/native/src/models/ggml-vocab-qwen2.gguf", "vocabulary for the models")
	flag.StringVar(&c.cache, "cache", "", "folder to keep the models in")
	flag.IntVar(&c.threads, "threads", runtime.NumCPU(), "threads")
	flag.IntVar(&c.runs, "runs", 5, "counted runs of each side; one more comes first and is not counted")
	flag.IntVar(&c.repeat, "repeat", 5, "repetitions within a run of one side, of which the median counts")
	flag.IntVar(&c.prompt, "prompt", 256, "prompt tokens")
	flag.IntVar(&c.gen, "gen", 48, "generated tokens")
	flag.StringVar(&c.only, "only", "", "measure only figures whose name contains this")
	out := flag.String("json", "", "also write the figures to this file")
	flag.Parse()
	if err := c.prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if err := run(c, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(c config, out string) error {
	var models []string
	for _, q := range []struct {
		name string
		to   llama.Quantization
	}{{"q4_k_m", llama.Q4KM}, {"q8_0", llama.Q8_0}} {
		m, err := c.make(q.name, q.to, nil)
		if err != nil {
			return fmt.Errorf("make the model %s: %w", q.name, err)
		}
		models = append(models, m)
	}
	fmt.Printf("machine: %s\n", machine())
	fmt.Printf("%d threads, prompt %d, generated %d, median of %d alternating runs (min..max)\n\n", c.threads, c.prompt, c.gen, c.runs)
	fmt.Printf("%-32s %-14s %24s %24s %22s %6s\n", "figure (tokens/s)", "reference", "centram", "reference", "ratio", "floor")
	var figures []*figure
	for _, m := range models {
		figs, err := c.single(m)
		if err != nil {
			return err
		}
		figures = append(figures, figs...)
	}
	for _, measure := range []func() ([]*figure, error){
		func() ([]*figure, error) { return c.chats(models[0]) },
		c.downloads,
		func() ([]*figure, error) { return c.layers(models) },
		c.peers,
		c.boundaries,
		func() ([]*figure, error) { return c.hyperlink(models) },
		func() ([]*figure, error) { return c.rpc(models[0]) },
		func() ([]*figure, error) { return c.training(models[1]) },
	} {
		figs, err := measure()
		if err != nil {
			return err
		}
		figures = append(figures, figs...)
	}
	if out == "" {
		return nil
	}
	b, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(b, '\n'), 0o644)
}

const shapePrefix = "qwen2-0.5b-shape-"

// modelName is what the figures call a model's file.
func modelName(path string) string {
	return strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), shapePrefix), ".gguf")
}

// prepare makes the folder for the models.
func (c *config) prepare() error {
	if c.cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		c.cache = filepath.Join(dir, "centram", "bench")
	}
	return os.MkdirAll(c.cache, 0o755)
}

// make makes a model of the 0.5B shape, or of what change makes of that, once: an F16 file, and from that the quantised one,
// by llama.cpp's quantizer.
func (c config) make(name string, to llama.Quantization, change func(*gguf.Shape)) (string, error) {
	return c.makeFile(shapePrefix+name, to, change)
}

func (c config) makeFile(name string, to llama.Quantization, change func(*gguf.Shape)) (string, error) {
	path := filepath.Join(c.cache, name+".gguf")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	fmt.Fprintf(os.Stderr, "making %s\n", path)
	f16 := path + ".f16"
	defer os.Remove(f16)
	if err := c.generate(f16, change); err != nil {
		return "", err
	}
	if err := llama.Quantize(f16, path+".tmp", to, 0); err != nil {
		return "", err
	}
	return path, os.Rename(path+".tmp", path)
}

func (c config) generate(path string, change func(*gguf.Shape)) error {
	vocab, err := gguf.Open(c.vocab)
	if err != nil {
		return err
	}
	defer vocab.Close()
	shape := gguf.Qwen05B()
	if shape.Vocab, err = gguf.VocabFrom(vocab); err != nil {
		return err
	}
	if change != nil {
		change(&shape)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(gguf.Generate(f, shape, 1), f.Close())
}

// guesser makes a model and one that guesses what it says: its first two layers. It is right with two tokens of three, and
// costs a third, since the output matrix is as large.
func (c config) guesser() (model, draft string, err error) {
	const settled = 2
	if model, err = c.make("settled-q4_k_m", llama.Q4KM, func(s *gguf.Shape) { s.Settled = settled }); err != nil {
		return "", "", err
	}
	draft, err = c.make("draft-q4_k_m", llama.Q4KM, func(s *gguf.Shape) { s.Settled, s.Layers = settled, settled })
	return model, draft, err
}

// single compares prefill and decode of one sequence with llama-bench.
func (c config) single(model string) ([]*figure, error) {
	name := modelName(model)
	prefill := &figure{Name: "prefill " + name, Reference: "llama-bench", Floor: 0.98}
	decode := &figure{Name: "decode " + name, Reference: "llama-bench", Floor: 0.98}
	if !c.wants(prefill) && !c.wants(decode) {
		return nil, nil
	}
	for i := range c.runs + 1 {
		var ours, theirs speeds
		err := inTurn(i,
			func() (err error) { ours, err = c.ourSpeeds(model); return err },
			func() (err error) { theirs, err = c.theirSpeeds(model); return err })
		if err != nil {
			return nil, err
		}
		if i == 0 {
			continue // the first pair warms the page cache and the clock
		}
		prefill.pairs = append(prefill.pairs, pair{ours.prefill, theirs.prefill})
		decode.pairs = append(decode.pairs, pair{ours.decode, theirs.decode})
	}
	prefill.print()
	decode.print()
	return []*figure{prefill, decode}, nil
}

// inTurn runs a pair's sides one after the other, the other way round every second time: a machine that slows down while
// it is measured then favours neither.
func inTurn(i int, ours, theirs func() error) error {
	if i%2 == 1 {
		ours, theirs = theirs, ours
	}
	if err := ours(); err != nil {
		return err
	}
	return theirs()
}

// speeds are tokens per second, each the median of the repetitions in one process.
type speeds struct{ prefill, decode float64 }

func (c config) ourSpeeds(model string) (speeds, error) {
	var out struct {
		Prefill spread `json:"prefill"`
		Decode  spread `json:"decode"`
	}
	err := runJSON(&out, c.centram, "bench", "--model", model, "--prompt", fmt.Sprint(c.prompt), "--gen", fmt.Sprint(c.gen),
		"--threads", fmt.Sprint(c.threads), "--repeat", fmt.Sprint(c.repeat), "--json")
	return speeds{out.Prefill.Median, out.Decode.Median}, err
}

func (c config) theirSpeeds(model string) (speeds, error) {
	var out []struct {
		Prompt  int       `json:"n_prompt"`
		Samples []float64 `json:"samples_ts"`
	}
	err := runJSON(&out, filepath.Join(c.tools, "llama-bench"), "-m", model, "-p", fmt.Sprint(c.prompt), "-n", fmt.Sprint(c.gen),
		"-t", fmt.Sprint(c.threads), "-r", fmt.Sprint(c.repeat), "-o", "json")
	if err != nil {
		return speeds{}, err
	}
	if len(out) != 2 || out[0].Prompt != c.prompt || len(out[0].Samples) != c.repeat || len(out[1].Samples) != c.repeat {
		return speeds{}, fmt.Errorf("llama-bench printed %d results, want a prompt's and a generation's with %d samples each", len(out), c.repeat)
	}
	return speeds{spreadOf(out[0].Samples).Median, spreadOf(out[1].Samples).Median}, nil
}

func runJSON(into any, program string, args ...string) error {
	var stderr strings.Builder
	cmd := exec.Command(program, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, stderr.String())
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("read what %s printed: %w", program, err)
	}
	return nil
}

func (c config) wants(f *figure) bool { return strings.Contains(f.Name, c.only) }

func (f *figure) print() {
	var ours, theirs, ratio []float64
	for _, p := range f.pairs {
		r := p.ours / p.theirs
		if f.Most > 0 {
			r = p.ours - p.theirs
		}
		ours, theirs, ratio = append(ours, p.ours), append(theirs, p.theirs), append(ratio, r)
	}
	f.Ours, f.Theirs, f.Ratio = spreadOf(ours), spreadOf(theirs), spreadOf(ratio)
	ratios, bound := f.Ratio.text(3), fmt.Sprintf("%.2f", f.Floor)
	if f.Most > 0 {
		ratios, bound = f.Ratio.text(0), fmt.Sprintf("≤%.0f", f.Most)
	}
	fmt.Printf("%-32s %-14s %24s %24s %22s %6s\n", f.Name, f.Reference, f.Ours.text(1), f.Theirs.text(1), ratios, bound)
}

func spreadOf(v []float64) spread {
	slices.Sort(v)
	mid := v[len(v)/2]
	if len(v)%2 == 0 {
		mid = (v[len(v)/2-1] + v[len(v)/2]) / 2
	}
	return spread{v[0], mid, v[len(v)-1]}
}

func (s spread) text(digits int) string {
	return fmt.Sprintf("%.*f (%.*f..%.*f)", digits, s.Median, digits, s.Min, digits, s.Max)
}

// machine names the processor and the commit.
func machine() string {
	cpu := runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				cpu = strings.Trim(name, " \t:\n")
				break
			}
		}
	}
	commit, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		commit = []byte("unknown")
	}
	return fmt.Sprintf("%s, %d processors, %s, commit %s", cpu, runtime.NumCPU(), runtime.GOOS, strings.TrimSpace(string(commit)))
}
