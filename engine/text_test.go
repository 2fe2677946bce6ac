package engine

import (
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestTextStopsBeforeTheFirstStopStringHoweverItIsCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching("[abé😀]{0,40}").Draw(t, "text")
		stops := rapid.SliceOfN(rapid.StringMatching("[abé😀]{1,4}"), 0, 3).Draw(t, "stops")
		q := textQueue{stops: stops}
		var got strings.Builder
		stopped := false
		for rest := []byte(text); len(rest) > 0 && !stopped; {
			n := min(rapid.IntRange(1, 5).Draw(t, "piece"), len(rest))
			stopped = q.add(TokenInfo{Text: rest[:n]})
			rest = rest[n:]
			piece, _ := q.take()
			if !utf8.ValidString(piece) {
				t.Fatalf("handed out %q, which is cut", piece)
			}
			got.WriteString(piece)
		}
		q.end()
		piece, _ := q.take()
		got.WriteString(piece)
		want := firstStop(text, stops)
		// A stop that begins earlier may be complete later than one that begins after it: either end is right.
		if got.String() != want && !(stopped && strings.HasPrefix(text, got.String()) && strings.HasPrefix(text[got.Len():], q.stopped)) {
			t.Fatalf("text %q, stops %q: got %q, want %q", text, stops, got.String(), want)
		}
	})
}

func firstStop(text string, stops []string) string {
	end := len(text)
	for _, s := range stops {
		if i := strings.Index(text, s); i >= 0 {
			end = min(end, i)
		}
	}
	return text[:end]
}

func TestLogprobsAreTheLogOfTheSoftmaxBestFirst(t *testing.T) {
	logits := []float32{1, 3, 2, 3.5}
	var sum float64
	for _, l := range logits {
		sum += math.Exp(float64(l))
	}
	got, top := logprobs(logits, 2, 3, newOracle(1, 1))
	if want := math.Log(math.Exp(2) / sum); math.Abs(float64(got)-want) > 1e-5 {
		t.Errorf("got %v, want %v", got, want)
	}
	var order []Token
	for _, i := range top {
		order = append(order, i.Token)
	}
	if len(order) != 3 || order[0] != 3 || order[1] != 1 || order[2] != 2 {
		t.Errorf("top is %v, want [3 1 2]", order)
	}
}
