package chats

import (
	"strings"
	"testing"
)

func TestSearchFindsAnyLanguage(t *testing.T) {
	s := openAt(t, t.TempDir())
	texts := map[string]string{
		"de": "Über die Straße fuhren große Züge nach Österreich.",
		"zh": "机器学习是人工智能的一个分支,今天天气很好。",
		"ja": "東京タワーはとても高いです。カタカナもひらがなも。",
		"ko": "저는 학교에서 컴퓨터를 공부합니다.",
		"ar": "القِطَّة جالسة على الطاولة في المطبخ",
		"he": "שָׁלוֹם עולם",
		"th": "ภาษาไทยไม่มีช่องว่างระหว่างคำ",
		"hi": "हिन्दी में लिखा हुआ संदेश",
		"ru": "Ёжик в тумане",
		"en": "It's the naïve café's 3.14 résumé: foo_bar AND NOT NEAR",
	}
	ids := map[string]string{}
	for language, text := range texts {
		c := create(t, s, "")
		say(t, s, c.ID, "", "frage", text)
		ids[language] = c.ID
	}
	for _, row := range []struct{ language, query, snippet string }{
		{"de", "ÜBER zuge", "\uE000Über\uE001 die Straße fuhren große \uE000Züge\uE001 nach Österreich."},
		{"de", "öster", "\uE000Österreich\uE001"},
		{"de", "O\u0308ster", "\uE000Österreich\uE001"},
		{"zh", "人工智能", "机器学习是\uE000人工智能\uE001的一个分支"},
		{"zh", "天气", "今天\uE000天气\uE001很好"},
		{"zh", "机器 天气", "\uE000机器\uE001学习"},
		{"ja", "タワー", "東京\uE000タワー\uE001はとても"},
		{"ko", "학교", "\uE000학교\uE001에서"},
		{"ar", "القطة", "\uE000القطة\uE001 جالسة"},
		{"ar", "المط", "\uE000المطبخ\uE001"},
		{"he", "שלום", "\uE000שלום\uE001 עולם"},
		{"th", "ไม่มี", "\uE000ไม่มี\uE001"},
		{"hi", "हिन्", "\uE000हिन्दी\uE001"},
		{"ru", "ёж", "\uE000Ёжик\uE001 в тумане"},
		{"en", "resume naive", "\uE000résumé\uE001"},
		{"en", "it's", "\uE000It\uE001"},
		{"en", "foo_bar not", ""},
	} {
		found, _, err := s.List(t.Context(), Query{Text: row.query})
		if err != nil || len(found) != 1 || found[0].ID != ids[row.language] {
			t.Errorf("%q: got %v, %v; want the %s chat", row.query, found, err, row.language)
			continue
		}
		if !strings.Contains(found[0].Snippet, row.snippet) {
			t.Errorf("%q: got %q, want %q in it", row.query, found[0].Snippet, row.snippet)
		}
	}
	for _, query := range []string{"能智", "气天", "ไมมี", "हन्दी", "Öst erreich xyz", "校学"} {
		if found, _, err := s.List(t.Context(), Query{Text: query}); err != nil || len(found) != 0 {
			t.Errorf("%q: got %v, %v; want nothing", query, found, err)
		}
	}
}

func TestHostileQueriesNeverFail(t *testing.T) {
	s := openAt(t, t.TempDir())
	c := create(t, s, "title")
	say(t, s, c.ID, "", "a b AND c", "x\x00y \uE000 mark \xff\xfe")
	for _, q := range []string{
		`"`, `""`, `"""`, `'`, `*`, `a*`, `"a`, `a"`, `a"b`, `AND`, `OR`, `NOT`, `NEAR`, `NEAR/`, `NEAR/3`, `a NEAR/2 b`, `a AND`,
		`(`, `)`, `(a`, `a)`, `((((((`, `-a`, `-`, `^a`, `body:a`, `title:`, `a:b`, `;`, `--`, `'; DROP TABLE chats; --`, `\`, "\x00",
		"a\x00b", "\xff", "\u200b", "\uE000", "\uE000\uE001", "🎉", "ａｂｃ", "́", "़", "𠀀", "\U0010FFFF", "½", "٣", "ﬁ",
		strings.Repeat("a ", 2000), strings.Repeat("你", 5000), strings.Repeat(`"`, 5000), strings.Repeat("(", 5000),
		"a%", "_", "{a}", "[a]", "a+b", "a|b", "a&b", "~", "`", "\n\t", "İ", "ß", "ﷺ", "𓀀", "ⅷ", "①",
	} {
		found, _, err := s.List(t.Context(), Query{Text: q})
		if err != nil {
			t.Errorf("%.40q: %v", q, err)
		}
		for _, c := range found {
			if strings.Count(c.Snippet, string(hitBegin)) != strings.Count(c.Snippet, string(hitEnd)) {
				t.Errorf("%.40q: unbalanced marks in %q", q, c.Snippet)
			}
		}
	}
}

func TestSearchFollowsChanges(t *testing.T) {
	s := openAt(t, t.TempDir())
	c := create(t, s, "alpha")
	title := "beta"
	if _, err := s.Patch(t.Context(), c.ID, Patch{Title: &title}); err != nil {
		t.Fatal(err)
	}
	a := say(t, s, c.ID, "", "question", "gamma")
	must[Message](t)(s.Continue(t.Context(), c.ID, a.ID, "m"))
	must[Message](t)(s.Finish(t.Context(), c.ID, a.ID, Outcome{Content: "gamma delta", State: Stopped}))
	for query, want := range map[string]int{"alpha": 0, "beta": 1, "gamma": 1, "delta": 1, "gamma del": 1, "beta gamma": 0} {
		if found, _, err := s.List(t.Context(), Query{Text: query}); err != nil || len(found) != want {
			t.Errorf("%s: got %d (%v), want %d", query, len(found), err, want)
		}
	}
	var n int
	if err := s.db.QueryRow(`SELECT COUNT(*) FROM search`).Scan(&n); err != nil || n != 3 {
		t.Errorf("got %d documents (%v), want 3: title, question, answer", n, err)
	}
}

func FuzzQuery(f *testing.F) {
	f.Add("hello", `"a b" OR c*`)
	f.Add("你好 world", "好")
	f.Fuzz(func(t *testing.T, text, typed string) {
		if back := unsegment(segment(text)); strings.ContainsRune(back, hitBegin) {
			t.Errorf("%q: a mark in %q", text, back)
		}
		if q := match(typed); q != "" && strings.Count(q, `"`)%2 != 0 {
			t.Errorf("%q: unbalanced quotes in %s", typed, q)
		}
	})
}
