package blob

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

func TestAPartialGoesOnAfterItWasDropped(t *testing.T) {
	dir := t.TempDir()
	b := content(20*mib + 3)
	m := manifestOf(b)
	write(t, begin(t, open(t, dir), m), b, 0, 3, 20)

	s := open(t, dir) // as after a crash: nobody closed it
	p := begin(t, s, m)
	if got := chunks(p.Have().Bits); !slices.Equal(got, []uint32{0, 3, 20}) {
		t.Fatalf("have chunks %v, want 0, 3 and 20", got)
	}
	if got, err := s.ReadChunk(m.Blob, 3, nil); err != nil || !slices.Equal(got, chunkOf(b, 3)) {
		t.Fatalf("chunk 3 has %d bytes, %v", len(got), err)
	}
	_, err := s.ReadChunk(m.Blob, 4, nil)
	wantCode(t, err, centram.NotFound)
	wantCode(t, p.Complete(t.Context()), centram.Unavailable)
	for i := range uint32(m.Count()) {
		write(t, p, b, i)
	}
	if err := p.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, b)
	wantNames(t, dir, "", ".manifest")
	if u := s.Usage(); u.Bytes != int64(len(b)) {
		t.Errorf("%d bytes are used, want %d", u.Bytes, len(b))
	}
	wantBlob(t, open(t, dir), b)
}

func TestAChunkThatAPowerCutHasTornIsFetchedAgain(t *testing.T) {
	dir := t.TempDir()
	b := content(20 * mib)
	m := manifestOf(b)
	p := begin(t, open(t, dir), m)
	for i := range uint32(syncChunks) { // the last of them forces them to the disk
		write(t, p, b, i)
	}
	p.work.Wait() // what was due is on the disk
	write(t, p, b, 17, 18)
	overwrite(t, p.path(partExt), 18*mib+100, "\x00\x00\x00\x00")

	s := open(t, dir)
	if got := s.Have(m.Blob).Bits; set(got).has(17) || set(got).has(18) || set(got).count() != syncChunks {
		t.Fatalf("chunks %v count before they were looked at, want the first %d", chunks(got), syncChunks)
	}
	src := &remote{name: 1, content: b}
	if _, err := Fetch(t.Context(), FetchConfig{Store: s, Manifest: m, Sources: of(src)}); err != nil {
		t.Fatal(err)
	}
	if got := src.asks(); !slices.Equal(got, []uint32{16, 18, 19}) {
		t.Fatalf("fetched chunks %v, want 16, 18 and 19", got)
	}
	wantBlob(t, s, b)
}

