package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir, path := os.Getenv(victimDir), os.Getenv(victimSlice); path != "" {
		beKilledReplacing(dir, path)
		return
	} else if dir != "" {
		beKilled(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

const mib = wire.ChunkSize

// content is n bytes that are always the same.
func content(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}).Read(b)
	return b
}

func manifestOf(b []byte) *wire.Manifest {
	m, err := digest(context.Background(), bytes.NewReader(b), io.Discard, int64(len(b)))
	if err != nil {
		panic(err)
	}
	return m
}

func chunkOf(b []byte, i uint32) []byte {
	return b[min(int(i)*mib, len(b)):min(int(i+1)*mib, len(b))]
}

func open(t testing.TB, dir string) *Store { return openWith(t, Config{Dir: dir}) }

func openWith(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t testing.TB, s *Store, b []byte) wire.Hash {
	t.Helper()
	m, err := s.Put(t.Context(), bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return m.Blob
}

func begin(t testing.TB, s *Store, m *wire.Manifest) *Partial {
	t.Helper()
	p, err := s.Begin(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func write(t testing.TB, p *Partial, b []byte, chunks ...uint32) {
	t.Helper()
	for _, i := range chunks {
		if err := p.Write(i, chunkOf(b, i)); err != nil {
			t.Fatal(err)
		}
	}
}

// chunks lists what is in a set.
func chunks(s []byte) []uint32 {
	list := []uint32{}
	for i := range uint32(8 * len(s)) {
		if set(s).has(i) {
			list = append(list, i)
		}
	}
	return list
}

func wantCode(t testing.TB, err error, want centram.Code) {
	t.Helper()
	if got := centram.CodeOf(err); got != want {
		t.Fatalf("error %v has code %q, want %q", err, got, want)
	}
}

// wantBlob reads the blob in all ways.
func wantBlob(t testing.TB, s *Store, want []byte) {
	t.Helper()
	blob := wire.Hash(sha256.Sum256(want))
	if have := s.Have(blob); !have.Complete || len(have.Bits) > 0 {
		t.Fatalf("have %+v, want a complete blob", have)
	}
	m, err := s.Manifest(blob)
	if err != nil || !sameManifest(m, manifestOf(want)) {
		t.Fatalf("manifest %v, %v; want that of the content", m, err)
	}
	path, err := s.Path(blob)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("file has %d bytes, %v; want the %d that were put in", len(got), err, len(want))
	}
	for i := range uint32(m.Count()) {
		if got, err := s.ReadChunk(blob, i, nil); err != nil || !bytes.Equal(got, chunkOf(want, i)) {
			t.Fatalf("chunk %d has %d bytes, %v; want %d", i, len(got), err, len(chunkOf(want, i)))
		}
	}
}

// wantNames compares the names in a folder, with hashes cut to what follows them.
func wantNames(t testing.TB, dir string, want ...string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, e := range list {
		if e.Name() != filepath.Base(t.Name()) {
			got = append(got, e.Name()[min(64, len(e.Name())):])
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("the folder has files %q, want %q", got, want)
	}
}

// overwrite changes bytes behind the Store's back.
func overwrite(t testing.TB, path string, at int64, b string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte(b), at)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// remote is a source that has the content in memory, or less than that.
type remote struct {
	name    byte
	content []byte
	has     []uint32      // nil for all
	pace    time.Duration // for one chunk
	// answer replaces what is given for a chunk. Nil means the right chunk.
	answer func(ctx context.Context, index uint32) (Answer, error)

	mu    sync.Mutex // guards all below
	asked []uint32
	left  time.Time // when Chunks has returned
}

func (r *remote) ID() centram.PeerID { return centram.PeerID{r.name} }

func (r *remote) Have() wire.HaveMap {
	h := wire.HaveMap{Blob: sha256.Sum256(r.content), Complete: r.has == nil}
	if r.has != nil {
		s := newSet(int(manifestOf(r.content).Count()))
		for _, i := range r.has {
			s.add(i)
		}
		h.Bits = s
	}
	return h
}

func (r *remote) Chunks(ctx context.Context, asks <-chan wire.ChunkRange, got func(Answer) error) error {
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.left = time.Now()
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case a := <-asks:
			for i := range a.Count {
				if err := r.give(ctx, a.First+i, got); err != nil {
					return err
				}
			}
		}
	}
}

func (r *remote) give(ctx context.Context, index uint32, got func(Answer) error) error {
	r.mu.Lock()
	r.asked = append(r.asked, index)
	r.mu.Unlock()
	if err := sleep(ctx, r.pace); err != nil {
		return err
	}
	a := Answer{Index: index, Data: chunkOf(r.content, index)}
	if r.answer != nil {
		var err error
		if a, err = r.answer(ctx, index); err != nil {
			return err
		}
	}
	return got(a)
}

func (r *remote) asks() []uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.asked)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// of is a closed channel with these sources.
func of(sources ...Source) <-chan Source {
	c := make(chan Source, len(sources))
	for _, s := range sources {
		c <- s
	}
	close(c)
	return c
}

func receiptOf(t testing.TB, r *Result, name byte) wire.TransferDone {
	t.Helper()
	for _, done := range r.Receipts {
		if done.Sender == (centram.PeerID{name}) {
			return done
		}
	}
	t.Fatalf("no receipt for source %d in %+v", name, r.Receipts)
	return wire.TransferDone{}
}
