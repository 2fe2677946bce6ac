package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// What is copied out of a question must come from more words than a model of this size can know by heart. Else it learns
// which answer is likely, and not to look.

// lexicon is what the books have for the conversations to speak of.
type lexicon struct {
	words     []string // of small letters
	questions []string // short ones that people ask there
	remarks   []string // and what else they say
}

var (
	word     = regexp.MustCompile(`[A-Za-z]+`)
	sentence = regexp.MustCompile(`[A-Z][a-z' ,]{12,50}[.?]`)
)

// read collects what occurs in the texts, in the order of the alphabet. A word has to occur a few times.
func read(texts []string) lexicon {
	count, said := map[string]int{}, map[string]bool{}
	for _, text := range texts {
		for _, w := range word.FindAllString(text, -1) {
			if len(w) >= 3 && len(w) <= 9 && w == strings.ToLower(w) && !reserved[w] {
				count[w]++
			}
		}
		for _, s := range sentence.FindAllString(text, -1) {
			said[s] = !asked(s)
		}
	}
	var l lexicon
	for w, n := range count {
		if n >= 3 {
			l.words = append(l.words, w)
		}
	}
	for s, free := range said {
		switch {
		case !free:
		case strings.HasSuffix(s, "?"):
			l.questions = append(l.questions, s)
		default:
			l.remarks = append(l.remarks, s)
		}
	}
	slices.Sort(l.words)
	slices.Sort(l.questions)
	slices.Sort(l.remarks)
	return l
}

// asked reports whether one of its words is kept for the questions at the end.
func asked(s string) bool {
	return slices.ContainsFunc(word.FindAllString(strings.ToLower(s), -1), func(w string) bool { return reserved[w] })
}

// word is any word of the books, or one that there is not.
func (t teller) word() string {
	if t.IntN(4) == 0 {
		return t.invented()
	}
	return pick(t, t.books.words)
}

// some are a few words.
func (t teller) some(most int) string {
	list := make([]string, 1+t.IntN(most))
	for i := range list {
		list[i] = t.word()
	}
	return strings.Join(list, " ")
}

// invented is a word of one to three syllables.
func (t teller) invented() string {
	for {
		var b strings.Builder
		for range 1 + t.IntN(3) {
			b.WriteString(t.of("b", "br", "c", "ch", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "pl", "r", "s", "sh", "st", "t", "th", "tr", "v", "w", "y", "z", ""))
			b.WriteString(t.of("a", "a", "e", "e", "i", "i", "o", "o", "u", "ai", "ea", "ee", "ia", "oo"))
			b.WriteString(t.of("", "", "", "l", "m", "n", "n", "r", "s", "t", "ck", "nd", "x"))
		}
		if w := b.String(); len(w) >= 3 && len(w) <= 9 && !reserved[w] {
			return w
		}
	}
}

// name is one of the names that people have, or another.
func (t teller) name() string {
	if t.IntN(3) == 0 {
		return pick(t, names)
	}
	if t.IntN(3) == 0 {
		return capital(pick(t, t.books.words))
	}
	return capital(t.invented())
}

// drill is a text in which what comes next has been said before: the same words again, what belonged to what, or a word
// letter by letter. It is the shortest way to learn to look back.
func (t teller) drill() string {
	var b strings.Builder
	const enough = 225
	switch t.IntN(4) {
	case 0:
		left, right := make([]string, 3+t.IntN(3)), make([]string, 6)
		for i := range left {
			left[i], right[i] = t.word(), t.word()
		}
		for b.Len() < enough {
			for _, i := range t.Perm(len(left)) {
				b.WriteString(left[i] + " is " + right[i] + ". ")
			}
		}
	case 1:
		for b.Len() < enough {
			w := t.word()
			b.WriteString(w + " " + spelt(w) + " ")
		}
	default:
		list := make([]string, 2+t.IntN(7))
		for i := range list {
			list[i] = t.word()
			if t.IntN(8) == 0 {
				list[i] = t.name()
			}
		}
		all := strings.Join(list, " ") + t.of(". ", ", ", "! ")
		for b.Len() < enough {
			b.WriteString(all)
		}
	}
	return strings.TrimSpace(b.String())
}

// sums is a text of many, since each answer of a conversation holds but one or two bytes of what there is to know of them.
func (t teller) sums() string {
	var b strings.Builder
	for b.Len() < 225 {
		x, y := t.IntN(most+1), t.IntN(most+1)
		if t.IntN(3) == 0 {
			fmt.Fprintf(&b, "%d - %d = %d. ", max(x, y), min(x, y), max(x, y)-min(x, y))
		} else {
			fmt.Fprintf(&b, "%d + %d = %d. ", x, y, x+y)
		}
	}
	return strings.TrimSpace(b.String())
}

// spelt is the word letter by letter.
func spelt(word string) string { return strings.Join(strings.Split(word, ""), "-") + "." }
