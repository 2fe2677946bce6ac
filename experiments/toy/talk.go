package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// The conversations are made here, from phrases and facts of our own and words of the books. They teach the model how a turn
// looks, who it is, and a few things that a model of its size can get right: to greet, to find again what it was told, to
// spell, to add small numbers, to tell a story of a few lines, and of all else to say that it does not know.

// turn is what one side says.
type turn struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// teller makes conversations, the same for the same seed.
type teller struct {
	*rand.Rand
	books lexicon
}

func newTeller(seed uint64, books lexicon) teller {
	return teller{rand.New(rand.NewPCG(seed, 1)), books}
}

// topic makes an exchange or several, question before answer.
type topic struct {
	weight int
	tell   func(teller) []string
}

// topics are all there are, and how often. What is copied out of the question weighs most.
func topics() []topic {
	return []topic{
		{4, teller.greeting},
		{9, teller.self},
		{22, teller.memory},
		{3, teller.feeling},
		{3, teller.thanks},
		{3, teller.short},
		{9, teller.sum},
		{5, teller.counting},
		{4, teller.order},
		{9, teller.fact},
		{11, teller.spelling},
		{10, teller.echo},
		{8, teller.story},
		{2, teller.poem},
		{14, teller.unknown},
		{4, teller.fallback},
		{1, teller.foreign},
		{4, teller.liking},
	}
}

// aroundTurn is how many tokens a turn takes beside its text, with ChatML.
const aroundTurn = len("iassistant\nie\n")

// conversation is of one topic or of several, of at most so many tokens: of one that is cut in two, the second half would be
// answers to nothing, and teach not to look.
func (t teller) conversation(most int) (out []turn) {
	used := 0
	add := func(role, s string) {
		out, used = append(out, turn{role, s}), used+len(s)+aroundTurn
	}
	if most > 256 && t.IntN(8) == 0 {
		add("system", t.of("You are a helpful assistant.", "You are toy, a small model.", "Answer briefly.", "Be kind and brief."))
	}
	for empty := true; empty || t.IntN(5) > 0; {
		said := t.topic().tell(t)
		if empty && t.IntN(20) == 0 {
			said = t.untold()
		}
		if most > 512 {
			said = t.again(said)
		}
		size := 0
		for _, s := range said {
			size += len(s) + len("Tell me: ") + aroundTurn
		}
		if used+size > most {
			if empty {
				continue
			}
			break
		}
		for i, s := range said {
			if i%2 == 0 {
				add("user", t.typed(s))
			} else {
				add("assistant", s)
			}
		}
		empty = false
	}
	return out
}

// again puts what it still mixes up before the end of its training in the place of some topics.
func (t teller) again(said []string) []string {
	switch t.IntN(8) {
	case 0: // what it is asked first
		return []string{pick(t, aboutMe[0].ask), pick(t, aboutMe[0].answer)}
	case 1:
		return t.self()
	case 2:
		return t.factOf(facts[0])
	}
	return said
}

func (t teller) topic() topic {
	list, all := topics(), 0
	for _, topic := range list {
		all += topic.weight
	}
	n := t.IntN(all)
	for _, topic := range list {
		if n -= topic.weight; n < 0 {
			return topic
		}
	}
	panic("unreachable")
}

// of is one of them.
func (t teller) of(list ...string) string { return list[t.IntN(len(list))] }

// pick is one row of a table.
func pick[T any](t teller, list []T) T { return list[t.IntN(len(list))] }

