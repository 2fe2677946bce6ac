package engine

import (
	"bytes"
	"math"
	"slices"
	"unicode/utf8"
)

// textQueue turns tokens into text that can be shown: whole UTF-8 characters, and nothing that may turn out to be the
// beginning of a stop string.
type textQueue struct {
	stops   []string
	buf     []byte      // text not yet handed out
	tokens  []TokenInfo // behind buf, if they are kept
	keep    bool        // whether tokens are wanted
	final   bool        // nothing follows buf
	stopped string      // the stop string that was found
}

// add appends a token's text. True means that a stop string is complete: the text ends before it.
func (q *textQueue) add(t TokenInfo) bool {
	// A stop string that ends in this token begins at most its length before it.
	from := len(q.buf)
	q.buf = append(q.buf, t.Text...)
	if q.keep {
		q.tokens = append(q.tokens, t)
	}
	at := -1
	for _, stop := range q.stops {
		start := max(0, from-len(stop)+1)
		if i := bytes.Index(q.buf[start:], []byte(stop)); i >= 0 && (at < 0 || start+i < at) {
			at, q.stopped = start+i, stop
		}
	}
	if at < 0 {
		return false
	}
	q.buf = q.buf[:at]
	return true
}

// end says that no token follows: what was held back can go.
func (q *textQueue) end() { q.final = true }

// take removes and returns what can be shown.
func (q *textQueue) take() (string, []TokenInfo) {
	n := len(q.buf)
	if !q.final {
		n = min(n-q.partialStop(), completeUTF8(q.buf))
		n = completeUTF8(q.buf[:n])
	}
	// Bytes that are no UTF-8 in the end are shown as the replacement character, as a browser would.
	text := string(bytes.ToValidUTF8(q.buf[:n], []byte("\uFFFD")))
	var tokens []TokenInfo
	if n == len(q.buf) || q.final {
		tokens, q.tokens = q.tokens, nil
	}
	q.buf = append(q.buf[:0], q.buf[n:]...)
	return text, tokens
}

// partialStop is the length of the longest end of buf with which a stop string begins.
func (q *textQueue) partialStop() int {
	longest := 0
	for _, stop := range q.stops {
		for n := min(len(stop)-1, len(q.buf)); n > longest; n-- {
			if bytes.HasSuffix(q.buf, []byte(stop[:n])) {
				longest = n
			}
		}
	}
	return longest
}

// completeUTF8 is the length of b without a character that is cut at its end.
func completeUTF8(b []byte) int {
	for i := len(b) - 1; i >= 0 && i >= len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return i
			}
			break
		}
	}
	return len(b)
}

// logprobs returns the natural log of the softmax of logits at t, and the top likeliest tokens.
func logprobs(logits []float32, t Token, top int, v Vocabulary) (float32, []TokenInfo) {
	highest := slices.Max(logits)
	var sum float64
	for _, l := range logits {
		sum += math.Exp(float64(l - highest))
	}
	norm := highest + float32(math.Log(sum))
	best := make([]Token, 0, top+1)
	for i, l := range logits {
		if len(best) == top && (top == 0 || l <= logits[best[top-1]]) {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, l, func(b Token, l float32) int {
			if logits[b] >= l {
				return -1
			}
			return 1
		})
		best = slices.Insert(best, at, Token(i))
		best = best[:min(len(best), top)]
	}
	infos := make([]TokenInfo, len(best))
	for i, b := range best {
		infos[i] = TokenInfo{Token: b, Text: v.Piece(b, true), Logprob: logits[b] - norm}
	}
	return logits[t] - norm, infos
}
