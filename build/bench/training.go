package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama"
)

// trainingSteps are taken in a run of either side. The first warms up; ours saves with the last, so that does not count either.
const trainingSteps = 4

// The most memory that a training may take, in MB: pairs of rank 8 for all seven matrices, blocks of 512 rows.
const (
	mostTraining05B = 1000
	mostTraining3B  = 3200
)

// training measures how fast pairs are trained beside PyTorch, and how much memory that takes.
func (c config) training(model string) ([]*figure, error) {
	plain := &figure{Name: "training beside PyTorch " + modelName(model), Reference: "as installed", Floor: 1.5}
	tuned := &figure{Name: "training beside PyTorch " + modelName(model), Reference: "tuned by hand", Floor: 1.5}
	small := &figure{Name: "peak memory of training 0.5b, MB", Reference: "nothing", Most: mostTraining05B}
	large := &figure{Name: "peak memory of training 3b, MB", Reference: "nothing", Most: mostTraining3B}
	var all []*figure
	for _, f := range []*figure{plain, tuned} {
		var how []string
		if f == plain {
			how = []string{"plain"}
		}
		if !c.wants(f) {
			continue
		}
		python := withTorch()
		if python == "" {
			fmt.Printf("%-32s skipped: no Python here has torch (Debian: apt-get install python3-torch libopenblas0-pthread)\n", f.Name)
			continue
		}
		if err := c.besidePyTorch(f, model, python, how...); err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	for _, m := range []struct {
		*figure
		open func() (string, error)
	}{{small, func() (string, error) { return model, nil }}, {large, c.threeB}} {
		if !c.wants(m.figure) {
			continue
		}
		path, err := m.open()
		if err != nil {
			return nil, err
		}
		run, err := c.train(path, 2)
		if err != nil {
			return nil, err
		}
		m.pairs = []pair{{ours: float64(run.peak) / 1e6}}
		m.print()
		all = append(all, m.figure)
	}
	return all, nil
}

func (c config) besidePyTorch(f *figure, model, python string, how ...string) error {
	for i := range c.runs {
		var ours trainingRun
		var theirs float64
		err := inTurn(i,
			func() (err error) { ours, err = c.train(model, trainingSteps); return err },
			func() (err error) { theirs, err = c.trainWithTorch(python, how...); return err })
		if err != nil {
			return err
		}
		f.pairs = append(f.pairs, pair{ours.speed, theirs})
	}
	f.print()
	return nil
}

// trainingRun is what came of one run of centram train.
type trainingRun struct {
	speed float64 // tokens per second, in the median step
	peak  uint64  // bytes
}

const trainingRows = 512

func (c config) train(model string, steps int) (trainingRun, error) {
	dir, err := os.MkdirTemp("", "centram-bench-*")
	if err != nil {
		return trainingRun{}, err
	}
	defer os.RemoveAll(dir)
	data := filepath.Join(dir, "data.jsonl")
	if err := os.WriteFile(data, digits(), 0o600); err != nil {
		return trainingRun{}, err
	}
	var stderr strings.Builder
	cmd := exec.Command(c.centram, "train", "--model", model, "--data", data, "--out", filepath.Join(dir, "adapter.gguf"), "--rank", "8",
		"--target", "all", "--ctx", fmt.Sprint(trainingRows), "--steps", fmt.Sprint(steps), "--threads", fmt.Sprint(c.threads), "--json")
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return trainingRun{}, err
	}
	if err := cmd.Start(); err != nil {
		return trainingRun{}, err
	}
	var last struct {
		Stage string `json:"stage"`
		Peak  uint64 `json:"peak_rss_bytes"`
	}
	var ends []time.Time // of the steps
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
			return trainingRun{}, fmt.Errorf("read what centram train printed: %w", err)
		}
		if last.Stage == "train" {
			ends = append(ends, time.Now())
		}
	}
	if err := cmd.Wait(); err != nil {
		return trainingRun{}, fmt.Errorf("centram train: %w\n%s", err, stderr.String())
	}
	if len(ends) != steps || last.Peak == 0 {
		return trainingRun{}, fmt.Errorf("centram train said that it took %d steps and %d bytes, want %d steps", len(ends), last.Peak, steps)
	}
	r := trainingRun{peak: last.Peak}
	var speeds []float64
	for i := 1; i < steps-1; i++ {
		speeds = append(speeds, trainingRows/ends[i].Sub(ends[i-1]).Seconds())
	}
	if len(speeds) > 0 {
		r.speed = spreadOf(speeds).Median
	}
	return r, nil
}

// digits are texts of random digits, each of which is a token. Every block is full, and little is held out, since that is looked at
// twice.
func digits() []byte {
	random := rand.New(rand.NewPCG(1, 1))
	var b strings.Builder
	for range 12 {
		b.WriteString(`{"text":"`)
		for range trainingRows {
			b.WriteByte(byte('0' + random.IntN(10)))
		}
		b.WriteString("\"}\n")
	}
	return []byte(b.String())
}

// withTorch is a Python that has PyTorch, or none. Debian's package is seen by Debian's Python alone.
func withTorch() string {
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(python, "-c", "import torch").Run() == nil {
			return python
		}
	}
	return ""
}

func (c config) trainWithTorch(python string, how ...string) (float64, error) {
	var out struct {
		Speeds []float64 `json:"tokens_per_second"`
	}
	args := append([]string{filepath.Join("build", "bench", "train_torch.py"), fmt.Sprint(c.threads), fmt.Sprint(trainingSteps)}, how...)
	err := runJSON(&out, python, args...)
	if err != nil {
		return 0, err
	}
	if len(out.Speeds) != trainingSteps {
		return 0, fmt.Errorf("PyTorch took %d steps, want %d", len(out.Speeds), trainingSteps)
	}
	return spreadOf(out.Speeds[1:]).Median, nil
}

// threeB makes the shape of Qwen 2.5 3B.
func (c config) threeB() (string, error) {
	return c.makeFile("qwen2-3b-shape-q4_k_m", llama.Q4KM, func(s *gguf.Shape) {
		s.Name, s.Layers, s.Embedding, s.Heads, s.KVHeads, s.FeedForward = "Random 3B", 36, 2048, 16, 2, 11008
	})
}
