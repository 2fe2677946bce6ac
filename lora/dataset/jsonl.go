package dataset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/centram/centram"
)

const shapes = `Write {"text": "..."}, {"messages": [{"role": "user", "content": "..."}, ...]} or {"conversations": [{"from": "human", "value": "..."}, ...]}.`

// roles are the names that data sets give to the roles.
var roles = map[string]string{
	"system": System, "developer": System,
	"user": User, "human": User,
	"assistant": Assistant, "gpt": Assistant, "model": Assistant, "bot": Assistant,
}

// parse reads one line of a JSONL file into it.
func (it *Item) parse(line []byte) error {
	if !utf8.Valid(line) {
		return it.bad(centram.Invalid, "the line is not UTF-8").
			WithHint("Convert the file first, for example: iconv -f ISO-8859-1 -t UTF-8 FILE.")
	}
	fields, err := it.object("the line", line)
	if err != nil {
		return err
	}
	var has []string
	for _, name := range []string{"text", "messages", "conversations"} {
		if _, ok := fields[name]; ok {
			has = append(has, name)
		}
	}
	switch {
	case len(has) == 0:
		names := slices.Sorted(maps.Keys(fields))
		return it.bad(centram.Invalid, "there is neither text nor a conversation, only the fields %.200q", names).WithHint("%s", shapes)
	case len(has) > 1:
		return it.bad(centram.Invalid, "there are both %s and %s", has[0], has[1]).
			WithHint("Leave one of them out: it is not clear what should be learnt.")
	}
	if has[0] == "text" {
		it.Text, err = it.field(fields, "text", "the line")
		return err
	}
	role, content := "role", "content"
	if has[0] == "conversations" {
		role, content = "from", "value"
	}
	if system, ok := fields["system"]; ok && string(system) != "null" {
		if string(system) != `""` { // some data sets have the field in every line
			text, err := it.field(fields, "system", "the line")
			if err != nil {
				return err
			}
			it.Messages = []Message{{System, text}}
		}
	}
	return it.messages(fields[has[0]], has[0], role, content)
}

func (it *Item) messages(raw json.RawMessage, list, role, content string) error {
	var turns []json.RawMessage
	if err := json.Unmarshal(raw, &turns); err != nil || len(turns) == 0 {
		return it.bad(centram.Invalid, "%s is not a list of turns", list).WithHint("%s", shapes)
	}
	answers := 0
	for i, turn := range turns {
		what := fmt.Sprintf("turn %d of %s", i+1, list)
		fields, err := it.object(what, turn)
		if err != nil {
			return err
		}
		for _, tools := range []string{"tool_calls", "function_call"} {
			if v, ok := fields[tools]; ok && string(v) != "null" && string(v) != "[]" {
				return it.bad(centram.Unsupported, "%s calls a tool, which cannot be trained yet", what).
					WithHint("Leave such conversations out.")
			}
		}
		name, err := it.field(fields, role, what)
		if err != nil {
			return err
		}
		m := Message{Role: roles[name]}
		if m.Role == "" {
			return it.bad(centram.Invalid, "%s has the unknown role %.50q", what, name).
				WithHint("The roles are system, user and assistant.")
		}
		if m.Content, err = it.field(fields, content, what); err != nil {
			return err
		}
		if m.Role == Assistant {
			answers++
		}
		it.Messages = append(it.Messages, m)
	}
	if answers == 0 {
		return it.bad(centram.Invalid, "nobody answers in the conversation, so there is nothing to learn").
			WithHint("Only the assistant's turns are learnt.")
	}
	return nil
}

// object reads a JSON object, in which no field may be twice, as it would not be clear which one counts.
func (it *Item) object(what string, raw []byte) (map[string]json.RawMessage, error) {
	bad := func(err error) error {
		hint := "There has to be a whole object on each line. Text goes through a JSON encoder first: " +
			`quotation marks become \" and line breaks \n.`
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return it.bad(centram.Invalid, "%s is cut off", what).WithHint("%s", hint)
		}
		return it.bad(centram.Invalid, "%s is not a JSON object: %w", what, err).WithHint("%s", hint)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	open, err := d.Token()
	if err != nil {
		return nil, bad(err)
	}
	if open != json.Delim('{') {
		return nil, bad(fmt.Errorf("it begins with %.20v", open))
	}
	out := map[string]json.RawMessage{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, bad(err)
		}
		name := key.(string) // the decoder accepts nothing else here
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, bad(err)
		}
		if _, twice := out[name]; twice {
			return nil, it.bad(centram.Invalid, "%s has the field %.50q twice", what, name).WithHint("Leave one of them out.")
		}
		out[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, bad(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, bad(errors.New("something follows the object"))
	}
	return out, nil
}

// field is the string of a field, which has to say something.
func (it *Item) field(fields map[string]json.RawMessage, name, what string) (string, error) {
	raw, ok := fields[name]
	if !ok {
		return "", it.bad(centram.Invalid, "%s has no field %q", what, name).WithHint("%s", shapes)
	}
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		return "", it.bad(centram.Invalid, "in %s, the field %q is not a string", what, name).
			WithHint("Only text can be learnt. " + shapes)
	}
	if strings.TrimSpace(*s) == "" {
		return "", it.bad(centram.Invalid, "in %s, the field %q is empty", what, name).WithHint("Take the line out.")
	}
	if strings.ContainsRune(*s, 0) {
		return "", it.bad(centram.Invalid, "in %s, the field %q has a zero character", what, name).WithHint("Take it out.")
	}
	// The decoder puts the replacement character for half of a pair of surrogates.
	if strings.ContainsRune(*s, utf8.RuneError) && !bytes.ContainsRune(raw, utf8.RuneError) && !bytes.Contains(bytes.ToLower(raw), []byte(`\ufffd`)) {
		return "", it.bad(centram.Invalid, "in %s, the field %q has half a character: a \\u escape without its other half", what, name).
			WithHint("Write the character itself, in UTF-8.")
	}
	return strings.ReplaceAll(*s, "\r\n", "\n"), nil
}
