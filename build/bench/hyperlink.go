package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/centram/centram/gguf"
)

const (
	toyTokens   = 500
	shortPrompt = 16
	longPrompt  = 2048
)

// rig is a model on one machine and the same model on two: a head that has it both ways, and a stage.
type rig struct {
	head, stage *worker
	relay       *relay // between them; nil if there is none
}

// rigSetup says what a rig is for.
type rigSetup struct {
	model   string
	cut     func(*gguf.Model) int
	lanes   int
	context int
	pinned  bool   // the head on core 0, the stage on core 1
	delay   *delay // nil: they talk without a relay
}

// rig starts the machines, each with one thread.
func (c config) rig(s rigSetup) (*rig, error) {
	g, err := gguf.OpenModel(s.model)
	if err != nil {
		return nil, err
	}
	layers, cut := g.Summary.Layers, s.cut(g)
	g.Close()
	r := &rig{}
	cores := [2]int{anyCore, anyCore}
	if s.pinned {
		cores = [2]int{0, 1}
	}
	var at stageReady
	if r.stage, err = startWorker("stage", cores[1], stageSetup{Model: s.model, Threads: 1}, &at); err != nil {
		return nil, err
	}
	if s.delay != nil {
		if r.relay, err = newRelay(at.Address, *s.delay); err != nil {
			return nil, errors.Join(err, r.stop())
		}
		at.Address = r.relay.address()
	}
	r.head, err = startWorker("head", cores[0], headSetup{
		Model: s.model, Layers: layers, Cut: cut, Stage: at.Address, Threads: 1, Lanes: s.lanes, Context: s.context,
	}, &headReady{})
	if err != nil {
		return nil, errors.Join(err, r.stop())
	}
	return r, nil
}

func (r *rig) stop() error {
	if r.head != nil {
		r.head.stop()
	}
	r.stage.stop()
	if r.relay != nil {
		r.relay.close()
	}
	return nil
}

// ask asks one of the two, after a pause in which the threads of the one before go to sleep.
func (r *rig) ask(which string, q question) (answer, error) {
	time.Sleep(settle)
	q.Which = which
	var a answer
	if err := r.head.question(q, &a); err != nil {
		return a, err
	}
	if a.Err != "" {
		return a, fmt.Errorf("%s: %s", which, a.Err)
	}
	for _, tokens := range a.Tokens {
		if len(tokens) != q.Gen {
			return a, fmt.Errorf("%s: a chat has %d tokens, want %d", which, len(tokens), q.Gen)
		}
	}
	return a, nil
}

// What counts of an answer, per second.
func writing(q question, a answer) float64 { return float64(q.Gen-1) / a.Writing }
func total(q question, a answer) float64   { return float64(q.Chats*q.Gen) / a.Seconds }
func reading(q question, a answer) float64 { return float64(q.Chats*q.Prompt) / a.Seconds }

// beside fills a figure: the model on two machines beside the same on one. Other tokens than there are an error: speed
// counts with the same output alone.
func (c config) beside(f *figure, s rigSetup, q question, speed func(question, answer) float64) error {
	s.lanes, s.context = q.Chats, q.Prompt+q.Gen+1
	r, err := c.rig(s)
	if err != nil {
		return err
	}
	defer r.stop()
	var sampling float64
	for round := range c.runs + 1 {
		q.Salt = round
		var ours, theirs answer
		err := inTurn(round,
			func() (err error) { ours, err = r.ask(split, q); return err },
			func() (err error) { theirs, err = r.ask(solo, q); return err })
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		if err := same(ours, theirs); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		if round > 0 {
			f.pairs = append(f.pairs, pair{speed(q, ours), speed(q, theirs)})
			sampling += ours.Sampling / ours.Seconds / float64(c.runs)
		}
	}
	f.print()
	if q.Chats > 1 {
		fmt.Printf("  the head samples in %.1f %% of the time\n", 100*sampling)
	}
	return nil
}

func same(ours, theirs answer) error {
	for chat := range theirs.Tokens {
		for i, want := range theirs.Tokens[chat] {
			if got := ours.Tokens[chat][i]; got != want {
				return fmt.Errorf("token %d of chat %d is %d on two machines and %d on one: the figure does not count", i, chat, got, want)
			}
		}
	}
	return nil
}

