package rbsr

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite the golden files")

type result struct {
	have, need    []ID
	bytes, rounds int
}

// reconcile runs a session of a with the side that respond plays.
func reconcile(t rapid.TB, c Config, a Set, respond func(msg []byte) []byte) result {
	t.Helper()
	var r result
	s, msg := c.Start(a)
	for msg != nil {
		reply := respond(msg)
		r.bytes, r.rounds = r.bytes+len(msg)+len(reply), r.rounds+1
		if limit := c.draft(a).limit; len(msg) > limit {
			t.Fatalf("round %d: a message of %d bytes, at most %d are allowed", r.rounds, len(msg), limit)
		}
		next, have, need, err := s.Next(reply)
		if err != nil {
			t.Fatalf("round %d: %v", r.rounds, err)
		}
		r.have, r.need, msg = append(r.have, have...), append(r.need, need...), next
	}
	return r
}

// with plays the passive side with a set that holds still.
func with(t rapid.TB, c Config, b Set) func([]byte) []byte {
	return func(msg []byte) []byte {
		t.Helper()
		reply, err := c.Respond(b, msg)
		if err != nil {
			t.Fatal(err)
		}
		if limit := c.draft(b).limit; len(reply) > limit {
			t.Fatalf("a reply of %d bytes, at most %d are allowed", len(reply), limit)
		}
		return reply
	}
}

// minus is what is in a and not in b.
func minus(a, b Set) []ID {
	return slices.DeleteFunc(slices.Collect(a.Range(ID{}, ID{})), b.Has)
}

func equal(got, want []ID) bool {
	slices.SortFunc(got, compare)
	return slices.Equal(got, want)
}

// pair draws two sets that share some ids: with shares of none and all they are empty, equal, disjoint or subsets. Clustered
// ids keep 8 random bytes, because sums of less would agree by chance.
func pair(t *rapid.T) (a, b Set) {
	prefix := rapid.SampledFrom([]int{0, 0, 1, 5, 24}).Draw(t, "prefix")
	seed := rapid.IntRange(0, 1<<20).Draw(t, "seed")
	share := rapid.SampledFrom([]byte{0, 1, 10, 128, 250, 255})
	both, onlyA := share.Draw(t, "share in both"), share.Draw(t, "share of the rest in a")
	for i := range rapid.IntRange(0, 3000).Draw(t, "ids") {
		h := id(seed<<20 + i)
		dice, id := h[31:], clustered(id(i), prefix)
		switch {
		case dice[0] < both || both == 255:
			a.Insert(id)
			b.Insert(id)
		case h[30] < onlyA || onlyA == 255:
			a.Insert(id)
		default:
			b.Insert(id)
		}
	}
	return a, b
}

func config(t *rapid.T, who string) Config {
	return Config{MaxMessage: rapid.SampledFrom([]int{0, 1, 1 << 10, 1500, 5000}).Draw(t, who)}
}

func TestTheActiveSideEndsWithBothDifferences(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := pair(t)
		active, passive := config(t, "active limit"), config(t, "passive limit")
		got := reconcile(t, active, a, with(t, passive, b))
		if want := minus(a, b); !equal(got.have, want) {
			t.Fatalf("has %d ids more, want %d", len(got.have), len(want))
		}
		if want := minus(b, a); !equal(got.need, want) {
			t.Fatalf("needs %d ids, want %d", len(got.need), len(want))
		}
		// The first open range is settled within 6 rounds, and others with it whose lists fit into a message.
		lists := min(active.draft(a).limit, passive.draft(b).limit) / (fewIDs*idSize + 2*maxHead)
		if most := 6 * (2 + (len(got.have)+len(got.need))/lists); got.rounds > most {
			t.Fatalf("%d rounds for %d differences, want %d at most", got.rounds, len(got.have)+len(got.need), most)
		}
	})
}

func TestChangesMeanwhileHideNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := pair(t)
		startA, startB := a, b
		haveAtLeast, needAtLeast := NewSet(minus(a, b)), NewSet(minus(b, a))
		toAndFro := rapid.SliceOfN(rapid.IntRange(0, 4000), 0, 10)
		changed := map[ID]bool{}
		change := func(s *Set, label string) {
			for _, i := range toAndFro.Draw(t, label) {
				changed[id(i)] = true
				if !s.Insert(id(i)) {
					s.Remove(id(i))
				}
			}
		}
		passive := config(t, "passive limit")
		got := reconcile(t, config(t, "active limit"), a, func(msg []byte) []byte {
			change(&a, "change of a")
			change(&b, "change of b")
			return with(t, passive, b)(msg)
		})
		for id := range changed {
			haveAtLeast.Remove(id)
			needAtLeast.Remove(id)
		}
		have, need := NewSet(got.have), NewSet(got.need)
		if missed := len(minus(haveAtLeast, have)) + len(minus(needAtLeast, need)); missed > 0 {
			t.Errorf("%d differences are missed that were there all the time", missed)
		}
		for _, id := range minus(have, haveAtLeast) {
			if !changed[id] || !startA.Has(id) {
				t.Errorf("says it has %x more, which the peer had all the time, or itself had not", id)
			}
		}
		for _, id := range minus(need, needAtLeast) {
			if !changed[id] || startA.Has(id) && startB.Has(id) {
				t.Errorf("says it needs %x, which it had", id)
			}
		}
	})
}

// differing returns two sets of n ids together, of which differences, shared out evenly, are in one of them only.
func differing(all Set, ids []ID, differences int) (a, b Set) {
	a, b = all, all
	for i := range differences {
		if i%2 == 0 {
			a.Remove(ids[i])
		} else {
			b.Remove(ids[i])
		}
	}
	return a, b
}

// The bounds are what the prototype took, and 8 rounds where it did not say. A round is a message and its reply.
func TestTheCostIsThatOfThePrototype(t *testing.T) {
	type cell struct{ bytes, rounds int }
	differences := []int{0, 1, 10, 100, 1000}
	var table strings.Builder
	for _, row := range []struct {
		n         int
		prototype [5]cell
	}{
		{1_000, [5]cell{{369, 1}, {908, 2}, {4_600, 2}, {17_000, 8}, {25_000, 8}}},
		{10_000, [5]cell{{369, 1}, {1_100, 2}, {6_500, 2}, {46_000, 8}, {175_000, 8}}},
		{100_000, [5]cell{{369, 1}, {1_600, 3}, {10_600, 3}, {81_000, 8}, {484_000, 8}}},
	} {
		ids := idsFrom(0, row.n)
		all := NewSet(ids)
		fmt.Fprintf(&table, "\n%7d ids", row.n)
		for i, prototype := range row.prototype {
			a, b := differing(all, ids, differences[i])
			got := reconcile(t, Config{}, a, with(t, Config{}, b))
			fmt.Fprintf(&table, " %9d B %2d", got.bytes, got.rounds)
			if len(got.have)+len(got.need) != differences[i] {
				t.Errorf("%d of %d: found %d and %d", differences[i], row.n, len(got.have), len(got.need))
			}
			if got.bytes > prototype.bytes*5/4 || got.rounds > prototype.rounds {
				t.Errorf("%d of %d: %d bytes, %d rounds, want 1.25 times %d, and %d at most",
					differences[i], row.n, got.bytes, got.rounds, prototype.bytes, prototype.rounds)
			}
		}
	}
	t.Logf("bytes both ways and rounds for %d differences%s", differences, table.String())
}

func TestAPeerWithNothingIsToldSoInPieces(t *testing.T) {
	a := NewSet(idsFrom(0, 20_000))
	c := Config{}
	s, msg := c.Start(a)
	most := 2 * c.draft(a).limit / idSize
	for msg != nil {
		next, have, need, err := s.Next(with(t, c, Set{})(msg))
		if err != nil || len(have) > most || len(need) > 0 {
			t.Fatalf("got %d and %d ids at once, %v, want %d and 0 at most", len(have), len(need), err, most)
		}
		msg = next
	}
	if s.view.Len() != 0 {
		t.Errorf("%d ids were not found", s.view.Len())
	}
}

func TestAPeerWithoutEndIsLeft(t *testing.T) {
	s, _ := Config{MaxRounds: 5}.Start(NewSet(idsFrom(0, 1000)))
	for round := 1; ; round++ {
		d := Config{}.draft(Set{})
		d.add(hash, ID{}, bytes.Repeat([]byte{byte(round)}, 16))
		next, _, _, err := s.Next(d.finish())
		switch {
		case round < 5 && (err != nil || next == nil):
			t.Fatalf("round %d: got %x, %v, want a message", round, next, err)
		case round == 5:
			if !errors.Is(err, ErrNoEnd) || next != nil {
				t.Errorf("round 5: got %x, %v, want ErrNoEnd", next, err)
			}
			return
		}
	}
}

