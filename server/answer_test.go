package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	"github.com/centram/centram"
	"github.com/centram/centram/chats"
	"github.com/centram/centram/engine"
)

func TestAnAnswerIsWrittenAndKept(t *testing.T) {
	n := start(t, nil)
	chat := n.newChat()
	path, answer := n.ask(chat.ID, "", "Say hello")
	if answer.State != chats.Generating || answer.Model != "toy" {
		t.Errorf("got %+v", answer)
	}
	text, final := n.view(path + "/stream?from=0").rest()
	if text != "Hello, world." || final.Content != text || final.State != chats.Done {
		t.Errorf("got %q, then %+v", text, final)
	}
	want := chats.Stats{
		PromptTokens: 7, CachedTokens: 2, GeneratedTokens: 3, PromptMS: 10, GenerateMS: 1500, TokensPerSecond: 2,
		ContextSize: 4096, Finish: "stop",
	}
	if final.Stats == nil || *final.Stats != want {
		t.Errorf("got %+v, want %+v", final.Stats, want)
	}
	got := as[chats.Chat](t, n.send(200, "GET", "/api/v1/chats/"+chat.ID, ""))
	if len(got.Messages) != 2 || got.Messages[1].Content != text || got.Head != answer.ID || got.Title != "Say hello" {
		t.Errorf("got %+v", got)
	}
	if text, _ := n.view(path + "/stream?from=0").rest(); text != "Hello, world." {
		t.Errorf("afterwards: got %q", text)
	}
}

func TestThePromptIsTheBranch(t *testing.T) {
	n := start(t, nil)
	n.send(200, "PUT", "/api/v1/settings", `{"default_model":"TOY:latest","system":"Be kind.","sampling":{"top_k":7,"temperature":0.1}}`)
	chat := as[chats.Chat](t, n.send(201, "POST", "/api/v1/chats", `{"sampling":{"temperature":0,"seed":3,"max_tokens":9}}`))
	path, first := n.ask(chat.ID, "", "one")
	n.view(path + "/stream").rest()
	path, _ = n.ask(chat.ID, first.ID, "two")
	n.view(path + "/stream").rest()
	n.send(200, "PATCH", "/api/v1/chats/"+chat.ID, `{"system":"Be brief."}`)
	path, _ = n.ask(chat.ID, first.ID, "two, edited")
	n.view(path + "/stream").rest()

	got := n.engine.last()
	want := []engine.Message{
		{Role: "system", Content: "Be brief."},
		{Role: "user", Content: "one"},
		{Role: "assistant", Content: "Hello, world."},
		{Role: "user", Content: "two, edited"},
	}
	if fmt.Sprint(got.Chat.Messages) != fmt.Sprint(want) || got.Chat.Continue {
		t.Errorf("got %+v, want %+v", got.Chat, want)
	}
	if s := got.Sampling; s.Temperature != 0 || s.TopK != 7 || s.TopP != 0.95 || *s.Seed != 3 || got.MaxTokens != 9 ||
		got.TopLogprobs != -1 || got.Model != "toy" {
		t.Errorf("got %+v", got)
	}
}

func TestResumeAtEveryCodePoint(t *testing.T) {
	const all = "aé漢🎉👩‍👩‍👧‍👦e\u0301 \u200b\U0010FFFFz"
	n := start(t, nil)
	goOn := make(chan struct{})
	n.engine.says(goOn, "aé漢", "🎉👩‍👩‍👧‍👦", "e\u0301 \u200b\U0010FFFFz")
	chat := n.newChat()
	path, _ := n.ask(chat.ID, "", "q")
	goOn <- struct{}{}
	n.view(path + "/stream").until("aé漢")
	points := []rune(all)
	var viewers []*viewer // while it is written
	for from := range len(points) + 3 {
		viewers = append(viewers, n.view(fmt.Sprintf("%s/stream?from=%d", path, from)))
	}
	goOn <- struct{}{}
	goOn <- struct{}{}
	check := func(when string, from int, v *viewer) {
		t.Helper()
		// One who has more than there is gets what comes after; the final message puts that right.
		limit := min(from, len(points))
		text, final := v.rest()
		if when == "live" && from > 3 {
			if !strings.HasSuffix(all, text) || final.Content != all {
				t.Errorf("live from %d: got %q, then %q", from, text, final.Content)
			}
			return
		}
		if want := string(points[limit:]); text != want || final.Content != all {
			t.Errorf("%s from %d: got %q, then %q; want %q", when, from, text, final.Content, want)
		}
	}
	for from, v := range viewers {
		check("live", from, v)
	}
	for from := range len(points) + 3 {
		check("afterwards", from, n.view(fmt.Sprintf("%s/stream?from=%d", path, from)))
	}
}

