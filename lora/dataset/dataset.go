// Package dataset turns files into what a model is trained on.
//
// The way of the data: Read makes Items of files (texts and conversations), Split puts each into one of three sets that
// never mix, Encode makes a Document of an Item with a model's tokenizer and chat template, and Pack makes Blocks of equal
// length of Documents. Order shuffles.
//
// Of a text every token is learnt, of a conversation only what the assistant says, up to and including the token that ends
// its turn. Nothing here depends on time, on the machine or on the order of a map: the same files, settings and seed give
// the same blocks everywhere.
package dataset

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/centram/centram"
)

// Item is one text or one conversation, before it is tokenised.
type Item struct {
	Text     string    // if Messages is nil
	Messages []Message // at least one of them the assistant's
	More     bool      // the same text goes on in the next Item, so the end of this is no end

	File string // where it is from
	Line int    // where it begins, counted from 1
}

// Message is one turn of a conversation.
type Message struct {
	Role    string // System, User or Assistant
	Content string
}

// The roles that a chat template knows.
const (
	System    = "system"
	User      = "user"
	Assistant = "assistant"
)

// Sum is a hash of what the item says. White space does not count, nor does where it is from, so copies are alike.
func (it Item) Sum() [sha256.Size]byte {
	h := sha256.New()
	add := func(role, text string) {
		text = strings.Join(strings.Fields(text), " ")
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(text))))
		h.Write([]byte(role + "\n" + text))
	}
	if it.Messages == nil {
		add("", it.Text)
	}
	for _, m := range it.Messages {
		add(m.Role, m.Content)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func (it Item) where() string { return fmt.Sprintf("%s, line %d", it.File, it.Line) }

func (it Item) bad(code centram.Code, format string, args ...any) *centram.Error {
	return centram.Errorf(code, "%s: "+format, append([]any{it.where()}, args...)...)
}
