package local

import (
	"encoding/json"
	"strings"

	"github.com/centram/centram"
)

// llama.cpp reads grammars and schemas by recursion, so what comes from a client is bounded before: a stack that runs
// over ends the process, not the request.
const (
	maxGrammarBytes = 128 << 10
	maxGrammarRules = 4000
	maxNesting      = 64
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
	if strings.HasPrefix(strings.TrimSpace(gbnf), "%llguidance") {
		return centram.Errorf(centram.Unsupported, "this build reads GBNF grammars only, not llguidance")
	}
	return nil
}

// checkNesting bounds JSON text from a client.
func checkNesting(what string, raw json.RawMessage) error {
	if len(raw) > maxGrammarBytes {
		return centram.Errorf(centram.Invalid, "%s has %d bytes, which is more than the %d allowed", what, len(raw), maxGrammarBytes)
	}
	depth, quoted := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
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
