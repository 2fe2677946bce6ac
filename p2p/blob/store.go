// Package blob keeps files that are named by what is in them, and fetches them from several peers at once.
//
// A blob is named by the SHA-256 of the whole. It is cut into chunks of wire.ChunkSize, whose hashes its manifest lists.
// A Store is a folder in which, HASH being 64 hexadecimal digits, may stand
//
//	HASH           a complete blob
//	HASH.manifest  its manifest; the file's time is when the blob was last used
//	HASH.link      instead of HASH or beside it: in which other files the blob lies, and where in them; see link
//	HASH.part      a blob that is not complete yet, at full length
//	HASH.state     its manifest and which chunks are there; see state
//	HASH.pin       the blob stays whatever the quota is
//	*.tmp          a file that is being written, of no use after a crash
//
// Nothing is given away, and no blob becomes complete, without its hash having been checked. What was written survives:
//
//   - After kill -9 every chunk is there whose Write returned.
//   - After a power cut every chunk is there that was forced to the disk. That happens at the first Write after 16 chunks
//     or one second, and at Close. The chunks written later are hashed when the partial is opened again, and count if
//     they made it; so does everything if the state is damaged or lost, or if the manifest is another one.
//   - A blob whose Put or Complete returned is there, whole, after either; so is a link for as long as its file is.
//
// A Store, its Partials and Fetch may be used from many goroutines. A folder must be used by one Store at a time.
package blob

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

// Config says what a Store works with.
type Config struct {
	// Dir is the folder. It is made if it does not exist.
	Dir string
	// Quota is how many bytes the blobs in the folder may have together. A blob counts in full as soon as it is begun, and
	// a linked one not at all. Zero means no limit.
	Quota int64
	// Now tells when a blob was used. Nil means time.Now.
	Now func() time.Time
}

// Store is a folder of blobs.
type Store struct {
	Config

	linking sync.Mutex // held while links are written, which takes longer than mu may be held

	mu     sync.Mutex // guards all below, and the names in the folder
	whole  map[wire.Hash]*whole
	known  map[link]wire.Hash  // the links of all in whole
	parts  map[wire.Hash]*part // a blob may be here too while it is being completed in two ways
	pinned map[wire.Hash]bool
	used   int64 // bytes of files, and of those to come
}

// whole is a complete blob.
type whole struct {
	manifest *wire.Manifest
	own      bool   // it lies in the folder
	links    []link // where else it lies; set by setLinks
	used     time.Time
	noted    time.Time // what the folder says of used

	checked   set // chunks that were right in checkedIn
	checkedIn link
}

// bytes are what counts for the quota.
func (w *whole) bytes() int64 {
	if !w.own {
		return 0
	}
	return int64(w.manifest.Size)
}

// part is a blob that is not complete.
type part struct {
	manifest *wire.Manifest // nil if that is not known
	sure     set            // the chunks that are there while writer is nil
	begun    bool           // there are files of it that are worth keeping
	size     int64
	used     time.Time
	busy     chan struct{} // closed when the writer is done; nil while there is none
	writer   *Partial      // nil also while the writer is still looking at what is there
}

func (p *part) have() set {
	if p.writer != nil {
		return p.writer.have()
	}
	return slices.Clone(p.sure)
}

func (p *part) has(index uint32) bool { return p.manifest != nil && p.have().has(index) }

// New opens the folder.
func New(cfg Config) (*Store, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	var err error
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, fmt.Errorf("find the folder of blobs: %w", err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of blobs: %w", err)
	}
	s := &Store{
		Config: cfg, whole: map[wire.Hash]*whole{}, known: map[link]wire.Hash{}, parts: map[wire.Hash]*part{},
		pinned: map[wire.Hash]bool{},
	}
	if err := s.scan(); err != nil {
		return nil, fmt.Errorf("look into the folder of blobs: %w", err)
	}
	return s, nil
}

// Have says which chunks of a blob can be read, if any.
func (s *Store) Have(blob wire.Hash) wire.HaveMap {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.find(blob) != nil {
		return wire.HaveMap{Blob: blob, Complete: true}
	}
	if p := s.parts[blob]; p != nil {
		return wire.HaveMap{Blob: blob, Bits: p.have()}
	}
	return wire.HaveMap{Blob: blob}
}

// Manifest returns the manifest of a blob. That of one that is not complete is what a peer said, and may be a lie. It
// fails with centram.NotFound.
func (s *Store) Manifest(blob wire.Hash) (*wire.Manifest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.find(blob); w != nil {
		return w.manifest, nil
	}
	if p := s.parts[blob]; p != nil && p.manifest != nil {
		return p.manifest, nil
	}
	return nil, notHere(blob)
}

// Path returns the file of a complete blob. Pin the blob for as long as the file is in use. It fails with
// centram.NotFound, and with centram.Unsupported if the blob is but a range of a file, which Open can read.
func (s *Store) Path(blob wire.Hash) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.find(blob)
	switch {
	case at == nil:
		return "", notHere(blob)
	case at.link != nil && !at.link.entire():
		return "", centram.Errorf(centram.Unsupported, "the blob %s is no file of its own: it is %d bytes from %d on of %s", short(blob),
			at.manifest.Size, at.offset, at.path)
	}
	s.touch(blob, at.whole)
	return at.path, nil
}

// Pin keeps a blob, complete or not, from being removed. It fails with centram.NotFound.
func (s *Store) Pin(blob wire.Hash) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.whole[blob] == nil && s.parts[blob] == nil {
		return notHere(blob)
	}
	if err := writeFile(s.path(blob, pinExt), nil); err != nil {
		return fmt.Errorf("pin a blob: %w", err)
	}
	s.pinned[blob] = true
	return nil
}

// Unpin takes back any number of Pins.
func (s *Store) Unpin(blob wire.Hash) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.remove(blob, pinExt); err != nil {
		return fmt.Errorf("unpin a blob: %w", err)
	}
	delete(s.pinned, blob)
	return nil
}

// Remove deletes a blob, complete or not; of a linked one only the link. It fails with centram.NotFound, and with
// centram.Conflict if it is pinned or being fetched.
func (s *Store) Remove(blob wire.Hash) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parts[blob]
	switch {
	case s.whole[blob] == nil && p == nil:
		return notHere(blob)
	case s.pinned[blob]:
		return centram.Errorf(centram.Conflict, "the blob %s is in use: it is pinned", short(blob))
	case p != nil && p.busy != nil:
		return centram.Errorf(centram.Conflict, "the blob %s is being fetched", short(blob)).WithHint("Stop that first.")
	}
	return s.drop(blob)
}

// Info is one row of List.
type Info struct {
	Blob   wire.Hash
	Size   int64
	Whole  bool
	Chunks int    // that are there
	Link   string // the file that it lies in, if that is none of the blob's own in the folder
	Offset int64  // where in Link
	Pinned bool
	Used   time.Time
}

// List returns all blobs, the one used last first.
func (s *Store) List() []Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Info
	for blob := range s.whole {
		at := s.find(blob)
		if at == nil {
			continue
		}
		m := at.manifest
		i := Info{Blob: blob, Size: int64(m.Size), Whole: true, Chunks: int(m.Count()), Used: at.whole.used}
		if at.link != nil {
			i.Link, i.Offset = at.path, at.offset
		}
		list = append(list, i)
	}
	for blob, p := range s.parts {
		if s.find(blob) == nil {
			list = append(list, Info{Blob: blob, Size: p.size, Chunks: p.have().count(), Used: p.used})
		}
	}
	for i := range list {
		list[i].Pinned = s.pinned[list[i].Blob]
	}
	slices.SortFunc(list, func(a, b Info) int {
		return cmp.Or(b.Used.Compare(a.Used), slices.Compare(a.Blob[:], b.Blob[:]))
	})
	return list
}

// find returns where a complete blob lies, or nil. s.mu is held.
func (s *Store) find(blob wire.Hash) *place {
	w := s.whole[blob]
	switch {
	case w == nil:
		return nil
	case w.own:
		return &place{path: s.path(blob, ""), manifest: w.manifest, whole: w}
	}
	return s.outside(blob, w)
}

// touch notes that a blob is used. s.mu is held.
func (s *Store) touch(blob wire.Hash, w *whole) {
	w.used = s.Now()
	if w.used.Sub(w.noted) < time.Minute {
		return
	}
	w.noted = w.used
	// An error would cost no more than the blob's place in the row.
	_ = os.Chtimes(s.path(blob, manifestExt), w.used, w.used)
}

func short(blob wire.Hash) string { return blob.String()[:12] }

func notHere(blob wire.Hash) error {
	return centram.Errorf(centram.NotFound, "the blob %s is not here", short(blob))
}
