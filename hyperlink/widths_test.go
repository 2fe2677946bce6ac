package hyperlink

import (
	"testing"
	"time"

	"github.com/centram/centram/engine"
)

// guessed is a token of a lane and guesses behind it.
func guessed(n int) []engine.Row {
	rows := make([]engine.Row, n)
	for i := range rows {
		rows[i] = engine.Row{Pos: 10 + i, Logits: true}
	}
	return rows
}

func measured(t func(rows int) time.Duration, rows ...int) *widths {
	w := &widths{}
	for _, n := range rows {
		for range widthKnown {
			w.add(n, t(n))
		}
	}
	return w
}

func TestGuessesPassTheMachinesOneByOneWhereThatIsFaster(t *testing.T) {
	processor := func(rows int) time.Duration { return time.Duration(rows) * 10 * time.Millisecond }
	card := func(rows int) time.Duration { return 10 * time.Millisecond }
	for _, c := range []struct {
		name     string
		w        *widths
		rows     []engine.Row
		machines int
		want     int
	}{
		{"rows take as long as each", measured(processor, 1, 2), guessed(2), 2, 2},
		{"of what is known of two rows, five can be told", measured(processor, 1, 2), guessed(5), 2, 5},
		{"rows take as long as one", measured(card, 1, 2), guessed(5), 2, 1},
		{"nothing is known of several rows", measured(processor, 1), guessed(5), 2, 1},
		{"nothing is known of one row", measured(processor, 5), guessed(5), 2, 1},
		{"one machine", measured(processor, 1, 2), guessed(5), 1, 1},
		{"one row", measured(processor, 1, 2), guessed(1), 2, 1},
		{"more rows than guesses can be", measured(processor, 1, 2), guessed(mostWidth + 1), 2, 1},
		{"a prompt", measured(processor, 1, 2), []engine.Row{{}, {Pos: 1}, {Pos: 2, Logits: true}}, 2, 1},
		{"two chats", measured(processor, 1, 2), []engine.Row{{Logits: true}, {Seq: 1, Logits: true}}, 2, 1},
		{"embeddings", measured(processor, 1, 2), []engine.Row{{Logits: true, Embed: true}, {Pos: 1, Logits: true, Embed: true}}, 2, 1},
	} {
		if got := c.w.batches(c.rows, c.machines); got != c.want {
			t.Errorf("%s: %d batches, want %d", c.name, got, c.want)
		}
	}
}

func TestAWidthIsMeasuredAgainSometimes(t *testing.T) {
	w := measured(func(rows int) time.Duration { return time.Duration(rows) * time.Millisecond }, 1, 3)
	for range widthAnew {
		if got := w.batches(guessed(3), 2); got != 3 {
			t.Fatalf("%d batches, want 3", got)
		}
	}
	if got := w.batches(guessed(3), 2); got != 1 {
		t.Errorf("after %d steps there are %d batches, want one, to measure it", widthAnew, got)
	}
}
