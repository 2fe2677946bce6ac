package rbsr

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"math/big"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// id is the hash that stands for i.
func id(i int) ID { return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i))) }

func idsFrom(first, n int) []ID {
	ids := make([]ID, n)
	for i := range ids {
		ids[i] = id(first + i)
	}
	return ids
}

// clustered lets ids agree in their first bytes.
func clustered(id ID, prefix int) ID {
	clear(id[:prefix])
	return id
}

// slowFingerprint is Set.Fingerprint as its comment has it, with nothing shared and nothing kept.
func slowFingerprint(ids []ID) Fingerprint {
	sum := new(big.Int)
	for _, id := range ids {
		slices.Reverse(id[:])
		sum.Add(sum, new(big.Int).SetBytes(id[:]))
	}
	sum.Mod(sum, new(big.Int).Lsh(big.NewInt(1), 256))
	var b ID
	sum.FillBytes(b[:])
	slices.Reverse(b[:])
	hash := sha256.Sum256(binary.LittleEndian.AppendUint64(b[:], uint64(len(ids))))
	return Fingerprint(hash[:16])
}

func sorted(ids map[ID]bool) []ID { return slices.SortedFunc(maps.Keys(ids), compare) }

// wellFormed fails the test if a node does not hold what its place and its sum say.
func wellFormed(t rapid.TB, n *node) []ID {
	if n == nil {
		return nil
	}
	ids := n.ids
	if n.kids != nil {
		for _, kid := range n.kids {
			ids = append(ids, wellFormed(t, kid)...)
		}
	}
	if n.total != sumOf(ids) || len(ids) == 0 || len(n.ids) > maxLeaf || n.kids != nil && len(ids) <= maxLeaf/2 {
		t.Fatalf("a node with %d ids, a leaf: %t, has the sum of %d", len(ids), n.kids == nil, n.total.n)
	}
	return ids
}

func TestASetIsWhatItsChangesMakeIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := rapid.SampledFrom([]int{0, 0, 1, 16, 31}).Draw(t, "prefix")
		universe := rapid.IntRange(1, 400).Draw(t, "universe")
		any := rapid.Custom(func(t *rapid.T) ID {
			return clustered(id(rapid.IntRange(1, universe).Draw(t, "id")), prefix)
		})
		start := rapid.SliceOfN(any, 0, 200).Draw(t, "start")
		s, want := NewSet(start), map[ID]bool{}
		for _, id := range start {
			want[id] = true
		}
		for range rapid.IntRange(0, 100).Draw(t, "changes") {
			before, id := s, any.Draw(t, "change")
			had := want[id]
			switch {
			case s.Has(id) != had:
				t.Fatalf("has %x: %t, want %t", id, !had, had)
			case rapid.Bool().Draw(t, "insert"):
				if s.Insert(id) == had {
					t.Fatalf("inserting %x, which was there: %t, says it is new: %t", id, had, had)
				}
				want[id] = true
			default:
				if s.Remove(id) != had {
					t.Fatalf("removing %x, which was there: %t, says it was: %t", id, had, !had)
				}
				delete(want, id)
			}
			if before.Has(id) != had {
				t.Fatalf("a snapshot saw the change of %x", id)
			}
		}
		wellFormed(t, s.root)
		from, to := any.Draw(t, "from"), rapid.OneOf(any, rapid.Just(ID{})).Draw(t, "to")
		inRange := slices.DeleteFunc(sorted(want), func(id ID) bool {
			return compare(id, from) < 0 || to != (ID{}) && compare(id, to) >= 0
		})
		if got := slices.Collect(s.Range(from, to)); !slices.Equal(got, inRange) {
			t.Fatalf("%x to %x has %d ids, want %d", from, to, len(got), len(inRange))
		}
		if got, want := s.Fingerprint(from, to), slowFingerprint(inRange); got != want {
			t.Fatalf("the fingerprint of %d ids is %x, want %x", len(inRange), got, want)
		}
		if got := slices.Collect(s.Range(ID{}, ID{})); !slices.Equal(got, sorted(want)) || s.Len() != len(want) {
			t.Fatalf("the set has %d ids, listed %d, want %d", s.Len(), len(got), len(want))
		}
		if again := NewSet(sorted(want)); again.Fingerprint(ID{}, ID{}) != s.Fingerprint(ID{}, ID{}) {
			t.Fatal("the fingerprint depends on how the set came about")
		}
	})
}

func TestTheFirstAndTheLastIDAreLikeOthers(t *testing.T) {
	var first, last ID
	for i := range last {
		last[i] = 0xff
	}
	s := NewSet([]ID{last, first, last})
	if got := slices.Collect(s.Range(ID{}, ID{})); !slices.Equal(got, []ID{first, last}) {
		t.Errorf("got %x", got)
	}
	if s.count(first, last) != 1 || s.count(last, ID{}) != 1 || s.count(last, first) != 1 {
		t.Errorf("got %d before the last, %d from it on", s.count(first, last), s.count(last, ID{}))
	}
	if s.Fingerprint(last, id(1)) != s.Fingerprint(id(1), id(1)) {
		t.Error("a range that ends before it begins is not an empty one")
	}
}

func TestSnapshotsAreReadWhileTheSetChanges(t *testing.T) {
	s := NewSet(idsFrom(0, 1000))
	snapshot, want := s, s.Fingerprint(ID{}, ID{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for range 200 {
				if snapshot.Fingerprint(ID{}, ID{}) != want || !snapshot.Has(id(7)) || snapshot.Has(id(1000)) {
					t.Error("a snapshot changed")
				}
			}
		})
	}
	for i := range 1000 {
		s.Insert(id(1000 + i))
		s.Remove(id(i))
	}
	readers.Wait()
	if want := NewSet(idsFrom(1000, 1000)); s.Fingerprint(ID{}, ID{}) != want.Fingerprint(ID{}, ID{}) {
		t.Error("the set is not what its changes make it")
	}
}

func BenchmarkSetOfAMillion(b *testing.B) {
	ids := idsFrom(0, 1_000_000)
	s := NewSet(ids)
	b.Run("build", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			NewSet(ids)
		}
	})
	b.Run("fingerprint", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			s.Fingerprint(ids[i%len(ids)], ids[(i+1)%len(ids)])
		}
	})
	b.Run("remove and insert", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			s.Remove(ids[i%len(ids)])
			s.Insert(ids[i%len(ids)])
		}
	})
}
