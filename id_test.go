package centram

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func anyID(t *rapid.T) (id PeerID) {
	copy(id[:], rapid.SliceOfN(rapid.Byte(), len(id), len(id)).Draw(t, "id"))
	return id
}

func TestAPeerIDIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := anyID(t)
		s := id.String()
		if len(s) != 63 || strings.Count(s, "-") != 7 {
			t.Fatalf("%q is not eight groups of seven", s)
		}
		for _, variant := range []string{
			s, strings.ToLower(s), strings.ReplaceAll(s, "-", ""), strings.ReplaceAll(s, "-", " ") + "\n",
			strings.NewReplacer("O", "0", "I", "1", "B", "8").Replace(s),
		} {
			if got, err := ParsePeerID(variant); err != nil || got != id {
				t.Fatalf("%q: got %v, %v, want %v", variant, got, err, id)
			}
		}
	})
}

// The bytes are promised: people keep ids on paper.
func TestAPeerIDIsWrittenThus(t *testing.T) {
	var counting PeerID
	for i := range counting {
		counting[i] = byte(i)
	}
	for id, want := range map[PeerID]string{
		{}:       "AAAAAAA-AAAAAAA-AAAAAAA-AAAAAAA-AAAAAAA-AAAAAAA-AAAAAAA-AAAAAAA",
		counting: "AAAQEAY-EAUDAO5-CAJBIFQ-YDIOB4X-IBCEQTC-QKRMFYM-YDENBWH-A5DYPQS",
	} {
		if got := id.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestATypingErrorInAPeerIDIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := anyID(t)
		s := strings.ReplaceAll(id.String(), "-", "")
		at := rapid.IntRange(0, len(s)-1).Draw(t, "at")
		other := rapid.SampledFrom([]byte(idAlphabet)).Draw(t, "other")
		wrong := s[:at] + string(other) + s[at+1:]
		if wrong != s {
			if got, err := ParsePeerID(wrong); err == nil {
				t.Fatalf("%s with %c at %d was read as %v", s, other, at, got)
			}
		}
		if at+1 == len(s) || at/(idPart+1) != (at+1)/(idPart+1) || s[at] == s[at+1] {
			return
		}
		// Luhn cannot tell the first and the last value of the alphabet changed over.
		if a, b := s[at], s[at+1]; a == 'A' && b == '7' || a == '7' && b == 'A' {
			return
		}
		swapped := s[:at] + string(s[at+1]) + string(s[at]) + s[at+2:]
		if got, err := ParsePeerID(swapped); err == nil {
			t.Fatalf("%s with %d and %d changed over was read as %v", s, at, at+1, got)
		}
	})
}

func TestWhatIsNoPeerIDIsRefusedAndNamed(t *testing.T) {
	good := PeerID{}.String()
	for text, want := range map[string]string{
		"":                        "has 0",
		good[:20]:                 "56 letters",
		good + "A":                "has 57",
		"9" + good[1:]:            "character 1",
		"ä" + good[1:]:            "has 57",
		"B" + good[1:]:            "group 1 or 2",
		good[:len(good)-1] + "B":  "group 7 or 8",
		strings.Repeat("A", 5000): "has 5000",
	} {
		_, err := ParsePeerID(text)
		if CodeOf(err) != Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: got %v, want an error with %q", text, err, want)
		}
	}
}
