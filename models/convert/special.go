package convert

import (
	"errors"
	"io/fs"
	"strings"
	"unicode/utf8"

	"github.com/centram/centram/gguf"
)

// special finds the ids of the special tokens and the chat template.
func (v *vocabulary) special(src *folder, settings, config *fields) error {
	generation, err := src.optional(generationFile, maxSettings)
	if err != nil {
		return err
	}
	ids := map[string]int{}
	for _, name := range []struct{ hf, gguf string }{{"bos", "bos"}, {"eos", "eos"}, {"unk", "unknown"}, {"pad", "padding"}} {
		id := v.specialID(name.hf, settings, config, generation)
		if id < 0 {
			continue
		}
		if id >= len(v.tokens) {
			if name.hf == "bos" || name.hf == "eos" {
				return bad("%s: the %s_token_id %d is none of its %d tokens", src.dir, name.hf, id, len(v.tokens))
			}
			continue // nothing is computed with it
		}
		ids[name.hf] = id
		v.keys = append(v.keys, gguf.KV{Key: "tokenizer.ggml." + name.gguf + "_token_id", Value: id32(id)})
	}
	for _, f := range []*fields{settings, config, generation} {
		if f.err() != nil {
			return f.err()
		}
	}
	if err := v.addEnds(settings, ids); err != nil {
		return err
	}
	return v.addTemplate(src, settings)
}

// specialID is an id by the token's text in tokenizer_config.json, or else by its number elsewhere; -1 if there is none.
func (v *vocabulary) specialID(name string, settings, config, generation *fields) int {
	key := name + "_token"
	text := ""
	if settings.has(key) && strings.HasPrefix(string(settings.raw[key]), "{") {
		text = get(settings.object(key), "content", "")
	} else {
		text = get(settings, key, "")
	}
	if text != "" {
		if id := v.id(text); id >= 0 {
			return id
		}
	}
	for _, f := range []*fields{config, generation} {
		key := name + "_token_id"
		if f.has(key) && strings.HasPrefix(string(f.raw[key]), "[") {
			if list := get[[]int](f, key, nil); len(list) > 0 {
				return list[0]
			}
		} else if id := get(f, key, -1); id >= 0 {
			return id
		}
	}
	return -1
}

// addEnds says whether a text begins with the first token and ends with the last. What tokenizer_config.json says goes first.
func (v *vocabulary) addEnds(settings *fields, ids map[string]int) error {
	for _, end := range []struct {
		name, has string
		otherwise bool
	}{{"bos", v.first, v.model == "llama"}, {"eos", v.last, false}} {
		id, known := ids[end.name]
		if end.has != "" && (!known || v.id(end.has) != id) {
			return unsupported("%s cannot be converted: it puts the token %.50q around texts, which is not its %s_token", settings.file, end.has, end.name)
		}
		add := get(settings, "add_"+end.name+"_token", end.has != "" || end.otherwise && known)
		if settings.err() != nil {
			return settings.err()
		}
		if add && !known {
			return bad("%s puts a %s_token around texts, but does not say which it is", settings.file, end.name)
		}
		v.keys = append(v.keys, gguf.KV{Key: "tokenizer.ggml.add_" + end.name + "_token", Value: gguf.Of(add)})
	}
	return nil
}

// addTemplate finds the chat template. A file of its own goes before what tokenizer_config.json has, as for Hugging Face.
func (v *vocabulary) addTemplate(src *folder, settings *fields) error {
	text, err := src.read(templateFile, gguf.MaxChatTemplateBytes)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = otherTemplate(src, settings)
	}
	if err != nil || len(text) == 0 {
		return err
	}
	if !utf8.Valid(text) {
		return bad("the chat template of %s is not UTF-8", src.dir)
	}
	v.keys = append(v.keys, gguf.KV{Key: "tokenizer.chat_template", Value: gguf.Of(string(text))})
	return nil
}

// otherTemplate finds the chat template in tokenizer_config.json, where it may be one of several, or in chat_template.json.
func otherTemplate(src *folder, settings *fields) ([]byte, error) {
	const key = "chat_template"
	if !settings.has(key) {
		alone, err := src.optional(templateJSON, maxSettings)
		if err != nil {
			return nil, err
		}
		return []byte(get(alone, key, "")), alone.err()
	}
	if !strings.HasPrefix(string(settings.raw[key]), "[") {
		return []byte(get(settings, key, "")), settings.err()
	}
	for _, choice := range settings.list(key) {
		if get(choice, "name", "") == "default" {
			return []byte(get(choice, "template", "")), choice.err()
		}
	}
	return nil, settings.err()
}
