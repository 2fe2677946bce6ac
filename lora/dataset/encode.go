package dataset

import (
	"fmt"
	"slices"
	"strings"

	"github.com/centram/centram"
)

// Tokenizer is what is needed of a model.
type Tokenizer interface {
	// Tokenize returns the tokens of a text from its beginning on, the model's beginning-of-sequence token included if it
	// wants one. With special, the text of special tokens (<|im_start|>) becomes those tokens.
	Tokenize(text string, special bool) ([]int32, error)

	// Render applies the model's chat template. With answer the text ends where the assistant's next turn begins, as if
	// the model were to answer; without, it ends with the last message.
	Render(messages []Message, answer bool) (string, error)

	// Ends reports whether the token ends an answer.
	Ends(token int32) bool

	// End is the token that ends a text, or -1 if the model has none.
	End() int32
}

// Document is a tokenised Item.
type Document struct {
	Tokens     []int32
	Supervised []bool // for each token, whether it is to be predicted

	File string // where it is from
	Line int
}

// Encode makes a Document of an item.
//
// Of a text all tokens are supervised, and so is the token behind its end. Of a conversation, what the model would have
// generated itself is: every turn of the assistant and the token that ends it. Where turns begin and end is found out by
// the template itself, which renders the conversation up to there; what it makes of that has to be the beginning of what
// it makes of the whole, as text and as tokens, so that the model is trained on exactly what it will see. For a template
// that rewrites earlier turns (some leave out earlier thoughts) it is not, and Encode fails with Unsupported. It fails with
// Invalid if the template refuses the conversation or a message holds the text of a special token.
func Encode(it Item, t Tokenizer) (Document, error) {
	if it.Messages != nil {
		return encodeChat(it, t)
	}
	tokens, err := t.Tokenize(it.Text, false)
	if err != nil {
		return Document{}, fmt.Errorf("%s: tokenise: %w", it.where(), err)
	}
	if end := t.End(); end >= 0 && !it.More {
		tokens = append(slices.Clip(tokens), end)
	}
	return Document{Tokens: tokens, Supervised: slices.Repeat([]bool{true}, len(tokens)), File: it.File, Line: it.Line}, nil
}

// EncodeAll makes Documents of items. It calls progress, if it is not nil, with the number of items that are done.
func EncodeAll(items []Item, t Tokenizer, progress func(done int)) ([]Document, error) {
	docs := make([]Document, len(items))
	for i, it := range items {
		var err error
		if docs[i], err = Encode(it, t); err != nil {
			return nil, err
		}
		if progress != nil {
			progress(i + 1)
		}
	}
	return docs, nil
}

func encodeChat(it Item, t Tokenizer) (Document, error) {
	c := chat{Item: it, t: t}
	if err := c.plain(); err != nil {
		return Document{}, err
	}
	var err error
	if c.text, err = c.render(len(it.Messages), false); err != nil {
		return Document{}, err
	}
	if c.tokens, err = c.tokenize(c.text, true); err != nil {
		return Document{}, err
	}
	doc := Document{Tokens: c.tokens, Supervised: make([]bool, len(c.tokens)), File: it.File, Line: it.Line}
	for i, m := range it.Messages {
		if m.Role != Assistant {
			continue
		}
		if i == 0 || it.Messages[i-1].Role == Assistant {
			return Document{}, it.bad(centram.Invalid, "turn %d is an answer to nothing", i+1).
				WithHint("Put what the user said before it, or join it to the turn before.")
		}
		begin, err := c.boundary(i, true)
		if err != nil {
			return Document{}, err
		}
		end, err := c.boundary(i+1, false)
		if err != nil {
			return Document{}, err
		}
		if end <= begin {
			return Document{}, c.rewrites(i)
		}
		// What follows the token that ends the turn, often a line break, is the template's: the model never gets to say it.
		for last := end - 1; last >= begin; last-- {
			if t.Ends(c.tokens[last]) {
				end = last + 1
				break
			}
		}
		for j := begin; j < end; j++ {
			doc.Supervised[j] = true
		}
	}
	return doc, nil
}

// chat is a conversation that is being encoded.
type chat struct {
	Item
	t      Tokenizer
	text   string // the whole
	tokens []int32
}

// plain checks that no message would be taken for a part of the template.
func (c *chat) plain() error {
	for i, m := range c.Messages {
		special, err := c.tokenize(m.Content, true)
		if err != nil {
			return err
		}
		text, err := c.tokenize(m.Content, false)
		if err != nil {
			return err
		}
		if !slices.Equal(special, text) {
			return c.bad(centram.Invalid, "turn %d holds the text of one of the model's special tokens, such as the end of a turn", i+1).
				WithHint("Take it out, or train on it as {\"text\": ...}.")
		}
	}
	return nil
}

func (c *chat) render(n int, answer bool) (string, error) {
	text, err := c.t.Render(c.Messages[:n], answer)
	if err != nil {
		return "", c.bad(centram.Invalid, "the model's chat template does not take the conversation: %w", err).
			WithHint("Many templates ask for user and assistant in turns, and for at most one system message, at the beginning.")
	}
	return text, nil
}

func (c *chat) tokenize(text string, special bool) ([]int32, error) {
	tokens, err := c.t.Tokenize(text, special)
	if err != nil {
		return nil, fmt.Errorf("%s: tokenise: %w", c.where(), err)
	}
	return tokens, nil
}

// boundary is the number of tokens before the answer that follows the first n messages, or, without answer, of them.
func (c *chat) boundary(n int, answer bool) (int, error) {
	text, err := c.render(n, answer)
	if err != nil {
		return 0, err
	}
	if !strings.HasPrefix(c.text, text) {
		return 0, c.rewrites(n)
	}
	tokens, err := c.tokenize(text, true)
	if err != nil {
		return 0, err
	}
	if len(tokens) > len(c.tokens) || !slices.Equal(tokens, c.tokens[:len(tokens)]) {
		turn := n
		if answer {
			turn++
		}
		return 0, c.bad(centram.Invalid, "one token holds the edge of turn %d and of what is beside it", turn).
			WithHint("Take out white space at the beginning and at the end of the turn.")
	}
	return len(tokens), nil
}

func (c *chat) rewrites(n int) error {
	return c.bad(centram.Unsupported, "the model's chat template changes what came before when the conversation goes on after turn %d", n).
		WithHint("What should be learnt cannot be told apart then. Give each answer as a conversation of its own, or use a model whose template does not.")
}