func TestDamageToWhatIsOnTheDiskIsFoundAtTheEnd(t *testing.T) {
	s := open(t, t.TempDir())
	b := content(4 * mib)
	m := manifestOf(b)
	p := begin(t, s, m)
	write(t, p, b, 0, 1, 2, 3)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	overwrite(t, p.path(partExt), mib, "rot")
	p = begin(t, s, m)
	if got := chunks(p.Have().Bits); len(got) != 4 {
		t.Fatalf("have chunks %v, want all: what is on the disk is not hashed again", got)
	}
	wantCode(t, p.Complete(t.Context()), centram.Unavailable)
	if got := chunks(p.Have().Bits); !slices.Equal(got, []uint32{0, 2, 3}) {
		t.Fatalf("have chunks %v, want all but 1", got)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = begin(t, open(t, s.Dir), m)
	if got := chunks(p.Have().Bits); !slices.Equal(got, []uint32{0, 2, 3}) {
		t.Fatalf("have chunks %v after a new start, want all but 1", got)
	}
	write(t, p, b, 1)
	if err := p.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestWithoutAUsableStateEverythingIsLookedAtAgain(t *testing.T) {
	b := content(9 * mib)
	m := manifestOf(b)
	for name, spoil := range map[string]func(state string) error{
		"lost":    os.Remove,
		"empty":   func(state string) error { return os.Truncate(state, 0) },
		"torn":    func(state string) error { return os.Truncate(state, 100) },
		"no sets": func(state string) error { return os.Truncate(state, int64(headSize+len(m.Chunks)+digestSize)) },
		"too long": func(state string) error {
			return os.Truncate(state, 4096)
		},
		"of another blob": func(state string) error {
			other := manifestOf(content(9*mib - 1))
			return os.WriteFile(state, (&stateOf{other, newSet(9), newSet(9)}).encode(), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := begin(t, open(t, dir), m)
			write(t, p, b, 1, 5, 8)
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			if err := spoil(p.path(stateExt)); err != nil {
				t.Fatal(err)
			}
			s := open(t, dir)
			if got := chunks(s.Have(m.Blob).Bits); len(got) > 0 {
				t.Errorf("chunks %v count before they were looked at", got)
			}
			if got := chunks(begin(t, s, m).Have().Bits); !slices.Equal(got, []uint32{1, 5, 8}) {
				t.Errorf("have chunks %v, want 1, 5 and 8", got)
			}
		})
	}
}

// stateOf is state where that is the name of a file.
type stateOf = state

func TestAnotherManifestKeepsTheChunksThatItShares(t *testing.T) {
	b := content(4 * mib)
	m := manifestOf(b)
	for _, tail := range []int{mib - 1, 2 * mib, 2*mib + 7} {
		other := slices.Concat(b[:2*mib], content(tail))
		lie := lieOf(manifestOf(other), m.Blob)
		s := open(t, t.TempDir())
		p := begin(t, s, lie)
		for i := range uint32(lie.Count()) - 1 {
			write(t, p, other, i)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		p = begin(t, s, m)
		if got := chunks(p.Have().Bits); !slices.Equal(got, []uint32{0, 1}) {
			t.Errorf("have chunks %v, want the first two", got)
		}
		write(t, p, b, 2, 3)
		if err := p.Complete(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantBlob(t, s, b)
		if u := s.Usage(); u.Bytes != 4*mib {
			t.Errorf("%d bytes are used, want %d", u.Bytes, 4*mib)
		}
	}
}

// lieOf is a manifest that says it is another blob's.
func lieOf(m *wire.Manifest, blob wire.Hash) *wire.Manifest {
	return &wire.Manifest{Blob: blob, Size: m.Size, Chunks: slices.Concat(m.Chunks[:len(m.Chunks)-digestSize], blob[:])}
}

// A manifest whose chunks are not those of its blob breaks where it lies: no bytes lead from one digest to the next.
func TestAManifestThatLiesCannotBeFilled(t *testing.T) {
	s := open(t, t.TempDir())
	b := content(3 * mib)
	p := begin(t, s, lieOf(manifestOf(b), wire.Hash{1}))
	write(t, p, b, 0, 1)
	if _, bad := errors.AsType[*BadChunk](p.Write(2, chunkOf(b, 2))); !bad {
		t.Error("the last chunk is taken, though the whole is not the blob")
	}
	wantCode(t, p.Complete(t.Context()), centram.Unavailable)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*wire.Manifest{
		"no digests":            {Size: 5},
		"another last":          {Blob: wire.Hash{1}, Size: 5, Chunks: make([]byte, 32)},
		"something in no bytes": {Blob: wire.Hash{2}},
	} {
		p, err := s.Begin(t.Context(), m)
		if err == nil {
			err = p.Complete(t.Context())
		}
		if centram.CodeOf(err) != centram.Invalid {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
}

// TestDigestsAreTheStatesOfSHA256 has values of FIPS 180-4's algorithm worked out by another program.
func TestDigestsAreTheStatesOfSHA256(t *testing.T) {
	b := make([]byte, 2*mib+3)
	for i := range b {
		b[i] = byte(i * 7)
	}
	m := manifestOf(b)
	whole := sha256.Sum256(b)
	for i, want := range []string{
		"fc7f84dd8cbec5e1b59eb06e875e2fea4dd745a69b321cb66daec17faec29e19",
		"22d239375c88716796e9c8d21f248738fe910de84ae7c5c1740734adeeb451d0",
		hex.EncodeToString(whole[:]),
	} {
		if got := hex.EncodeToString(m.Chunks[digestSize*i:][:digestSize]); got != want {
			t.Errorf("digest %d: got %s, want %s", i, got, want)
		}
	}
}

func TestWriteNamesTheChunkThatIsWrong(t *testing.T) {
	s := open(t, t.TempDir())
	b := content(2*mib + 5)
	p := begin(t, s, manifestOf(b))
	write(t, p, b, 1)
	for index, data := range map[uint32][]byte{
		0: chunkOf(b, 1), 1: chunkOf(b, 0), 2: chunkOf(b, 2)[:4], 3: chunkOf(b, 2), 1 << 31: chunkOf(b, 0),
	} {
		err := p.Write(index, data)
		bad, ok := errors.AsType[*BadChunk](err)
		if !ok || bad.Index != index {
			t.Errorf("chunk %d: got %v, want a BadChunk that names it", index, err)
		}
	}
	if got := chunks(p.Have().Bits); !slices.Equal(got, []uint32{1}) {
		t.Errorf("have chunks %v, want 1", got)
	}
	if got, err := s.ReadChunk(manifestOf(b).Blob, 1, nil); err != nil || !slices.Equal(got, chunkOf(b, 1)) {
		t.Errorf("the right chunk has %d bytes, %v", len(got), err)
	}
}

func TestABlobHasOneWriter(t *testing.T) {
	s := open(t, t.TempDir())
	b := content(mib)
	m := manifestOf(b)
	p := begin(t, s, m)
	_, err := s.Begin(t.Context(), m)
	wantCode(t, err, centram.Conflict)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = begin(t, s, m)
	write(t, p, b, 0)
	if err := p.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = s.Begin(t.Context(), m)
	wantCode(t, err, centram.Conflict)
	if err := p.Write(0, b); err != nil {
		t.Errorf("a chunk that comes late is an error: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("Close after Complete is an error: %v", err)
	}
}

// victimDir is set for a process that writes chunks until it is killed.
const victimDir = "CENTRAM_BLOB_VICTIM"

const victimSize = 40*mib + 1

func beKilled(dir string) {
	check := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	s, err := New(Config{Dir: dir})
	check(err)
	b := content(victimSize)
	m := manifestOf(b)
	p, err := s.Begin(context.Background(), m)
	check(err)
	have := set(p.Have().Bits)
	for i := range uint32(m.Count()) {
		if !have.has(i) {
			check(p.Write(i, chunkOf(b, i)))
			fmt.Println(i)
		}
	}
}

func TestKill9LosesNoChunkThatWasWritten(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	b := content(victimSize)
	m := manifestOf(b)
	written := newSet(int(m.Count()))
	round := 0
	for ; written.count() < int(m.Count()); round++ {
		victim := exec.Command(exe)
		victim.Env = append(os.Environ(), victimDir+"="+dir)
		out, err := victim.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n < 1+round && lines.Scan(); n++ {
			if i, err := strconv.Atoi(lines.Text()); err == nil {
				written.add(uint32(i))
			}
		}
		victim.Process.Kill()
		for lines.Scan() { // what it still said before it died
			if i, err := strconv.Atoi(lines.Text()); err == nil {
				written.add(uint32(i))
			}
		}
		victim.Wait()

		s := open(t, dir)
		p, err := s.Begin(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		have := set(p.Have().Bits)
		for _, i := range chunks(written) {
			if !have.has(i) {
				t.Fatalf("round %d: chunk %d is lost", round, i)
			}
		}
		for _, i := range chunks(have) {
			if got, err := s.ReadChunk(m.Blob, i, nil); err != nil || !slices.Equal(got, chunkOf(b, i)) {
				t.Fatalf("round %d: chunk %d counts and is wrong: %v", round, i, err)
			}
		}
		if n := have.count() - written.count(); n > 1 {
			t.Errorf("round %d: %d chunks more than were reported, want at most the one in flight", round, n)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		written = have
	}
	if round < 3 {
		t.Errorf("the writer was killed %d times only before it was done", round-1)
	}
}
