// Command toy makes the model that comes with Centram: 842,496 parameters over bytes, trained from random weights by
// Centram's own trainer on four old books and on conversations made here.
//
//	go run ./experiments/toy
//
// takes an hour and a quarter of one core. It can be stopped at any time and goes on where it was. On the same kind of
// processor it makes the same bytes. With -exam it asks a model that is made some questions.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/centram/centram/gguf"
	"github.com/centram/centram/lora"
)

const (
	conversations = 18000 // of each length
	keptAside     = 40    // one in so many pieces of a book, and as many conversations, are for the figures at the end
	seed          = 1
)

// stage is a part of the training.
type stage struct {
	name    string
	data    string // folder of what is trained on
	context int
	blocks  int // of a step
	steps   int
	rate    float64
}

// First to look back, from words that are repeated and from short conversations; then English, from short stretches, as they
// are computed fastest; then longer conversations; then to look back further, with more of what it still mixes up.
var stages = []stage{
	{"look", "look", 256, 4, 2500, 2e-3},
	{"short", "train", 256, 4, 10500, 2e-3},
	{"talk", "talk", 512, 2, 8000, 1e-3},
	{"long", "long", 1024, 2, 150, 2e-4},
}

func main() {
	work := flag.String("work", "build/toy", "`folder` for what is needed on the way")
	out := flag.String("out", "models/toy/toy.gguf", "`file` to write the model to")
	curve := flag.String("curve", "docs/toy.svg", "`file` to draw the course of the loss into")
	threads := flag.Int("threads", 1, "`number` of threads. Several are faster, but make other bytes")
	hurry := flag.Int("hurry", 1, "make so many times fewer steps, to try something")
	examine := flag.String("exam", "", "make nothing, but ask the model in this `file` some questions")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *examine != "" {
		if err := exam(ctx, *examine, *threads, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if err := run(ctx, *work, *out, *curve, *threads, *hurry); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, work, out, curve string, threads, hurry int) error {
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	if err := write(work); err != nil {
		return err
	}
	model := filepath.Join(work, "random.gguf")
	if err := random(model); err != nil {
		return err
	}
	var losses []float64
	for i, s := range stages {
		last := i == len(stages)-1
		made := filepath.Join(work, s.name+".gguf")
		o, err := s.train(ctx, model, filepath.Join(work, s.data), made, threads, hurry, last)
		if err != nil {
			return err
		}
		model, losses = made, append(losses, o.Losses...)
	}
	for _, kind := range []string{"books", "talk"} {
		e, err := lora.Evaluate(ctx, lora.EvalConfig{Model: model, Data: []string{filepath.Join(work, "aside", kind+".jsonl")}, Context: stages[len(stages)-1].context, Threads: threads}, nil)
		if err != nil {
			return err
		}
		fmt.Printf("%s never seen: %.3f nats a byte (%.3f to %.3f), %d bytes\n", kind, e.Base.Value, e.Base.Low, e.Base.High, e.Tokens)
	}
	if err := draw(curve, losses); err != nil {
		return err
	}
	b, err := os.ReadFile(model)
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(filepath.Dir(out), 0o755), os.WriteFile(out, b, 0o644))
}

// write writes what is trained on and what is kept aside.
func write(work string) error {
	var train, half, eighth, aside, drills, sums []any
	var texts []string
	for _, b := range books {
		pieces, err := b.pieces()
		if err != nil {
			return err
		}
		for i, p := range pieces {
			text := map[string]string{"text": p}
			if i%keptAside == keptAside/2 {
				aside = append(aside, text)
				continue
			}
			texts = append(texts, p)
			train = append(train, text)
			if i%2 == 0 {
				half = append(half, text)
			}
			if i%8 == 0 {
				eighth = append(eighth, text)
			}
		}
	}
	from := read(texts)
	talk := func(seed uint64, n, most int) (out []any) {
		t := newTeller(seed, from)
		for range n {
			out = append(out, map[string][]turn{"messages": t.conversation(most)})
		}
		return out
	}
	t := newTeller(seed+3, from)
	for range conversations / 3 {
		drills = append(drills, map[string]string{"text": t.drill()})
	}
	t = newTeller(seed+5, from)
	for range conversations / 12 {
		sums = append(sums, map[string]string{"text": t.sums()})
	}
	return errors.Join(
		lines(filepath.Join(work, "look", "talk.jsonl"), talk(seed+4, conversations/2, 256)),
		lines(filepath.Join(work, "look", "drills.jsonl"), drills),
		lines(filepath.Join(work, "train", "books.jsonl"), train),
		lines(filepath.Join(work, "train", "talk.jsonl"), talk(seed, conversations, 256)),
		lines(filepath.Join(work, "train", "drills.jsonl"), drills),
		lines(filepath.Join(work, "talk", "books.jsonl"), half),
		lines(filepath.Join(work, "talk", "talk.jsonl"), talk(seed+2, conversations, 512)),
		lines(filepath.Join(work, "talk", "sums.jsonl"), sums),
		lines(filepath.Join(work, "long", "books.jsonl"), eighth),
		lines(filepath.Join(work, "long", "talk.jsonl"), talk(seed+6, conversations/8, 1024)),
		lines(filepath.Join(work, "aside", "books.jsonl"), aside),
		lines(filepath.Join(work, "aside", "talk.jsonl"), talk(seed+1, conversations/keptAside, 512)),
	)
}

func lines(path string, list []any) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := json.NewEncoder(f)
	for _, x := range list {
		if err := w.Encode(x); err != nil {
			return err
		}
	}
	return nil
}

// random writes the model that training begins with.
func random(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	shape := gguf.Toy()
	shape.RopeBase = 1e4 // a conversation is hundreds of bytes long, not a million
	shape.Calm = true
	return errors.Join(gguf.Generate(f, shape, seed), f.Close())
}

// train trains a stage, unless that has been done.
func (s stage) train(ctx context.Context, model, data, out string, threads, hurry int, last bool) (lora.Outcome, error) {
	done := out + ".json"
	if b, err := os.ReadFile(done); err == nil {
		var o struct{ Losses []float64 }
		err = json.Unmarshal(b, &o)
		return lora.Outcome{Losses: o.Losses}, err
	}
	shown := time.Now()
	o, err := lora.Run(ctx, lora.Config{
		Model: model, Data: []string{data}, Out: out, Name: "Centram toy", Full: true, Exact: !last, Context: s.context,
		Blocks: s.blocks, Steps: s.steps / hurry, Rate: s.rate, Decay: 0.1, Held: 0.01, Seed: seed, Threads: threads,
	}, func(e lora.Event) {
		if time.Since(shown) > 10*time.Second {
			shown = time.Now()
			fmt.Fprintf(os.Stderr, "%s: step %d of %d, loss %.3f, %.0f bytes a second, %v left\n", s.name, e.Step, e.Steps, e.Loss, e.TokensPerSecond, time.Duration(e.SecondsLeft*1e9).Round(time.Second))
		}
	})
	if err != nil {
		return o, err
	}
	fmt.Printf("%s: held-out loss from %.3f to %.3f\n", s.name, o.HeldBefore, o.HeldAfter)
	b, err := json.Marshal(struct{ Losses []float64 }{o.Losses})
	if err != nil {
		return o, err
	}
	return o, os.WriteFile(done, b, 0o644)
}

func draw(path string, losses []float64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(lora.WriteSVG(f, losses, "The loss of the toy model"), f.Close())
}
