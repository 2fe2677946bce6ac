package convert

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// ofPieces reports whether a tokenizer.json was made of a SentencePiece tokenizer.
func ofPieces(f *fields) bool {
	model := f.object("model")
	return get(model, "byte_fallback", false) || get(model, "type", "") == "Unigram"
}

// readPairs reads a tokenizer.json that joins pairs of bytes, as GPT-2's did.
func (v *vocabulary) readPairs(f *fields) error {
	model := f.object("model")
	if f.err() != nil {
		return f.err()
	}
	if typ := get(model, "type", "BPE"); typ != "BPE" {
		return unsupported("%s is a tokenizer of type %.30q, which cannot be converted", f.file, typ).
			WithHint("BPE tokenizers of bytes can be.")
	}
	for key, value := range map[string]string{
		"dropout": "0.0", "continuing_subword_prefix": `""`, "end_of_word_suffix": `""`, "fuse_unk": "false",
	} {
		if !model.among(key, value) {
			return unsupported("%s cannot be converted: its %s is %.30s", model.file, key, model.raw[key])
		}
	}
	if err := plainText(f); err != nil {
		return err
	}
	v.model = "gpt2"
	var err error
	if v.pre, err = preTokenizer(f, get(model, "ignore_merges", false)); err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return v.readTokens(model) },
		func() error { return v.readAdded(f) },
		func() error { return v.readMerges(model) },
		func() error { return v.readEnds(f) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return f.err()
}

// plainText fails if texts are changed before they are cut. NFC is let pass, as the texts that people type are so already.
func plainText(f *fields) error {
	normalizer := f.object("normalizer")
	list := []*fields{normalizer}
	if get(normalizer, "type", "") == "Sequence" {
		list = normalizer.list("normalizers")
	}
	for _, n := range list {
		if typ := get(n, "type", "NFC"); typ != "NFC" {
			return unsupported("%s cannot be converted: it changes texts by %.30q before they are cut", f.file, typ)
		}
	}
	return normalizer.err()
}

func (v *vocabulary) readTokens(model *fields) error {
	vocab := model.object("vocab")
	if model.err() != nil {
		return model.err()
	}
	if len(vocab.raw) == 0 {
		return bad("%s has no vocab", model.file)
	}
	for _, text := range slices.Sorted(maps.Keys(vocab.raw)) {
		id := get(vocab, text, -1)
		if vocab.err() != nil {
			return vocab.err()
		}
		if err := v.set(model.file, id, token{text: text, typ: tokenNormal}); err != nil {
			return err
		}
	}
	return nil
}

func (v *vocabulary) readAdded(f *fields) error {
	for _, a := range f.list("added_tokens") {
		text, id, special := get(a, "content", ""), get(a, "id", -1), get(a, "special", false)
		if a.err() != nil {
			return a.err()
		}
		if err := v.set(f.file, id, token{text: text, typ: tokenNormal}); err != nil {
			return err
		}
		v.tokens[id] = added(text, special)
	}
	return f.err()
}

// readMerges reads the pairs, which are texts "a b" or, in newer files, lists of two.
func (v *vocabulary) readMerges(model *fields) error {
	for i, raw := range get[[]json.RawMessage](model, "merges", nil) {
		var whole string
		var pair []string
		switch {
		case json.Unmarshal(raw, &whole) == nil:
		case json.Unmarshal(raw, &pair) == nil && len(pair) == 2:
			// A space is spelt in the characters of the byte table everywhere else.
			whole = strings.ReplaceAll(pair[0], " ", "Ġ") + " " + strings.ReplaceAll(pair[1], " ", "Ġ")
		default:
			return bad("%s: its merge %d is %.50s, not a pair", model.file, i, raw)
		}
		v.merges = append(v.merges, whole)
	}
	return nil
}

// readEnds finds out which special tokens are put around a text.
func (v *vocabulary) readEnds(f *fields) error {
	post := f.object("post_processor")
	list := []*fields{post}
	if get(post, "type", "") == "Sequence" {
		list = post.list("processors")
	}
	for _, p := range list {
		switch typ := get(p, "type", "ByteLevel"); typ {
		case "ByteLevel":
		case "TemplateProcessing":
			if err := v.readEndsOf(p); err != nil {
				return err
			}
		default:
			return unsupported("%s cannot be converted: it changes tokens by %.30q", f.file, typ)
		}
	}
	return post.err()
}

// readEndsOf reads a template: at most a token, then the text, then at most a token.
func (v *vocabulary) readEndsOf(p *fields) error {
	text := false
	for _, part := range p.list("single") {
		id := get(part.object("SpecialToken"), "id", "")
		switch {
		case part.has("Sequence") && !text:
			text = true
		case id != "" && !text && v.first == "":
			v.first = id
		case id != "" && text && v.last == "":
			v.last = id
		default:
			return unsupported("%s cannot be converted: it puts more than a token before and one behind a text", p.file)
		}
	}
	return p.err()
}
