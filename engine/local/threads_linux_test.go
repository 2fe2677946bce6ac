package local

import (
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/gguf"
)

const procStat = `cpu  300 30 60 5000 70 8 9 10 400 40
cpu0 100 10 20 2000 30 3 4 5 200 20
cpu1 200 20 40 3000 40 5 5 5 200 20
intr 12345 0 0
ctxt 5
`

func TestProcessorsTimeIsReadAsLinuxWritesIt(t *testing.T) {
	all := func(int) bool { return true }
	for name, c := range map[string]struct {
		stat       string
		mine       func(int) bool
		processors int
		sum        time.Duration
	}{
		"both":              {procStat, all, 2, 4170 * time.Millisecond},
		"the second":        {procStat, func(cpu int) bool { return cpu == 1 }, 1, 2750 * time.Millisecond},
		"nothing":           {"", all, 0, 0},
		"an old kernel's":   {"cpu0 1 2 3 4\n", all, 0, 0},
		"no number":         {"cpu0 1 2 x 4 5 6 7 8\n", all, 0, -1},
		"no processor":      {"cpux 1 2 3 4 5 6 7 8\n", all, 0, -1},
		"more than a clock": {"cpu0 99999999999999999999 2 3 4 5 6 7 8\n", all, 0, -1},
	} {
		processors, sum, err := busy([]byte(c.stat), c.mine)
		if c.sum < 0 {
			if err == nil {
				t.Errorf("%s: got %d processors and %v, want an error", name, processors, sum)
			}
			continue
		}
		if err != nil || processors != c.processors || sum != c.sum {
			t.Errorf("%s: got %d processors, %v, %v, want %d and %v", name, processors, sum, err, c.processors, c.sum)
		}
	}
	for n := range procStat {
		_, _, _ = busy([]byte(procStat[:n]), all) // none of the beginnings ends the program
	}
}

func TestThreadsThatWaitAreReadAsLinuxWritesIt(t *testing.T) {
	const load = "0.42 1.30 2.07 3/92 12345\n"
	if n, err := waiting([]byte(load)); n != 2 || err != nil {
		t.Errorf("got %d, %v, want the other 2", n, err)
	}
	for _, bad := range []string{"", "0.42 1.30 2.07", "0.42 1.30 2.07 x/92 1", "0.42 1.30 2.07 3"} {
		if n, err := waiting([]byte(bad)); err == nil {
			t.Errorf("%q: got %d, want an error", bad, n)
		}
	}
}

// TestAModelLeavesProcessorsToOtherPrograms has other programs use all processors.
func TestAModelLeavesProcessorsToOtherPrograms(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("there is one processor, which has one thread")
	}
	th := newThreads(0, runtime.NumCPU())
	for range 2 * runtime.NumCPU() {
		c := exec.Command(os.Args[0], "-test.run=^$", "-test.v=false")
		c.Env = append(os.Environ(), burns+"=1")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = c.Process.Kill(), c.Wait() })
	}
	for began := time.Now(); th.choose() > 1; time.Sleep(lookEvery) {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("there are %d threads while %d programs use %d processors, want 1", th.now, 2*runtime.NumCPU(), runtime.NumCPU())
		}
	}
}

const burns = "CENTRAM_TEST_BURNS"

func init() {
	if os.Getenv(burns) == "" {
		return
	}
	for began := time.Now(); time.Since(began) < time.Minute; { // should nobody kill it
	}
	os.Exit(0)
}

// TestATextIsTheSameWithAnyNumberOfThreads has threads come and go between steps.
func TestATextIsTheSameWithAnyNumberOfThreads(t *testing.T) {
	for _, typ := range []gguf.Type{gguf.F32, gguf.Q8_0} {
		t.Run(typ.String(), func(t *testing.T) { sameWithAnyNumber(t, typ) })
	}
}

func sameWithAnyNumber(t *testing.T, typ gguf.Type) {
	shape := gguf.Toy()
	shape.Type = typ
	path := generate(t, t.TempDir(), "toy.gguf", shape)
	const prompt, answer = 600, 40
	var want [][]float32
	for _, c := range []struct {
		name string
		at   func(step int) int
	}{
		{"one", func(int) int { return 1 }},
		{"three", func(int) int { return 3 }},
		{"changing", func(step int) int { return 1 + step%3 }},
	} {
		m, err := Open(t.Context(), path, Config{Context: 1024, Sequences: 2, Threads: 3})
		if err != nil {
			t.Fatal(err)
		}
		m.threads = &threads{at: time.Now().Add(time.Hour)} // it looks at nobody
		var got [][]float32
		for i := range answer {
			m.threads.now = c.at(i)
			b := engine.Batch{Rows: []engine.Row{{Token: engine.Token(65 + i), Pos: prompt + i - 1, Logits: true}}}
			if i == 0 {
				b.Rows = nil
				for pos := range prompt {
					b.Rows = append(b.Rows, engine.Row{Token: engine.Token(65 + pos%26), Pos: pos, Logits: pos == prompt-1})
				}
			}
			out, err := m.Step(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, slices.Clone(out.Logits[0]))
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = got
		}
		for i := range got {
			if !slices.Equal(got[i], want[i]) {
				t.Fatalf("%s: the logits of step %d are %v..., want %v...", c.name, i, got[i][:3], want[i][:3])
			}
		}
	}
}
