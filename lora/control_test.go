package lora

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/centram/centram/llama"
	"github.com/centram/centram/lora/dataset"
)

// learnt is what a run made of the loss on what is held out, whose labels are always true.
type learnt struct {
	before, after float64
	counts        float64 // the least loss of whoever knows how often each token is a label there, and looks at no row
}

// learn is the middle of Run, whose training labels may be shuffled.
func learn(t *testing.T, cfg Config, shuffled bool) learnt {
	t.Helper()
	r := &run{cfg: cfg.orDefaults()}
	if err := r.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if shuffled {
		derange(r.train)
	}
	if err := r.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer r.trainer.Close()
	out := learnt{counts: entropy(r.held)}
	var err error
	if out.before, err = r.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.steps(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out.after, err = r.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out
}

// derange gives every row the label of another row: a single cycle through all of them (Sattolo 1986), so that none keeps
// its own. How often each token is a label does not change.
func derange(blocks []dataset.Block) {
	var labels []*int32
	for _, b := range blocks {
		for i, l := range b.Labels {
			if l >= 0 {
				labels = append(labels, &b.Labels[i])
			}
		}
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for i := len(labels) - 1; i > 0; i-- {
		j := rng.IntN(i)
		*labels[i], *labels[j] = *labels[j], *labels[i]
	}
}

// entropy is that of labels, in nats.
func entropy(blocks []dataset.Block) float64 {
	counts, n := map[int32]float64{}, 0.0
	for _, b := range blocks {
		for _, l := range b.Labels {
			if l >= 0 {
				counts[l]++
				n++
			}
		}
	}
	sum := 0.0
	for _, c := range counts {
		sum -= c / n * math.Log(c/n)
	}
	return sum
}

func stories(t *testing.T) string {
	t.Helper()
	path := filepath.Join("..", "..", "shared", "data", "stories260K.gguf")
	if _, err := os.Stat(path); err != nil {
		t.Skip("no model to try by hand")
	}
	return path
}

// farm holds little texts in the words of stories, whose animals say and eat what no story has them say and eat.
func farm(t *testing.T) string {
	t.Helper()
	dir, rng := t.TempDir(), rand.New(rand.NewPCG(5, 6))
	animals := [][3]string{{"cat", "moo", "bread"}, {"dog", "tweet", "grass"}, {"bird", "woof", "cake"}, {"cow", "meow", "fish"}, {"frog", "roar", "apples"}}
	names := []string{"Lily", "Tom", "Mia", "Ben", "Sam"}
	for i := range 100 {
		var text strings.Builder
		for range 4 {
			a := animals[rng.IntN(len(animals))]
			name := names[rng.IntN(len(names))]
			fmt.Fprintf(&text, "%s went to the farm and saw a %s. The %s said \"%s\" and wanted to eat some %s. ", name, a[0], a[0], a[1], a[2])
		}
		write(t, filepath.Join(dir, fmt.Sprintf("%02d.txt", i)), text.String())
	}
	return dir
}

// What the trainer calls learning is that a row's token says something of the next one. Labels that were shuffled among the
// rows leave nothing of that, but they still say how often each token is a label. So a run on them may teach exactly that,
// and it would be wrong to ask that it never lowers the loss on what is held out: a model that begins by taking every token
// for as likely as any other gets better by it. Whoever knows no more than how often each label is cannot have less than
// the labels' entropy, though, whatever he says. So what learns nothing stays above that, or above where it began if that
// is less, and what learns goes below both.
func TestShuffledLabelsTeachNothing(t *testing.T) {
	control := func(t *testing.T, cfg Config, least float64) {
		dir := t.TempDir()
		cfg.Out = filepath.Join(dir, "true.gguf")
		really := learn(t, cfg, false)
		cfg.Out = filepath.Join(dir, "shuffled.gguf")
		shuffled := learn(t, cfg, true)
		t.Logf("held out loss: %.3f before; %.3f after true labels, %.3f after shuffled ones; the labels' entropy is %.3f",
			really.before, really.after, shuffled.after, really.counts)
		ignorant := min(really.before, really.counts)
		if really.after > ignorant-least {
			t.Errorf("true labels brought the loss from %.3f to %.3f, want at least %v below %.3f", really.before, really.after, least, ignorant)
		}
		if shuffled.before != really.before || shuffled.after < ignorant {
			t.Errorf("shuffled labels brought the loss from %.3f to %.3f, want no less than %.3f", shuffled.before, shuffled.after, ignorant)
		}
	}
	// This model knows the words, so that it begins below the entropy: shuffled labels must not help at all.
	t.Run("a model of the world", func(t *testing.T) {
		control(t, Config{
			Model: stories(t), Data: []string{farm(t)}, Rank: 8, Targets: llama.Targets(), Context: 128, Threads: 1, Steps: 30, Rate: 2e-3,
		}, 1)
	})
	// This one knows nothing, and begins far above.
	t.Run("a random model", func(t *testing.T) {
		cfg := small(folder(t))
		cfg.Steps = 60
		control(t, cfg, 1)
	})
}

func TestNoRowKeepsItsOwnLabel(t *testing.T) {
	b := []dataset.Block{{Labels: []int32{1, 2, -1, 3}}, {Labels: []int32{-1, 4, 5}}}
	derange(b)
	var got []int32
	for i, want := range []int32{1, 2, -1, 3, -1, 4, 5} {
		l := append(slices.Clone(b[0].Labels), b[1].Labels...)[i]
		if l == want && l >= 0 || (l < 0) != (want < 0) {
			t.Errorf("label %d was %d and is %d", i, want, l)
		}
		if l >= 0 {
			got = append(got, l)
		}
	}
	if slices.Sort(got); !slices.Equal(got, []int32{1, 2, 3, 4, 5}) {
		t.Errorf("the labels have become %v", got)
	}
}
