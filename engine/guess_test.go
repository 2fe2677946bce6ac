package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// prophet guesses for an oracle, right as often as it is said to be.
type prophet struct {
	model *oracleModel
	right float64
	long  int // so many more guesses than were asked for
	rand  *rand.Rand
}

func prophecy(m *oracleModel, right float64) *prophet {
	return &prophet{model: m, right: right, rand: rand.New(rand.NewPCG(1, 2))}
}

func (p *prophet) propose(_ context.Context, wishes []wish) {
	for i := range wishes {
		w := &wishes[i]
		text := slices.Clone(w.text)
		for range w.most + p.long {
			t := p.model.next(text, w.slot.job.adapters)
			if p.rand.Float64() >= p.right {
				t = '#'
			}
			text = append(text, t)
		}
		w.guesses = append(w.guesses[:0], text[len(w.text):]...)
	}
}

// said is all that a client gets to know of an answer.
type said struct {
	text, stop string
	tokens     string
	reason     FinishReason
	generated  int
}

func hear(ctx context.Context, e *Engine, r Request, leave func(length int) bool) (said, Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var got said
	res, err := e.Generate(ctx, r, func(ev Event) error {
		got.text += ev.Text
		for _, t := range ev.Tokens {
			got.tokens += fmt.Sprint(t.Token, string(t.Text), t.Logprob, t.Top)
		}
		if leave != nil && leave(len(got.text)) {
			cancel()
		}
		return nil
	})
	got.stop, got.reason, got.generated = res.StopString, res.Reason, res.GeneratedTokens
	return got, res, err
}

// guessing serves a model whose every window has n guesses of p, or as many as pay if n is zero.
func guessing(t interface{ Fatal(...any) }, m Model, n int, p proposer) *Engine {
	e := New(Config{KeepAlive: -1, Open: func(context.Context, string, func(float64)) (Model, error) { return m, nil }})
	if err := e.Load(context.Background(), "m", 0); err != nil {
		t.Fatal(err)
	}
	s := e.residents["m"].sched
	s.always = n
	if p != nil {
		s.lookup.proposer = p
	}
	return e
}

func TestAnswersWithGuessesAreThoseWithout(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 80
		slots := rapid.IntRange(1, 4).Draw(t, "slots")
		info := newOracle(slots, size).info
		info.BatchSize = rapid.IntRange(4, 64).Draw(t, "batch")
		info.Outputs = rapid.IntRange(0, 40).Draw(t, "outputs")
		alone, m := newOracle(slots, size), newOracle(slots, size)
		m.info = info
		var model Model = m
		switch stages := rapid.IntRange(1, 4).Draw(t, "stages"); {
		case stages > 1 && rapid.Bool().Draw(t, "overlap"):
			model = overlap(newPipeline(m, stages))
		case stages > 1:
			model = newPipeline(m, stages)
		}
		p := prophecy(m, rapid.SampledFrom([]float64{0, 0.5, 0.9, 1}).Draw(t, "right"))
		p.long = rapid.SampledFrom([]int{-1, 0, 5}).Draw(t, "long")
		var proposer proposer = p
		if rapid.IntRange(0, 4).Draw(t, "lookup") == 0 {
			proposer = nil
		}
		e := guessing(t, model, rapid.IntRange(0, 16).Draw(t, "most"), proposer)
		defer e.Close()
		plain := New(Config{KeepAlive: -1, Open: func(context.Context, string, func(float64)) (Model, error) { return alone, nil }})
		defer plain.Close()
		prefix := strings.Repeat(rapid.StringMatching("[x-z]{0,6}").Draw(t, "prefix"), 5)
		var wg sync.WaitGroup
		errs := make(chan error, 64)
		for range rapid.IntRange(1, 10).Draw(t, "requests") {
			r := ask(prefix+rapid.StringMatching("[x-z]{1,20}").Draw(t, "prompt"), rapid.IntRange(0, 30).Draw(t, "max"))
			seed := rapid.Uint32().Draw(t, "seed")
			r.Sampling = Sampling{Temperature: rapid.SampledFrom([]float32{0, 0, 0.3}).Draw(t, "temperature"), Seed: &seed}
			r.Sampling.FrequencyPenalty = rapid.SampledFrom([]float32{0, 1}).Draw(t, "penalty")
			r.Grammar.GBNF = rapid.SampledFrom([]string{"", "", "abcdefgh", "aqrstuvw"}).Draw(t, "grammar")
			r.Stop = rapid.SliceOfN(rapid.StringMatching("[a-z]{1,2}"), 0, 2).Draw(t, "stop")
			r.TopLogprobs = rapid.IntRange(-1, 1).Draw(t, "logprobs")
			if rapid.IntRange(0, 3).Draw(t, "adapter") == 0 {
				r.Adapters = []AdapterScale{{Path: "a", Scale: 1}}
			}
			leaveAt := rapid.IntRange(-20, 10).Draw(t, "leave")
			want, _, err := hear(context.Background(), plain, r, nil)
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				got, res, err := hear(context.Background(), e, r, func(length int) bool { return leaveAt >= 0 && length >= leaveAt })
				switch {
				case errors.Is(err, context.Canceled) && leaveAt >= 0:
					if !strings.HasPrefix(want.text, got.text) {
						errs <- fmt.Errorf("%q: cancelled with %q, which does not begin %q", r.Text, got.text, want.text)
					}
				case err != nil:
					errs <- fmt.Errorf("%q: %w", r.Text, err)
				case got != want:
					errs <- fmt.Errorf("%q: got %+v, want %+v", r.Text, got, want)
				case res.Accepted > res.Guessed || res.Accepted > res.GeneratedTokens:
					errs <- fmt.Errorf("%q: %d of %d guesses accepted in %d tokens", r.Text, res.Accepted, res.Guessed, res.GeneratedTokens)
				}
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			t.Error(err)
		}
		if line, ok := model.(*overlapping); ok && line.slip() != nil {
			t.Error(line.slip())
		}
		s := e.residents["m"].sched
		if busy, queued := s.load(); busy != 0 || queued != 0 {
			t.Errorf("afterwards %d busy and %d queued, want none", busy, queued)
		}
	})
}

