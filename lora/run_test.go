package lora

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama"
)

// TestMain can be a training in a process of its own, to be killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("CENTRAM_TRAIN_IN"); dir != "" && os.Getenv("CENTRAM_TRAIN_FULL_DISK") != "" {
		signal.Ignore(syscall.SIGXFSZ) // which would come for a file that is too long
		if err := fullDisk(dir); err != nil {
			fmt.Println(err, centram.HintOf(err))
			os.Exit(1)
		}
		os.Exit(0)
	} else if dir != "" && os.Getenv("CENTRAM_TRAIN_PRIVATE") != "" {
		cfg := secret(dir)
		cfg.Private.Budget = 1000
		if _, err := Run(context.Background(), cfg, func(e Event) { fmt.Println(e.Stage, e.Step) }); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	} else if dir != "" {
		cfg := small(dir)
		cfg.SaveEvery = 1
		if _, err := Run(context.Background(), cfg, func(e Event) { fmt.Println(e.Stage, e.Step) }); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// folder holds a toy model of random weights, and texts of which every word follows from the one before.
func folder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	generate(t, filepath.Join(dir, "model.gguf"), 1)
	words := []string{"ala ", "belo ", "cira ", "dumo ", "efta "}
	for i := range 40 {
		var text strings.Builder
		for j := range 30 {
			text.WriteString(words[(i+j*(1+i%2))%len(words)])
		}
		write(t, filepath.Join(dir, "data", fmt.Sprintf("%02d.txt", i)), text.String())
	}
	return dir
}

