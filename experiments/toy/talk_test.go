package main

import (
	"strings"
	"testing"
)

// little stands for the real books, which have to be fetched.
func little() lexicon {
	return read([]string{strings.Repeat("Where does the water go? The old captain said that he liked the lantern. The river runs to the sea. ", 3)})
}

func TestAConversationFitsIntoTheStretchesItIsTrainedIn(t *testing.T) {
	for _, most := range []int{256, 512} {
		teller := newTeller(1, little())
		for range 500 {
			talk := teller.conversation(most)
			size := 0
			for _, turn := range talk {
				size += len("i" + turn.Role + "\n" + turn.Content + "i\n")
			}
			if size > most {
				t.Fatalf("got %d tokens, want at most %d: %q", size, most, talk)
			}
			if len(talk) < 2 || talk[len(talk)-1].Role != "assistant" {
				t.Fatalf("got %q, want it to end with an answer", talk)
			}
		}
	}
}

func TestTheWordsOfTheQuestionsAreInNoConversation(t *testing.T) {
	teller := newTeller(2, little())
	for range 2000 {
		for _, turn := range teller.conversation(512) {
			if asked(turn.Content) {
				t.Fatalf("got %q, want none of what the model is asked of at the end", turn.Content)
			}
		}
	}
}

func TestWhatItIsToldIsWhatItAnswers(t *testing.T) {
	teller := newTeller(3, little())
	for range 500 {
		said := teller.memory()
		told, asked := said[0], said[len(said)-1]
		words := strings.FieldsFunc(asked, func(r rune) bool { return r == ' ' || r == '.' || r == '!' || r == '?' })
		if last := words[len(words)-1]; len(said) > 2 && last != "old" && !strings.Contains(told, last) {
			t.Fatalf("it was told %q and answers %q, want what it was told", told, asked)
		}
	}
}