func TestGuessesAreMadeAndCounted(t *testing.T) {
	for name, right := range map[string]float64{"right": 1, "wrong": 0} {
		m := newOracle(1, 1000)
		m.endless = true
		e := guessing(t, m, 4, prophecy(m, right))
		defer e.Close()
		_, res, err := hear(t.Context(), e, ask("hello", 100), nil)
		if err != nil {
			t.Fatal(err)
		}
		if g := res.Guesses; name == "right" && (g.Accepted < 75 || g.Guessed != g.Accepted) || name == "wrong" && (g.Guessed < 300 || g.Accepted != 0) {
			t.Errorf("%s: %d of %d accepted in %d steps", name, g.Accepted, g.Guessed, m.steps)
		}
		if got := e.Resident()[0].Guesses; got != res.Guesses {
			t.Errorf("%s: the model counts %+v, its only answer %+v", name, got, res.Guesses)
		}
		steps := m.steps
		r := ask("hello you", 100)
		r.NoSpeculation = true
		if _, res, err := hear(t.Context(), e, r, nil); err != nil || res.Guessed > 0 || m.steps-steps != 100 {
			t.Errorf("%s: without speculation: %+v in %d steps, %v, want no guess in 100 steps", name, res.Guesses, m.steps-steps, err)
		}
	}
}

// A window's guesses behind the end of an answer are gone when the next one comes to the slot.
func TestAConversationGoesOnAfterGuesses(t *testing.T) {
	m := newOracle(2, 1000)
	e := guessing(t, m, 7, prophecy(m, 0.8))
	defer e.Close()
	text, known := "a long beginning", 0
	for range 20 {
		got, res, err := hear(t.Context(), e, ask(text, 9), nil)
		if want := oracle(text, nil, 9, 1000); err != nil || got.text != want {
			t.Fatalf("%q: got %q, %v, want %q", text, got.text, err, want)
		}
		if res.CachedTokens < known {
			t.Errorf("%q: %d tokens reused, want %d", text, res.CachedTokens, known)
		}
		text += got.text
		known = len(text) - 1 // the last one was sampled and never run
		text += " more"
	}
}

func rate(t *testing.T, m *oracleModel, model Model, p proposer, answers, n int) float64 {
	t.Helper()
	e := guessing(t, model, 0, p)
	defer e.Close()
	began := time.Now()
	var wg sync.WaitGroup
	var mu sync.Mutex
	tokens := 0
	for i := range answers {
		wg.Go(func() {
			got, res, err := hear(t.Context(), e, ask(fmt.Sprint("answer ", i), n), nil)
			if err != nil || res.GeneratedTokens != n {
				t.Errorf("got %d tokens, %v, want %d", res.GeneratedTokens, err, n)
			}
			var want strings.Builder
			text, _ := m.Tokenize(fmt.Sprint("answer ", i), true, true)
			for range n {
				next := m.next(text, nil)
				text = append(text, next)
				want.WriteByte(byte(next))
			}
			if got.text != want.String() {
				t.Errorf("got %q, want %q", got.text, want.String())
			}
			mu.Lock()
			tokens += res.GeneratedTokens
			mu.Unlock()
		})
	}
	wg.Wait()
	return float64(tokens) / time.Since(began).Seconds()
}

func rows(each time.Duration) func(int) time.Duration {
	return func(n int) time.Duration { return each * time.Duration(n) }
}

