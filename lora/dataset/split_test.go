package dataset

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/centram/centram"
	"pgregory.net/rapid"
)

func numbered(n int) []Item {
	items := make([]Item, n)
	for i := range items {
		items[i] = Item{Text: fmt.Sprintf("text number %d", i), File: "a", Line: i + 1}
	}
	return items
}

// where says in which set each text is.
func where(s Sets) map[string]string {
	out := map[string]string{}
	for name, set := range map[string][]Item{"train": s.Train, "held": s.Held, "gate": s.Gate} {
		for _, it := range set {
			out[it.Text] += name
		}
	}
	return out
}

func TestSetsHaveTheirSharesAndNeverMix(t *testing.T) {
	items := numbered(4000)
	sets, err := Split(append(items, items...), Fractions{Held: 0.1, Gate: 0.05}) // each twice
	if err != nil {
		t.Fatal(err)
	}
	if got := len(sets.Train) + len(sets.Held) + len(sets.Gate); got != 8000 {
		t.Errorf("got %d items, want all 8000", got)
	}
	for text, sets := range where(sets) {
		if sets != "traintrain" && sets != "heldheld" && sets != "gategate" {
			t.Fatalf("%q is in the sets %s", text, sets)
		}
	}
	for name, row := range map[string]struct {
		got  int
		want float64
	}{"held": {len(sets.Held), 800}, "gate": {len(sets.Gate), 400}} {
		if math.Abs(float64(row.got)-row.want) > 150 {
			t.Errorf("%s has %d, want about %v", name, row.got, row.want)
		}
	}
}

func TestMoreDataMovesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := Fractions{rapid.Float64Range(0.05, 0.3).Draw(t, "held"), rapid.Float64Range(0.05, 0.3).Draw(t, "gate")}
		some, err := Split(numbered(rapid.IntRange(200, 300).Draw(t, "some")), f)
		if err != nil {
			t.Skip(err)
		}
		items := numbered(600)
		for i, j := range Order(len(items), 1, 0) {
			items[i], items[j] = items[j], items[i]
		}
		all, err := Split(items, f)
		if err != nil {
			t.Fatal(err)
		}
		now := where(all)
		for text, was := range where(some) {
			if now[text] != was {
				t.Errorf("%q moved from %s to %s", text, was, now[text])
			}
		}
	})
}

func TestGrowingOneFractionLeavesTheOtherSetAlone(t *testing.T) {
	items := numbered(1000)
	a, err := Split(items, Fractions{0.1, 0.1})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Split(items, Fractions{0.3, 0.1})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a.Gate, b.Gate) {
		t.Error("the gate changed with the held-out fraction")
	}
}

func TestCopiesThatDifferInWhiteSpaceOnlyStayTogether(t *testing.T) {
	a := Item{Text: "tea  and\nrain ", File: "a", Line: 1}
	b := Item{Text: "tea and rain", File: "b", Line: 9, More: true}
	if a.Sum() != b.Sum() {
		t.Error("white space counts")
	}
	for _, other := range []Item{
		{Text: "tea and  snow"},
		{Messages: []Message{{User, "tea and rain"}}},
		{Messages: []Message{{Assistant, "tea and rain"}}},
		{Messages: []Message{{User, "tea"}, {User, "and rain"}}},
	} {
		if other.Sum() == b.Sum() {
			t.Errorf("%+v has the same sum as %+v", other, b)
		}
	}
}

func TestTooLittleDataIsRefusedWithHowMuchIsNeeded(t *testing.T) {
	for _, n := range []int{0, 1, 2} {
		_, err := Split(numbered(n), Fractions{Held: 0.02, Gate: 0.02})
		if centram.CodeOf(err) != centram.Invalid || !strings.Contains(centram.HintOf(err), "about 228 documents") {
			t.Errorf("%d items: got %v, hint %q, want one that says 228", n, err, centram.HintOf(err))
		}
	}
	if _, err := Split(numbered(228), Fractions{Held: 0.02, Gate: 0.02}); err != nil {
		t.Errorf("228 items: got %v, want sets", err)
	}
	if s, err := Split(numbered(1), Fractions{}); err != nil || len(s.Train) != 1 {
		t.Errorf("one item, all for training: got %v, %v", s, err)
	}
	for _, f := range []Fractions{{-0.1, 0}, {0, 1}, {0.5, 0.5}, {math.NaN(), 0}} {
		if _, err := Split(numbered(100), f); centram.CodeOf(err) != centram.Invalid {
			t.Errorf("%v: got %v, want Invalid", f, err)
		}
	}
}

// Which set a text is in is a promise: it must not change from one version to the next.
func TestSplitIsTheSameForEver(t *testing.T) {
	sets, err := Split(numbered(40), Fractions{0.2, 0.2})
	if err != nil {
		t.Fatal(err)
	}
	var held, gate []int
	for _, it := range sets.Held {
		held = append(held, it.Line)
	}
	for _, it := range sets.Gate {
		gate = append(gate, it.Line)
	}
	if got, want := fmt.Sprint(held, gate), "[1 4 7 10 36 40] [9 17 29 30 32 37]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
