package dataset

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/centram/centram"
)

// Fractions says which part of the data is not trained on. The zero value of a field means none.
type Fractions struct {
	Held float64 // to see whether what is learnt holds for what was not seen
	Gate float64 // to decide later whether what others have learnt is worth having
}

// Sets are the three parts of the data. No two items of equal Sum are in different sets.
type Sets struct {
	Train, Held, Gate []Item
}

// Split puts each item into the set that its Sum says. An item always comes to the same set as long as f is the same,
// whatever else there is: more data moves nothing, and a set that is trained on today is not the gate of tomorrow. When a
// fraction grows, items move between that set and training only.
//
// It fails with Invalid if a set that should have something would be empty, and says how much data it takes.
func Split(items []Item, f Fractions) (Sets, error) {
	for _, x := range []float64{f.Held, f.Gate, f.Held + f.Gate} {
		if !(x >= 0 && x < 1) {
			return Sets{}, centram.Errorf(centram.Invalid, "held-out data of %v and a gate of %v leave nothing to train on", f.Held, f.Gate).
				WithHint("Both are parts of 1, such as 0.1.")
		}
	}
	var s Sets
	distinct := map[[32]byte]bool{}
	for _, it := range items {
		sum := it.Sum()
		distinct[sum] = true
		// The two ends of the interval, so that neither set depends on the other's fraction.
		switch at := math.Ldexp(float64(binary.BigEndian.Uint64(sum[:])>>11), -53); {
		case at < f.Held:
			s.Held = append(s.Held, it)
		case at >= 1-f.Gate:
			s.Gate = append(s.Gate, it)
		default:
			s.Train = append(s.Train, it)
		}
	}
	for _, set := range []struct {
		name     string
		fraction float64
		items    []Item
	}{{"held-out", f.Held, s.Held}, {"gate", f.Gate, s.Gate}, {"training", 1 - f.Held - f.Gate, s.Train}} {
		if set.fraction > 0 && len(set.items) == 0 {
			return Sets{}, tooFew(set.name, set.fraction, len(distinct))
		}
	}
	return s, nil
}

func tooFew(set string, fraction float64, have int) error {
	// So many leave the set empty once in a hundred times.
	need := int(math.Ceil(math.Log(0.01) / math.Log1p(-fraction)))
	documents := fmt.Sprintf("%d different documents", have)
	if have == 1 {
		documents = "one document"
	}
	if fraction == 1 {
		return centram.Errorf(centram.Invalid, "there is no training data")
	}
	return centram.Errorf(centram.Invalid, "%s are too few: none of them comes into the %s set, which is %.3g of the data", documents, set, fraction).
		WithHint("Give about %d documents, or a larger fraction; with 0 there is no such set. Of a text file, each passage of a few thousand letters counts.", need)
}
