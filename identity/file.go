package identity

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/pelletier/go-toml/v2"

	"github.com/centram/centram"
	"github.com/centram/centram/atomicfile"
)

const (
	fileVersion = 1
	maxFile     = 64 << 10 // bytes; a real one has less than 2 KiB
)

const fileHead = `# The identity of a Centram node. Whoever has these keys is that node to everybody else: show this file to nobody,
# and keep a copy in a safe place (centram identity export).
`

// file is what stands in a file: who it is for all to read, and the keys either open or sealed with a passphrase.
type file struct {
	Version int       `toml:"version"`
	Peer    string    `toml:"peer"`
	Created time.Time `toml:"created"`
	Keys    *keys     `toml:"keys,omitempty"`
	Sealed  string    `toml:"sealed,omitempty,multiline"` // keys as TOML, in age's armour (age-encryption.org/v1)
}

// keys are Ed25519 seeds (RFC 8032 §5.1.5), 32 bytes in base64.
type keys struct {
	Network  seed `toml:"network"`
	Ledger   seed `toml:"ledger"`
	Recovery seed `toml:"recovery"`
}

// File is an identity file that has been read but perhaps not opened.
type File struct {
	Peer    centram.PeerID
	Created time.Time
	path    string
	keys    *keys
	sealed  string
}

// Sealed reports whether the keys are under a passphrase.
func (f *File) Sealed() bool { return f.sealed != "" }

// Read reads an identity file as far as it goes without a passphrase. It fails with centram.NotFound if there is none,
// centram.Forbidden if others may read the keys in it, and centram.Invalid if it is no identity file.
func Read(path string) (*File, error) {
	b, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	f, err := parse(b)
	if err != nil {
		return nil, centram.Errorf(centram.Invalid, "the identity file %s cannot be used: %w", path, err).
			WithHint("Bring a copy with: centram identity import FILE")
	}
	f.path = path
	return f, nil
}

func readPrivate(path string) ([]byte, error) {
	in, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, centram.Errorf(centram.NotFound, "there is no identity file %s", path).
			WithHint("Make one with: centram identity new")
	}
	if err != nil {
		return nil, fmt.Errorf("open the identity file: %w", err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at the identity file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, centram.Errorf(centram.Invalid, "the identity file %s is not a plain file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, centram.Errorf(centram.Forbidden, "the identity file %s may be read by other users of this machine (mode %04o)", path, mode).
			WithHint("Run: chmod 600 %s", path)
	}
	b, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the identity file: %w", err)
	}
	if len(b) > maxFile {
		return nil, centram.Errorf(centram.Invalid, "the identity file %s is far too long for one", path)
	}
	return b, nil
}

func parse(b []byte) (*File, error) {
	var raw file
	if err := strict(b, &raw); err != nil {
		return nil, err
	}
	if raw.Version != fileVersion {
		return nil, fmt.Errorf("it has version %d, and this program reads version %d", raw.Version, fileVersion)
	}
	peer, err := centram.ParsePeerID(raw.Peer)
	if err != nil {
		return nil, err
	}
	f := &File{Peer: peer, Created: raw.Created.UTC(), keys: raw.Keys, sealed: raw.Sealed}
	switch {
	case (f.keys == nil) == (f.sealed == ""):
		return nil, errors.New("it has to hold its keys either open or sealed")
	case f.keys != nil:
		err = f.matches(f.keys)
	}
	return f, err
}

func strict(b []byte, into any) error {
	return toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(into)
}

// matches finds the keys of another node, or a peer line that somebody edited.
func (f *File) matches(k *keys) error {
	for name, s := range map[string]seed{"network": k.Network, "ledger": k.Ledger, "recovery": k.Recovery} {
		if len(s) != ed25519.SeedSize {
			return fmt.Errorf("its %s key has %d bytes, want %d", name, len(s), ed25519.SeedSize)
		}
	}
	if got := k.identity(f.Created).Peer(); got != f.Peer {
		return fmt.Errorf("its keys are those of %s, and it says it is %s", got.Short(), f.Peer.Short())
	}
	return nil
}

