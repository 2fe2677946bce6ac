package engine

import (
	"context"
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
	queue  chan func()
	done   chan struct{}

	mu           sync.Mutex // guards the following
	flying, most int
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
		result <- StepResult{out, err}
	}
	return result, nil
}

func (p *oraclePipeline) Trim(seq, pos int) error {
	p.queue <- func() { _ = p.oracle.Trim(seq, pos) }
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
