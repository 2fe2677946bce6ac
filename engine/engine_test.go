package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/centram/centram"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serving(t interface{ Cleanup(func()) }, m *oracleModel) *Engine {
	e := New(Config{KeepAlive: -1, Open: func(context.Context, string, func(float64)) (Model, error) { return m, nil }})
	t.Cleanup(func() { e.Close() })
	return e
}

func ask(prompt string, max int) Request {
	return Request{Model: "m", Text: prompt, MaxTokens: max, TopLogprobs: -1}
}

func nothing(Event) error { return nil }

func TestAnswersAreThoseOfTheModelAloneWhateverHappensBesideThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 80
		m := newOracle(rapid.IntRange(1, 4).Draw(t, "slots"), size)
		m.info.BatchSize = rapid.IntRange(4, 64).Draw(t, "batch")
		var model Model = m
		if stages := rapid.IntRange(1, 4).Draw(t, "stages"); stages > 1 {
			model = newPipeline(m, stages)
		}
		e := New(Config{KeepAlive: -1, Open: func(context.Context, string, func(float64)) (Model, error) { return model, nil }})
		defer e.Close()
		var wg sync.WaitGroup
		errs := make(chan error, 64)
		prefix := rapid.StringMatching("[x-z]{0,30}").Draw(t, "prefix")
		for range rapid.IntRange(1, 12).Draw(t, "requests") {
			r := ask(prefix+rapid.StringMatching("[x-z]{1,20}").Draw(t, "prompt"), rapid.IntRange(0, 30).Draw(t, "max"))
			if rapid.IntRange(0, 3).Draw(t, "adapter") == 0 {
				r.Adapters = []AdapterScale{{Path: "a", Scale: 1}}
			}
			cancelAt := rapid.IntRange(-20, 10).Draw(t, "cancel")
			r.Background = rapid.Bool().Draw(t, "background")
			wg.Go(func() {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				var got strings.Builder
				res, err := e.Generate(ctx, r, func(ev Event) error {
					got.WriteString(ev.Text)
					if cancelAt >= 0 && got.Len() >= cancelAt {
						cancel()
					}
					return nil
				})
				want := oracle(r.Text, r.Adapters, r.MaxTokens, size)
				switch {
				case errors.Is(err, context.Canceled) && cancelAt >= 0:
					if !strings.HasPrefix(want, got.String()) {
						errs <- fmt.Errorf("%q: cancelled with %q, which does not begin %q", r.Text, got.String(), want)
					}
				case err != nil:
					errs <- fmt.Errorf("%q: %w", r.Text, err)
				case got.String() != want || res.Message.Content != want:
					errs <- fmt.Errorf("%q: got %q (result %q), want %q", r.Text, got.String(), res.Message.Content, want)
				}
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			t.Error(err)
		}
		if busy, queued := e.residents["m"].sched.load(); busy != 0 || queued != 0 {
			t.Errorf("afterwards %d busy and %d queued, want none", busy, queued)
		}
	})
}

func TestAClientThatLeavesFreesItsSlotWithinOneStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newOracle(1, 4000)
		m.delay = time.Second
		e := serving(t, m)
		ctx, cancel := context.WithCancel(t.Context())
		var left time.Time
		go func() {
			time.Sleep(2500 * time.Millisecond)
			left = time.Now()
			cancel()
		}()
		_, err := e.Generate(ctx, ask(strings.Repeat("long ", 100), 0), nothing)
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want context.Canceled", err)
		}
		if took := time.Since(left); took > time.Second {
			t.Errorf("the slot was free %v after the client left, want at most the step's 1s", took)
		}
		if busy, _ := e.residents["m"].sched.load(); busy != 0 {
			t.Errorf("%d slots busy, want 0", busy)
		}
	})
}

func TestAConversationIsNotReadTwice(t *testing.T) {
	m := newOracle(2, 1000)
	e := serving(t, m)
	first, err := e.Generate(t.Context(), ask("a long beginning", 8), nothing)
	if err != nil {
		t.Fatal(err)
	}
	next := "a long beginning" + first.Message.Content + " and more"
	second, err := e.Generate(t.Context(), ask(next, 8), nothing)
	if err != nil {
		t.Fatal(err)
	}
	// The last token of the first answer was sampled but never run.
	if want := len(next) - len(" and more") - 1; second.CachedTokens != want {
		t.Errorf("second request reused %d tokens, want %d", second.CachedTokens, want)
	}
	if want := oracle(next, nil, 8, 1000); second.Message.Content != want {
		t.Errorf("got %q, want %q", second.Message.Content, want)
	}
}