// half is where the layers of a model are cut in two.
func half(g *gguf.Model) int { return g.Summary.Layers / 2 }

// evenly is where a model is cut so that both stages read as many bytes for a token: the last has the output matrix too,
// which in a tied model is the table of embeddings.
func evenly(g *gguf.Model) int {
	layers := make([]int64, g.Summary.Layers)
	var all int64
	for _, t := range g.Tensors {
		var layer int
		if _, err := fmt.Sscanf(t.Name, "blk.%d.", &layer); err == nil {
			layers[layer] += t.Size
			all += t.Size
		}
	}
	output, ok := g.Tensor("output.weight")
	if !ok {
		output, _ = g.Tensor("token_embd.weight")
	}
	all += output.Size
	cut, here := 0, int64(0)
	for 2*(here+layers[cut]/2) < all && cut < len(layers)-1 {
		here += layers[cut]
		cut++
	}
	return max(cut, 1)
}

// toy makes the toy model beside the others.
func toy(dir string) (string, error) {
	path := filepath.Join(dir, "toy.gguf")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	f, err := os.Create(path + ".tmp")
	if err != nil {
		return "", err
	}
	if err := errors.Join(gguf.Generate(f, gguf.Toy(), 1), f.Close()); err != nil {
		return "", err
	}
	return path, os.Rename(path+".tmp", path)
}

// hyperlink measures models on two machines, which are processes here, beside the same on one.
func (c config) hyperlink(models []string) ([]*figure, error) {
	small, err := toy(filepath.Dir(models[0]))
	if err != nil {
		return nil, err
	}
	long := 2 * c.gen
	type row struct {
		name  string
		floor float64
		setup rigSetup
		ask   question
		speed func(question, answer) float64
	}
	write := func(gen int) question { return question{Chats: 1, Prompt: shortPrompt, Gen: gen} }
	rows := []row{{"2 stages decode toy", 0.6, rigSetup{model: small, cut: half}, write(toyTokens), writing}}
	for _, m := range models {
		rows = append(rows, row{"2 stages decode " + modelName(m), 0.97, rigSetup{model: m, cut: half}, write(long), writing})
	}
	for _, m := range []string{small, models[0]} {
		chats := question{Chats: nChats, Prompt: shortPrompt, Gen: long}
		rows = append(rows, row{"2 stages 8 chats " + modelName(m), 1.6, rigSetup{model: m, cut: evenly, pinned: true}, chats, total})
	}
	rows = append(rows, row{"2 stages prefill " + modelName(models[0]), 1.6, rigSetup{model: models[0], cut: half, pinned: true},
		question{Chats: 1, Prompt: longPrompt, Gen: 1}, reading})
	for _, d := range networks {
		rows = append(rows, row{"2 stages decode, " + d.String(), 0, rigSetup{model: models[0], cut: half, delay: &d}, write(c.gen), writing})
	}
	var figures []*figure
	for _, r := range rows {
		f := &figure{Name: r.name, Reference: "one stage", Floor: r.floor}
		if !c.wants(f) {
			continue
		}
		if _, err := exec.LookPath("taskset"); r.setup.pinned && err != nil {
			fmt.Printf("%-32s is not measured: taskset is missing\n", f.Name)
			continue
		}
		if err := c.beside(f, r.setup, r.ask, r.speed); err != nil {
			return nil, err
		}
		figures = append(figures, f)
	}
	return figures, nil
}

// networks are what is put between two machines.
var networks = []delay{
	{},
	{RTT: 5 * time.Millisecond, Jitter: 250 * time.Microsecond, Seed: 1},
	{RTT: 20 * time.Millisecond, Jitter: time.Millisecond, Seed: 2},
	{RTT: 20 * time.Millisecond, Jitter: time.Millisecond, Loss: 1, Seed: 3},
	{RTT: 50 * time.Millisecond, Jitter: 2500 * time.Microsecond, Seed: 4},
}

func (d delay) String() string {
	s := fmt.Sprintf("RTT %d ms", d.RTT.Milliseconds())
	if d.Loss > 0 {
		s += fmt.Sprintf(", %.0f %% lost", d.Loss)
	}
	return s
}
