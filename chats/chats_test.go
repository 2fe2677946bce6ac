package chats

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/store"
	"github.com/google/uuid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openAt opens the chats in dir at a clock that goes on by a second each time it is read.
func openAt(t *testing.T, dir string) *Store {
	t.Helper()
	db, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return New(Config{DB: db.DB, Now: func() time.Time {
		now = now.Add(time.Second)
		return now
	}})
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func create(t *testing.T, s *Store, title string) Chat {
	t.Helper()
	return must[Chat](t)(s.Create(t.Context(), Draft{Title: title}))
}

// say adds a question and a finished answer, and returns the answer.
func say(t *testing.T, s *Store, chat, parent, question, answer string) Message {
	t.Helper()
	_, a, err := s.Ask(t.Context(), chat, Question{Parent: parent, Content: question, Model: "m"})
	if err != nil {
		t.Fatal(err)
	}
	return must[Message](t)(s.Finish(t.Context(), chat, a.ID, Outcome{Content: answer, State: Done}))
}

func TestAChatComesBackAsItWasMade(t *testing.T) {
	s := openAt(t, t.TempDir())
	temperature, seed := float32(0.5), uint32(7)
	made := must[Chat](t)(s.Create(t.Context(), Draft{
		Title: "T", Model: "qwen", System: "Be brief.", Sampling: Sampling{Temperature: &temperature, Seed: &seed},
	}))
	got := must[Chat](t)(s.Get(t.Context(), made.ID))
	if got.Title != "T" || got.Model != "qwen" || got.System != "Be brief." || *got.Sampling.Temperature != 0.5 ||
		*got.Sampling.Seed != 7 || got.Sampling.TopK != nil || got.Head != "" || len(got.Messages) != 0 {
		t.Errorf("got %+v", got)
	}
	if id, err := uuid.Parse(got.ID); err != nil || id.Version() != 7 {
		t.Errorf("id %s: got version %d (%v), want 7", got.ID, id.Version(), err)
	}
}

func TestMessagesFormATree(t *testing.T) {
	s := openAt(t, t.TempDir())
	c := create(t, s, "")
	a1 := say(t, s, c.ID, "", "What is a tree? "+strings.Repeat("I wonder. ", 20), "A graph.")
	a2 := say(t, s, c.ID, a1.ID, "And a forest?", "Trees.")
	edited := say(t, s, c.ID, a1.ID, "And a meadow?", "Grass.")
	again := must[Message](t)(s.Regenerate(t.Context(), c.ID, a2.ID, "other"))
	if again.Parent != a2.Parent || again.State != Generating || again.Model != "other" {
		t.Errorf("got %+v, want a generating sibling of %s", again, a2.ID)
	}
	got := must[Chat](t)(s.Get(t.Context(), c.ID))
	if got.Head != again.ID || len(got.Messages) != 7 || !strings.HasPrefix(got.Title, "What is a tree? I wonder.") {
		t.Errorf("got head %s, %d messages, title %q", got.Head, len(got.Messages), got.Title)
	}
	var texts []string
	for _, m := range must[[]Message](t)(s.Path(t.Context(), c.ID, edited.ID)) {
		texts = append(texts, m.Content)
	}
	if want := []string{"A graph.", "And a meadow?", "Grass."}; !slices.Equal(texts[1:], want) {
		t.Errorf("got %q, want %q", texts[1:], want)
	}
}

func TestWritesThatBreakTheTreeAreRefused(t *testing.T) {
	s := openAt(t, t.TempDir())
	c, other := create(t, s, ""), create(t, s, "")
	a := say(t, s, c.ID, "", "q", "a")
	user, busy, err := s.Ask(t.Context(), c.ID, Question{Parent: a.ID, Content: "q2"})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(chat, parent string) error {
		_, _, err := s.Ask(t.Context(), chat, Question{Parent: parent, Content: "x"})
		return err
	}
	second := func(_ Message, err error) error { return err }
	head := "nobody"
	_, patchErr := s.Patch(t.Context(), c.ID, Patch{Head: &head})
	for name, row := range map[string]struct {
		err  error
		want centram.Code
	}{
		"unknown chat":        {ask("nobody", ""), centram.NotFound},
		"unknown parent":      {ask(c.ID, "nobody"), centram.Invalid},
		"parent elsewhere":    {ask(other.ID, a.ID), centram.Invalid},
		"parent a question":   {ask(c.ID, user.ID), centram.Invalid},
		"parent being made":   {ask(c.ID, busy.ID), centram.Conflict},
		"continue a question": {second(s.Continue(t.Context(), c.ID, user.ID, "")), centram.Invalid},
		"continue the middle": {second(s.Continue(t.Context(), c.ID, a.ID, "")), centram.Conflict},
		"continue twice":      {second(s.Continue(t.Context(), c.ID, busy.ID, "")), centram.Conflict},
		"finish twice":        {second(s.Finish(t.Context(), c.ID, a.ID, Outcome{State: Done})), centram.NotFound},
		"head elsewhere":      {patchErr, centram.Invalid},
		"delete unknown":      {s.Delete(t.Context(), "nobody"), centram.NotFound},
	} {
		if got := centram.CodeOf(row.err); got != row.want {
			t.Errorf("%s: got %q (%v), want %q", name, got, row.err, row.want)
		}
	}
}

func TestAnswersLeftBehindAreInterruptedWithTheirText(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir)
	c := create(t, s, "")
	_, a, err := s.Ask(t.Context(), c.ID, Question{Content: "q"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetText(t.Context(), a.ID, "Half an answ"); err != nil {
		t.Fatal(err)
	}
	s.db.Close()

	s = openAt(t, dir)
	if n := must[int](t)(s.Interrupt(t.Context())); n != 1 {
		t.Errorf("got %d, want 1", n)
	}
	got := must[Message](t)(s.Message(t.Context(), c.ID, a.ID))
	if got.State != Interrupted || got.Content != "Half an answ" {
		t.Errorf("got %s %q", got.State, got.Content)
	}
	if found, _, err := s.List(t.Context(), Query{Text: "answ"}); err != nil || len(found) != 1 {
		t.Errorf("search: got %v, %v; want the chat", found, err)
	}
	if m := must[Message](t)(s.Continue(t.Context(), c.ID, a.ID, "m")); m.State != Generating || m.Content != "Half an answ" {
		t.Errorf("continued: got %s %q", m.State, m.Content)
	}
}

func TestDeleteLeavesNothing(t *testing.T) {
	s := openAt(t, t.TempDir())
	c := create(t, s, "gone")
	say(t, s, c.ID, say(t, s, c.ID, "", "q", "a").ID, "q2", "a2")
	if err := s.Delete(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"chats", "messages", "documents", "search"} {
		var n int
		if err := s.db.QueryRow(`SELECT COUNT(*) FROM ` + table).Scan(&n); err != nil || n != 0 {
			t.Errorf("%s: got %d rows (%v), want none", table, n, err)
		}
	}
}

func TestListPagesFromTheNewest(t *testing.T) {
	s := openAt(t, t.TempDir())
	var want []string
	for i := range 7 {
		want = append(want, create(t, s, fmt.Sprint("chat ", i)).ID)
	}
	slices.Reverse(want)
	say(t, s, want[6], "", "q", "a") // the oldest becomes the newest
	want = append(want[6:], want[:6]...)
	for _, text := range []string{"", "chat"} {
		var got []string
		for before, more := "", true; more; before = got[len(got)-1] {
			var page []Summary
			var err error
			page, more, err = s.List(t.Context(), Query{Text: text, Limit: 3, Before: before})
			if err != nil || len(page) == 0 {
				t.Fatalf("got %v, %v", page, err)
			}
			for _, c := range page {
				got = append(got, c.ID)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}
