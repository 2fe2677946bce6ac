package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/centram/centram/engine"
)

// conversation is what has been said.
type conversation struct {
	System   string           `json:"system"`
	Messages []engine.Message `json:"messages"`
}

// all is the conversation as a model reads it.
func (c conversation) all() []engine.Message {
	if c.System == "" {
		return c.Messages
	}
	return append([]engine.Message{{Role: "system", Content: c.System}}, c.Messages...)
}

// lineReader reads what a person types. It returns io.EOF when they leave.
type lineReader interface {
	Read(prompt string) (string, error)
}

// repl is a conversation in a terminal.
type repl struct {
	app   *app
	lines lineReader
	open  func(ctx context.Context, model string) (talker, error)
	flags chatFlags
	talk  talker
	chat  conversation
}

// converse talks with a person until they leave.
func (a *app) converse(ctx context.Context, f *chatFlags) error {
	t, err := a.talk(ctx, f.model)
	if err != nil {
		return err
	}
	lines, err := newTerminalLines(a)
	if err != nil {
		return errors.Join(err, t.Close())
	}
	r := &repl{app: a, lines: lines, open: a.talk, flags: *f, talk: t, chat: conversation{System: f.system}}
	defer func() { r.talk.Close() }()
	name := t.Model()
	if name == "" {
		name = "the daemon's model"
	}
	a.hint("Chatting with %s. /help lists the commands, Ctrl+C stops an answer, Ctrl+D leaves.", name)
	return r.run(ctx)
}

func (r *repl) run(ctx context.Context) error {
	for {
		text, err := r.read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case strings.TrimSpace(text) == "":
		case strings.HasPrefix(text, "/"):
			leave, err := r.command(ctx, text)
			if err != nil {
				r.app.complain(err)
			}
			if leave {
				return nil
			}
		default:
			r.answer(ctx, text)
		}
	}
}

// read reads one message: a line, or the lines between two lots of three quotation marks.
func (r *repl) read() (string, error) {
	line, err := r.lines.Read(">>> ")
	if err != nil {
		return "", err
	}
	const quotes = `"""`
	text, long := strings.CutPrefix(strings.TrimLeft(line, " "), quotes)
	if !long {
		return line, nil
	}
	for {
		if before, _, ok := strings.Cut(text, quotes); ok {
			return strings.Trim(before, "\n"), nil
		}
		if line, err = r.lines.Read("... "); err != nil {
			return "", err
		}
		text += "\n" + line
	}
}

// answer asks the model and prints what it says. Ctrl+C stops it; what was said until then stays in the conversation.
func (r *repl) answer(ctx context.Context, text string) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	asked := append(r.chat.Messages, engine.Message{Role: "user", Content: text})
	q := question{Sampling: r.flags.sampling, MaxTokens: r.flags.maxTokens, Stop: r.flags.stop}
	q.Messages = conversation{r.chat.System, asked}.all()
	var heard strings.Builder
	said, err := r.talk.Answer(ctx, q, func(text string) error {
		heard.WriteString(text)
		return r.app.say(text)
	})
	if heard.Len() > 0 {
		fmt.Fprintln(r.app.out)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		r.app.hint("(stopped)")
	case err != nil:
		r.app.complain(r.app.answerError(ctx, err))
		return // the question is not part of the conversation, so it can be asked again
	case r.flags.verbose:
		r.app.hint("%s", said.figures())
	}
	if heard.Len() > 0 {
		r.chat.Messages = append(asked, engine.Message{Role: "assistant", Content: heard.String()})
	}
}

// save writes the conversation to a file, for the owner's eyes only.
func (r *repl) save(path string) error {
	b, err := json.MarshalIndent(r.chat, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("save the conversation: %w", err)
	}
	r.app.hint("Saved. Go on with it later: /load %s", path)
	return nil
}

func (r *repl) restore(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("load the conversation: %w", err)
	}
	var c conversation
	if err := json.Unmarshal(b, &c); err != nil {
		return fmt.Errorf("%s is not a conversation that /save wrote: %w", path, err)
	}
	r.chat = c
	r.app.hint("Loaded a conversation of %s.", plural(len(c.Messages), "message"))
	return nil
}