// samples are one good message of each side and each kind: the first, fingerprints with what is settled between, and lists.
func samples(t testing.TB) map[string][]byte {
	ids := idsFrom(0, 300)
	a, b := differing(NewSet(ids), ids, 4)
	s, opening := Config{}.Start(a)
	parts := with(t, Config{}, b)(opening)
	wants, _, _, err := s.Next(parts)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"opening": opening,
		"parts":   parts,
		"wants":   wants,
		"lists":   with(t, Config{}, b)(wants),
	}
}

func TestMessagesHaveTheirGoldenBytes(t *testing.T) {
	for name, msg := range samples(t) {
		path := "testdata/" + name + ".hex"
		text := lines(t, msg)
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if text != string(want) {
			t.Errorf("%s: got\n%swant\n%s", name, text, want)
		}
	}
}

// lines writes a message in hexadecimal, a range a line.
func lines(t testing.TB, msg []byte) string {
	var b strings.Builder
	at := 0
	for sp, err := range spans(msg) {
		if err != nil {
			t.Fatal(err)
		}
		n := len(encode(sp))
		b.WriteString(hex.EncodeToString(msg[at:at+n]) + "\n")
		at += n
	}
	return b.String()
}

// encode writes a range by the table of the package comment.
func encode(sp span) []byte {
	bound := bytes.TrimRight(sp.to[:], "\x00")
	b := append([]byte{byte(sp.kind)<<6 | byte(len(bound))}, bound...)
	switch sp.kind {
	case hash:
		b = append(b, sp.fingerprint[:]...)
	case list:
		b = append(b, byte(len(sp.ids)>>8), byte(len(sp.ids)))
		for _, id := range sp.ids {
			b = append(b, id[:]...)
		}
	}
	return b
}

func TestEveryPrefixIsRefused(t *testing.T) {
	set := NewSet(idsFrom(0, 300))
	for name, msg := range samples(t) {
		for n := range msg {
			_, errPassive := Config{}.Respond(set, msg[:n])
			s, _ := Config{}.Start(set)
			_, _, _, errActive := s.Next(msg[:n])
			if errPassive == nil || errActive == nil {
				t.Errorf("%d bytes of %s: got %v and %v, want errors", n, name, errPassive, errActive)
			}
		}
	}
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	low, high := id(1), id(2)
	if compare(low, high) > 0 {
		low, high = high, low
	}
	join := func(parts ...any) (b []byte) {
		for _, part := range parts {
			switch part := part.(type) {
			case int:
				b = append(b, byte(part))
			case string:
				b = append(b, part...)
			case ID:
				b = append(b, part[:]...)
			}
		}
		return b
	}
	for name, row := range map[string]struct {
		msg  []byte
		want string
	}{
		"nothing":                      {nil, "cut short"},
		"bytes after the end":          {join(0, 0), "1 bytes follow the last range"},
		"a bound too long":             {join(33, low, 0, 0), "a bound of 33 bytes"},
		"a bound of 63 bytes":          {join(0xbf, strings.Repeat("a", 63), 0), "a bound of 63 bytes"},
		"a bound with a zero":          {join(2, 5, 0, 0x80), "can be written shorter"},
		"a bound of zero":              {join(1, 0, 0x80), "can be written shorter"},
		"a range that is empty":        {join(0x81, 7, 0x81, 7, 0x80), "a range from 07"},
		"a range that goes back":       {join(0x81, 7, 0x81, 6, 0x80), "a range from 07"},
		"two settled ranges":           {join(1, 7, 0), "two settled ranges meet at 07"},
		"two settled ranges later":     {join(0x81, 7, 1, 8, 1, 9, 0x80), "two settled ranges meet at 08"},
		"half a fingerprint":           {join(0x40, "12345678"), "cut short"},
		"a list without a length":      {join(0xc0), "cut short"},
		"a list longer than its bytes": {join(0xc0, 0xff, 0xff, low), "cut short"},
		"a list that goes back":        {join(0xc0, 0, 2, high, low), "do not ascend"},
		"a list with an id twice":      {join(0xc0, 0, 2, low, low), "do not ascend"},
		"a list past its range":        {join(0xc0|32, low, 0, 1, low, 0), "is listed for the range"},
		"a list before its range":      {join(32, high, 0xc0, 0, 1, low), "is listed for the range"},
	} {
		for sp, err := range spans(row.msg) {
			if err == nil && sp.to == (ID{}) {
				t.Errorf("%s: accepted", name)
			}
			if err != nil && !strings.Contains(err.Error(), row.want) {
				t.Errorf("%s: got %v, want %q", name, err, row.want)
			}
		}
		if _, err := (Config{}).Respond(Set{}, row.msg); err == nil {
			t.Errorf("%s: answered", name)
		}
	}
}

