package dataset

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/centram/centram"
	"pgregory.net/rapid"
)

func read(t fataler, name, data string, cfg Config) []Item {
	t.Helper()
	items, err := ReadFrom(name, strings.NewReader(data), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return items
}

// fataler is a test, or one drawn by rapid.
type fataler interface {
	Helper()
	Fatal(args ...any)
}

func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const chatLine = `{"messages":[{"role":"user","content":"Who sings?"},{"role":"assistant","content":"The kettle."}]}`

var kettle = []Message{{User, "Who sings?"}, {Assistant, "The kettle."}}

func TestReadRecognisesWhatAFileIs(t *testing.T) {
	for _, row := range []struct {
		name, data string
		want       []Item
	}{
		{"a.txt", "One line.\nAnother.\n", []Item{{Text: "One line.\nAnother.\n", Line: 1}}},
		{"a.md", `{"text": "shown as it is"}`, []Item{{Text: `{"text": "shown as it is"}`, Line: 1}}},
		{"LICENSE", "Do as you like.", []Item{{Text: "Do as you like.", Line: 1}}},
		{"list", "{ braces } are text here", []Item{{Text: "{ braces } are text here", Line: 1}}},
		{"a.jsonl", "{\"text\":\"first\"}\n\n  \n{\"text\":\"second\"}", []Item{{Text: "first", Line: 1}, {Text: "second", Line: 4}}},
		{"A.NDJSON", `{"id": 7, "text": "and a number that is ignored"}`, []Item{{Text: "and a number that is ignored", Line: 1}}},
		{"data", "\n{ \"text\": \"no name, but an object\"}\n", []Item{{Text: "no name, but an object", Line: 2}}},
		{"a.json", chatLine + "\n", []Item{{Messages: kettle, Line: 1}}},
		{
			"b.jsonl", `{"conversations":[{"from":"human","value":"Who sings?"},{"from":"gpt","value":"The kettle."}],"system":"Be brief."}`,
			[]Item{{Messages: append([]Message{{System, "Be brief."}}, kettle...), Line: 1}},
		},
		{"c.jsonl", strings.Replace(chatLine, "{", `{"system":"",`, 1), []Item{{Messages: kettle, Line: 1}}},
		{"d.jsonl", strings.Replace(chatLine, "{", `{"system":null,`, 1), []Item{{Messages: kettle, Line: 1}}},
		{"mark.txt", "\xef\xbb\xbfAfter a mark.", []Item{{Text: "After a mark.", Line: 1}}},
		{"mark.jsonl", "\xef\xbb\xbf{\"text\":\"after a mark\"}", []Item{{Text: "after a mark", Line: 1}}},
		{"dos.txt", "One.\r\nTwo.\r\n", []Item{{Text: "One.\nTwo.\n", Line: 1}}},
		{"dos.jsonl", "{\"text\":\"one\\r\\ntwo\"}\r\n{\"text\":\"three\"}\r\n", []Item{{Text: "one\ntwo", Line: 1}, {Text: "three", Line: 2}}},
		{"escapes.jsonl", `{"text":"\u00e9 \ud83e\udd9c \ufffd"}`, []Item{{Text: "é 🦜 \ufffd", Line: 1}}},
	} {
		got := read(t, row.name, row.data, Config{})
		for i := range row.want {
			row.want[i].File = row.name
		}
		if !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", row.name, got, row.want)
		}
	}
}

