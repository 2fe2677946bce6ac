package hyperlink

import (
	"time"

	"github.com/centram/centram/engine"
)

// Rows of one text that are computed together, a token and guesses of those behind it, pass the machines together: each
// machine waits until the one before has computed them all. One by one they overlap, as the pieces of a prompt do. On a
// processor, where two rows take twice as long as one, that gains much; on a graphics card, where they take as long as one,
// it would lose. So it depends on what rows take here, which is measured.

const (
	mostWidth  = 17  // rows: a token and the most guesses of a step
	widthKnown = 3   // measures after which a width is known: the first may have made room for itself
	widthAnew  = 64  // steps of a width after which it is measured again
	widthPays  = 0.9 // of the time together is what it may take apart
)

// widths is how long this machine's layers take with few rows.
type widths [mostWidth + 1]struct {
	least time.Duration
	times int // measured
	apart int // steps since, whose rows were computed one by one
}

func (w *widths) add(rows int, took time.Duration) {
	if rows > mostWidth {
		return
	}
	at := &w[rows]
	if at.times == 0 || took < at.least {
		at.least = took
	}
	at.times++
}

// batches is in how many batches the rows of a step are best computed by so many machines: 1, or as many as there are rows.
func (w *widths) batches(rows []engine.Row, machines int) int {
	n := len(rows)
	if n < 2 || n > mostWidth {
		return 1
	}
	for _, r := range rows {
		if r.Seq != rows[0].Seq || !r.Logits || r.Embed {
			return 1
		}
	}
	known := w.nearest(n)
	if known == 0 || w[1].times < widthKnown {
		return 1
	}
	one, further := float64(w[1].least), float64(w[known].least-w[1].least)/float64(known-1)
	together, apart := (one+float64(n-1)*further)*float64(machines), one*float64(machines+n-1)
	if apart > widthPays*together {
		return 1
	}
	if w[known].apart++; w[known].apart == widthAnew {
		w[known].times, w[known].apart = 0, 0
	}
	return n
}

// nearest is the width closest to n, from 2 rows on, whose time is known, or 0.
func (w *widths) nearest(n int) int {
	for off := range mostWidth {
		for _, at := range [...]int{n - off, n + off} {
			if at >= 2 && at <= mostWidth && w[at].times >= widthKnown {
				return at
			}
		}
	}
	return 0
}
