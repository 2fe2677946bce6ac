package main

import (
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// terminalLines reads lines with editing and a history. The terminal is raw only while a line is typed, so that Ctrl+C
// is a signal while the model answers.
type terminalLines struct {
	fd     int
	term   *term.Terminal
	screen io.Writer
}

func newTerminalLines(a *app) (*terminalLines, error) {
	in, ok := a.in.(*os.File)
	if !ok || !terminal(in) {
		return nil, usageError{errors.New("a conversation needs a terminal"), "Give one prompt instead: centram chat --prompt TEXT"}
	}
	screen := a.out
	if !terminal(screen) {
		screen = in // the answers go elsewhere, but what is typed is shown
	}
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{noInterrupt{in}, screen}, "")
	t.History = openHistory(a.cfg.Paths.State)
	return &terminalLines{int(in.Fd()), t, screen}, nil
}

// Read implements lineReader. Lines that are pasted are one message.
func (l *terminalLines) Read(prompt string) (string, error) {
	state, err := term.MakeRaw(l.fd)
	if err != nil {
		return "", err
	}
	defer term.Restore(l.fd, state)
	if width, height, err := term.GetSize(l.fd); err == nil && width > 0 {
		_ = l.term.SetSize(width, height)
	}
	l.term.SetBracketedPasteMode(true)
	defer l.term.SetBracketedPasteMode(false)
	l.term.SetPrompt(prompt)
	var pasted strings.Builder
	for {
		line, err := l.term.ReadLine()
		if errors.Is(err, term.ErrPasteIndicator) {
			pasted.WriteString(line + "\n")
			l.term.SetPrompt("... ")
			continue
		}
		if errors.Is(err, io.EOF) {
			_, _ = io.WriteString(l.screen, "\r\n") // so that the shell begins a line
		}
		return pasted.String() + line, err
	}
}

// noInterrupt turns Ctrl+C, which would end the input, into Ctrl+U, which empties the line.
type noInterrupt struct{ io.Reader }

func (r noInterrupt) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	for i, b := range p[:n] {
		if b == 3 {
			p[i] = 21
		}
	}
	return n, err
}
