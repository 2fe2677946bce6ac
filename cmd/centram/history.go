package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxHistory is how many lines are kept.
const maxHistory = 1000

// history keeps what was typed, across runs, in a file for the owner's eyes only. It implements term.History. What
// cannot be read or written is forgotten: nobody should be kept from chatting by that.
type history struct {
	path  string
	lines []string // oldest first
}

func openHistory(dir string) *history {
	h := &history{path: filepath.Join(dir, "chat_history")}
	b, err := os.ReadFile(h.path)
	if err != nil {
		return h
	}
	h.lines = slices.Collect(strings.Lines(string(b)))
	for i := range h.lines {
		h.lines[i] = strings.TrimSuffix(h.lines[i], "\n")
	}
	if len(h.lines) > 2*maxHistory {
		h.lines = h.lines[len(h.lines)-maxHistory:]
		_ = os.WriteFile(h.path, []byte(strings.Join(h.lines, "\n")+"\n"), 0o600)
	}
	return h
}

// Add keeps a line that is not empty and not the same as the last one.
func (h *history) Add(line string) {
	if strings.TrimSpace(line) == "" || len(h.lines) > 0 && h.lines[len(h.lines)-1] == line {
		return
	}
	h.lines = append(h.lines, line)
	if os.MkdirAll(filepath.Dir(h.path), 0o700) != nil {
		return
	}
	f, err := os.OpenFile(h.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.WriteString(line + "\n")
}

func (h *history) Len() int { return len(h.lines) }

// At returns the line that was typed i lines before the last.
func (h *history) At(i int) string { return h.lines[len(h.lines)-1-i] }