// processor is what rows cost llama.cpp on two cores, measured with a model of the shape of Qwen 2.5 0.5B in Q8_0: one row
// has kernels of its own.
func processor(rows int) time.Duration {
	if rows == 1 {
		return 15 * time.Millisecond
	}
	return 34*time.Millisecond + 2600*time.Microsecond*time.Duration(rows)
}

type nobody struct{}

func (nobody) propose(context.Context, []wish) {}

func TestGuessesThatDoNotPayAreGivenUp(t *testing.T) {
	costs := map[string]func(m *oracleModel){
		"a row costs as much as a step": func(m *oracleModel) { m.each = rows(10 * time.Millisecond) },
		"a row costs half a step":       func(m *oracleModel) { m.delay, m.each = 5*time.Millisecond, rows(5*time.Millisecond) },
		"a row costs a tenth":           func(m *oracleModel) { m.delay, m.each = 9*time.Millisecond, rows(time.Millisecond) },
		"a row costs nothing":           func(m *oracleModel) { m.delay = 10 * time.Millisecond },
		"a second row costs most":       func(m *oracleModel) { m.each = processor },
	}
	for name, cost := range costs {
		for _, answers := range []int{1, 3} {
			for _, pipelined := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					speed := func(right float64) float64 {
						m := newOracle(4, 4000)
						m.endless = true
						cost(m)
						var model Model = m
						if pipelined {
							line := newPipeline(m, 3)
							line.far = 30 * time.Millisecond
							model = overlap(line)
						}
						p := proposer(nobody{})
						if right >= 0 {
							p = prophecy(m, right)
						}
						return rate(t, m, model, p, answers, 300)
					}
					plain := speed(-1)
					for _, right := range []float64{0, 0.3, 0.6, 0.9, 1} {
						got := speed(right)
						t.Logf("%s, %d answers, pipelined %v, %v right: %.2f", name, answers, pipelined, right, got/plain)
						if got < 0.97*plain {
							t.Errorf("%s, %d answers, pipelined %v, %v right: %.1f tokens/s, want no less than %.1f", name, answers, pipelined, right, got, 0.97*plain)
						}
					}
				})
			}
		}
	}
}

// moody is right or wrong by where in the answer it is.
type moody struct {
	*prophet
	right func(length int) bool
}

func (p moody) propose(ctx context.Context, wishes []wish) {
	for i := range wishes {
		p.prophet.right = 0
		if p.right(wishes[i].sure) {
			p.prophet.right = 1
		}
		p.prophet.propose(ctx, wishes[i:i+1])
	}
}

func TestGuessesComeBackWhenTheyPayAgain(t *testing.T) {
	for name, each := range map[string]func(int) time.Duration{"chain": rows(0), "processor": processor} {
		synctest.Test(t, func(t *testing.T) {
			m := newOracle(1, 4000)
			m.endless, m.each, m.delay = true, each, time.Millisecond
			e := guessing(t, m, 0, moody{prophecy(m, 0), func(length int) bool { return length > 600 }})
			defer e.Close()
			arrived := map[int]time.Time{}
			n := 0
			r := ask("x", 1600)
			r.TopLogprobs = 0
			res, err := e.Generate(t.Context(), r, func(ev Event) error {
				n += len(ev.Tokens)
				arrived[n/100*100] = time.Now()
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			before, after := arrived[500].Sub(arrived[100]), arrived[1500].Sub(arrived[1100])
			t.Logf("%s: 400 tokens took %v and then %v; %+v", name, before, after, res.Guesses)
			if after > before/2 {
				t.Errorf("%s: 400 tokens took %v with wrong guesses and %v with right ones, want half", name, before, after)
			}
		})
	}
}

// An answer does not pay for what was right in the ones before.
func TestAnAnswerLikeNoOtherIsAsFastAsWithoutGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newOracle(1, 4000)
		m.endless, m.each = true, processor
		right := true
		e := guessing(t, m, 0, moody{prophecy(m, 0), func(int) bool { return right }})
		defer e.Close()
		var took []time.Duration
		for i := range 8 {
			right = i < 4
			r := ask(fmt.Sprint("answer ", i), 200)
			r.NoSpeculation = i == 7
			_, res, err := hear(t.Context(), e, r, nil)
			if err != nil {
				t.Fatal(err)
			}
			took = append(took, res.GenerateTime)
		}
		t.Log(took)
		if right, plain := took[3], took[7]; right > plain/2 {
			t.Errorf("%v with right guesses, want less than half of the %v without", right, plain)
		}
		for _, wrong := range took[4:7] {
			if plain := took[7]; float64(wrong) > float64(plain)/0.97 {
				t.Errorf("%v with wrong guesses, want hardly more than the %v without", wrong, plain)
			}
		}
	})
}

