package convert

import (
	"slices"
	"strings"
)

// How a text is cut into words, as steps that follow each other: "split" and a regular expression, "digits" for each digit
// alone, "words" for GPT-2's own expression, and "bytes" where nothing more is cut.
const (
	contractions = `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
	spaces       = `|\s*[\r\n]+|\s+(?!\S)|\s+`

	splitQwen  = "split " + contractions + `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*` + spaces
	splitLlama = "split " + contractions + `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*` + spaces
	splitSeed  = "split " + contractions + `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+` + spaces

	upper = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`
	lower = `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`

	splitTekken = "split " + upper + "*" + lower + "+|" + upper + "+" + lower + `*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*` + spaces
	splitGPT4o  = "split " + upper + "*" + lower + "+" + contractions + "?|" + upper + "+" + lower + "*" + contractions +
		`?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*` + spaces
)

// preTokenizers are llama.cpp's names of ways to cut, each with the expressions that it has in its source, and whether a word
// that is a token is taken without joining pairs, which goes with the name there.
var preTokenizers = []struct {
	name         string
	steps        []string
	ignoreMerges bool
}{
	{"qwen2", []string{splitQwen, "bytes"}, false},
	{"llama-bpe", []string{splitLlama, "bytes"}, true},
	{"smaug-bpe", []string{splitLlama, "bytes"}, false},
	{"smollm", []string{"digits", "words"}, false},
	{"gpt-2", []string{"words"}, false},
	{"tekken", []string{splitTekken, "bytes"}, true},
	{"gpt-4o", []string{splitGPT4o, "bytes"}, false},
	{"seed-coder", []string{splitSeed, "bytes"}, false},
}

// preTokenizer finds out which of them a tokenizer.json has.
func preTokenizer(f *fields, ignoreMerges bool) (string, error) {
	steps, err := cutSteps(f.object("pre_tokenizer"))
	if err != nil {
		return "", err
	}
	var names []string
	for _, p := range preTokenizers {
		if slices.Equal(p.steps, steps) && p.ignoreMerges == ignoreMerges {
			return p.name, nil
		}
		names = append(names, p.name)
	}
	return "", unsupported("%s cuts texts in a way that is not known (%.200q, ignore_merges %v)", f.file, strings.Join(steps, " then "), ignoreMerges).
		WithHint("Known are those that llama.cpp calls %s.", strings.Join(names, ", "))
}

// cutSteps puts a pre_tokenizer into the words above. One that has none is an error or a step of its own.
func cutSteps(f *fields) ([]string, error) {
	typ := get(f, "type", "none")
	var steps []string
	switch typ {
	case "Sequence":
		for _, part := range f.list("pretokenizers") {
			more, err := cutSteps(part)
			if err != nil {
				return nil, err
			}
			steps = append(steps, more...)
		}
	case "Split":
		// Both leave the matches as they are, since everything matches.
		isolated := f.among("behavior", `"Isolated"`) && f.among("invert", "false")
		removed := f.among("behavior", `"Removed"`) && f.among("invert", "true")
		if !isolated && !removed {
			typ = "Split into other parts"
		}
		regex := get(f.object("pattern"), "Regex", "")
		steps = []string{strings.ToLower(typ) + " " + strings.NewReplacer("\r", `\r`, "\n", `\n`).Replace(regex)}
	case "Digits":
		if !get(f, "individual_digits", false) {
			typ = "Digits together"
		}
		steps = []string{strings.ToLower(typ)}
	case "ByteLevel":
		steps = []string{"words"}
		if !get(f, "use_regex", true) {
			steps = []string{"bytes"}
		}
		if get(f, "add_prefix_space", true) {
			steps = append(steps, "a space before a text")
		}
	default:
		steps = []string{typ}
	}
	return steps, f.err()
}
