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
	layers, cut int
	tail        int // tokens of which the stage gives logits; 0: all
}

// rigSetup says what a rig is for.
type rigSetup struct {
	model   string
	lanes   int
	context int
	pinned  bool   // the head on core 0, the stage on core 1
	shared  bool   // the head has half of the output matrix, if its rows can be dealt out, as a plan for one chat would have it
	draft   string // a model that guesses what the split one will say
	guessed bool   // model and draft are the two of guesser
	large   bool   // model is of the 3B shape
	delay   *delay // nil: they talk without a relay
}

// rig starts the machines, each with one thread.
func (c config) rig(s rigSetup) (*rig, error) {
	g, err := gguf.OpenModel(s.model)
	if err != nil {
		return nil, err
	}
	r := &rig{layers: g.Summary.Layers, cut: half(g.Summary.Layers)}
	if vocab := g.Summary.VocabSize; s.shared && vocab%gguf.TokenStep == 0 {
		r.tail = vocab / gguf.TokenStep / 2 * gguf.TokenStep
	}
	g.Close()
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
			r.stop()
			return nil, err
		}
		at.Address = r.relay.address()
	}
	r.head, err = startWorker("head", cores[0], headSetup{
		Model: s.model, Draft: s.draft, Cut: r.cut, Tail: r.tail, Stage: at.Address, Threads: 1, Lanes: s.lanes, Context: s.context,
	}, &headReady{})
	if err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

func (r *rig) stop() {
	if r.head != nil {
		r.head.stop()
	}
	r.stage.stop()
	if r.relay != nil {
		r.relay.close()
	}
}

// ask asks one of the two, after a pause in which the threads of the one before go to sleep.
func (r *rig) ask(which string, q question) (answer, error) {
	time.Sleep(settle)
	q.Which, q.Guess = which, q.Guess && which == split // the reference is one machine without guesses
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
	var sampling, computing float64
	for round := range c.runs + 1 {
		q.Salt = round
		var ours, theirs answer
		err := inTurn(round,
			func() (err error) { ours, err = r.ask(split, q); return err },
			func() (err error) { theirs, err = r.ask(solo, q); return err })
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		// Side by side, how many rows a step has is a matter of timing, and with it the last bits: then texts of random
		// weights part sooner or later. Alone they have to be the same.
		if err := same(ours, theirs); err != nil && q.Chats == 1 {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		if round > 0 {
			f.pairs = append(f.pairs, pair{speed(q, ours), speed(q, theirs)})
			sampling += ours.Sampling / ours.Seconds / float64(c.runs)
			computing += ours.Computing / ours.Seconds / float64(c.runs)
		}
	}
	f.print()
	fmt.Printf("  the head computes %d layers of %d%s in %.0f %% of the time and samples in %.1f %%\n", r.cut, r.layers, r.sharing(), 100*computing, 100*sampling)
	return nil
}

func (r *rig) sharing() string {
	if r.tail == 0 {
		return ""
	}
	return " and half of the output matrix"
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

// half is how many layers of a model of so many are at the head.
func half(layers int) int { return layers / 2 }

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
	long := 2 * c.gen // enough for the scheduler to find out what pays
	type row struct {
		name  string
		floor float64
		setup rigSetup
		ask   question
		speed func(question, answer) float64
	}
	write := func(gen int) question { return question{Chats: 1, Prompt: shortPrompt, Gen: gen} }
	rows := []row{{"2 stages decode toy", 0.6, rigSetup{model: small}, write(toyTokens), writing}}
	for _, m := range models {
		rows = append(rows, row{"2 stages decode " + modelName(m), 0.97, rigSetup{model: m, shared: true}, write(long), writing})
	}
	// Where prompts are as long as elsewhere, a step is more than reading the weights; where they are not, two groups of four
	// read them twice as often as one group of eight.
	chats := rigSetup{model: models[0], pinned: true, shared: true}
	short := question{Chats: nChats, Prompt: shortPrompt, Gen: long}
	rows = append(rows,
		row{"2 stages 8 chats " + modelName(models[0]), 1.6, chats, question{Chats: nChats, Prompt: c.prompt, Gen: long}, total},
		row{"2 stages 8 short chats " + modelName(models[0]), 0, chats, short, total},
		row{"2 stages 8 short chats toy", 0, rigSetup{model: small, pinned: true, shared: true}, short, total},
	)
	rows = append(rows, row{
		"2 stages prefill " + modelName(models[0]), 1.6,
		rigSetup{model: models[0], pinned: true},
		question{Chats: 1, Prompt: longPrompt, Gen: 1},
		reading,
	})
	for _, d := range networks {
		name, setup, ask := "decode over "+d.String(), rigSetup{model: models[0], delay: &d, shared: true}, write(c.gen)
		rows = append(rows, row{name, 0, setup, ask, writing})
	}
	guessing := write(long)
	guessing.Guess = true
	for i, floor := range []float64{0, 0.7, 0.45, 0, 0.25} {
		rows = append(rows, row{"with a draft over " + networks[i].String(), floor, rigSetup{guessed: true, delay: &networks[i], shared: true}, guessing, writing})
	}
	for i, floor := range []float64{0, 0.7, 0.45, 0, 0.25} { // what a split is for takes longer to compute, and waits as long
		rows = append(rows, row{"decode 3b over " + networks[i].String(), floor, rigSetup{large: true, delay: &networks[i], shared: true}, write(c.gen), writing})
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
		if r.setup.guessed {
			if r.setup.model, r.setup.draft, err = c.guesser(); err != nil {
				return nil, fmt.Errorf("make the models: %w", err)
			}
		}
		if r.setup.large {
			if r.setup.model, err = c.threeB(); err != nil {
				return nil, fmt.Errorf("make the model: %w", err)
			}
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
	{RTT: 5 * time.Millisecond},
	{RTT: 20 * time.Millisecond},
	{RTT: 20 * time.Millisecond, Jitter: time.Millisecond, Loss: 1, Seed: 1},
	{RTT: 50 * time.Millisecond},
}

func (d delay) String() string {
	s := fmt.Sprintf("RTT %d ms", d.RTT.Milliseconds())
	if d.Jitter > 0 || d.Loss > 0 {
		s += fmt.Sprintf(" + %d, %.0f %% lost", d.Jitter.Milliseconds(), d.Loss)
	}
	return s
}
