package dp

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/centram/centram"
)

var (
	diary  = Account{"diary", "key 1"}
	budget = Budget{3, 1e-5}
)

func charge(t testing.TB, l *Ledger, a Account, r Run) float64 {
	t.Helper()
	epsilon, err := l.Charge(a, r, budget)
	if err != nil {
		t.Fatal(err)
	}
	return epsilon
}

func TestChargesComposeOverRuns(t *testing.T) {
	var l Ledger
	first := charge(t, &l, diary, Run{0.01, 1.1, 500})
	second := charge(t, &l, diary, Run{0.01, 1.1, 500})
	third := charge(t, &l, diary, Run{0.02, 2, 100})
	want, _ := curve(t, Run{0.01, 1.1, 1000}).Epsilon(1e-5)
	if math.Abs(second-want) > 1e-9 || first >= second || third <= second {
		t.Errorf("got ε %v, %v, %v, want the second %v and each more than the one before", first, second, third, want)
	}
	if third >= first+second {
		t.Errorf("got ε %v for three runs: no better than adding epsilons", third)
	}
	if got, want := l.Runs(diary), []Run{{0.01, 1.1, 1000}, {0.02, 2, 100}}; !slices.Equal(got, want) {
		t.Errorf("got runs %v, want %v", got, want)
	}
}

func TestAccountsAreApart(t *testing.T) {
	var l Ledger
	charge(t, &l, diary, Run{0.01, 1.1, 500})
	for _, other := range []Account{{"letters", "key 1"}, {"diary", "key 2"}} {
		if l.Spent(other) != (Curve{}) {
			t.Errorf("%v: something is spent, want nothing", other)
		}
	}
}

func TestChargeRefusesToGoPastTheBudget(t *testing.T) {
	var l Ledger
	left, err := l.StepsLeft(diary, 0.01, 1.1, budget, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Charge(diary, Run{0.01, 1.1, left + 1}, budget); centram.CodeOf(err) != centram.Forbidden || centram.HintOf(err) == "" {
		t.Errorf("a step more than is left: got %v, want Forbidden with a hint", err)
	}
	if l.Spent(diary) != (Curve{}) {
		t.Error("what was refused was booked")
	}
	charge(t, &l, diary, Run{0.01, 1.1, left - 7})
	if got, _ := l.StepsLeft(diary, 0.01, 1.1, budget, 1<<20); got != 7 {
		t.Errorf("got %d steps left, want 7", got)
	}
	charge(t, &l, diary, Run{0.01, 1.1, 7})
	_, err = l.Charge(diary, Run{0.01, 1.1, 1}, budget)
	if centram.CodeOf(err) != centram.Forbidden || !strings.Contains(err.Error(), "budget of 3 at delta 1e-05") {
		t.Errorf("got %v, want Forbidden that names the budget", err)
	}
	if got, _ := l.StepsLeft(diary, 0.01, 1.1, budget, 1<<20); got != 0 {
		t.Errorf("got %d steps left, want none", got)
	}
}

func encode(t testing.TB, l *Ledger) string {
	t.Helper()
	b, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestLedgerGoesThroughJSONUnchanged(t *testing.T) {
	var l, back Ledger
	charge(t, &l, diary, Run{0.01, 1.1, 500})
	charge(t, &l, Account{"diary", "another"}, Run{0.3, 4, 5})
	charge(t, &l, diary, Run{0.02, 2, 100})
	charge(t, &l, diary, Run{0.01, 1.1, 3})
	text := encode(t, &l)
	if err := json.Unmarshal([]byte(text), &back); err != nil {
		t.Fatal(err)
	}
	if back.Spent(diary) != l.Spent(diary) || !slices.Equal(back.Runs(diary), l.Runs(diary)) {
		t.Error("the ledger that was read is not the one that was written")
	}
	if again := encode(t, &back); again != text {
		t.Errorf("written again it differs:\ngot  %.200s\nwant %.200s", again, text)
	}
	var empty Ledger
	if got, want := encode(t, &empty), `{"version":1,"entries":[]}`; got != want {
		t.Errorf("an empty ledger: got %s, want %s", got, want)
	}
}

func TestLedgerThatWasEditedOrDamagedIsRefused(t *testing.T) {
	var l Ledger
	charge(t, &l, diary, Run{0.01, 1.1, 500})
	text := encode(t, &l)
	entry := text[strings.Index(text, `{"dataset"`) : len(text)-2]
	replace := func(old, by string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("%s is not in the ledger", old)
		}
		return strings.Replace(text, old, by, 1)
	}
	for name, row := range map[string]struct {
		text string
		code centram.Code
	}{
		"newer":            {replace(`"version":1`, `"version":2`), centram.Unsupported},
		"no version":       {`{}`, centram.Unsupported},
		"fewer steps":      {replace(`"steps":500`, `"steps":400`), centram.Invalid},
		"more noise":       {replace(`"sigma":1.1`, `"sigma":1.2`), centram.Invalid},
		"runs taken out":   {replace(text[strings.Index(text, `"runs":`):], `"runs":[]}]}`), centram.Invalid},
		"curve taken out":  {replace(text[strings.Index(text, `"rdp":`):strings.Index(text, `"runs":`)], ``), centram.Invalid},
		"curve cut":        {replace(`"rdp":[`, `"rdp":[],"x":[`), centram.Invalid},
		"impossible steps": {replace(`"steps":500`, `"steps":-500`), centram.Invalid},
		"twice":            {replace(entry, entry+","+entry), centram.Invalid},
		"not JSON":         {text[:len(text)/2], ""},
		"another shape":    {`{"version":1,"entries":{}}`, centram.Invalid},
	} {
		got := Ledger{}
		charge(t, &got, diary, Run{0.5, 3, 1})
		before := got.Spent(diary)
		err := json.Unmarshal([]byte(row.text), &got)
		if err == nil || row.code != "" && centram.CodeOf(err) != row.code {
			t.Errorf("%s: got %v, want code %q", name, err, row.code)
		}
		if got.Spent(diary) != before {
			t.Errorf("%s: the ledger changed all the same", name)
		}
	}
}
