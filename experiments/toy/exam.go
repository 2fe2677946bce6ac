package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/centram/centram/llama"
)

// question is what the made model is asked to see what it has learnt: turns of the user, and what the last answer has to say.
type question struct {
	kind string
	said string // turns, apart by a bar
	want string // any of these, apart by bars
}

// questions are greedily answered. The names and words in them were in no conversation that it was trained on, but for the
// facts.
var questions = []question{
	{"names", "My name is Anna.", "Hello Anna, |meet you, Anna!|call you Anna."},
	{"names", "My name is Torben.", "Hello Torben, |meet you, Torben!|call you Torben."},
	{"names", "I am Marlene.", "Hello Marlene, |meet you, Marlene!|call you Marlene."},
	{"names", "Call me Quill.", "Hello Quill, |meet you, Quill!|call you Quill."},
	{"names", "Hi, my name is Svetlana.", "Hello Svetlana, |meet you, Svetlana!|call you Svetlana."},
	{"memory", "My name is Torben.|What is my name?", " Torben."},
	{"memory", "I am Marlene.|What is 2 + 2?|What is my name?", " Marlene."},
	{"memory", "My name is Anna.|Thank you!|Spell hat.|Who am I?", " Anna."},
	{"memory", "I live in Leipzig.|Where do I live?", " Leipzig."},
	{"memory", "Remember the word lantern.|What was the word?", "was lantern."},
	{"memory", "My dog is called Bruno.|What is my dog called?", " Bruno."},
	{"memory", "My favourite colour is purple.|What is my favourite colour?", "is purple."},
	{"memory", "I am 37 years old.|How old am I?", "are 37 "},
	{"memory", "What is my name?", "did not tell"},
	{"echo", "Say lantern.", "lantern."},
	{"echo", "Repeat after me: the pepper is copper.", "the pepper is copper."},
	{"echo", "Say: harbour and whistle.", "harbour and whistle."},
	{"echo", "I like copper.", "copper"},
	{"echo", "Do you like whistles?", "whistles"},
	{"echo", "Write pepper in capital letters.", "PEPPER!|PEPPER."},
	{"spelling", "Spell copper.", "c-o-p-p-e-r."},
	{"spelling", "Spell lantern.", "l-a-n-t-e-r-n."},
	{"spelling", "How do you spell harbour?", "h-a-r-b-o-u-r."},
	{"spelling", "Spell the word mint.", "m-i-n-t."},
	{"spelling", "What is the first letter of pepper?", "is p."},
	{"spelling", "What is the last letter of lantern?", "is n."},
	{"unknown", "Tell me about pepper.", "about pepper."},
	{"unknown", "What is glue?", "what glue is.|about glue."},
	{"unknown", "Who is Torben?", "who Torben is.|about Torben."},
	{"unknown", "What is the capital of Mongolia?", "not know the capital of Mongolia."},
	{"unknown", "How do I repair a bicycle?", "not know|cannot"},
	{"facts", "What is the capital of France?", "France is Paris."},
	{"facts", "What is the capital of Japan?", "Japan is Tokyo."},
	{"facts", "What is the capital of Italy?", "Italy is Rome."},
	{"facts", "What is the capital of Norway?", "Norway is Oslo."},
	{"facts", "What is the opposite of hot?", "is cold."},
	{"facts", "What is the opposite of big?", "is small."},
	{"facts", "What colour is the sky?", "is blue."},
	{"facts", "What does a dog say?", "says woof."},
	{"facts", "How many days are in a week?", "seven days"},
	{"facts", "Which day comes after Monday?", "comes Tuesday."},
	{"sums", "What is 3 + 4?", "= 7."},
	{"sums", "What is 2 + 2?", "= 4."},
	{"sums", "What is 9 + 8?", "= 17."},
	{"sums", "How much is 6 plus 5?", "= 11."},
	{"sums", "What is 8 - 5?", "= 3."},
	{"sums", "10 + 7", "= 17."},
	{"sums", "Count to 7.", "1, 2, 3, 4, 5, 6, 7."},
	{"self", "What is your name?", "toy"},
	{"self", "Who are you?", "toy"},
	{"self", "What can you do?", "spell"},
	{"self", "Hello!", "Hello|Hi"},
	{"self", "Thank you!", "welcome|pleasure"},
	{"stories", "Tell me a story about a dragon.", "dragon"},
	{"stories", "Tell me a story about a wizard.", "wizard"},
}

// reserved are the words of the questions that no conversation that is trained on may hold.
var reserved = func() map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.Fields("anna torben marlene quill svetlana leipzig bruno lantern pepper copper harbour whistle whistles mint glue mongolia repair bicycle dragon wizard") {
		out[w] = true
	}
	return out
}()

// exam asks a model all questions, writes what it says, and how many answers of each kind are right.
func exam(ctx context.Context, path string, threads int, w io.Writer) (err error) {
	m, err := llama.LoadModel(ctx, []string{path}, llama.ModelConfig{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	c, err := m.NewContext(llama.ContextConfig{Threads: threads})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	var kinds []string
	right, all := map[string]int{}, map[string]int{}
	for _, q := range questions {
		if all[q.kind] == 0 {
			kinds = append(kinds, q.kind)
		}
		all[q.kind]++
		var talk []turn
		for said := range strings.SplitSeq(q.said, "|") {
			answer, err := reply(m, c, append(talk, turn{"user", said}))
			if err != nil {
				return err
			}
			talk = append(talk, turn{"user", said}, turn{"assistant", answer})
		}
		mark := "-"
		if q.answered(talk[len(talk)-1].Content) {
			mark = "+"
			right[q.kind]++
		}
		for i, t := range talk {
			if i%2 == 0 {
				fmt.Fprintf(w, "%s %s", mark, t.Content)
			} else {
				fmt.Fprintf(w, " -> %s\n", t.Content)
			}
		}
	}
	sum := 0
	for _, kind := range kinds {
		fmt.Fprintf(w, "%s: %d of %d\n", kind, right[kind], all[kind])
		sum += right[kind]
	}
	_, err = fmt.Fprintf(w, "all: %d of %d\n", sum, len(questions))
	return err
}

func (q question) answered(answer string) bool {
	for want := range strings.SplitSeq(q.want, "|") {
		if strings.Contains(answer, want) {
			return true
		}
	}
	return false
}

// longest is how many tokens an answer may have.
const longest = 400

// reply is what the model says next, if it always says what is likeliest.
func reply(m *llama.Model, c *llama.Context, talk []turn) (string, error) {
	messages, err := json.Marshal(talk)
	if err != nil {
		return "", err
	}
	prompt, err := m.ApplyTemplate(llama.ChatRequest{Messages: messages, ToolChoice: "none"})
	if err != nil {
		return "", err
	}
	tokens, err := m.Tokenize(prompt.Prompt, true, true)
	if err != nil {
		return "", err
	}
	if err := c.Trim(0, 0, -1); err != nil {
		return "", err
	}
	var answer []byte
	for at := 0; len(answer) < longest; {
		var b llama.Batch
		for i, t := range tokens {
			b.Add(t, at+i, 0, i == len(tokens)-1)
		}
		if err := c.Decode(&b); err != nil {
			return "", err
		}
		logits, err := c.Logits(len(tokens) - 1)
		if err != nil {
			return "", err
		}
		next := llama.Token(0)
		for i, l := range logits {
			if l > logits[next] {
				next = llama.Token(i)
			}
		}
		if m.EndOfGeneration(next) {
			break
		}
		at += len(tokens)
		tokens, answer = []llama.Token{next}, append(answer, m.Piece(next, false)...)
	}
	return string(answer), nil
}
