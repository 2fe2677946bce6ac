package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/config"
)

// typed is what a person types, line by line.
type typed []string

func (l *typed) Read(string) (string, error) {
	if len(*l) == 0 {
		return "", io.EOF
	}
	line := (*l)[0]
	*l = (*l)[1:]
	return line, nil
}

// fake answers with what its function says.
type fake func(ctx context.Context, q question, emit func(string) error) error

func (fake) Model() string { return "fake" }
func (fake) Close() error  { return nil }
func (f fake) Answer(ctx context.Context, q question, emit func(string) error) (answer, error) {
	return answer{}, f(ctx, q, emit)
}

func chatWith(t *testing.T, talk fake, lines ...string) (r *repl, out, err string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	all := typed(lines)
	a := &app{out: &stdout, err: &stderr, lookup: os.LookupEnv, cfg: &config.Config{}}
	r = &repl{app: a, lines: &all, talk: talk}
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r, stdout.String(), stderr.String()
}

func TestCtrlCStopsTheAnswerAndNotTheProgram(t *testing.T) {
	n := 0
	r, out, _ := chatWith(t, func(ctx context.Context, q question, emit func(string) error) error {
		n++
		if n == 2 {
			return emit("second")
		}
		if err := emit("half an"); err != nil {
			return err
		}
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGINT); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}, "one", "two")
	if out != "half an\nsecond\n" {
		t.Errorf("got %q", out)
	}
	if len(r.chat.Messages) != 4 || r.chat.Messages[1].Content != "half an" {
		t.Errorf("got %v, want what was said before the stop in the conversation", r.chat.Messages)
	}
}

func TestAFailedQuestionCanBeAskedAgain(t *testing.T) {
	r, _, complaint := chatWith(t, func(_ context.Context, q question, emit func(string) error) error {
		if len(q.Messages) != 1 {
			t.Errorf("got %v, want the question alone", q.Messages)
		}
		return errors.New("it broke")
	}, "one", "one")
	if len(r.chat.Messages) != 0 || !strings.Contains(complaint, "Error: It broke") {
		t.Errorf("got %v and %q", r.chat.Messages, complaint)
	}
}

func TestTheModelHearsTheConversation(t *testing.T) {
	var heard []string
	chatWith(t, func(_ context.Context, q question, emit func(string) error) error {
		var all []string
		for _, m := range q.Messages {
			all = append(all, m.Role+":"+m.Content)
		}
		heard = append(heard, strings.Join(all, " "))
		return emit("yes")
	}, "/set system be brief", "one", `"""two`, `lines"""`, " /three", "/clear", "four")
	want := []string{
		"system:be brief user:one",
		"system:be brief user:one assistant:yes user:two\nlines",
		"system:be brief user:one assistant:yes user:two\nlines assistant:yes user: /three",
		"system:be brief user:four",
	}
	if strings.Join(heard, "|") != strings.Join(want, "|") {
		t.Errorf("got %q, want %q", heard, want)
	}
}

func TestHistoryOutlivesTheProgram(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	h := openHistory(dir)
	for _, line := range []string{"one", "", "two", "two"} {
		h.Add(line)
	}
	h = openHistory(dir)
	if h.Len() != 2 || h.At(0) != "two" || h.At(1) != "one" {
		t.Errorf("got %q", h.lines)
	}
	if info, err := os.Stat(h.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v; want a file for the owner only", info, err)
	}
}

func TestSpread(t *testing.T) {
	s := spreadOf([]float64{4, 1, 3, 2})
	if s.Mean != 2.5 || s.Median != 2.5 || s.Min != 1 || s.Max != 4 || s.Stddev < 1.29 || s.Stddev > 1.3 {
		t.Errorf("got %+v", s)
	}
	if s := spreadOf([]float64{5}); s.Stddev != 0 || s.Median != 5 {
		t.Errorf("got %+v", s)
	}
}

func TestTheTokenGoesToOurDaemonOnly(t *testing.T) {
	dir := t.TempDir()
	if _, ok := findHolder(dir); ok {
		t.Error("a daemon was found where there is none")
	}
	lock, err := lockData(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockData(dir); centram.CodeOf(err) != centram.Conflict || strings.Contains(err.Error()+centram.HintOf(err), "0") {
		t.Errorf("got %v, %s, want a conflict with a daemon that has not said yet who it is", err, centram.HintOf(err))
	}
	if err := lock.write(holder{PID: 1, URL: "http://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	if h, ok := findHolder(dir); !ok || h.URL != "http://127.0.0.1:1" {
		t.Errorf("got %v, %v", h, ok)
	}
	if _, err := lockData(dir); err == nil || !strings.Contains(err.Error(), "process 1") {
		t.Errorf("got %v, want a conflict with process 1", err)
	}
	lock.Close() // as when the daemon is killed
	if h, ok := findHolder(dir); ok {
		t.Errorf("got %v of a daemon that has ended", h)
	}
}
