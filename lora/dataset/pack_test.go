package dataset

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/centram/centram"
	"pgregory.net/rapid"
)

// documents draws some, in which no token occurs twice, so that each tells where it is from.
func documents(t *rapid.T) []Document {
	token := int32(0)
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Document {
		var d Document
		for range rapid.IntRange(0, 40).Draw(t, "tokens") {
			token++
			d.Tokens = append(d.Tokens, token)
			d.Supervised = append(d.Supervised, rapid.IntRange(0, 2).Draw(t, "supervised") > 0)
		}
		return d
	}), 0, 20).Draw(t, "documents")
}

func TestEverySupervisedTokenIsPredictedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		docs := documents(t)
		rows := rapid.IntRange(1, 50).Draw(t, "rows")
		blocks, err := Pack(docs, rows)
		if err != nil {
			t.Fatal(err)
		}
		// before is the token that each supervised token has to be predicted from.
		before := map[int32]int32{}
		at := map[int32]int{} // where in its document a token is
		for _, d := range docs {
			for i, token := range d.Tokens {
				at[token] = i
				if i > 0 && d.Supervised[i] {
					before[token] = d.Tokens[i-1]
				}
			}
		}
		for _, b := range blocks {
			checkBlock(t, b, rows)
			for i, label := range b.Labels {
				if label < 0 {
					continue
				}
				if want, ok := before[label]; !ok || b.Tokens[i] != want {
					t.Fatalf("%d is predicted from %d, want %d (once: %v)", label, b.Tokens[i], want, ok)
				}
				// All rows before it in the piece are those before it in the document.
				if start := i - int(b.Positions[i]); at[b.Tokens[start]]%rows != 0 || at[b.Tokens[i]]-at[b.Tokens[start]] != int(b.Positions[i]) {
					t.Fatalf("the piece of %d does not begin where a window does", label)
				}
				delete(before, label)
			}
		}
		if len(before) != 0 {
			t.Errorf("never predicted: %v", before)
		}
	})
}

func checkBlock(t *rapid.T, b Block, rows int) {
	for name, n := range map[string]int{"tokens": len(b.Tokens), "positions": len(b.Positions), "docs": len(b.Docs), "labels": len(b.Labels)} {
		if n != rows {
			t.Fatalf("a block has %d %s, want %d", n, name, rows)
		}
	}
	for i, doc := range b.Docs {
		switch {
		case doc < 0:
			if b.Labels[i] >= 0 || slices.Max(b.Docs[i:]) >= 0 {
				t.Fatalf("row %d fills the block, but something follows or is predicted: %+v", i, b)
			}
		case i > 0 && doc == b.Docs[i-1]:
			if b.Positions[i] != b.Positions[i-1]+1 || b.Tokens[i] != b.Tokens[i-1]+1 {
				t.Fatalf("row %d does not go on from the one before: %+v", i, b)
			}
		default:
			if want := int32(0); i > 0 {
				want = b.Docs[i-1] + 1
				if doc != want {
					t.Fatalf("row %d is of piece %d, want %d", i, doc, want)
				}
			}
			if b.Positions[i] != 0 {
				t.Fatalf("row %d begins a piece at position %d", i, b.Positions[i])
			}
		}
	}
}

func TestPackFillsBlocksWell(t *testing.T) {
	var docs []Document
	for i := range 1000 {
		n := 2 + int(math.Mod(float64(i)*37.7, 300))
		docs = append(docs, Document{Tokens: make([]int32, n), Supervised: slices.Repeat([]bool{true}, n)})
	}
	blocks, err := Pack(docs, 512)
	if err != nil {
		t.Fatal(err)
	}
	used := 0
	for _, b := range blocks {
		used += b.Supervised()
	}
	if share := float64(used) / float64(512*len(blocks)); share < 0.95 {
		t.Errorf("%.3f of the rows are used, want 0.95", share)
	}
}

func TestAPackedBlockLooksLikeThis(t *testing.T) {
	docs := []Document{
		{Tokens: []int32{1, 2, 3, 4, 5, 6}, Supervised: []bool{true, true, true, true, true, true}},
		{Tokens: []int32{7, 8, 9}, Supervised: []bool{false, true, false}},
	}
	got, err := Pack(docs, 4)
	want := []Block{
		{[]int32{1, 2, 3, 4}, []int32{0, 1, 2, 3}, []int32{0, 0, 0, 0}, []int32{2, 3, 4, 5}},
		{[]int32{5, 7, 0, 0}, []int32{0, 0, 0, 0}, []int32{0, 1, -1, -1}, []int32{6, 8, -1, -1}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	if _, err := Pack(docs, 0); centram.CodeOf(err) != centram.Invalid {
		t.Errorf("no rows: got %v, want Invalid", err)
	}
}

func TestAloneGivesEachDocumentOneBlock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		docs := documents(t)
		rows := rapid.IntRange(1, 50).Draw(t, "rows")
		blocks, cut, err := Alone(docs, rows)
		if err != nil || len(blocks) != len(docs) {
			t.Fatalf("got %d blocks, %v, want %d", len(blocks), err, len(docs))
		}
		wantCut := 0
		for i, b := range blocks {
			checkBlock(t, b, rows)
			var want, got []int32
			for j := 1; j < min(len(docs[i].Tokens), rows+1); j++ {
				if docs[i].Supervised[j] {
					want = append(want, docs[i].Tokens[j])
				}
			}
			for _, l := range b.Labels {
				if l >= 0 {
					got = append(got, l)
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("document %d: got the labels %v, want %v", i, got, want)
			}
			if len(docs[i].Tokens) > rows+1 {
				wantCut++
			}
		}
		if cut != wantCut {
			t.Errorf("got %d cut, want %d", cut, wantCut)
		}
	})
}

func TestOrderIsAPermutationThatDependsOnItsArgumentsAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 300).Draw(t, "n")
		seed, epoch := rapid.Uint64().Draw(t, "seed"), rapid.Uint64().Draw(t, "epoch")
		got := Order(n, seed, epoch)
		if !reflect.DeepEqual(got, Order(n, seed, epoch)) {
			t.Error("the same arguments gave another order")
		}
		if n > 20 && (reflect.DeepEqual(got, Order(n, seed+1, epoch)) || reflect.DeepEqual(got, Order(n, seed, epoch+1)) || reflect.DeepEqual(got, Order(n, epoch, seed)) && seed != epoch) {
			t.Error("another seed or epoch gave the same order")
		}
		slices.Sort(got)
		for i, x := range got {
			if x != i {
				t.Fatalf("got %v, want a permutation", got)
			}
		}
	})
}

func TestOrderIsUniform(t *testing.T) {
	counts := map[string]int{}
	const n = 24_000
	for epoch := range uint64(n) {
		counts[fmt.Sprint(Order(4, 7, epoch))]++
	}
	for order, got := range counts {
		if math.Abs(float64(got)-n/24) > 5*math.Sqrt(n/24) {
			t.Errorf("%s came %d times, want about %d", order, got, n/24)
		}
	}
	if len(counts) != 24 {
		t.Errorf("got %d orders, want all 24", len(counts))
	}
}

// A run that was stopped has to go on in the same order with a later version.
func TestOrderIsTheSameForEver(t *testing.T) {
	if got, want := fmt.Sprint(Order(12, 1, 2)), "[5 8 10 3 6 1 4 0 7 11 2 9]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