func TestDeltasSayWhereTheyBelong(t *testing.T) {
	n := start(t, nil)
	goOn := make(chan struct{})
	pieces := []string{"ä", "🎉🎉", "b", "漢字", "\x00c\xff", "d"}
	n.engine.says(goOn, pieces...)
	path, _ := n.ask(n.newChat().ID, "", "q")
	v := n.view(path + "/stream")
	go func() {
		for range pieces {
			goOn <- struct{}{}
		}
	}()
	got := ""
	for {
		name, data := v.next()
		if name == "done" {
			final := as[chats.Message](t, reply{body: []byte(data)})
			if want := "ä🎉🎉b漢字c\uFFFDd"; got != want || final.Content != want {
				t.Errorf("got %q, then %q; want %q", got, final.Content, want)
			}
			return
		}
		if name != "delta" {
			continue
		}
		d := delta(t, data)
		if want := utf8.RuneCountInString(got); d.From != want {
			t.Errorf("delta %q: got from %d, want %d", d.Text, d.From, want)
		}
		got += d.Text
	}
}

func TestAPageThatIsReloadedMissesNothing(t *testing.T) {
	n := start(t, nil)
	goOn := make(chan struct{})
	n.engine.says(goOn, "One ", "two ", "🎉 ", "three.")
	chat := n.newChat()
	path, answer := n.ask(chat.ID, "", "Count")
	goOn <- struct{}{}
	first := n.view(path + "/stream")
	first.until("One ")
	first.cancel() // the page is closed; the answer goes on
	goOn <- struct{}{}
	var shown string
	eventually(t, "the text in the chat", func() bool {
		got := as[chats.Chat](t, n.send(200, "GET", "/api/v1/chats/"+chat.ID, ""))
		i := slices.IndexFunc(got.Messages, func(m chats.Message) bool { return m.ID == answer.ID })
		shown = got.Messages[i].Content
		return shown == "One two "
	})
	second, third := n.view(fmt.Sprintf("%s/stream?from=%d", path, utf8.RuneCountInString(shown))), n.view(path+"/stream")
	goOn <- struct{}{}
	goOn <- struct{}{}
	if text, _ := second.rest(); shown+text != "One two 🎉 three." {
		t.Errorf("got %q and then %q", shown, text)
	}
	if text, _ := third.rest(); text != "One two 🎉 three." {
		t.Errorf("the other viewer: got %q", text)
	}
}

func TestAViewerThatHasMoreThanThereIsGetsAllOfIt(t *testing.T) {
	n := start(t, nil)
	goOn := make(chan struct{})
	n.engine.says(goOn, "漢字", " and more")
	path, _ := n.ask(n.newChat().ID, "", "q")
	v := n.view(path + "/stream?from=2")
	v.next() // that it waits, so the viewer is there before the text
	goOn <- struct{}{}
	goOn <- struct{}{}
	if got := v.on("漢字"); got != "漢字 and more" {
		t.Errorf("got %q", got)
	}
}

