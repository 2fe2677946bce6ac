package server

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/centram/centram"
)

const (
	sessionLife = 12 * time.Hour
	maxSessions = 25
	tokenBytes  = 32
)

// LoadToken returns the permanent token in the file token of dir. It makes both if they do not exist, for the owner's
// eyes only.
func LoadToken(dir string) (string, error) {
	path := filepath.Join(dir, "token")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeToken(path)
	}
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if raw, err := base64.RawURLEncoding.DecodeString(token); err != nil || len(raw) < tokenBytes {
		return "", centram.Errorf(centram.Invalid, "The file %s holds no token.", path).
			WithHint("Delete it, and a new one will be made.")
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return "", fmt.Errorf("protect the token: %w", err)
	}
	return token, nil
}

func makeToken(path string) (string, error) {
	token, err := newToken(rand.Reader)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("make the data directory: %w", err)
	}
	// Written aside and linked into place, so that nobody ever reads half of it and of two makers one wins.
	f, err := os.CreateTemp(filepath.Dir(path), ".token-") // its mode is 0600
	if err != nil {
		return "", fmt.Errorf("write the token: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(token + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("write the token: %w", err)
	}
	if err := os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return LoadToken(filepath.Dir(path))
	} else if err != nil {
		return "", fmt.Errorf("write the token: %w", err)
	}
	return token, nil
}

func newToken(random io.Reader) (string, error) {
	raw := make([]byte, tokenBytes)
	if _, err := io.ReadFull(random, raw); err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(raw), nil
}

// sessions are the tokens of open pages. They are kept as hashes, so that looking one up tells nothing by its timing.
type sessions struct {
	now func() time.Time

	mu   sync.Mutex // guards rand and ends
	rand io.Reader
	ends map[[sha256.Size]byte]time.Time
}

func newSessions(now func() time.Time, random io.Reader) *sessions {
	return &sessions{now: now, rand: random, ends: map[[sha256.Size]byte]time.Time{}}
}

// open makes a token. The one that was unused for longest makes room if there are too many.
func (s *sessions) open() (token string, ends time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if token, err = newToken(s.rand); err != nil {
		return "", time.Time{}, err
	}
	for len(s.ends) >= maxSessions {
		s.dropOldest()
	}
	ends = s.now().Add(sessionLife)
	s.ends[sha256.Sum256([]byte(token))] = ends
	return token, ends, nil
}

func (s *sessions) dropOldest() {
	var oldest [sha256.Size]byte
	var first time.Time
	for hash, ends := range s.ends {
		if first.IsZero() || ends.Before(first) {
			oldest, first = hash, ends
		}
	}
	delete(s.ends, oldest)
}

// knows reports whether token is one of an open page, whose life begins anew.
func (s *sessions) knows(token string) bool {
	hash := sha256.Sum256([]byte(token))
	s.mu.Lock()
	defer s.mu.Unlock()
	ends, ok := s.ends[hash]
	if !ok {
		return false
	}
	if !s.now().Before(ends) {
		delete(s.ends, hash)
		return false
	}
	s.ends[hash] = s.now().Add(sessionLife)
	return true
}

// sameToken compares in a time that tells nothing about either.
func sameToken(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