func TestReadRefusalsNameTheLineAndTheNextStep(t *testing.T) {
	turns := func(turns string) string { return `{"text":"fine"}` + "\n" + `{"messages":[` + turns + `]}` }
	for _, row := range []struct {
		name, data string
		code       centram.Code
		line       int // 0: the file as a whole
		want       string
	}{
		{"a.txt", "One.\nTwo.\nTh\xffree.", centram.Invalid, 3, "0xff is not UTF-8"},
		{"a.txt", "One.\nTw\x00.", centram.Invalid, 2, "zero byte"},
		{"a.txt", "", centram.Invalid, 1, "empty"},
		{"a.txt", " \n\t\n", centram.Invalid, 1, "empty"},
		{"a.txt", "\xef\xbb\xbf", centram.Invalid, 1, "empty"},
		{"a.jsonl", "\n\n", centram.Invalid, 1, "empty"},
		{"a.jsonl", "{\"text\":\"x\"}\n{\"text\":\"\xff\"}", centram.Invalid, 2, "not UTF-8"},
		{"a.jsonl", "{\"text\":\"x\"}\n{\"text\":\"y\"", centram.Invalid, 2, "cut off"},
		{"a.jsonl", "{\"text\":\"x\"}\n{\"text\":\"y\n", centram.Invalid, 2, "cut off"},
		{"a.jsonl", `{"text":"x"}{"text":"y"}`, centram.Invalid, 1, "something follows"},
		{"a.jsonl", `["text"]`, centram.Invalid, 1, "not a JSON object"},
		{"a.jsonl", `{'text':'x'}`, centram.Invalid, 1, "not a JSON object"},
		{"a.jsonl", `{"text":"x",}`, centram.Invalid, 1, "not a JSON object"},
		{"a.jsonl", `{"text":"x","text":"y"}`, centram.Invalid, 1, `"text" twice`},
		{"a.jsonl", `{"text":5}`, centram.Invalid, 1, `"text" is not a string`},
		{"a.jsonl", `{"text":null}`, centram.Invalid, 1, `"text" is not a string`},
		{"a.jsonl", `{"text":" \n"}`, centram.Invalid, 1, `"text" is empty`},
		{"a.jsonl", `{"text":"a\u0000b"}`, centram.Invalid, 1, "zero character"},
		{"a.jsonl", `{"text":"\ud83e!"}`, centram.Invalid, 1, "half a character"},
		{"a.jsonl", `{"prompt":"x","answer":"y"}`, centram.Invalid, 1, `["answer" "prompt"]`},
		{"a.jsonl", `{"text":"x","messages":[]}`, centram.Invalid, 1, "both text and messages"},
		{"a.jsonl", `{"messages":"x"}`, centram.Invalid, 1, "not a list"},
		{"a.jsonl", `{"messages":[]}`, centram.Invalid, 1, "not a list"},
		{"a.jsonl", turns(`5`), centram.Invalid, 2, "turn 1 of messages is not a JSON object"},
		{"a.jsonl", turns(`{"content":"x"}`), centram.Invalid, 2, `no field "role"`},
		{"a.jsonl", turns(`{"role":"user"}`), centram.Invalid, 2, `no field "content"`},
		{"a.jsonl", turns(`{"role":"user","content":[{"type":"image"}]}`), centram.Invalid, 2, `"content" is not a string`},
		{"a.jsonl", turns(`{"role":"user","content":""}`), centram.Invalid, 2, `"content" is empty`},
		{"a.jsonl", turns(`{"role":"narrator","content":"x"}`), centram.Invalid, 2, `unknown role "narrator"`},
		{"a.jsonl", turns(`{"role":"user","content":"x"}`), centram.Invalid, 2, "nobody answers"},
		{"a.jsonl", turns(`{"role":"assistant","tool_calls":[{}],"content":null}`), centram.Unsupported, 2, "calls a tool"},
		{"a.jsonl", `{"text":"x"}` + "\n" + `{"text":"` + strings.Repeat("y", 300) + `"}`, centram.TooLarge, 2, "longer than 200 bytes"},
		{"a.json", `[{"text":"x"}]`, centram.Unsupported, 0, "one JSON array"},
		{"a.jsonl.gz", "\x1f\x8b\x08", centram.Unsupported, 0, "gzip"},
		{"a.txt", "\xff\xfeh\x00i\x00", centram.Unsupported, 0, "UTF-16"},
		{"model", "GGUF\x03", centram.Unsupported, 0, "a model"},
	} {
		items, err := ReadFrom(row.name, strings.NewReader(row.data), Config{LineBytes: 200})
		if centram.CodeOf(err) != row.code || centram.HintOf(err) == "" {
			t.Errorf("%s %.60q: got %v, %v with hint %q, want code %s and a hint", row.name, row.data, items, err, centram.HintOf(err), row.code)
			continue
		}
		place := row.name
		if row.line > 0 {
			place = fmt.Sprintf("%s, line %d: ", row.name, row.line)
		}
		if got := err.Error(); !strings.HasPrefix(got, place) || !strings.Contains(got, row.want) {
			t.Errorf("%s %.60q:\ngot  %s\nwant %s...%s", row.name, row.data, got, place, row.want)
		}
	}
}

