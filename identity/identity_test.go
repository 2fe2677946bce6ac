package identity

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/centram/centram"
)

var born = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func written(t *testing.T, passphrase string) (*Identity, string) {
	t.Helper()
	id, path := New(born), filepath.Join(t.TempDir(), "new", "identity.toml")
	if err := Write(path, id, passphrase); err != nil {
		t.Fatal(err)
	}
	return id, path
}

func same(a, b *Identity) bool {
	return a.Network.Equal(b.Network) && a.Ledger.Equal(b.Ledger) && a.Recovery.Equal(b.Recovery) && a.Created.Equal(b.Created)
}

func TestAnIdentityIsReadAsItWasWritten(t *testing.T) {
	for _, passphrase := range []string{"", "correct horse"} {
		id, path := written(t, passphrase)
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the file has mode %v, %v, want 0600", info.Mode(), err)
		}
		f, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		if f.Peer != id.Peer() || f.Sealed() != (passphrase != "") {
			t.Errorf("got peer %s, sealed %v, want %s, %v", f.Peer, f.Sealed(), id.Peer(), passphrase != "")
		}
		got, err := f.Open(passphrase)
		if err != nil || !same(got, id) {
			t.Errorf("with passphrase %q: got another identity, %v", passphrase, err)
		}
	}
}

func TestTheThreeKeysAreIndependent(t *testing.T) {
	a, b := New(born), New(born)
	seen := map[string]bool{}
	for _, id := range []*Identity{a, b} {
		for _, key := range [][]byte{id.Network, id.Ledger, id.Recovery} {
			seen[string(key)] = true
		}
	}
	if len(seen) != 6 {
		t.Errorf("two identities have %d different keys, want 6", len(seen))
	}
}

func TestSealedKeysNeedTheirPassphrase(t *testing.T) {
	id, path := written(t, "correct horse")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []seed{id.Network.Seed(), id.Ledger.Seed(), id.Recovery.Seed()} {
		text, _ := key.MarshalText()
		if bytes.Contains(b, key) || bytes.Contains(b, text) {
			t.Error("a key stands open in a sealed file")
		}
	}
	f, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{"", "wrong horse"} {
		if _, err := f.Open(wrong); centram.CodeOf(err) != centram.Unauthorized {
			t.Errorf("passphrase %q: got %v, want it to be refused", wrong, err)
		}
	}
	f.sealed = strings.Replace(f.sealed, "\n", "\nAAAA", 2)
	if _, err := f.Open("correct horse"); centram.CodeOf(err) != centram.Invalid {
		t.Errorf("damaged: got %v, want to hear of it", err)
	}
}

func TestWritingNeverReplacesAnIdentity(t *testing.T) {
	id, path := written(t, "")
	if err := Write(path, New(born), ""); centram.CodeOf(err) != centram.Conflict {
		t.Errorf("got %v, want a conflict", err)
	}
	f, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.Open(""); err != nil || !same(got, id) {
		t.Errorf("the first identity is gone: %v", err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAFileThatOthersMayReadIsRefused(t *testing.T) {
	_, path := written(t, "")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Read(path)
	if centram.CodeOf(err) != centram.Forbidden || !strings.Contains(centram.HintOf(err), "chmod 600") {
		t.Errorf("got %v (%s), want to be told to change the mode", err, centram.HintOf(err))
	}
}

func TestAMissingFileIsNotFound(t *testing.T) {
	if _, err := Read(filepath.Join(t.TempDir(), "none")); centram.CodeOf(err) != centram.NotFound {
		t.Errorf("got %v, want NotFound", err)
	}
	if _, err := Read(t.TempDir()); err == nil {
		t.Error("a folder was read as an identity")
	}
}

func TestEveryWrongFileIsAnError(t *testing.T) {
	_, path := written(t, "")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other := New(born)
	line := func(name string) string {
		start := strings.Index(string(good), "\n"+name+" = ") + 1
		return string(good)[start : start+strings.Index(string(good)[start:], "\n")+1]
	}
	bad := map[string]string{
		"empty":            "",
		"other version":    strings.Replace(string(good), "version = 1", "version = 2", 1),
		"other peer":       strings.Replace(string(good), line("peer"), fmt.Sprintf("peer = '%s'\n", other.Peer()), 1),
		"no recovery key":  strings.Replace(string(good), line("recovery"), "", 1),
		"short key":        strings.Replace(string(good), line("ledger"), "ledger = 'AAAA'\n", 1),
		"key not base64":   strings.Replace(string(good), line("ledger"), "ledger = '!!!!'\n", 1),
		"unknown field":    string(good) + "more = 1\n",
		"sealed and open":  strings.Replace(string(good), line("peer"), line("peer")+"sealed = 'x'\n", 1),
		"neither":          string(good)[:strings.Index(string(good), "[keys]")],
		"too long":         string(good) + strings.Repeat("#", maxFile),
		"something else":   "-----BEGIN OPENSSH PRIVATE KEY-----",
		"not even a table": "\x00\x01\x02",
	}
	for what, text := range bad {
		if text == string(good) {
			t.Fatalf("%s: the test changed nothing", what)
		}
		p := filepath.Join(t.TempDir(), "bad")
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Read(p)
		if centram.CodeOf(err) != centram.Invalid || !strings.Contains(err.Error(), p) {
			t.Errorf("%s: got %v, want an error that names the file", what, err)
		}
	}
	end := len(strings.TrimRight(string(good), "\n"))
	for n := range end {
		if f, err := parse(good[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes were read as %s", n, len(good), f.Peer)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, passphrase := range []string{"", "p"} {
		b, err := format(New(born), passphrase)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := parse(b); err == nil && got.keys != nil && got.keys.identity(got.Created).Peer() != got.Peer {
			t.Errorf("keys of another peer were taken: %q", b)
		}
	})
}

func TestWordsTellPeersApartAndAreThese(t *testing.T) {
	var a, b centram.PeerID
	b[31] = 1
	if got, want := Words(a), "cruel resemble merit range real produce"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if Words(a) == Words(b) || len(strings.Fields(Words(b))) != wordCount {
		t.Errorf("got %q and %q", Words(a), Words(b))
	}
	if got, want := WordsOf(a), "increase inmate raccoon broken ketchup butter"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
