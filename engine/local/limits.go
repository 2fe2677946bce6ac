package local

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/centram/centram"
)

// llama.cpp reads grammars and schemas by recursion, so what comes from a client is bounded before: a stack that runs
// over ends the process, not the request.
const (
	maxGrammarBytes = 128 << 10
	maxGrammarRules = 4000
	maxNesting      = 64
	maxCopies       = 4 << 20 // of characters, which llama.cpp writes out for each time that a word is repeated
	mostTimes       = 2000    // beyond which it says no, or takes it for any number (MAX_REPETITION_THRESHOLD)

	maxAnswerNesting = 100 // what a model says is read by recursion too
)

// checkGrammar bounds a GBNF text.
func checkGrammar(gbnf string) error {
	if len(gbnf) > maxGrammarBytes {
		return centram.Errorf(centram.Invalid, "the grammar has %d bytes, which is more than the %d allowed", len(gbnf), maxGrammarBytes)
	}
	if n := strings.Count(gbnf, "::="); n > maxGrammarRules {
		return centram.Errorf(centram.Invalid, "the grammar has %d rules, which is more than the %d allowed", n, maxGrammarRules)
	}
	depth := 0
	for i := range len(gbnf) {
		switch gbnf[i] { // brackets in literals count too: the bound is for safety, not for style
		case '(':
			depth++
		case ')':
			depth = max(depth-1, 0)
		}
		if depth > maxNesting {
			return centram.Errorf(centram.Invalid, "the grammar nests brackets more than %d deep", maxNesting)
		}
	}
	if copies(gbnf) > maxCopies {
		return centram.Errorf(centram.Invalid, "the grammar repeats long words too often")
	}
	if strings.HasPrefix(strings.TrimSpace(gbnf), "%llguidance") {
		return centram.Errorf(centram.Unsupported, "this build reads GBNF grammars only, not llguidance")
	}
	return nil
}

// copies is how many characters and names the repetitions of a GBNF text may come to, at most.
func copies(gbnf string) int {
	sum, item := 0, 1 // the length of what is repeated
	for i := 0; i < len(gbnf); i++ {
		switch c := gbnf[i]; {
		case c == '#':
			i += max(strings.IndexByte(gbnf[i:], '\n'), 0)
		case c == '"' || c == '[':
			end := c
			if c == '[' {
				end = ']'
			}
			for item = 1; i+1 < len(gbnf) && gbnf[i+1] != end; i++ {
				if gbnf[i+1] == '\\' {
					i++
				}
				item++
			}
			i++
		case c == '{':
			inside, _, _ := strings.Cut(gbnf[i+1:], "}")
			most := 0
			for n := range strings.FieldsFuncSeq(inside, func(r rune) bool { return r < '0' || r > '9' }) {
				times, err := strconv.Atoi(n)
				if err != nil || times > mostTimes {
					times = mostTimes
				}
				most = max(most, times)
			}
			sum += most * item
		case c == ')' || c == '.' || c == '_' || c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
			item = 1
		}
	}
	return sum
}

// checkNesting bounds JSON text from a client.
func checkNesting(what string, raw json.RawMessage) error {
	if len(raw) > maxGrammarBytes {
		return centram.Errorf(centram.Invalid, "%s has %d bytes, which is more than the %d allowed", what, len(raw), maxGrammarBytes)
	}
	return checkDepth(what, string(raw))
}

// checkDepth bounds how deep brackets nest in JSON text, of whatever length.
func checkDepth(what, text string) error {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}
		if depth > maxNesting {
			return centram.Errorf(centram.Invalid, "%s is nested more than %d deep", what, maxNesting)
		}
	}
	return nil
}

// deepest is the most that brackets may nest in any JSON that is part of a text. Where one begins isn't known, so it goes by the
// deepest of all beginnings: unquoted, quoted and escaped are the depths of those that would have the next byte so.
func deepest(text string) int {
	const none = -1
	unquoted, quoted, escaped, most := 0, none, none, 0
	for i := range len(text) {
		u, q, e := unquoted, quoted, none
		switch text[i] {
		case '"':
			u, q = quoted, unquoted
		case '\\':
			q, e = none, quoted
		case '{', '[':
			u++
		case '}', ']':
			u--
		}
		unquoted, quoted, escaped = max(u, 0), max(q, escaped), e
		most = max(most, unquoted)
	}
	return most
}

// keywords are those of JSON schema that a grammar can keep to, or that need no keeping. The others are refused, since to
// drop one silently would be to promise what is not held.
var keywords = map[string]bool{
	"type": true, "properties": true, "required": true, "additionalProperties": true, "items": true, "prefixItems": true,
	"minItems": true, "maxItems": true, "enum": true, "const": true, "oneOf": true, "anyOf": true, "allOf": true, "$ref": true,
	"$defs": true, "definitions": true, "minLength": true, "maxLength": true, "pattern": true, "format": true,
	"minimum": true, "maximum": true, "exclusiveMinimum": true, "exclusiveMaximum": true,
	"$schema": true, "$id": true, "$comment": true, "title": true, "description": true, "default": true, "examples": true,
	"deprecated": true, "readOnly": true, "writeOnly": true, "strict": true, "name": true,
}

// checkSchema reports the first thing in a schema that an answer could not be held to.
func checkSchema(raw json.RawMessage) error {
	if err := checkNesting("the JSON schema", raw); err != nil {
		return err
	}
	var schema any
	if err := json.Unmarshal(raw, &schema); err != nil {
		return centram.Errorf(centram.Invalid, "the JSON schema is not JSON: %w", err)
	}
	return walkSchema(schema)
}

func walkSchema(node any) error {
	object, ok := node.(map[string]any)
	if !ok {
		if _, ok := node.(bool); ok {
			return nil
		}
		return centram.Errorf(centram.Invalid, "a JSON schema is an object, true or false")
	}
	for key, value := range object {
		if !keywords[key] {
			return unkept("the keyword %q", key)
		}
		var err error
		switch key {
		case "properties", "$defs", "definitions":
			named, _ := value.(map[string]any)
			for _, child := range named {
				if err == nil {
					err = walkSchema(child)
				}
			}
		case "oneOf", "anyOf", "allOf", "prefixItems":
			err = walkList(value)
		case "items":
			if _, list := value.([]any); list {
				err = walkList(value)
			} else {
				err = walkSchema(value)
			}
		case "additionalProperties":
			err = walkSchema(value)
		case "pattern":
			p, _ := value.(string)
			if !strings.HasPrefix(p, "^") || !strings.HasSuffix(p, "$") || strings.Contains(p, "(?") || strings.Contains(p, `\b`) {
				err = unkept("the pattern %q, which has to begin with ^, end with $ and look neither ahead nor behind", p)
			}
		case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum":
			if object["type"] != "integer" {
				err = unkept("%q for what is not an integer", key)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func walkList(value any) error {
	list, _ := value.([]any)
	for _, child := range list {
		if err := walkSchema(child); err != nil {
			return err
		}
	}
	return nil
}

func unkept(format string, args ...any) error {
	return centram.Errorf(centram.Invalid, "the JSON schema has "+format+", which an answer cannot be held to", args...).
		WithHint("Leave it out of the schema and check the answer yourself.")
}