func TestStopKeepsTheTextAndContinueGoesOn(t *testing.T) {
	n := start(t, nil)
	n.engine.does(func(ctx context.Context, _ engine.Request, emit func(engine.Event) error) error {
		if err := emit(engine.Event{Text: "Half an "}); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
	chat := n.newChat()
	path, answer := n.ask(chat.ID, "", "q")
	v := n.view(path + "/stream")
	v.until("Half an ")
	stopped := as[chats.Message](t, n.send(200, "POST", path+"/stop", `{}`))
	if stopped.State != chats.Stopped || stopped.Content != "Half an " || stopped.Error != nil {
		t.Errorf("got %+v", stopped)
	}
	if _, final := v.rest(); final.State != chats.Stopped {
		t.Errorf("the viewer: got %s", final.State)
	}
	if again := as[chats.Message](t, n.send(200, "POST", path+"/stop", `{}`)); again.State != chats.Stopped {
		t.Errorf("again: got %s", again.State)
	}
	n.engine.says(nil, "answer.")
	on := as[chats.Message](t, n.send(200, "POST", path+"/continue", `{}`))
	if on.ID != answer.ID || on.State != chats.Generating {
		t.Errorf("continued: got %+v", on)
	}
	if text, final := n.view(path + "/stream?from=8").rest(); text != "answer." || final.Content != "Half an answer." {
		t.Errorf("got %q, then %q", text, final.Content)
	}
	got := n.engine.last().Chat
	if last := got.Messages[len(got.Messages)-1]; !got.Continue || last.Role != "assistant" || last.Content != "Half an " {
		t.Errorf("got %+v", got)
	}
	sibling := as[chats.Message](t, n.send(201, "POST", path+"/regenerate", `{}`))
	if sibling.Parent != answer.Parent || sibling.ID == answer.ID {
		t.Errorf("regenerated: got %+v", sibling)
	}
}

func TestFailuresAreToldInTheMessage(t *testing.T) {
	n := start(t, nil)
	chat := n.newChat()
	for name, row := range map[string]struct {
		err  error
		want chats.Problem
	}{
		"of the request": {
			centram.Errorf(centram.TooLong, "too long").WithHint("shorten"),
			chats.Problem{Code: centram.TooLong, Message: "too long", Hint: "shorten"},
		},
		"of ours": {errBoom, chats.Problem{Code: centram.Internal, Message: "Something went wrong inside Centram.", Hint: "The log of the daemon says what."}},
		"a panic": {nil, chats.Problem{Code: centram.Internal, Message: "Something went wrong inside Centram.", Hint: "The log of the daemon says what."}},
	} {
		n.engine.does(func(context.Context, engine.Request, func(engine.Event) error) error {
			if row.err == nil {
				panic("secret detail")
			}
			return row.err
		})
		path, _ := n.ask(chat.ID, "", "q")
		_, final := n.view(path + "/stream").rest()
		if final.State != chats.Failed || final.Error == nil || *final.Error != row.want {
			t.Errorf("%s: got %s %+v, want %+v", name, final.State, final.Error, row.want)
		}
	}
}

func TestWaitingIsShown(t *testing.T) {
	n := start(t, nil)
	goOn := make(chan struct{})
	n.engine.does(func(ctx context.Context, r engine.Request, emit func(engine.Event) error) error {
		<-goOn
		n.engine.events.Engine(engine.Change{Name: r.Model, Kind: engine.Loading, Progress: 0.25})
		<-goOn
		if err := emit(engine.Event{Progress: &engine.Progress{Total: 9, Cached: 3, Processed: 5}}); err != nil {
			return err
		}
		<-goOn
		return emit(engine.Event{Text: "x"})
	})
	path, _ := n.ask(n.newChat().ID, "", "q")
	v := n.view(path + "/stream")
	for _, want := range []string{
		`loading {"model":"toy","progress":0}`, `loading {"model":"toy","progress":0.25}`,
		`progress {"total":9,"cached":3,"processed":5}`, `delta {"from":0,"text":"x"}`,
	} {
		name, data := v.next()
		if got := name + " " + data; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if name != "delta" {
			goOn <- struct{}{}
		}
	}
	v.rest()
}

// atOnce are chats of which nothing has to wait, so that what an answer does comes in one order.
type atOnce struct {
	Chats
	finished func() // called when an end is stored
}

func (atOnce) Outline(context.Context, string) (chats.Chat, error) { return chats.Chat{}, nil }

func (atOnce) Path(context.Context, string, string) ([]chats.Message, error) {
	return []chats.Message{{Role: chats.User, Content: "q"}, {Role: chats.Assistant}}, nil
}

func (c atOnce) Finish(_ context.Context, _, id string, o chats.Outcome) (chats.Message, error) {
	if c.finished != nil {
		c.finished()
	}
	return chats.Message{ID: id, State: o.State}, nil
}

func (atOnce) Load(context.Context, string, any) error { return nil }
func (atOnce) Save(context.Context, string, any) error { return nil }

func TestTheFirstNewsOfLoadingIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &scripted{events: NewEvents()}
		e.does(func(ctx context.Context, r engine.Request, _ func(engine.Event) error) error {
			e.events.Engine(engine.Change{Name: r.Model, Kind: engine.Loading, Progress: 0.25})
			<-ctx.Done()
			return ctx.Err()
		})
		a := newAnswers(Config{Engine: e, Chats: atOnce{}, Settings: atOnce{}, Events: e.events}.withDefaults())
		defer a.close()
		err := a.begin("c", "toy", func() (chats.Message, error) { return chats.Message{ID: "m", Model: "toy"}, nil })
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ans, _ := a.find("m")
		if got, want := ans.view(0).wait.data, (loadingEvent{"toy", 0.25}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

func TestAnAnswerContinuedAtItsEndIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &scripted{events: NewEvents()}
		news := e.events.listen()
		defer e.events.unlisten(news)
		store := &atOnce{}
		a := newAnswers(Config{Engine: e, Chats: store, Settings: store, Events: e.events}.withDefaults())
		defer a.close()
		base, end := context.WithCancel(t.Context())
		defer end() // close would wait for an answer that is lost
		a.base = base
		begin := func() {
			err := a.begin("c", "toy", func() (chats.Message, error) {
				return chats.Message{ID: "m", State: chats.Generating}, nil
			})
			if err != nil {
				t.Error(err)
			}
		}
		e.says(nil, "x")
		store.finished = func() {
			store.finished = nil
			e.says(make(chan struct{}), "never")
			begin()
		}
		begin()
		synctest.Wait()
		if _, ok := a.find("m"); !ok {
			t.Error("it cannot be found")
		}
		state := ""
		for len(news) > 0 {
			if m, ok := (<-news).data.(MessageEvent); ok {
				state = m.State
			}
		}
		if state != string(chats.Generating) {
			t.Errorf("the last news of it: got %s, want %s", state, chats.Generating)
		}
	})
}

