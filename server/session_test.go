package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/centram/centram"
)

func TestSessionsAreForOurPages(t *testing.T) {
	n := start(t, nil)
	for _, row := range []struct {
		origin, site string
		want         int
	}{
		{"", "same-origin", 201},
		{n.url, "same-origin", 201},
		{n.url, "", 201},
		{"", "", 403},
		{"", "none", 403},
		{"", "same-site", 403},
		{"", "cross-site", 403},
		{"http://evil.example", "", 403},
		{"null", "", 403},
		{n.url, "cross-site", 403},
	} {
		r := n.request("POST", "/api/v1/session", strings.NewReader(`{}`),
			"Authorization", "", "Origin", row.origin, "Sec-Fetch-Site", row.site)
		if got := n.do(r).status; got != row.want {
			t.Errorf("Origin %q, Sec-Fetch-Site %q: got %d, want %d", row.origin, row.site, got, row.want)
		}
	}
	n.send(405, "GET", "/api/v1/session", "", "Sec-Fetch-Site", "same-origin")
}

func TestTheTokenFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	token, err := LoadToken(dir)
	if err != nil || len(token) != 43 {
		t.Fatalf("got %q, %v; want 32 bytes in base64url", token, err)
	}
	path := filepath.Join(dir, "token")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if again, err := LoadToken(dir); err != nil || again != token {
		t.Errorf("again: got %q, %v", again, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v; want 0600", info.Mode(), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v; want the token only", entries, err)
	}
	for _, content := range []string{"", "short", strings.Repeat("!", 50)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadToken(dir); centram.CodeOf(err) != centram.Invalid {
			t.Errorf("%q: got %v, want invalid", content, err)
		}
	}
}

func TestSessionsSlideAndExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSessions(time.Now, &counting{})
		first, _, err := s.open()
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			time.Sleep(11 * time.Hour)
			if !s.knows(first) {
				t.Fatal("a session in use expired")
			}
		}
		time.Sleep(12 * time.Hour)
		if s.knows(first) {
			t.Error("an unused session lives after 12 hours")
		}
		var tokens []string
		for range 26 {
			token, _, err := s.open()
			if err != nil {
				t.Fatal(err)
			}
			tokens = append(tokens, token)
			time.Sleep(time.Minute)
		}
		if s.knows(tokens[0]) || !s.knows(tokens[1]) || !s.knows(tokens[25]) || s.knows("") {
			t.Error("of 26 sessions the oldest, and only that, has to go")
		}
	})
}

// counting gives other bytes each time.
type counting struct{ n byte }

func (c *counting) Read(p []byte) (int, error) {
	c.n++
	for i := range p {
		p[i] = c.n
	}
	return len(p), nil
}
