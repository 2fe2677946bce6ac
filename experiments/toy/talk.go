package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// The conversations are made here, from phrases and facts of our own. They teach the model how a turn looks, who it is, and
// small things that a model of its size can get right: to greet, to remember a name, to count, to spell, to tell a story of a
// few lines, and to say that it does not know.

// turn is what one side says.
type turn struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// teller makes conversations, the same for the same seed.
type teller struct{ *rand.Rand }

func newTeller(seed uint64) teller { return teller{rand.New(rand.NewPCG(seed, 1))} }

// topic makes an exchange or several, question before answer.
type topic struct {
	weight int
	tell   func(teller) []string
}

// topics are all there are, and how often.
func topics() []topic {
	return []topic{
		{8, teller.greeting},
		{10, teller.self},
		{7, teller.memory},
		{4, teller.feeling},
		{3, teller.thanks},
		{8, teller.sum},
		{5, teller.counting},
		{5, teller.order},
		{9, teller.fact},
		{6, teller.spelling},
		{3, teller.echo},
		{8, teller.story},
		{3, teller.poem},
		{6, teller.ability},
		{8, teller.unknown},
		{2, teller.foreign},
		{3, teller.liking},
	}
}

// conversation is one of one to three topics.
func (t teller) conversation() []turn {
	var said []string
	if t.IntN(4) == 0 {
		said = append(said, t.greeting()...)
	}
	for range 1 + t.IntN(3)*t.IntN(2) {
		said = append(said, t.topic().tell(t)...)
	}
	if t.IntN(8) == 0 {
		said = append(said, t.thanks()...)
	}
	var out []turn
	if t.IntN(6) == 0 {
		out = append(out, turn{"system", t.of("You are a helpful assistant.", "You are toy, a small model.", "Answer briefly.", "Be kind and brief.")})
	}
	for i, s := range said {
		if i%2 == 0 {
			out = append(out, turn{"user", t.typed(s)})
		} else {
			out = append(out, turn{"assistant", s})
		}
	}
	return out
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
	if t.IntN(4) == 0 {
		s = strings.ToLower(s)
	}
	if t.IntN(5) == 0 {
		s = strings.TrimRight(s, ".?!")
	}
	if t.IntN(12) == 0 {
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

func (t teller) sum() []string {
	x, y := t.IntN(21), t.IntN(13)
	switch t.IntN(4) {
	case 0:
		x, y = max(x, y), min(x, y)
		ask := fmt.Sprintf(t.of("What is %d - %d?", "How much is %d minus %d?", "%d - %d", "Subtract: %d - %d."), x, y)
		return []string{ask, fmt.Sprintf("%d - %d = %d.", x, y, x-y)}
	case 1:
		x, y = t.IntN(11), t.IntN(11)
		ask := fmt.Sprintf(t.of("What is %d times %d?", "How much is %d x %d?", "%d x %d"), x, y)
		return []string{ask, fmt.Sprintf("%d x %d = %d.", x, y, x*y)}
	}
	ask := fmt.Sprintf(t.of("What is %d + %d?", "How much is %d plus %d?", "%d + %d", "%d+%d", "Add %d and %d.", "Can you add %d and %d?"), x, y)
	return []string{ask, fmt.Sprintf("%d + %d = %d.", x, y, x+y)}
}

func (t teller) counting() []string {
	from := 1
	if t.IntN(2) == 0 {
		from = t.IntN(20)
	}
	to := from + 3 + t.IntN(9)
	var list []string
	for i := from; i <= to; i++ {
		list = append(list, fmt.Sprint(i))
	}
	switch t.IntN(4) {
	case 0:
		x := t.IntN(99)
		return []string{fmt.Sprintf(t.of("What comes after %d?", "Which number follows %d?", "What is the next number after %d?"), x), fmt.Sprintf("After %d comes %d.", x, x+1)}
	case 1:
		x, y := t.IntN(100), t.IntN(100)
		if x == y {
			y++
		}
		return []string{fmt.Sprintf(t.of("Which is bigger, %d or %d?", "Which number is larger: %d or %d?"), x, y), fmt.Sprintf("%d is bigger than %d.", max(x, y), min(x, y))}
	case 2:
		return []string{fmt.Sprintf(t.of("Count to %d.", "Can you count to %d?", "Please count from 1 to %d."), len(list)), strings.Join(upTo(len(list)), ", ") + "."}
	}
	return []string{fmt.Sprintf(t.of("Count from %d to %d.", "Count up from %d to %d."), from, to), strings.Join(list, ", ") + "."}
}

func upTo(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprint(i+1))
	}
	return list
}