func (k *keys) identity(created time.Time) *Identity {
	return &Identity{
		Network: ed25519.NewKeyFromSeed(k.Network), Ledger: ed25519.NewKeyFromSeed(k.Ledger),
		Recovery: ed25519.NewKeyFromSeed(k.Recovery), Created: created,
	}
}

// Open returns the identity. If the file is sealed it needs the passphrase; a wrong one is centram.Unauthorized.
func (f *File) Open(passphrase string) (*Identity, error) {
	if !f.Sealed() {
		return f.keys.identity(f.Created), nil
	}
	if passphrase == "" {
		return nil, centram.Errorf(centram.Unauthorized, "the keys in %s are sealed with a passphrase", f.path)
	}
	k, err := f.unseal(passphrase)
	if err != nil {
		return nil, err
	}
	if err := f.matches(k); err != nil {
		return nil, centram.Errorf(centram.Invalid, "the identity file %s cannot be used: %w", f.path, err)
	}
	return k.identity(f.Created), nil
}

func (f *File) unseal(passphrase string) (*keys, error) {
	who, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, fmt.Errorf("use the passphrase: %w", err)
	}
	who.SetMaxWorkFactor(20) // what a file may cost to open: some seconds and 1 GiB
	r, err := age.Decrypt(armor.NewReader(strings.NewReader(f.sealed)), who)
	if none := (*age.NoIdentityMatchError)(nil); errors.As(err, &none) {
		return nil, centram.Errorf(centram.Unauthorized, "that is not the passphrase of %s", f.path).WithHint("Try again.")
	}
	if err != nil {
		return nil, centram.Errorf(centram.Invalid, "the sealed keys in %s are damaged: %w", f.path, err)
	}
	b, err := io.ReadAll(io.LimitReader(r, maxFile))
	if err != nil {
		return nil, centram.Errorf(centram.Invalid, "the sealed keys in %s are damaged: %w", f.path, err)
	}
	k := new(keys)
	if err := strict(b, k); err != nil {
		return nil, centram.Errorf(centram.Invalid, "the sealed keys in %s are damaged: %w", f.path, err)
	}
	return k, nil
}

// Write keeps an identity in a new file that only its owner may read, sealed if there is a passphrase. It fails with
// centram.Conflict rather than write over a file: keys that are gone are gone for good.
func Write(path string, id *Identity, passphrase string) error {
	b, err := format(id, passphrase)
	if err != nil {
		return fmt.Errorf("write the identity: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the folder of the identity file: %w", err)
	}
	if _, err := os.Lstat(path); err == nil {
		return taken(path)
	}
	// Whole or not at all: a half-written file would be taken for the identity at the next start.
	tmp, err := os.CreateTemp(filepath.Dir(path), ".identity-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write the identity: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("write the identity: %w", err)
	}
	err = os.Link(tmp.Name(), path) // unlike a rename it never replaces
	if errors.Is(err, fs.ErrExist) {
		return taken(path)
	}
	if err != nil { // a file system without links
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write the identity: %w", err)
	}
	if err := atomicfile.SyncFolder(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write the identity: %w", err)
	}
	return nil
}

func taken(path string) error {
	return centram.Errorf(centram.Conflict, "there is an identity in %s already", path).
		WithHint("Look at it with: centram identity list")
}

func format(id *Identity, passphrase string) ([]byte, error) {
	k := &keys{Network: id.Network.Seed(), Ledger: id.Ledger.Seed(), Recovery: id.Recovery.Seed()}
	f := file{Version: fileVersion, Peer: id.Peer().String(), Created: id.Created, Keys: k}
	if passphrase != "" {
		var err error
		f.Keys = nil
		if f.Sealed, err = seal(k, passphrase); err != nil {
			return nil, err
		}
	}
	b, err := toml.Marshal(f)
	return append([]byte(fileHead), b...), err
}

func seal(k *keys, passphrase string) (string, error) {
	plain, err := toml.Marshal(k)
	if err != nil {
		return "", err
	}
	to, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	armoured := armor.NewWriter(&out)
	w, err := age.Encrypt(armoured, to)
	if err != nil {
		return "", err
	}
	_, err = w.Write(plain)
	if err = errors.Join(err, w.Close(), armoured.Close()); err != nil {
		return "", err
	}
	return out.String(), nil
}