func TestASideIsToldOnlyWhatTheOtherMaySay(t *testing.T) {
	set := NewSet(idsFrom(0, 300))
	if _, err := (Config{}).Respond(set, samples(t)["lists"]); err == nil {
		t.Error("the passive side took a list")
	}
	s, _ := Config{}.Start(set)
	if _, _, _, err := s.Next(samples(t)["wants"]); err == nil {
		t.Error("the active side took a wish")
	}
}

// hostile returns a message of as many ranges as fit, all of them different from what anybody has.
func hostile(k kind) []byte {
	var msg []byte
	for i := 1; len(msg) < 60<<10; i++ {
		sp := span{kind: k}
		sp.to[0], sp.to[1], sp.to[2] = byte(i>>8), byte(i), 1
		msg = append(msg, encode(sp)...)
	}
	return append(msg, encode(span{kind: k})...)
}

func TestHostileMessagesCostLittle(t *testing.T) {
	set := NewSet(idsFrom(0, 100_000))
	respond := func(k kind) func() (int, error) {
		msg := hostile(k)
		return func() (int, error) {
			reply, err := Config{}.Respond(set, msg)
			return len(reply), err
		}
	}
	s, _ := Config{}.Start(set)
	lists := hostile(list)
	for name, row := range map[string]struct {
		run   func() (int, error)
		bytes int
	}{
		"wants":        {respond(want), 60 << 10},
		"fingerprints": {respond(hash), 60 << 10},
		"empty lists": {func() (int, error) { // each id found makes a leaf of the session's view new
			msg, have, need, err := s.Next(lists)
			return len(msg) + idSize*len(have) + idSize*len(need), err
		}, 120 << 10},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		n, err := row.run()
		runtime.ReadMemStats(&after)
		allocated := after.TotalAlloc - before.TotalAlloc
		t.Logf("%s: %d bytes for %d, %d allocated", name, n, len(lists), allocated)
		if err != nil || n > row.bytes || allocated > 6<<20 {
			t.Errorf("%s: got %d bytes, %d allocated, %v, want %d and 6 MiB at most", name, n, allocated, err, row.bytes)
		}
	}
}

func FuzzRespond(f *testing.F) {
	for _, msg := range samples(f) {
		f.Add(msg, uint16(300))
	}
	all := idsFrom(0, 2000)
	f.Fuzz(func(t *testing.T, msg []byte, ids uint16) {
		set, c := NewSet(all[:int(ids)%len(all)]), Config{MaxMessage: 4 << 10}
		reply, err := c.Respond(set, msg)
		if len(reply) > 4<<10 || (err == nil) != (len(reply) > 0) {
			t.Fatalf("a reply of %d bytes, %v", len(reply), err)
		}
		if err == nil {
			if got := again(t, msg); !bytes.Equal(got, msg) {
				t.Fatalf("%x is taken for %x", msg, got)
			}
			again(t, reply)
		}
		s, _ := c.Start(set)
		next, have, need, err := s.Next(msg)
		if len(next) > 4<<10 || idSize*(len(have)+len(need)) > 4<<10+2*len(msg) || err != nil && next != nil {
			t.Fatalf("a message of %d bytes, %d and %d ids, %v", len(next), len(have), len(need), err)
		}
		if next != nil {
			again(t, next)
		}
	})
}

// again reads a message and writes it.
func again(t testing.TB, msg []byte) (b []byte) {
	for sp, err := range spans(msg) {
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, encode(sp)...)
	}
	return b
}