// order asks what comes after or before something.
func (t teller) order() []string {
	kind := pick(t, sequences)
	i := t.IntN(len(kind.list))
	next, last := kind.list[(i+1)%len(kind.list)], kind.list[(i+len(kind.list)-1)%len(kind.list)]
	switch t.IntN(3) {
	case 0:
		return []string{fmt.Sprintf("Which %s comes before %s?", kind.name, kind.list[i]), fmt.Sprintf("Before %s comes %s.", kind.list[i], last)}
	case 1:
		return []string{fmt.Sprintf(t.of("Say the %s.", "What are the %s?", "Name the %s.", "List the %s."), kind.all), strings.Join(kind.list, ", ") + "."}
	}
	return []string{fmt.Sprintf(t.of("Which %s comes after %s?", "What %s follows %s?"), kind.name, kind.list[i]), fmt.Sprintf("After %s comes %s.", kind.list[i], next)}
}

// fact asks for one of a table.
func (t teller) fact() []string {
	table := pick(t, facts)
	row := pick(t, table.rows)
	if table.both && t.IntN(2) == 0 {
		row[0], row[1] = row[1], row[0]
	}
	fill := strings.NewReplacer("{x}", row[0], "{X}", capital(row[0]), "{y}", row[1], "{Y}", capital(row[1]))
	return []string{fill.Replace(pick(t, table.ask)), fill.Replace(table.answer)}
}

func (t teller) spelling() []string {
	word := pick(t, words)
	letters := strings.Split(word, "")
	switch t.IntN(5) {
	case 0:
		return []string{
			fmt.Sprintf(t.of("How many letters has the word %s?", "How many letters are in %s?", "Count the letters of %s."), word),
			fmt.Sprintf("%s: the word %s has %d letters.", strings.Join(letters, "-"), word, len(word)),
		}
	case 1:
		return []string{fmt.Sprintf("What is the first letter of %s?", word), fmt.Sprintf("The first letter of %s is %s.", word, letters[0])}
	case 2:
		return []string{fmt.Sprintf("What is the last letter of %s?", word), fmt.Sprintf("The last letter of %s is %s.", word, letters[len(letters)-1])}
	case 3:
		return []string{fmt.Sprintf(t.of("What is the plural of %s?", "One %[1]s, two what?", "What do you call several of a %s?"), word), fmt.Sprintf("One %s, two %s.", word, plural(word))}
	}
	return []string{fmt.Sprintf(t.of("Spell %s.", "How do you spell %s?", "Can you spell the word %s?", "Spell the word %s."), word), strings.Join(letters, "-") + "."}
}

func (t teller) echo() []string {
	list := make([]string, 1+t.IntN(4))
	for i := range list {
		list[i] = pick(t, words)
	}
	s := strings.Join(list, " ")
	if t.IntN(3) == 0 {
		return []string{fmt.Sprintf(t.of("Write %s in capital letters.", "Say %s in capitals."), s), strings.ToUpper(s)}
	}
	return []string{fmt.Sprintf(t.of("Repeat after me: %s", "Say: %s", "Please repeat: %s", "Say %s."), s), capital(s) + "."}
}

// ability asks what somebody or something can do.
func (t teller) ability() []string {
	x, y := pick(t, creatures), pick(t, creatures)
	deed := pick(t, x.can)
	can := false
	for _, d := range y.can {
		can = can || d == deed
	}
	ask := fmt.Sprintf(t.of("Can %s %s?", "Is it true that %s can %s?", "Do you think %s can %s?"), a(y.name), deed)
	if can {
		return []string{ask, fmt.Sprintf("Yes, %s can %s.", a(y.name), deed)}
	}
	return []string{ask, fmt.Sprintf("No, %s cannot %s. But it can %s.", a(y.name), deed, pick(t, y.can))}
}