func generate(t testing.TB, path string, seed uint64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := gguf.Generate(f, gguf.Toy(), seed); err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func small(dir string) Config {
	return Config{
		Model: filepath.Join(dir, "model.gguf"), Data: []string{filepath.Join(dir, "data")}, Out: filepath.Join(dir, "adapter.gguf"),
		Rank: 4, Targets: llama.Targets(), Context: 64, Threads: 1, Steps: 30, Rate: 0.01, Held: 0.2,
	}
}

func TestTrainingLearnsWhatIsNotInTheTrainingDataToo(t *testing.T) {
	dir := folder(t)
	cfg := small(dir)
	cfg.Steps = 60
	var stages []Stage
	e, err := Run(t.Context(), cfg, func(e Event) {
		if n := len(stages); n == 0 || stages[n-1] != e.Stage {
			stages = append(stages, e.Stage)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if e.HeldBefore-e.HeldAfter < 1 {
		t.Errorf("the loss on what was held out went from %.2f to %.2f, want at least 1 less", e.HeldBefore, e.HeldAfter)
	}
	if got, want := fmt.Sprint(stages), "[reading before train after done]"; got != want {
		t.Errorf("got the stages %s, want %s", got, want)
	}
	if _, err := os.Stat(cfg.Out + ".training"); err == nil {
		t.Error("what was saved on the way is still there, want it removed")
	}
	// llama.cpp itself says of the same text what the training said.
	m, err := llama.LoadModel(t.Context(), []string{cfg.Model}, llama.ModelConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	a, err := m.LoadAdapter(cfg.Out)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	const text = "cira dumo efta ala belo cira dumo efta ala belo "
	before, after := losses(t, m, text, nil, nil)/float64(len(text)), losses(t, m, text, []*llama.Adapter{a}, []float32{1})/float64(len(text))
	if before-after < 1 {
		t.Errorf("llama.cpp's loss is %.2f without the adapter and %.2f with it, want at least 1 less", before, after)
	}
}

func adapterBytes(t *testing.T, dir string) []byte {
	t.Helper()
	b, err := os.ReadFile(small(dir).Out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAKilledTrainingGoesOnToTheSameBytes(t *testing.T) {
	dir := folder(t)
	if _, err := Run(t.Context(), small(dir), nil); err != nil {
		t.Fatal(err)
	}
	want := adapterBytes(t, dir)
	kills := 50
	if testing.Short() {
		kills = 5
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for done := 0; done < kills; {
		if err := os.Remove(small(dir).Out); err != nil {
			t.Fatal(err)
		}
		for killed := true; killed; {
			killed = train(t, dir, done < kills, time.Duration(20+rng.IntN(400))*time.Millisecond)
			if killed {
				done++
			}
		}
		if got := adapterBytes(t, dir); !bytes.Equal(got, want) {
			t.Fatalf("after %d kills the adapter has other bytes", done)
		}
	}
}

// train runs a training in a process of its own, and says whether it was killed before it was done.
func train(t *testing.T, dir string, kill bool, after time.Duration) (killed bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CENTRAM_TRAIN_IN="+dir)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if kill {
		defer time.AfterFunc(after, func() { _ = cmd.Process.Kill() }).Stop()
	}
	err := cmd.Wait()
	if killed = cmd.ProcessState.ExitCode() == -1; err != nil && !killed {
		t.Fatalf("%v\n%s", err, &out)
	}
	return killed
}

func TestACancelledTrainingSaysSoAndGoesOn(t *testing.T) {
	dir := folder(t)
	cfg := small(dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := Run(ctx, cfg, func(e Event) {
		if e.Step == 7 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want that it was cancelled", err)
	}
	first := -1
	e, err := Run(t.Context(), cfg, func(e Event) {
		if e.Stage == Train && first < 0 {
			first = e.Step
		}
	})
	if err != nil || !e.Resumed || first != 8 || e.HeldBefore == 0 {
		t.Errorf("got %+v, %v, with step %d first; want it to go on with step 8", e, err, first)
	}
	cfg.Out += "2"
	undisturbed, err := Run(t.Context(), cfg, nil)
	if err != nil || !slices.Equal(e.Losses, undisturbed.Losses) {
		t.Errorf("the losses are %v, undisturbed %v, %v", e.Losses, undisturbed.Losses, err)
	}
}

func TestRefusalsNameTheCause(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, dir string, cfg *Config)
		code   centram.Code
		says   string
	}{
		"no data": {func(_ *testing.T, dir string, cfg *Config) { cfg.Data = []string{filepath.Join(dir, "nothing")} }, centram.NotFound, "nothing"},
		"a broken line": {func(t *testing.T, dir string, cfg *Config) {
			write(t, filepath.Join(dir, "data", "chat.jsonl"), "{\"text\": \"fine\"}\n{\"text\": }\n")
		}, centram.Invalid, "line 2"},
		"too little memory":                {func(_ *testing.T, _ string, cfg *Config) { cfg.Memory = 1 << 20 }, centram.TooLarge, "memory"},
		"a rate of 7":                      {func(_ *testing.T, _ string, cfg *Config) { cfg.Rate = 7 }, centram.Invalid, "rate"},
		"no model":                         {func(_ *testing.T, dir string, cfg *Config) { cfg.Model = filepath.Join(dir, "data", "00.txt") }, centram.Invalid, "00.txt"},
		"another's training":               {func(t *testing.T, _ string, cfg *Config) { saved(t, *cfg); cfg.Rank = 3 }, centram.Conflict, "another model, other data"},
		"a model in place of the adapter":  {func(_ *testing.T, _ string, cfg *Config) { cfg.Out = cfg.Model }, centram.Conflict, "no adapter"},
		"a text in place of the adapter":   {func(_ *testing.T, dir string, cfg *Config) { cfg.Out = filepath.Join(dir, "data", "00.txt") }, centram.Conflict, "no adapter"},
		"a folder in place of the adapter": {func(_ *testing.T, dir string, cfg *Config) { cfg.Out = dir }, centram.Conflict, "no adapter"},
		"no such folder":                   {func(_ *testing.T, dir string, cfg *Config) { cfg.Out = filepath.Join(dir, "none", "a.gguf") }, centram.Invalid, "could not be written"},
		"another model of that shape":      {func(t *testing.T, dir string, cfg *Config) { saved(t, *cfg); generate(t, cfg.Model, 2) }, centram.Conflict, "another model, other data"},
		"a damaged state": {func(t *testing.T, _ string, cfg *Config) {
			b := saved(t, *cfg)
			b[len(b)/2] ^= 1
			write(t, cfg.Out+".training", string(b))
		}, centram.Invalid, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t)
			cfg := small(dir)
			c.change(t, dir, &cfg)
			_, err := Run(t.Context(), cfg, nil)
			if err == nil || centram.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v (%s), want %s with %q", err, centram.CodeOf(err), c.code, c.says)
			}
		})
	}
}

// saved is the state of a training that was stopped.
func saved(t *testing.T, cfg Config) []byte {
	t.Helper()
	cfg.SaveEvery = 1
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := Run(ctx, cfg, func(e Event) {
		if e.Step == 2 {
			cancel()
		}
	}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want that it was cancelled", err)
	}
	b, err := os.ReadFile(cfg.Out + ".training")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEveryPrefixOfASavedStateIsRefused(t *testing.T) {
	for _, bits := range []int{32, 8} {
		cfg := small(folder(t))
		cfg.StateBits = bits
		b := saved(t, cfg)
		if _, _, _, err := parseState(b); err != nil {
			t.Fatal(err)
		}
		for n := range b {
			if n > 2000 && n < len(b)-2000 && n%997 != 0 {
				continue
			}
			if _, _, _, err := parseState(b[:n]); err == nil {
				t.Fatalf("%d of %d bytes were read, want an error", n, len(b))
			}
		}
	}
}

// With a byte for each of the optimiser's numbers less is kept, hardly less is learnt, and a run goes on to the bit, too.
func TestAnOptimiserOfBytesLearnsAsWell(t *testing.T) {
	dir := folder(t)
	cfg := small(dir)
	exact, err := Run(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	large := len(saved(t, cfg))
	if err := os.Remove(cfg.Out + ".training"); err != nil {
		t.Fatal(err)
	}
	cfg.StateBits = 8
	bytewise, err := Run(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := adapterBytes(t, dir)
	for i, l := range exact.Losses {
		if math.Abs(bytewise.Losses[i]-l) > 0.05*l+0.05 {
			t.Errorf("at step %d the loss is %.3f, and %.3f with 8 bits", i+1, l, bytewise.Losses[i])
		}
	}
	if math.Abs(bytewise.HeldAfter-exact.HeldAfter) > 0.05*exact.HeldAfter {
		t.Errorf("on what was held out the loss is %.3f, and %.3f with 8 bits", exact.HeldAfter, bytewise.HeldAfter)
	}
	less := exact.MemoryBytes - bytewise.MemoryBytes
	if n := exact.Parameters; less < uint64(n)*58/10 || less > uint64(n)*6 {
		t.Errorf("with 8 bits it needs %d bytes less for %d parameters, want nearly 6 for each", less, n)
	}
	small := len(saved(t, cfg))
	if n := exact.Parameters; large-small < n*58/10 {
		t.Errorf("what is saved has %d bytes, and %d with 8 bits, want nearly 6 less for each of %d parameters", large, small, n)
	}
	if e, err := Run(t.Context(), cfg, nil); err != nil || !e.Resumed || !bytes.Equal(adapterBytes(t, dir), want) {
		t.Errorf("stopped in between (%v), it ends with other bytes, %v", e.Resumed, err)
	}
	t.Logf("held out %.4f, with 8 bits %.4f; memory %d and %d; saved %d and %d", exact.HeldAfter, bytewise.HeldAfter, exact.MemoryBytes, bytewise.MemoryBytes, large, small)
}

func FuzzState(f *testing.F) {
	f.Add([]byte(stateMagic))
	f.Fuzz(func(t *testing.T, b []byte) { _, _, _, _ = parseState(b) })
}

func TestTheRateRisesAndFalls(t *testing.T) {
	c := Config{Steps: 100, Rate: 1}.orDefaults()
	for step, want := range map[int]float64{0: 0.2, 4: 1, 5: 1, 99: 0.1} {
		if got := c.rate(step); math.Abs(got-want) > 0.01 {
			t.Errorf("at step %d the rate is %v, want %v", step, got, want)
		}
	}
}

// Of a conversation the answers alone are learnt, in the words of the model's own template.
func TestConversationsAreTrainedOn(t *testing.T) {
	dir := folder(t)
	data := filepath.Join(dir, "chats.jsonl")
	var lines strings.Builder
	for i := range 40 {
		fmt.Fprintf(&lines, `{"messages":[{"role":"user","content":"number %d?"},{"role":"assistant","content":"yes yes yes"}]}`+"\n", i)
	}
	write(t, data, lines.String())
	cfg := small(dir)
	cfg.Data = []string{data}
	e, err := Run(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if e.HeldAfter > 1 || e.HeldBefore < 3 {
		t.Errorf("the loss of the answers went from %.2f to %.2f, want it to fall below 1", e.HeldBefore, e.HeldAfter)
	}
}

func TestAWholeModelIsTrainedAndWrittenAsOne(t *testing.T) {
	dir := folder(t)
	cfg := small(dir)
	cfg.Full, cfg.Out, cfg.Name, cfg.Steps, cfg.Rate, cfg.Decay = true, filepath.Join(dir, "made.gguf"), "made", 40, 0.003, 0.01
	ctx, stop := context.WithCancel(t.Context())
	if _, err := Run(ctx, cfg, func(e Event) {
		if e.Step == 20 {
			stop()
		}
	}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want it stopped", err)
	}
	e, err := Run(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !e.Resumed || e.Parameters != 842496 || e.HeldBefore-e.HeldAfter < 2 {
		t.Errorf("got %+v, want 842496 numbers trained, in two parts, to a loss that is at least 2 less", e.Event)
	}
	// What was written, in F16, says of the held-out text what the trainer said in F32.
	o, err := Run(t.Context(), Config{
		Model: cfg.Out, Data: cfg.Data, Out: filepath.Join(dir, "more.gguf"), Full: true, Exact: true,
		Context: cfg.Context, Held: cfg.Held, Threads: 1, Steps: 1,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := math.Abs(o.HeldBefore - e.HeldAfter); d > 1e-3 {
		t.Errorf("the model in the file loses %v a token, the trained one %v", o.HeldBefore, e.HeldAfter)
	}
	for path, want := range map[string]gguf.Type{cfg.Out: gguf.F16, filepath.Join(dir, "more.gguf"): gguf.F32} {
		m, err := gguf.OpenModel(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := m.Tensor("blk.0.attn_q.weight"); got.Type != want {
			t.Errorf("%s is in %v, want %v", path, got.Type, want)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Run(t.Context(), cfg, nil); centram.CodeOf(err) != centram.Conflict {
		t.Errorf("over a model that is there already: got %v, want Conflict", err)
	}
}

func TestLittleDataIsEnough(t *testing.T) {
	const answer = `{"messages":[{"role":"user","content":"%s?"},{"role":"assistant","content":"yes, %s"}]}` + "\n"
	var page strings.Builder
	for i := range 12 {
		fmt.Fprintf(&page, "Boat %d has a mast, and a mast has a sail, and a sail has the wind.\n\n", i)
	}
	for name, text := range map[string]string{
		"page.txt":   page.String(),
		"chat.jsonl": fmt.Sprintf(answer, "one", "one") + fmt.Sprintf(answer, "two", "two"),
	} {
		dir := t.TempDir()
		generate(t, filepath.Join(dir, "model.gguf"), 1)
		write(t, filepath.Join(dir, "data", name), text)
		cfg := small(dir)
		cfg.Held, cfg.Steps = 0.1, 1
		if e, err := Run(t.Context(), cfg, nil); err != nil || e.HeldAfter == 0 {
			t.Errorf("%s: got %v (%v), want a loss on what was held out", name, e.Event, err)
		}
	}
	dir := t.TempDir()
	generate(t, filepath.Join(dir, "model.gguf"), 1)
	write(t, filepath.Join(dir, "data", "chat.jsonl"), fmt.Sprintf(answer, "one", "one"))
	if _, err := Run(t.Context(), small(dir), nil); centram.CodeOf(err) != centram.Invalid || !strings.Contains(err.Error(), "one document") {
		t.Errorf("one document: got %v, want it refused", err)
	}
}
