package chats

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

const (
	// hitBegin and hitEnd stand around a hit in a snippet. They are private-use characters, which no font draws.
	hitBegin, hitEnd = '\uE000', '\uE001'
	// apart is put between characters of a script without spaces. It is invisible, and SQLite's tokenizer splits at it.
	apart = '\u200B'
	// veil is added to the vowel signs of Indic and South-East Asian scripts, which the tokenizer would take for gaps. It
	// makes private-use characters of them, which it takes for letters.
	veil, veilEnd = '\U000F0000', '\U000FFFFF'
)

// scriptsApart are written without spaces between words, or (Hangul) with particles joined to them. Each character
// becomes a token of its own, and a word of a query becomes a phrase of them, so any part of a text can be found.
var scriptsApart = []*unicode.RangeTable{
	unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Bopomofo, unicode.Hangul, unicode.Yi, unicode.Thai,
	unicode.Lao, unicode.Khmer, unicode.Myanmar, unicode.Tibetan, unicode.Javanese, unicode.Balinese, unicode.Tai_Le,
	unicode.New_Tai_Lue, unicode.Tai_Tham, unicode.Tai_Viet,
}

// vowelMarks are the points of Arabic and Hebrew, and the Arabic stretching line: most people write without them.
var vowelMarks = &unicode.RangeTable{R16: []unicode.Range16{
	{Lo: 0x0591, Hi: 0x05BD, Stride: 1},
	{Lo: 0x05BF, Hi: 0x05BF, Stride: 1},
	{Lo: 0x05C1, Hi: 0x05C2, Stride: 1},
	{Lo: 0x05C4, Hi: 0x05C5, Stride: 1},
	{Lo: 0x0610, Hi: 0x061A, Stride: 1},
	{Lo: 0x0640, Hi: 0x0640, Stride: 1},
	{Lo: 0x064B, Hi: 0x065F, Stride: 1},
	{Lo: 0x0670, Hi: 0x0670, Stride: 1},
}}

// segment rewrites text for the index. Readable text comes back with unsegment.
func segment(text string) string {
	text = norm.NFC.String(text)
	var b strings.Builder
	b.Grow(len(text) + len(text)/8)
	for _, r := range text {
		switch {
		case r == apart || r == hitBegin || r == hitEnd || r == 0 || unicode.Is(vowelMarks, r) || veiled(r):
		case r >= 0x0900 && r < 0xAC00 && unicode.IsMark(r) && !unicode.Is(unicode.Inherited, r):
			b.WriteRune(veil + r)
		case r > unicode.MaxLatin1 && unicode.IsOneOf(scriptsApart, r):
			b.WriteRune(apart)
			b.WriteRune(r)
			b.WriteRune(apart)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// unsegment takes out what segment put in, and joins hits that touch.
func unsegment(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == apart:
			return -1
		case veiled(r):
			return r - veil
		}
		return r
	}, text)
	return strings.ReplaceAll(text, string([]rune{hitEnd, hitBegin}), "")
}

func veiled(r rune) bool { return r >= veil && r <= veilEnd }

// match turns what a person typed into a query of FTS4: every word must occur, the last one may be the beginning of one.
// It is empty if nothing can be found by it. Each word is in quotes, so nothing in it is an operator.
func match(typed string) string {
	var phrases []string
	for _, word := range strings.Fields(typed) {
		word = strings.Map(harmless, segment(word))
		if strings.ContainsFunc(word, searchable) {
			phrases = append(phrases, strings.TrimSpace(word))
		}
	}
	if len(phrases) == 0 {
		return ""
	}
	return `"` + strings.Join(phrases, `" "`) + `*"`
}

// harmless leaves a phrase nothing but letters, digits, marks and gaps.
func harmless(r rune) rune {
	if unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsMark(r) || veiled(r) {
		return r
	}
	return ' '
}

func searchable(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }
