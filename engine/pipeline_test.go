package engine

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// oraclePipeline is an oracle behind a queue, as a chain of machines is: what is started or trimmed happens in order, later.
type oraclePipeline struct {
	Model
	oracle *oracleModel
	stages int
	far    time.Duration // from the end of a step to the news of it
	queue  chan func()
	done   chan struct{}

	mu           sync.Mutex // guards the following
	flying, most int
	slipped      error // of a trim
}

func (p *oraclePipeline) slip() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.slipped
}

func newPipeline(m *oracleModel, stages int) *oraclePipeline {
	p := &oraclePipeline{Model: m, oracle: m, stages: stages, queue: make(chan func(), 1024), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		for f := range p.queue {
			f()
		}
	}()
	return p
}

func (p *oraclePipeline) Depth() (groups, steps int) { return p.stages, 2 * p.stages }

func (p *oraclePipeline) Start(_ context.Context, b Batch) (<-chan StepResult, error) {
	p.mu.Lock()
	p.flying++
	p.most = max(p.most, p.flying)
	p.mu.Unlock()
	b.Rows = append([]Row(nil), b.Rows...)
	result := make(chan StepResult, 1)
	p.queue <- func() {
		out, err := p.oracle.Step(context.Background(), b)
		p.mu.Lock()
		p.flying--
		p.mu.Unlock()
		if p.far > 0 {
			time.AfterFunc(p.far, func() { result <- StepResult{out, err} })
			return
		}
		result <- StepResult{out, err}
	}
	return result, nil
}

// overlapping is a pipeline that may have guesses behind guesses. It spoils logits as soon as it may.
type overlapping struct {
	*oraclePipeline
	given map[int][][][]float32 // the logits of the steps of each sequence
}

func overlap(p *oraclePipeline) *overlapping { return &overlapping{p, map[int][][][]float32{}} }

func (p *overlapping) Overlap() int { return 3 }

func (p *overlapping) Start(ctx context.Context, b Batch) (<-chan StepResult, error) {
	inner, err := p.oraclePipeline.Start(ctx, b)
	var owners []int
	for _, r := range b.Rows {
		if r.Logits {
			owners = append(owners, r.Seq)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	step := map[int]int{}
	for _, seq := range slices.Compact(slices.Clone(owners)) {
		step[seq] = len(p.given[seq])
		p.given[seq] = append(p.given[seq], nil)
		if old := step[seq] - p.Overlap(); old >= 0 {
			for _, logits := range p.given[seq][old] {
				clear(logits)
			}
		}
	}
	result := make(chan StepResult, 1)
	go func() {
		r := <-inner
		p.mu.Lock()
		for i, logits := range r.Logits {
			steps := p.given[owners[i]]
			steps[step[owners[i]]] = append(steps[step[owners[i]]], logits)
		}
		p.mu.Unlock()
		result <- r
	}()
	return result, err
}

func (p *oraclePipeline) Trim(seq, pos int) error {
	p.queue <- func() {
		if err := p.oracle.Trim(seq, pos); err != nil {
			p.mu.Lock()
			p.slipped = err
			p.mu.Unlock()
		}
	}
	return nil
}

func (p *oraclePipeline) Close() error {
	close(p.queue)
	<-p.done
	return p.Model.Close()
}

func TestAPipelineHasWorkForEveryMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newOracle(8, 200)
		m.delay = time.Millisecond
		p := newPipeline(m, 2)
		e := New(Config{KeepAlive: -1, Open: func(context.Context, string, func(float64)) (Model, error) { return p, nil }})
		defer e.Close()
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				prompt := strings.Repeat(string(rune('p'+i)), 5)
				var got strings.Builder
				_, err := e.Generate(t.Context(), ask(prompt, 40), func(ev Event) error {
					got.WriteString(ev.Text)
					return nil
				})
				if want := oracle(prompt, nil, 40, 200); err != nil || got.String() != want {
					t.Errorf("%q: got %q, %v, want %q", prompt, got.String(), err, want)
				}
			})
		}
		wg.Wait()
		if p.most < 2 || p.most > 4 {
			t.Errorf("at most %d steps were under way, want 2 to 4", p.most)
		}
		if rows := float64(m.rows) / float64(m.steps); rows > 4.5 {
			t.Errorf("a step had %.1f rows, so the eight answers were not split in groups", rows)
		}
	})
}

// Prompts that would all fit in one step are read in pieces, so that no machine waits for the whole of it.
func TestShortPromptsAreReadByAllMachinesAtOnce(t *testing.T) {
	for name, prompts := range map[string]int{"one": 1, "eight": 8} {
		synctest.Test(t, func(t *testing.T) {
			read := func(machines int) time.Duration {
				m := newOracle(8, 1000)
				m.info.BatchSize = 512
				e := guessing(t, newMachines(m, machines, rows(time.Millisecond), 0), 0, nobody{})
				defer e.Close()
				began := time.Now()
				var wg sync.WaitGroup
				for i := range prompts {
					wg.Go(func() {
						text := strings.Repeat(string(rune('a'+i)), 240/prompts)
						if got, _, err := hear(t.Context(), e, ask(text, 1), nil); err != nil || got.text != oracle(text, nil, 1, 1000) {
							t.Errorf("%q: got %q, %v", text, got.text, err)
						}
					})
				}
				wg.Wait()
				return time.Since(began)
			}
			one, two := read(1), read(2)
			t.Logf("%s: %v, on two machines %v", name, one, two)
			if 10*two > 8*one {
				t.Errorf("%s: two machines read it in %v, one in %v, want four fifths", name, two, one)
			}
		})
	}
}