func TestReadTakesFoldersInOrderAndLeavesOutWhatIsHidden(t *testing.T) {
	dir := write(t, map[string]string{
		"b.txt": "second", "a/z.txt": "first", ".git/config": "\xff", ".notes.txt": "private", "c.jsonl": `{"text":"third"}`,
	})
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "link.txt")); err != nil {
		t.Fatal(err)
	}
	items, err := Read([]string{dir, filepath.Join(dir, "b.txt")}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, it := range items {
		got = append(got, it.Text)
	}
	if want := []string{"first", "second", "third", "second"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOfAFolderPicturesAreLeftOutAndWhatMayBeATextIsNot(t *testing.T) {
	dir := write(t, map[string]string{"a.md": "One.", "b/PHOTO.JPG": "\xff\xd8\xff\x00", "c.webm": "\x1a\x45\x00"})
	items, err := Read([]string{dir}, Config{})
	if err != nil || len(items) != 1 || items[0].Text != "One." {
		t.Errorf("got %v, %v, want the one text", items, err)
	}
	if _, err := Read([]string{filepath.Join(dir, "c.webm")}, Config{}); err == nil {
		t.Error("a film that was named was read, want it refused")
	}
	if err := os.WriteFile(filepath.Join(dir, "paper.pdf"), []byte("%PDF-1.7"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read([]string{dir}, Config{}); err == nil || !strings.Contains(err.Error(), "is a PDF") {
		t.Errorf("with a PDF: got %v, want to be told of it", err)
	}
}

func TestReadRefusesPathsThatCannotBeRead(t *testing.T) {
	empty := t.TempDir()
	for path, code := range map[string]centram.Code{
		filepath.Join(empty, "nothing"): centram.NotFound,
		empty:                           centram.Invalid,
		os.DevNull:                      centram.Invalid,
	} {
		if _, err := Read([]string{path}, Config{}); centram.CodeOf(err) != code || !strings.Contains(fmt.Sprint(err), path) {
			t.Errorf("got %v, want code %s and the path %s", err, code, path)
		}
	}
	if _, err := Read(nil, Config{}); centram.CodeOf(err) != centram.Invalid {
		t.Errorf("no paths: got %v, want Invalid", err)
	}
	broken := errors.New("the disk is gone")
	if _, err := ReadFrom("a.txt", iotest.ErrReader(broken), Config{}); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

// endless is a line without an end.
type endless struct{ read int64 }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	e.read += int64(len(p))
	return len(p), nil
}

func TestReadStopsAtItsBounds(t *testing.T) {
	var line, total endless
	if _, err := ReadFrom("a.jsonl", &line, Config{LineBytes: 1 << 20}); centram.CodeOf(err) != centram.TooLarge || line.read > 8<<20 {
		t.Errorf("an endless line: got %v after %d bytes, want TooLarge after about a million", err, line.read)
	}
	if _, err := ReadFrom("a.txt", &total, Config{TotalBytes: 1 << 20}); centram.CodeOf(err) != centram.TooLarge || total.read > 8<<20 {
		t.Errorf("an endless text: got %v after %d bytes, want TooLarge after about a million", err, total.read)
	}
	dir := write(t, map[string]string{"a.txt": strings.Repeat("a", 600), "b.txt": strings.Repeat("b", 600)})
	if _, err := Read([]string{dir}, Config{TotalBytes: 1000}); centram.CodeOf(err) != centram.TooLarge || !strings.Contains(fmt.Sprint(err), "b.txt") {
		t.Errorf("two files over the bound: got %v, want TooLarge at the second", err)
	}
}

func TestLinesAreReadAlikeHoweverTheyArrive(t *testing.T) {
	data := strings.Repeat(chatLine+"\n{\"text\":\"é\"}\r\n\n", 50)
	want := read(t, "a.jsonl", data, Config{})
	got, err := ReadFrom("a.jsonl", iotest.OneByteReader(strings.NewReader(data)), Config{})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("byte by byte: got %d items, %v, want %d", len(got), err, len(want))
	}
	got, err = ReadFrom("a.jsonl", iotest.DataErrReader(strings.NewReader(data)), Config{})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("with the end in the same call: got %d items, %v, want %d", len(got), err, len(want))
	}
}

func TestEveryPrefixOfAFileIsReadOrRefused(t *testing.T) {
	for name, data := range map[string]string{
		"a.jsonl": "\xef\xbb\xbf" + chatLine + "\r\n" + `{"text":"caf\u00e9 🦜","id":[1,{"x":null}]}` + "\n" + `{"conversations":[{"from":"human","value":"?"},{"from":"gpt","value":"!"}]}`,
		"a.txt":   "\xef\xbb\xbfOne café.\r\n\r\nTwo 🦜.\n",
		"a":       chatLine + "\n",
	} {
		for n := range len(data) {
			items, err := ReadFrom(name, strings.NewReader(data[:n]), Config{})
			if (err == nil) == (len(items) == 0) {
				t.Errorf("%s, %d bytes: got %v, %v, want items or an error", name, n, items, err)
			}
			checkItems(t, name, items, err)
		}
	}
}

// checkItems checks what holds whatever was read.
func checkItems(t testing.TB, name string, items []Item, err error) {
	t.Helper()
	if err != nil {
		if e, ok := errors.AsType[*centram.Error](err); !ok || e.Hint == "" || !strings.Contains(e.Message, name) {
			t.Errorf("got the error %v, want one with a hint that names %s", err, name)
		}
		return
	}
	for _, it := range items {
		texts, answers := []string{it.Text}, 1
		if it.Messages != nil {
			texts, answers = nil, 0
		}
		for _, m := range it.Messages {
			texts = append(texts, m.Content)
			if m.Role == Assistant {
				answers++
			}
		}
		for _, text := range texts {
			if !utf8.ValidString(text) || strings.TrimSpace(text) == "" || strings.ContainsRune(text, 0) {
				t.Errorf("got the text %q", text)
			}
		}
		if answers == 0 || it.Line < 1 || it.File != name {
			t.Errorf("got the item %+v", it)
		}
	}
}

func FuzzJSONL(f *testing.F) {
	for _, s := range []string{
		chatLine, `{"text":"a\u00e9\ud83e\udd9c"}` + "\n\n" + `{"text":"b"}` + "\r\n", "\xef\xbb\xbf{\"text\":\"x\"}",
		`{"conversations":[{"from":"human","value":"?"},{"from":"gpt","value":"!"}],"system":"s"}`, `{"text":"\ud800"}`, "[1]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		items, err := ReadFrom("a.jsonl", strings.NewReader(string(data)), Config{LineBytes: 1000, Passage: 40})
		checkItems(t, "a.jsonl", items, err)
		again, errAgain := ReadFrom("a.jsonl", iotest.HalfReader(strings.NewReader(string(data))), Config{LineBytes: 1000, Passage: 40})
		if (err == nil) != (errAgain == nil) || !reflect.DeepEqual(items, again) {
			t.Errorf("read in other pieces: got %v, %v, want %v, %v", again, errAgain, items, err)
		}
	})
}

// prose draws a text of paragraphs.
func prose(t *rapid.T) string {
	words := rapid.SampledFrom([]string{"rain", "tea", "Ø", "and", "a kettle", "  ", "🦜", "x.\n"})
	paragraph := rapid.Map(rapid.SliceOfN(words, 1, 30), func(w []string) string { return strings.Join(w, " ") })
	return strings.Join(rapid.SliceOfN(paragraph, 1, 40).Draw(t, "paragraphs"), "\n\n")
}

func TestPassagesTogetherAreTheText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := prose(t)
		if strings.TrimSpace(text) == "" {
			text = "x" + text
		}
		most := rapid.IntRange(4, 300).Draw(t, "most")
		items := read(t, "a.txt", text, Config{Passage: most})
		var together strings.Builder
		for i, it := range items {
			if want := 1 + strings.Count(together.String(), "\n"); it.Line != want {
				t.Errorf("passage %d begins at line %d, want %d", i, it.Line, want)
			}
			together.WriteString(it.Text)
			if it.More != (i < len(items)-1) {
				t.Errorf("passage %d of %d says more follows: %v", i, len(items), it.More)
			}
			if strings.TrimSpace(it.Text) == "" {
				t.Errorf("passage %d says nothing", i)
			}
			if n := len(strings.TrimSpace(it.Text)); n > most {
				t.Errorf("passage %d has %d bytes, want at most %d", i, n, most)
			}
		}
		if together.String() != text {
			t.Errorf("together:\ngot  %q\nwant %q", together.String(), text)
		}
	})
}

func TestAChangedTextKeepsMostOfItsPassages(t *testing.T) {
	var b strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&b, "On day %d the kettle sang %d times, and nobody minded.\n\n", i, i*i%97)
	}
	before := read(t, "a.txt", b.String(), Config{})
	after := read(t, "a.txt", "A foreword that was not there.\n\n"+b.String(), Config{})
	known := map[string]bool{}
	for _, it := range before {
		known[it.Text] = true
	}
	kept := 0
	for _, it := range after {
		if known[it.Text] {
			kept++
		}
	}
	if len(before) < 20 || kept < len(before)-3 {
		t.Errorf("of %d passages %d are the same, want all but 3", len(before), kept)
	}
}
