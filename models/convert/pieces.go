package convert

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// readPieces reads a tokenizer.model, which is a protocol buffer of SentencePiece:
//
//	1 piece, repeated: 1 text, 2 score (float), 3 type, numbered as in GGUF    2 trainer: 3 type of model
//	3 normalizer: 3 whether a space is put before a text
//
// and then the tokens that were added to it. The error is fs.ErrNotExist if there is no such file.
func (v *vocabulary) readPieces(src *folder, settings *fields) error {
	b, err := src.read(piecesFile, maxTokenizer)
	if err != nil {
		return err
	}
	v.model, v.pre = "llama", "default"
	if err := v.parsePieces(src.path(piecesFile), b); err != nil {
		return err
	}
	if err := v.readAddedPieces(src, settings); err != nil {
		return err
	}
	if settings.has("add_prefix_space") {
		prefix := get(settings, "add_prefix_space", true)
		v.prefix = &prefix
	}
	return settings.err()
}

// modelBPE is what the tokens have to be joined by. llama.cpp would cut texts of the other models differently.
const modelBPE = 2

func (v *vocabulary) parsePieces(file string, b []byte) error {
	next, kind := 0, uint64(1) // the default is a unigram model
	whole := false             // the normalizer, which is behind the pieces, is there
	err := message(b, func(field int, m []byte, _ uint64) (err error) {
		switch field {
		case 1:
			var t token
			if t, err = parsePiece(m); err == nil {
				err = v.set(file, next, t)
			}
			next++
		case 2:
			kind, err = number(m, 3, kind)
		case 3:
			var n uint64
			n, err = number(m, 3, 1)
			prefix := n != 0
			v.prefix, whole = &prefix, true
		}
		return err
	})
	switch {
	case errors.Is(err, errMessage) || err == nil && (!whole || next == 0):
		return bad("%s is not a tokenizer of SentencePiece, or is damaged", file)
	case err != nil:
		return err
	case kind != modelBPE:
		return unsupported("%s is a SentencePiece tokenizer of another sort than BPE, which cannot be converted", file)
	}
	return nil
}

func parsePiece(b []byte) (token, error) {
	t := token{typ: tokenNormal}
	err := message(b, func(field int, m []byte, n uint64) error {
		switch field {
		case 1:
			t.text = string(m)
		case 2:
			t.score = math.Float32frombits(uint32(n))
		case 3:
			t.typ = int32(min(n, 99))
		}
		return nil
	})
	if err == nil && (t.typ < tokenNormal || t.typ > tokenByte || !utf8.ValidString(t.text)) {
		err = errMessage
	}
	return t, err
}

// number is the number in a field of a message.
func number(b []byte, wanted int, otherwise uint64) (uint64, error) {
	err := message(b, func(field int, _ []byte, n uint64) error {
		if field == wanted {
			otherwise = n
		}
		return nil
	})
	return otherwise, err
}

// errMessage is the error of a protocol buffer that is none.
var errMessage = errors.New("not a message")

// message calls each with the fields of a protocol buffer: with bytes, or with a number in the bits that it has there.
func message(b []byte, each func(field int, bytes []byte, n uint64) error) error {
	for len(b) > 0 {
		key, used := binary.Uvarint(b)
		if used <= 0 || key>>3 == 0 || key>>3 > 1<<29 {
			return errMessage
		}
		b = b[used:]
		var bytes []byte
		var n uint64
		switch key & 7 {
		case 0:
			n, used = binary.Uvarint(b)
		case 1:
			used = 8
		case 2:
			var length uint64
			if length, used = binary.Uvarint(b); used <= 0 || length > uint64(len(b)-used) {
				return errMessage
			}
			bytes = b[used:][:length]
			used += int(length)
		case 5:
			used = 4
		default:
			return errMessage
		}
		if used <= 0 || used > len(b) {
			return errMessage
		}
		switch key & 7 {
		case 1:
			n = binary.LittleEndian.Uint64(b)
		case 5:
			n = uint64(binary.LittleEndian.Uint32(b))
		}
		b = b[used:]
		if err := each(int(key>>3), bytes, n); err != nil {
			return err
		}
	}
	return nil
}

// readAddedPieces reads the tokens that were put into the vocabulary afterwards, or are control tokens after all.
func (v *vocabulary) readAddedPieces(src *folder, settings *fields) error {
	more, err := src.object(addedFile, maxTokenizer)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		for _, text := range slices.Sorted(maps.Keys(more.raw)) {
			id := get(more, text, -1)
			if more.err() != nil {
				return more.err()
			}
			if err := v.set(more.file, id, token{text, tokenUserDefined, -1000}); err != nil {
				return err
			}
		}
	}
	decoder := settings.object("added_tokens_decoder")
	for _, number := range slices.Sorted(maps.Keys(decoder.raw)) {
		a := decoder.object(number)
		text, special := get(a, "content", ""), get(a, "special", false)
		id, err := strconv.Atoi(number)
		if err != nil || a.err() != nil || decoder.err() != nil || id < 0 || id >= len(v.tokens) || text == "" {
			return bad("%s: the token %.20q is not one of the %d tokens", decoder.file, number, len(v.tokens))
		}
		// The unknown token stays what it is: llama.cpp asks for it by its type.
		if v.tokens[id].typ != tokenUnknown || v.tokens[id].text != text {
			v.tokens[id] = added(text, special)
		}
	}
	return settings.err()
}
