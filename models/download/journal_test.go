package download

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

const journalText = "centram-download 1 1000 boot\ns\nw 0 100\nw 500 600\ns 0 100 500 600\nw 100 200\n"

func TestAJournalIsBelievedAsFarAsItCanBe(t *testing.T) {
	for _, c := range []struct {
		what, text string
		boot       string
		want       spans
	}{
		{"the same boot", journalText, "boot", spans{{0, 200}, {500, 600}}},
		{"after a crash of the machine", journalText, "other", spans{{0, 100}, {500, 600}}},
		{"where boots are not told apart", journalText, "", spans{{0, 100}, {500, 600}}},
		{"a last line that was cut off", journalText + "w 700 80", "boot", spans{{0, 200}, {500, 600}}},
		{"another size", "centram-download 1 999 boot\nw 0 100\n", "boot", nil},
		{"bytes behind the end", "centram-download 1 1000 boot\nw 0 100\nw 900 1001\nw 200 300\n", "boot", spans{{0, 100}}},
		{"a range that is upside down", "centram-download 1 1000 boot\nw 100 0\n", "boot", nil},
		{"something else", "hello\nw 0 100\n", "boot", nil},
		{"nothing", "", "boot", nil},
	} {
		if got := parseJournal([]byte(c.text), 1000, c.boot); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.what, got, c.want)
		}
	}
}

func TestAJournalThatBeginsAnewSaysWhatTheOldOneSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.journal")
	have := spans{{0, 10}, {20, 30}}
	f, err := newJournal(path, 50, "boot", have)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(record('w', span{40, 50}))
	f.Close()
	for boot, want := range map[string]spans{"boot": {{0, 10}, {20, 30}, {40, 50}}, "other": have} {
		if got, err := readJournal(path, 50, boot); err != nil || !slices.Equal(got, want) {
			t.Errorf("read in boot %q: got %v, %v, want %v", boot, got, err, want)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "centram-download 1 50 boot\ns 0 10 20 30\nw 40 50\n" {
		t.Errorf("got %q", got)
	}
}

// FuzzJournal: whatever is in a journal, what is believed of it lies in the file, and every prefix tells of no more.
func FuzzJournal(f *testing.F) {
	f.Add([]byte(journalText), uint16(30))
	f.Add([]byte("centram-download 1 1000 boot\ns 1 2 3\n"), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		all := parseJournal(b, 1000, "boot")
		if n := len(all); n > 0 && (all[0].from < 0 || all[n-1].to > 1000) || all.total() > 1000 {
			t.Errorf("got %v of 1000 bytes", all)
		}
		less := parseJournal(b[:min(int(cut), len(b))], 1000, "boot")
		for _, s := range less {
			if len(all.without(s)) > 0 {
				t.Errorf("a part of the journal tells of %v, all of it of %v only", s, all)
			}
		}
		if bytes.HasPrefix(b, []byte("x")) && all != nil {
			t.Errorf("got %v of something else", all)
		}
	})
}
