package dp

import (
	"encoding/json"
	"math"
	"slices"
	"strings"

	"github.com/centram/centram"
)

// Account is whose budget is spent on what: a key's on a data set.
type Account struct {
	Dataset string `json:"dataset"` // its id, such as a hash of its contents
	Key     string `json:"key"`     // who publishes, such as a node's id
}

// Ledger remembers what was revealed of each data set. The zero Ledger is empty. Its JSON form is the state to keep.
type Ledger struct {
	entries map[Account]*entry
}

type entry struct {
	Account
	Curve Curve `json:"rdp"` // at the orders 2, 3, ... 512
	Runs  []Run `json:"runs"`
}

// ledgerVersion names the JSON form and how its numbers were computed. Another accountant is another version.
const ledgerVersion = 1

type ledgerFile struct {
	Version int      `json:"version"`
	Entries []*entry `json:"entries"` // sorted by account
}

// Charge books r on a, and returns the ε that is spent with it. If that would be more than b allows, it fails with
// Forbidden and books nothing. It is called, and the ledger kept, before the run's first result is: what was seen cannot
// be taken back, so a run that dies counts.
func (l *Ledger) Charge(a Account, r Run, b Budget) (epsilon float64, err error) {
	if err := b.check(); err != nil {
		return 0, err
	}
	curve, err := r.Curve()
	if err != nil {
		return 0, err
	}
	spent := l.Spent(a)
	total := spent.Add(curve)
	epsilon, _ = total.Epsilon(b.Delta)
	if !total.within(b) {
		now, _ := spent.Epsilon(b.Delta)
		return 0, centram.Errorf(centram.Forbidden,
			"%d more steps on this data would reveal %.4g of a privacy budget of %.4g at delta %.3g; %.4g are spent",
			r.Steps, epsilon, b.Epsilon, b.Delta, now).
			WithHint("Train for fewer steps or with more noise, allow a larger epsilon, or use data that was not trained on yet.")
	}
	if r.Steps == 0 {
		return epsilon, nil
	}
	e := l.entries[a]
	if e == nil {
		if l.entries == nil {
			l.entries = map[Account]*entry{}
		}
		e = &entry{Account: a}
		l.entries[a] = e
	}
	e.Curve = total
	at := slices.IndexFunc(e.Runs, func(o Run) bool { return o.Q == r.Q && o.Sigma == r.Sigma })
	if at < 0 {
		e.Runs = append(e.Runs, r)
	} else {
		e.Runs[at].Steps += r.Steps
	}
	return epsilon, nil
}

// Spent is what was revealed on a.
func (l *Ledger) Spent(a Account) Curve {
	if e := l.entries[a]; e != nil {
		return e.Curve
	}
	return Curve{}
}

// Runs is what was booked on a, runs of equal rate and noise together.
func (l *Ledger) Runs(a Account) []Run {
	if e := l.entries[a]; e != nil {
		return slices.Clone(e.Runs)
	}
	return nil
}

// StepsLeft is how many steps at rate q with noise sigma a's budget still allows, at most most.
func (l *Ledger) StepsLeft(a Account, q, sigma float64, b Budget, most int) (int, error) {
	if err := b.check(); err != nil {
		return 0, err
	}
	one, err := Run{Q: q, Sigma: sigma, Steps: 1}.Curve()
	if err != nil {
		return 0, err
	}
	spent := l.Spent(a)
	low, high := 0, max(most, 0)+1
	for high-low > 1 {
		middle := low + (high-low)/2
		if spent.Add(one.Times(middle)).within(b) {
			low = middle
		} else {
			high = middle
		}
	}
	return low, nil
}

// MarshalJSON implements json.Marshaler. Equal ledgers give equal bytes.
func (l *Ledger) MarshalJSON() ([]byte, error) {
	f := ledgerFile{Version: ledgerVersion, Entries: []*entry{}}
	for _, e := range l.entries {
		f.Entries = append(f.Entries, e)
	}
	slices.SortFunc(f.Entries, func(a, b *entry) int {
		if c := strings.Compare(a.Dataset, b.Dataset); c != 0 {
			return c
		}
		return strings.Compare(a.Key, b.Key)
	})
	return json.Marshal(f)
}

// UnmarshalJSON implements json.Unmarshaler. It fails with Unsupported for a newer version, and with Invalid if the
// curves are not what the runs reveal: a budget must not grow back because a file was damaged or edited.
func (l *Ledger) UnmarshalJSON(b []byte) error {
	var version struct{ Version int }
	if err := json.Unmarshal(b, &version); err != nil {
		return centram.Errorf(centram.Invalid, "the privacy ledger is not JSON: %w", err)
	}
	if version.Version != ledgerVersion {
		return centram.Errorf(centram.Unsupported, "the privacy ledger is of version %d; version %d is known", version.Version, ledgerVersion).
			WithHint("Use the version of the program that wrote it. Without the ledger it is unknown what was revealed.")
	}
	var f struct {
		Entries []struct {
			Account
			Curve []float64 `json:"rdp"`
			Runs  []Run     `json:"runs"`
		}
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return centram.Errorf(centram.Invalid, "the privacy ledger cannot be read: %w", err)
	}
	entries := map[Account]*entry{}
	for _, e := range f.Entries {
		if entries[e.Account] != nil {
			return damaged(e.Account, "it is there twice")
		}
		var want Curve
		for _, r := range e.Runs {
			c, err := r.Curve()
			if err != nil {
				return damaged(e.Account, "one of its runs makes no sense: "+err.Error())
			}
			want = want.Add(c)
		}
		if len(e.Curve) != len(want) {
			return damaged(e.Account, "its curve does not have the orders 2 to 512")
		}
		for i, got := range e.Curve {
			if !(math.Abs(got-want[i]) <= 1e-9*want[i]) {
				return damaged(e.Account, "its curve is not what its runs reveal")
			}
		}
		entries[e.Account] = &entry{Account: e.Account, Curve: Curve(e.Curve), Runs: e.Runs}
	}
	l.entries = entries
	return nil
}

func damaged(a Account, reason string) error {
	return centram.Errorf(centram.Invalid, "the privacy ledger is damaged: of the data set %q, %s", a.Dataset, reason).
		WithHint("Put back a copy of it. Without the ledger it is unknown what was revealed.")
}
