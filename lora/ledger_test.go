package lora

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/lora/dataset"
	"github.com/centram/centram/lora/dp"
)

func TestABudgetHoldsForAllRunsOnADocument(t *testing.T) {
	dir := documents(t)
	cfg := secret(dir)
	cfg.Private.Budget = 5
	first, err := Run(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(cfg Config, why string) {
		t.Helper()
		before, err := os.ReadFile(cfg.Private.Ledger)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Run(t.Context(), cfg, nil)
		if centram.CodeOf(err) != centram.Forbidden || !strings.Contains(err.Error(), "are spent") || !strings.Contains(centram.HintOf(err), "--dp-budget") {
			t.Errorf("%s: got %v (hint %q), want that the budget is spent", why, err, centram.HintOf(err))
		}
		after, err := os.ReadFile(cfg.Private.Ledger)
		if err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: a refusal has changed the ledger, or %v", why, err)
		}
	}
	refused(cfg, "the same again")
	cfg.Out = filepath.Join(dir, "other.gguf")
	refused(cfg, "to another file")
	// A new document makes it another set of documents, but of the old ones nothing is forgotten.
	write(t, filepath.Join(dir, "data", "new.txt"), "efta efta efta ala belo")
	write(t, filepath.Join(dir, "data", "new2.txt"), "efta efta efta belo ala")
	refused(cfg, "with documents more")
	cfg.Private.Budget = 8
	second, err := Run(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := dp.Run{Q: first.Privacy.Rate, Sigma: first.Privacy.Sigma, Steps: first.Step}.Curve()
	b, _ := dp.Run{Q: second.Privacy.Rate, Sigma: second.Privacy.Sigma, Steps: second.Step}.Curve()
	if want, _ := a.Add(b).Epsilon(second.Privacy.Delta); math.Abs(second.Privacy.Spent-want) > 1e-9 || second.Privacy.Epsilon >= want {
		t.Errorf("after two runs %v are spent, want %v", second.Privacy.Spent, want)
	}
	// Other documents have their own.
	for i := range 30 {
		write(t, filepath.Join(dir, "others", fmt.Sprint(i, ".txt")), fmt.Sprint("dumo ", i, strings.Repeat(" cira", i)))
	}
	cfg.Data, cfg.Private.Budget, cfg.Steps, cfg.Out = []string{filepath.Join(dir, "others")}, 5, 2, filepath.Join(dir, "third.gguf")
	if third, err := Run(t.Context(), cfg, nil); err != nil || third.Privacy.Spent != third.Privacy.Epsilon {
		t.Errorf("other documents: %+v, %v, want that theirs alone is spent", third.Privacy, err)
	}
}

// A run that another has left no budget ends with the steps that it could pay for, and with an adapter that says so.
func TestARunEndsWhereAnotherHasSpentTheBudget(t *testing.T) {
	dir := documents(t)
	cfg := secret(dir)
	cfg.Private.Budget = 4.3
	e, err := Run(t.Context(), cfg, func(e Event) {
		if e.Stage != Train || e.Step != 6 {
			return
		}
		other := cfg
		other.Private.Epsilon, other.Out = 3, filepath.Join(dir, "other.gguf")
		if o, err := Run(t.Context(), other, nil); err != nil || o.Step != cfg.Steps {
			t.Errorf("the other run made %d steps, %v, want all %d", o.Step, err, cfg.Steps)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if p := e.Privacy; e.Step <= 6 || e.Step >= cfg.Steps || e.Steps != e.Step || p.Steps != e.Step || p.Spent > p.Budget || p.Epsilon >= p.Planned {
		t.Errorf("the run ended with step %d of %d and %+v, want fewer steps than %d and no more than the budget", e.Step, e.Steps, *p, cfg.Steps)
	}
	if got := paid(t, cfg); got != e.Step+cfg.Steps {
		t.Errorf("%d steps are paid for, want %d and %d", got, e.Step, cfg.Steps)
	}
	f, err := gguf.Open(cfg.Out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, _ := f.Value("centram.dp.steps"); got.Any() != uint32(e.Step) {
		t.Errorf("the adapter says %v steps, want %d", got.Any(), e.Step)
	}
}

func TestADocumentThatIsThereTwiceCountsOnce(t *testing.T) {
	items := []dataset.Item{{Text: "one"}, {Text: "two"}, {Text: " one\n"}}
	if got := distinct(items); len(got) != 2 {
		t.Errorf("got %v, want two documents", got)
	}
	a, _ := identify(items[:2])
	b, _ := identify([]dataset.Item{items[1], items[2]})
	if c, _ := identify(items[:1]); a != b || a == c {
		t.Errorf("the sets of documents are called %s, %s and %s, want the first two alike", a, b, c)
	}
}

// steps of the run that a process makes, as it says, and of what the ledger says.
func paid(t *testing.T, cfg Config) int {
	t.Helper()
	l, err := readLedger(cfg.Private.Ledger)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for set := range l.Documents {
		for _, r := range l.Spent.Runs(dp.Account{Dataset: set}) {
			n += r.Steps
		}
	}
	sum := 0
	for _, r := range l.Runs {
		sum += r.Steps
	}
	if sum != n {
		t.Fatalf("the runs have %d steps, and the documents were charged for %d", sum, n)
	}
	return n
}

func TestAKilledPrivateTrainingHasPaidForWhatAnybodySaw(t *testing.T) {
	dir := documents(t)
	cfg := secret(dir)
	cfg.Private.Budget = 1000
	rng := rand.New(rand.NewPCG(7, 8))
	made, kills, done := 0, 0, false
	for lives := 0; !done && lives < 40; lives++ {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "CENTRAM_TRAIN_IN="+dir, "CENTRAM_TRAIN_PRIVATE=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		steps := 0
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "done ") {
				done = true
			}
			if !strings.HasPrefix(lines.Text(), "train ") {
				continue
			}
			made++
			if steps++; steps == 1 && kills < 6 {
				time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond)
				_ = cmd.Process.Kill()
				kills++
			}
		}
		_ = cmd.Wait()
		if got := paid(t, cfg); got < made || got > made+kills {
			t.Fatalf("after %d kills %d steps were seen, and %d are paid for; want as many, and at most one more for each kill", kills, made, got)
		}
	}
	if !done || kills < 3 {
		t.Fatalf("the training was done: %v, after %d kills, want at least 3", done, kills)
	}
	f, err := gguf.Open(cfg.Out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	steps, _ := f.Value("centram.dp.steps")
	epsilon, _ := f.Value("centram.dp.epsilon")
	if steps.Any() != uint32(paid(t, cfg)) || !(epsilon.Any().(float64) <= cfg.Private.Epsilon) {
		t.Errorf("the adapter says %v steps and epsilon %v, want the %d that are paid for and at most %v", steps.Any(), epsilon.Any(), paid(t, cfg), cfg.Private.Epsilon)
	}
	t.Logf("%d kills: %d steps seen, %d paid for, epsilon %v", kills, made, paid(t, cfg), epsilon.Any())
}

func TestAPrivateTrainingGoesOnWithItsLedgerOnly(t *testing.T) {
	dir := documents(t)
	cfg := secret(dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := Run(ctx, cfg, func(e Event) {
		if e.Step == 3 {
			cancel()
		}
	}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want that it was cancelled", err)
	}
	if got := paid(t, cfg); got != 3 {
		t.Errorf("after 3 steps %d are paid for", got)
	}
	if err := os.Rename(cfg.Private.Ledger, cfg.Private.Ledger+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), cfg, nil); centram.CodeOf(err) != centram.Conflict || !strings.Contains(err.Error(), "does not know") {
		t.Errorf("without its ledger the run ended with %v, want a conflict", err)
	}
	if err := os.Rename(cfg.Private.Ledger+".away", cfg.Private.Ledger); err != nil {
		t.Fatal(err)
	}
	e, err := Run(t.Context(), cfg, nil)
	if err != nil || !e.Resumed || e.Step != 12 || e.Privacy.Steps != 12 {
		t.Errorf("with it: %+v, %+v, %v, want all 12 steps", e.Event, e.Privacy, err)
	}
}