func TestWhoWantsNoPiecesGetsTheSameResult(t *testing.T) {
	e := serving(t, newOracle(2, 1000))
	for i := range 20 {
		prompt := fmt.Sprint("prompt ", i)
		got, err := e.Generate(t.Context(), ask(prompt, 30), nil)
		if want := oracle(prompt, nil, 30, 1000); err != nil || got.Message.Content != want {
			t.Errorf("got %q, %v, want %q", got.Message.Content, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Generate(ctx, ask("gone", 30), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that was cancelled: got %v", err)
	}
}

// All slots hold the same short beginning, as those of chats with one system prompt do, too short to be worth a copy.
func TestASlotKeepsTheShortBeginningItHas(t *testing.T) {
	e := serving(t, newOracle(3, 1000))
	for round := range 4 {
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				prompt := fmt.Sprintf("ab%d%d and something else", round, i)
				got, err := e.Generate(t.Context(), ask(prompt, 8), nothing)
				if err != nil {
					t.Error(err)
					return
				}
				if round > 0 && got.CachedTokens < len("ab") {
					t.Errorf("round %d: %d tokens reused, want the common %d", round, got.CachedTokens, len("ab"))
				}
				if want := oracle(prompt, nil, 8, 1000); got.Message.Content != want {
					t.Errorf("got %q, want %q", got.Message.Content, want)
				}
			})
		}
		wg.Wait()
	}
}

func TestAPromptOverTheContextIsRefusedWithTheNumbers(t *testing.T) {
	e := serving(t, newOracle(1, 50))
	_, err := e.Generate(t.Context(), ask(strings.Repeat("x", 50), 1), func(Event) error { t.Error("emitted"); return nil })
	var ce *centram.Error
	if !errors.As(err, &ce) || ce.Code != centram.TooLong || ce.Details["n_prompt_tokens"] != 50 || ce.Details["n_ctx"] != 50 {
		t.Errorf("got %v, want %s with n_prompt_tokens 50 and n_ctx 50", err, centram.TooLong)
	}
}

func TestAnAnswerEndsWhenTheContextIsFull(t *testing.T) {
	e := serving(t, newOracle(1, 20))
	for i := range 50 { // one of them reaches the end of the context
		prompt := fmt.Sprint("p", i)
		got, err := e.Generate(t.Context(), ask(prompt, 0), nothing)
		if err != nil {
			t.Fatal(err)
		}
		if want := oracle(prompt, nil, 0, 20); got.Message.Content != want {
			t.Fatalf("%s: got %q, want %q", prompt, got.Message.Content, want)
		}
		if len(prompt)+got.GeneratedTokens == 20 && got.Reason != FinishLength {
			t.Fatalf("%s: got reason %s, want %s", prompt, got.Reason, FinishLength)
		}
	}
}

func TestAFailedStepEndsItsAnswersAndNoOthers(t *testing.T) {
	m := newOracle(1, 1000)
	e := serving(t, m)
	broken := errors.New("the device is gone")
	m.fail = func(b Batch) error {
		if b.Rows[len(b.Rows)-1].Pos > 5 {
			return broken
		}
		return nil
	}
	if _, err := e.Generate(t.Context(), ask("0123456789", 0), nothing); !errors.Is(err, broken) {
		t.Fatalf("got %v, want %v", err, broken)
	}
	m.fail = nil
	got, err := e.Generate(t.Context(), ask("0123456789", 5), nothing)
	if want := oracle("0123456789", nil, 5, 1000); err != nil || got.Message.Content != want {
		t.Errorf("after the failure got %q, %v, want %q", got.Message.Content, err, want)
	}
}

func TestBackgroundRequestsWaitForTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newOracle(1, 1000)
		m.delay = time.Second
		e := serving(t, m)
		var mu sync.Mutex
		var order []string
		var wg sync.WaitGroup
		for _, name := range []string{"running", "title", "person"} {
			wg.Go(func() {
				r := ask(name, 3)
				r.Background = name == "title"
				e.Generate(t.Context(), r, nothing)
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
			})
			time.Sleep(100 * time.Millisecond)
		}
		wg.Wait()
		if got, want := fmt.Sprint(order), "[running person title]"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestTheLeastRecentlyUsedModelMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes []string
		var mu sync.Mutex
		e := New(Config{
			Open:         func(context.Context, string, func(float64)) (Model, error) { return newOracle(1, 100), nil },
			Estimate:     func(string) (uint64, error) { return 100, nil },
			MemoryBudget: 250,
			Changed: func(c Change) {
				mu.Lock()
				defer mu.Unlock()
				changes = append(changes, fmt.Sprint(c.Name, " ", c.Kind))
			},
		})
		defer e.Close()
		for _, name := range []string{"a", "b", "a", "c"} {
			time.Sleep(time.Second)
			if err := e.Load(t.Context(), name, 0); err != nil {
				t.Fatal(err)
			}
		}
		var names []string
		for _, r := range e.Resident() {
			names = append(names, r.Name)
		}
		if got := fmt.Sprint(names); got != "[a c]" {
			t.Errorf("resident %s, want [a c]; changes %v", got, changes)
		}
	})
}