func TestShutdownInterruptsAnswersAndKeepsTheirText(t *testing.T) {
	n := start(t, nil)
	n.engine.does(func(ctx context.Context, _ engine.Request, emit func(engine.Event) error) error {
		if err := emit(engine.Event{Text: "So far 🎉"}); err != nil {
			return err
		}
		<-ctx.Done()
		return centram.Errorf(centram.Unavailable, "the engine is ending")
	})
	chat := n.newChat()
	path, answer := n.ask(chat.ID, "", "q")
	v, news := n.view(path+"/stream"), n.view("/api/v1/events")
	v.until("So far 🎉")
	if err := n.stop(); err != nil {
		t.Errorf("Run: got %v, want nil", err)
	}
	if _, final := v.rest(); final.State != chats.Interrupted || final.Content != "So far 🎉" {
		t.Errorf("the viewer: got %s %q", final.State, final.Content)
	}
	for name := "x"; name != ""; name, _ = news.next() {
	}
	if m, err := n.chats.Message(t.Context(), chat.ID, answer.ID); err != nil || m.State != chats.Interrupted || m.Content != "So far 🎉" {
		t.Errorf("stored: got %+v, %v", m, err)
	}
}

func TestAKilledDaemonLosesNoTextThatWasSaved(t *testing.T) {
	n := start(t, nil)
	n.engine.does(func(ctx context.Context, _ engine.Request, emit func(engine.Event) error) error {
		if err := emit(engine.Event{Text: "Saved in time"}); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
	chat := n.newChat()
	path, answer := n.ask(chat.ID, "", "q")
	eventually(t, "the text on the disk", func() bool {
		m, err := n.chats.Message(t.Context(), chat.ID, answer.ID)
		return err == nil && m.Content == "Saved in time"
	})
	n.db.Close() // as good as dead: nothing more is written
	n.stop()

	again := startIn(t, n.dir, nil)
	text, final := again.view(path + "/stream").rest()
	if text != "Saved in time" || final.State != chats.Interrupted {
		t.Errorf("got %s %q", final.State, text)
	}
	again.engine.says(nil, ", and continued.")
	again.send(200, "POST", path+"/continue", `{}`)
	if _, final := again.view(path + "/stream").rest(); final.Content != "Saved in time, and continued." || final.State != chats.Done {
		t.Errorf("continued: got %s %q", final.State, final.Content)
	}
}

func TestDeletingAChatStopsItsAnswers(t *testing.T) {
	n := start(t, nil)
	goOn := make(chan struct{})
	n.engine.says(goOn, "never", "ends")
	chat := n.newChat()
	path, _ := n.ask(chat.ID, "", "q")
	v := n.view(path + "/stream")
	n.send(204, "DELETE", "/api/v1/chats/"+chat.ID, "")
	if _, final := v.rest(); final.State != chats.Stopped {
		t.Errorf("got %s, want stopped", final.State)
	}
	n.send(404, "GET", "/api/v1/chats/"+chat.ID, "")
	n.send(404, "GET", path+"/stream", "")
	n.send(404, "POST", path+"/stop", `{}`)
}

func TestManyChatsAtOnce(t *testing.T) {
	n := start(t, nil)
	pieces := strings.SplitAfter(strings.Repeat("word 漢🎉 ", 50), " ")
	n.engine.says(nil, pieces...)
	want := strings.Join(pieces, "")
	var paths []string
	for range 8 {
		path, _ := n.ask(n.newChat().ID, "", "q")
		paths = append(paths, path)
	}
	done := make(chan string)
	for _, path := range paths {
		for from := range 3 {
			v := n.view(fmt.Sprintf("%s/stream?from=%d", path, from))
			go func() { done <- v.on(want[:from]) }()
		}
	}
	for range 24 {
		if got := <-done; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