// typed is how people type what they ask.
func (t teller) typed(s string) string {
	if t.IntN(8) == 0 {
		s = strings.ToLower(s[:1]) + s[1:]
	}
	if t.IntN(5) == 0 {
		s = strings.TrimRight(s, ".?!")
	}
	if t.IntN(20) == 0 {
		s = t.of("Please: ", "Hey, ", "OK. ", "So, ", "Tell me: ") + s
	}
	return s
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// a puts the article before a noun.
func a(noun string) string {
	if strings.ContainsRune("aeiou", rune(noun[0])) {
		return "an " + noun
	}
	return "a " + noun
}

// plural is regular but for those that are listed.
func plural(noun string) string {
	for _, irregular := range plurals {
		if irregular[0] == noun {
			return irregular[1]
		}
	}
	switch {
	case strings.HasSuffix(noun, "s"), strings.HasSuffix(noun, "x"), strings.HasSuffix(noun, "ch"), strings.HasSuffix(noun, "sh"):
		return noun + "es"
	case strings.HasSuffix(noun, "y") && !strings.ContainsRune("aeiou", rune(noun[len(noun)-2])):
		return noun[:len(noun)-1] + "ies"
	}
	return noun + "s"
}

// most is the greatest number that is added.
const most = 10

func (t teller) sum() []string {
	x, y := t.IntN(most+1), t.IntN(most+1)
	switch t.IntN(8) {
	case 0:
		x, y = most+1+t.IntN(990), 2+t.IntN(990)
		if t.IntN(2) == 0 {
			x, y = y, x
		}
		return []string{fmt.Sprintf(t.of("What is %d + %d?", "How much is %d plus %d?", "%d + %d", "What is %d - %d?"), x, y), "That is too much for me. I can only add numbers up to 10."}
	case 1:
		return []string{fmt.Sprintf(t.of("What is %d times %d?", "How much is %d x %d?", "What is %d * %d?", "What is %d divided by %d?"), x, y), "I can only add and subtract small numbers."}
	case 2, 3:
		x, y = max(x, y), min(x, y)
		return []string{fmt.Sprintf(t.of("What is %d - %d?", "How much is %d minus %d?", "%d - %d"), x, y), fmt.Sprintf("%d - %d = %d.", x, y, x-y)}
	}
	return []string{fmt.Sprintf(t.of("What is %d + %d?", "What is %d+%d?", "How much is %d plus %d?", "%d + %d", "%d+%d", "Add %d and %d."), x, y), fmt.Sprintf("%d + %d = %d.", x, y, x+y)}
}

func (t teller) counting() []string {
	switch t.IntN(3) {
	case 0:
		x := t.IntN(99)
		return []string{fmt.Sprintf(t.of("What comes after %d?", "Which number follows %d?", "What is the next number after %d?"), x), fmt.Sprintf("After %d comes %d.", x, x+1)}
	case 1:
		from := t.IntN(20)
		to := from + 3 + t.IntN(9)
		return []string{fmt.Sprintf(t.of("Count from %d to %d.", "Count up from %d to %d."), from, to), upTo(from, to)}
	}
	to := 3 + t.IntN(10)
	return []string{fmt.Sprintf(t.of("Count to %d.", "Can you count to %d?", "Please count to %d."), to), upTo(1, to)}
}

func upTo(from, to int) string {
	var list []string
	for i := from; i <= to; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return strings.Join(list, ", ") + "."
}

// order asks what comes after or before something.
func (t teller) order() []string {
	kind := pick(t, sequences)
	i := t.IntN(len(kind.list))
	next, last := kind.list[(i+1)%len(kind.list)], kind.list[(i+len(kind.list)-1)%len(kind.list)]
	switch t.IntN(4) {
	case 0:
		return []string{fmt.Sprintf(t.of("Which %s comes before %s?", "What %s is before %s?"), kind.name, kind.list[i]), fmt.Sprintf("Before %s comes %s.", kind.list[i], last)}
	case 1:
		return []string{fmt.Sprintf(t.of("Say the %s.", "What are the %s?", "Name the %s.", "List the %s."), kind.all), strings.Join(kind.list, ", ") + "."}
	}
	return []string{fmt.Sprintf(t.of("Which %s comes after %s?", "What %s follows %s?", "What %s is after %s?"), kind.name, kind.list[i]), fmt.Sprintf("After %s comes %s.", kind.list[i], next)}
}

// fact asks for one of a table, or for what is not in it.
func (t teller) fact() []string { return t.factOf(pick(t, facts)) }

func (t teller) factOf(table factTable) []string {
	row := pick(t, table.rows)
	if table.both && t.IntN(2) == 0 {
		row[0], row[1] = row[1], row[0]
	}
	answer := table.answer
	if table.unknown != "" && t.IntN(4) == 0 {
		row[0] = table.other(t)
		answer = table.unknown
		for _, r := range table.rows {
			if r[0] == row[0] || table.both && r[1] == row[0] {
				return t.fact()
			}
		}
	}
	fill := strings.NewReplacer("{x}", row[0], "{X}", capital(row[0]), "{y}", row[1], "{Y}", capital(row[1]))
	return []string{fill.Replace(pick(t, table.ask)), fill.Replace(answer)}
}

func (t teller) spelling() []string {
	w := t.word()
	switch t.IntN(7) {
	case 0:
		return []string{fmt.Sprintf(t.of("What is the first letter of %s?", "Which is the first letter of %s?"), w), fmt.Sprintf("The first letter of %s is %c.", w, w[0])}
	case 1:
		return []string{fmt.Sprintf(t.of("What is the last letter of %s?", "Which is the last letter of %s?"), w), fmt.Sprintf("The last letter of %s is %c.", w, w[len(w)-1])}
	case 2:
		w = pick(t, words)
		return []string{fmt.Sprintf(t.of("What is the plural of %s?", "One %[1]s, two what?"), w), fmt.Sprintf("One %s, two %s.", w, plural(w))}
	}
	if t.IntN(6) == 0 {
		w = t.name()
	}
	return []string{fmt.Sprintf(t.of("Spell %s.", "Spell %s.", "How do you spell %s?", "Can you spell %s?", "Spell the word %s."), w), spelt(w)}
}

func (t teller) echo() []string {
	s := t.some(4)
	switch t.IntN(5) {
	case 0:
		s = t.some(2)
		return []string{fmt.Sprintf(t.of("Write %s in capital letters.", "Say %s in capitals.", "Shout %s!"), s), strings.ToUpper(s) + "!"}
	case 1:
		s = pick(t, t.books.remarks)
		s = s[:len(s)-1]
	}
	return []string{fmt.Sprintf(t.of("Repeat after me: %s.", "Say: %s.", "Please repeat: %s.", "Say %s.", "Say %s.", "Repeat %s."), s), s + "."}
}