func TestAnUnusedModelIsUnloadedWhenItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newOracle(1, 100)
		e := New(Config{KeepAlive: time.Minute, Open: func(context.Context, string, func(float64)) (Model, error) { return m, nil }})
		defer e.Close()
		e.Load(t.Context(), "m", 0)
		time.Sleep(59 * time.Second)
		e.Load(t.Context(), "m", 0)
		time.Sleep(59 * time.Second)
		if n := len(e.Resident()); n != 1 {
			t.Fatalf("after 59s: %d resident, want 1", n)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := len(e.Resident()); n != 0 || !m.shut {
			t.Errorf("after 61s: %d resident, closed %v, want 0 and true", n, m.shut)
		}
	})
}

func TestUnloadEndsAnswersUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newOracle(1, 1000)
		m.delay = time.Second
		e := serving(t, m)
		done := make(chan error)
		go func() {
			_, err := e.Generate(t.Context(), ask("hello", 0), nothing)
			done <- err
		}()
		time.Sleep(1500 * time.Millisecond)
		if err := e.Unload(t.Context(), "m"); err != nil {
			t.Fatal(err)
		}
		if err := <-done; centram.CodeOf(err) != centram.Unavailable {
			t.Errorf("got %v, want %s", err, centram.Unavailable)
		}
		if err := e.Unload(t.Context(), "m"); centram.CodeOf(err) != centram.NotFound {
			t.Errorf("second unload: got %v, want %s", err, centram.NotFound)
		}
	})
}

func TestAFailedLoadIsTriedAgainByTheNextRequest(t *testing.T) {
	broken := true
	e := New(Config{Open: func(context.Context, string, func(float64)) (Model, error) {
		if broken {
			return nil, centram.Errorf(centram.Unavailable, "the disk sleeps")
		}
		return newOracle(1, 100), nil
	}})
	defer e.Close()
	if _, err := e.Generate(t.Context(), ask("x", 1), nothing); centram.CodeOf(err) != centram.Unavailable {
		t.Fatalf("got %v, want %s", err, centram.Unavailable)
	}
	broken = false
	if _, err := e.Generate(t.Context(), ask("x", 1), nothing); err != nil {
		t.Errorf("got %v, want an answer", err)
	}
}

// mortalModel is a model that the test can end.
type mortalModel struct {
	*oracleModel
	over chan struct{}
}

func (m *mortalModel) Ended() <-chan struct{} { return m.over }

func TestAModelThatHasEndedIsLoadedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var models []*mortalModel
		opened := make(chan struct{}, 2)
		e := New(Config{KeepAlive: -1, Open: func(context.Context, string, func(float64)) (Model, error) {
			m := &mortalModel{newOracle(2, 1000), make(chan struct{})}
			m.delay = time.Second
			m.fail = func(Batch) error {
				select {
				case <-m.over:
					return centram.Errorf(centram.Unavailable, "a machine is lost")
				default:
					return nil
				}
			}
			models = append(models, m)
			opened <- struct{}{}
			return m, nil
		}})
		defer e.Close()
		under := make(chan error)
		go func() {
			_, err := e.Generate(t.Context(), ask("hello", 0), nothing)
			under <- err
		}()
		<-opened
		time.Sleep(1500 * time.Millisecond)
		close(models[0].over)
		next := make(chan error) // comes before the answer under way has ended
		go func() {
			_, err := e.Generate(t.Context(), ask("hello", 1), nothing)
			next <- err
		}()
		if err := <-under; err == nil || err.Error() != "a machine is lost" {
			t.Errorf("the answer under way ended with %v, want the model's own reason", err)
		}
		if err := <-next; err != nil {
			t.Errorf("the next one ended with %v, want an answer", err)
		}
		if len(models) != 2 || !models[0].shut {
			t.Errorf("%d models were loaded and the first is closed: %v, want 2 and true", len(models), models[0].shut)
		}
		close(models[1].over)
		synctest.Wait()
		if list := e.Resident(); len(list) != 0 || !models[1].shut {
			t.Errorf("after one has ended that nobody used, %v are there, want none", list)
		}
	})
}