// What is wrong is found out by looking, not by running it.
func TestWrongGuessesAreHardlyRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newOracle(1, 4000)
		m.endless, m.each = true, processor
		e := guessing(t, m, 0, prophecy(m, 0.2))
		defer e.Close()
		_, res, err := hear(t.Context(), e, ask("x", 1000), nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.Guessed > 20 {
			t.Errorf("%+v in 1000 tokens, want hardly any", res.Guesses)
		}
	})
}

// Whatever goes wrong with guesses under way, an answer is right or says that it failed, and so is the next.
func TestFailedStepsWithGuessesEndAnswersAndNothingElse(t *testing.T) {
	broken := errors.New("the device is gone")
	rapid.Check(t, func(t *rapid.T) {
		m := newOracle(3, 200)
		every, n := rapid.IntRange(2, 30).Draw(t, "every"), 0
		m.fail = func(Batch) error {
			if n++; n%every == 0 {
				return broken
			}
			return nil
		}
		var model Model = m
		pipelined := rapid.Bool().Draw(t, "pipelined")
		if pipelined {
			model = overlap(newPipeline(m, 3))
		}
		e := guessing(t, model, rapid.IntRange(0, 16).Draw(t, "most"), prophecy(m, 0.8))
		defer e.Close()
		var wg sync.WaitGroup
		for range 12 {
			prompt := rapid.StringMatching("[x-z]{1,20}").Draw(t, "prompt")
			wg.Go(func() {
				got, _, err := hear(context.Background(), e, ask(prompt, 40), nil)
				want := oracle(prompt, nil, 40, 200)
				switch {
				case err == nil && got.text != want:
					t.Errorf("got %q, want %q", got.text, want)
				case err != nil && !pipelined && !errors.Is(err, broken): // in a pipeline, what follows a failed step fails otherwise
					t.Errorf("got %v, want %v", err, broken)
				}
			})
		}
		wg.Wait()
		m.mu.Lock()
		m.fail = nil
		m.mu.Unlock()
		for range 3 {
			got, _, err := hear(context.Background(), e, ask("xyz", 40), nil)
			if want := oracle("xyz", nil, 40, 200); err != nil || got.text != want {
				t.Fatalf("afterwards got %q, %v, want %q", got.text, err, want)
			}
		}
	})
}

func TestRightGuessesHideTheNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		speed := func(right float64) float64 {
			m := newOracle(4, 4000)
			m.endless, m.delay, m.each = true, 2*time.Millisecond, rows(time.Millisecond)
			line := newPipeline(m, 3)
			line.far = 100 * time.Millisecond
			p := proposer(nobody{})
			if right > 0 {
				p = prophecy(m, right)
			}
			return rate(t, m, overlap(line), p, 1, 1000)
		}
		plain := speed(0)
		for right, least := range map[float64]float64{1: 3, 0.7: 1.8} {
			got := speed(right)
			t.Logf("%v right: %.1f tokens/s, %.1f without", right, got, plain)
			if got < least*plain {
				t.Errorf("%v right: %.1f tokens/s, want %v times the %.1f without", right, got, least, plain)
			}
		}
	})
}

func TestTheIndexFindsWhatASearchDoes(t *testing.T) {
	search := func(text []Token, n int) []Token {
		for size := longestGram; size >= shortestGram; size-- {
			for at := len(text) - size - 1; at >= 0; at-- {
				if slices.Equal(text[at:at+size], text[max(len(text)-size, 0):]) {
					out := slices.Clone(text)
					for i := range n {
						out = append(out, out[at+size+i])
					}
					return out[len(text):]
				}
			}
		}
		return nil
	}
	rapid.Check(t, func(t *rapid.T) {
		var x ngrams
		for range 2 {
			x.reset()
			letters := rapid.SliceOfN(rapid.Int32Range(0, 4), 0, 80).Draw(t, "text")
			var text []Token
			for _, l := range letters {
				text = append(text, Token(l))
				if rapid.Bool().Draw(t, "look") {
					n := rapid.IntRange(1, 20).Draw(t, "n")
					x.grow(text)
					if got, want := x.guess(nil, text, n), search(text, n); !slices.Equal(got, want) {
						t.Fatalf("%v: got %v, want %v", text, got, want)
					}
				}
			}
		}
	})
}

// BenchmarkLookup is what it costs to look for guesses at each token of a long text.
func BenchmarkLookup(b *testing.B) {
	var x ngrams
	var text, out []Token
	r := rand.New(rand.NewPCG(1, 2))
	for range 32 << 10 {
		text = append(text, Token(r.IntN(3000)))
	}
	x.grow(text)
	b.ReportAllocs()
	for b.Loop() {
		text = append(text, Token(r.IntN(3000)))
		x.grow(text)
		out = x.guess(out[:0], text, mostGuesses)
	}
}
