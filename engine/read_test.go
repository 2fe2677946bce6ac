package engine

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Pieces of prompts take about as long on any machines, but are not smaller than what they compute well.
func TestPromptsAreReadInPiecesThatTakeATenthOfASecond(t *testing.T) {
	for name, c := range map[string]struct {
		row  time.Duration // on each of two machines
		want int           // rows of a piece
	}{
		"a slow processor": {5 * time.Millisecond, leastPiece},
		"a fast processor": {500 * time.Microsecond, 200},
		"a graphics card":  {50 * time.Microsecond, 512}, // as many as go into a batch
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newOracle(2, 5000)
				m.info.BatchSize = 512
				var pieces []int
				m.fail = func(b Batch) error {
					pieces = append(pieces, len(b.Rows))
					return nil
				}
				e := guessing(t, newMachines(m, 2, rows(2*c.row), 0), 0, nobody{})
				defer e.Close()
				for _, letter := range []string{"a", "b"} { // the first prompt tells how fast they are
					pieces = nil
					text := strings.Repeat(letter, 4000)
					if got, _, err := hear(t.Context(), e, ask(text, 1), nil); err != nil || got.text != oracle(text, nil, 1, 5000) {
						t.Fatalf("got %q, %v", got.text, err)
					}
				}
				for i, got := range pieces[:min(4, len(pieces))] {
					if 10*got < 9*c.want || 10*got > 11*c.want {
						t.Errorf("piece %d has %d rows, want %d; all are %v", i, got, c.want, pieces)
					}
				}
			})
		})
	}
}
