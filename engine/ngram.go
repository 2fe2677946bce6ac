package engine

import "context"

// longestGram and shortestGram are how many tokens have to repeat for what followed them to be a guess. The longer, the
// better the guess, so the longest are looked for first.
const (
	longestGram  = 4
	shortestGram = 2
)

// gram is up to longestGram tokens, filled up with -1.
type gram [longestGram]Token

// ngrams finds where the last tokens of an answer stood before in it or in its prompt. To take in a token costs the same
// however long the text is.
type ngrams struct {
	follows map[gram]int32 // where what follows the latest occurrence begins
	taken   int            // tokens of the text whose successor is known to follows
}

func (x *ngrams) reset() {
	clear(x.follows)
	x.taken = 0
}

// grow takes in a text of which what was taken in before is the beginning.
func (x *ngrams) grow(text []Token) {
	if x.follows == nil {
		x.follows = map[gram]int32{}
	}
	for ; x.taken < len(text)-1; x.taken++ { // the last token is followed by nothing yet
		end := x.taken + 1
		for n := shortestGram; n <= min(longestGram, end); n++ {
			x.follows[gramOf(text[end-n:end])] = int32(end)
		}
	}
}

// guess appends n tokens that may follow text, or none. text may go on beyond what was taken in.
func (x *ngrams) guess(out, text []Token, n int) []Token {
	for size := min(longestGram, len(text)); size >= shortestGram; size-- {
		from, ok := x.follows[gramOf(text[len(text)-size:])]
		if !ok {
			continue
		}
		first := len(out)
		for i := range n { // a repetition goes on with itself
			if at := int(from) + i; at < len(text) {
				out = append(out, text[at])
			} else {
				out = append(out, out[first+at-len(text)])
			}
		}
		return out
	}
	return out
}

func gramOf(tokens []Token) gram {
	g := gram{-1, -1, -1, -1}
	copy(g[:], tokens)
	return g
}

// lookup guesses that a text goes on as it did where its last tokens stood before.
type lookup struct{}

func (lookup) propose(_ context.Context, wishes []wish) {
	for i := range wishes {
		a := &wishes[i]
		x := &a.slot.grams
		x.grow(a.text[:a.sure])
		a.guesses = x.guess(a.guesses[:0], a.text, a.most)
	}
}
