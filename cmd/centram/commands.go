package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// replCommand is a word after a slash.
type replCommand struct {
	name, args, help string
	run              func(r *repl, ctx context.Context, args string) error
}

// errLeave is what a command ends the conversation with.
var errLeave = errors.New("leave")

var replCommands []replCommand

func init() { // help lists the table that it stands in
	replCommands = []replCommand{
		{"help", "", "list the commands", (*repl).help},
		{"set", "[NAME VALUE]", "set temperature, top_k, top_p, min_p, repeat_penalty, seed, max_tokens, system or verbose", (*repl).set},
		{"show", "", "show the model, the settings and how long the conversation is", (*repl).show},
		{"load", "MODEL|FILE.json", "change the model, or go on with a conversation that was saved", (*repl).load},
		{"save", "FILE.json", "write the conversation to a file", func(r *repl, _ context.Context, path string) error {
			if path == "" {
				return usageError{errors.New("/save needs a file"), "Type: /save chat.json"}
			}
			return r.save(path)
		}},
		{"clear", "", "forget the conversation", func(r *repl, _ context.Context, _ string) error {
			r.chat.Messages = nil
			r.app.hint("Forgotten.")
			return nil
		}},
		{"bye", "", "leave", func(*repl, context.Context, string) error { return errLeave }},
		{"exit", "", "", func(*repl, context.Context, string) error { return errLeave }},
		{"?", "", "", (*repl).help},
	}
}

// command runs a line that begins with a slash.
func (r *repl) command(ctx context.Context, line string) (leave bool, err error) {
	name, args, _ := strings.Cut(strings.TrimSpace(line[1:]), " ")
	i := slices.IndexFunc(replCommands, func(c replCommand) bool { return c.name == name })
	if i < 0 {
		return false, usageError{fmt.Errorf("there is no command /%s", name), "Type /help to see which there are, or put a space before the slash."}
	}
	err = replCommands[i].run(r, ctx, strings.TrimSpace(args))
	if errors.Is(err, errLeave) {
		return true, nil
	}
	return false, err
}

func (r *repl) help(context.Context, string) error {
	var rows [][]string
	for _, c := range replCommands {
		if c.help != "" {
			rows = append(rows, []string{strings.TrimSpace("/" + c.name + " " + c.args), c.help})
		}
	}
	rows = append(rows, []string{`"""`, "begin and end a message of several lines"},
		[]string{"Ctrl+C", "stop the answer"}, []string{"Ctrl+D", "leave"})
	return table(r.app.err, rows)
}

func (r *repl) set(_ context.Context, args string) error {
	name, value, _ := strings.Cut(args, " ")
	value = strings.TrimSpace(value)
	switch name {
	case "":
		return table(r.app.err, r.settings())
	case "system":
		r.chat.System = value
	case "verbose":
		r.flags.verbose = value != "off"
	case "max_tokens":
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return usageError{fmt.Errorf("%q is not a number of tokens", value), "Type: /set max_tokens 200, or 0 for no limit"}
		}
		r.flags.maxTokens = n
	default:
		known := slices.ContainsFunc(samplingFlags, func(f struct{ name, help string }) bool {
			return strings.ReplaceAll(f.name, "-", "_") == name
		})
		if !known {
			return usageError{fmt.Errorf("there is no setting %q", name), "Type /help to see which there are."}
		}
		if err := setSampling(&r.flags.sampling, name, value); err != nil {
			return usageError{err, "Type: /set " + name + " NUMBER"}
		}
	}
	return nil
}

// settings lists what differs from the defaults.
func (r *repl) settings() [][]string {
	b, err := json.Marshal(r.flags.sampling)
	if err != nil {
		return nil
	}
	var chosen map[string]*float64
	if json.Unmarshal(b, &chosen) != nil {
		return nil
	}
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(chosen)) {
		if v := chosen[name]; v != nil {
			rows = append(rows, []string{name, strconv.FormatFloat(*v, 'f', -1, 64)})
		}
	}
	if r.flags.maxTokens > 0 {
		rows = append(rows, []string{"max_tokens", strconv.Itoa(r.flags.maxTokens)})
	}
	if r.chat.System != "" {
		rows = append(rows, []string{"system", r.chat.System})
	}
	if len(rows) == 0 {
		rows = [][]string{{"Nothing is set: the defaults hold."}}
	}
	return rows
}

func (r *repl) show(context.Context, string) error {
	rows := [][]string{{"model", r.talk.Model()}, {"conversation", plural(len(r.chat.Messages), "message")}}
	return table(r.app.err, append(rows, r.settings()...))
}

func (r *repl) load(ctx context.Context, what string) error {
	if strings.HasSuffix(what, ".json") {
		return r.restore(what)
	}
	if what == "" {
		return usageError{errors.New("/load needs a model or a file"), "Type: /load MODEL, or /load chat.json"}
	}
	t, err := r.open(ctx, what)
	if err != nil {
		return err // the old model is still there
	}
	old := r.talk
	r.talk = t
	r.app.hint("Chatting with %s now. The conversation goes on; /clear forgets it.", t.Model())
	return old.Close()
}
