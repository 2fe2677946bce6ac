package dataset

import (
	"hash/fnv"
	"strings"
	"unicode/utf8"
)

// passages cuts a text that is longer than most bytes into several, so that a single book can be split into sets. Their
// texts together are the text again.
//
// It is cut between paragraphs, and where is decided by the paragraph itself, not by how much came before it: when
// something is put in or taken out, only the passages near it change, and the others stay in their sets.
//
// spread says that the text is a file of its own, so that its lines are the file's.
func passages(it Item, most int, spread bool) []Item {
	if most < 0 || len(it.Text) <= most {
		return []Item{it}
	}
	var out []Item
	line := it.Line
	add := func(text string) {
		p := it
		p.Text, p.Line, p.More = text, line, true
		out = append(out, p)
		if spread {
			line += strings.Count(text, "\n")
		}
	}
	start, end := 0, 0
	for _, p := range paragraphs(it.Text, most) {
		if end > start && (end-start+len(p) > most || end-start >= most/4 && begins(p)) {
			add(it.Text[start:end])
			start = end
		}
		end += len(p)
	}
	add(it.Text[start:end])
	out[len(out)-1].More = it.More
	return blankToNeighbour(out)
}

// begins reports whether a passage may begin with the paragraph p: one of four may.
func begins(p string) bool {
	h := fnv.New64a()
	h.Write([]byte(p))
	return h.Sum64()>>32%4 == 0
}

// paragraphs cuts s after empty lines. One longer than most is cut after lines, spaces, or where it is most long.
func paragraphs(s string, most int) []string {
	var out []string
	for len(s) > 0 {
		n := len(s)
		if at := strings.Index(s, "\n\n"); at >= 0 {
			n = at + 2
			n += len(s[n:]) - len(strings.TrimLeft(s[n:], "\n"))
		}
		p := s[:n]
		s = s[n:]
		for len(p) > most {
			at := most
			if i := strings.LastIndexByte(p[:most], '\n'); i > 0 {
				at = i + 1
			} else if i := strings.LastIndexByte(p[:most], ' '); i > 0 {
				at = i + 1
			} else {
				for at > 1 && !utf8.RuneStart(p[at]) {
					at--
				}
			}
			out = append(out, p[:at])
			p = p[at:]
		}
		out = append(out, p)
	}
	return out
}

// blankToNeighbour joins passages of nothing but white space to the one before, or the first to the one behind.
func blankToNeighbour(items []Item) []Item {
	var out []Item
	for _, it := range items {
		last := len(out) - 1
		if last >= 0 && (strings.TrimSpace(it.Text) == "" || strings.TrimSpace(out[last].Text) == "") {
			out[last].Text += it.Text
			out[last].More = it.More
			continue
		}
		out = append(out, it)
	}
	return out
}
