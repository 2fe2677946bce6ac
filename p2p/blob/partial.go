package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/atomicfile"
	"github.com/centram/centram/p2p/wire"
)

// What a power cut may undo: forcing every chunk to the disk by itself would cost more than hashing a few again.
const (
	syncChunks = 16
	syncAge    = time.Second
)

// Partial is a blob that is being written. It has to be closed.
type Partial struct {
	store    *Store
	entry    *part
	manifest *wire.Manifest
	data     *os.File
	file     *os.File // of the state
	setsAt   int64    // in file

	syncing sync.Mutex     // held while chunks are forced to the disk; guards named
	named   bool           // the names of the files are on the disk
	work    sync.WaitGroup // of forcing to the disk, which goes on beside Write

	mu       sync.Mutex // guards all below, and the sets in file
	written  set
	unsynced int
	syncedAt time.Time
	failed   error // of a sync beside Write
	checked  set   // chunks whose hash this Partial has seen to be right
	closed   bool
}

// Begin opens a blob to be written, and goes on where an earlier Partial was left, if only by a crash. Room for all of it
// is made first. Begin fails with centram.Conflict if the blob is complete or somebody else writes it, and with
// centram.TooLarge or centram.Unavailable if there is no room.
func (s *Store) Begin(ctx context.Context, m *wire.Manifest) (*Partial, error) {
	if err := m.Validate(); err != nil {
		return nil, centram.Errorf(centram.Invalid, "the manifest of the blob %s is wrong: %w", short(m.Blob), err)
	}
	entry, err := s.claim(m)
	if err != nil {
		return nil, err
	}
	p := &Partial{store: s, entry: entry, manifest: m, syncedAt: s.Now(), checked: newSet(int(m.Count()))}
	err = p.open(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		err = errors.Join(err, p.closeFiles(), s.unclaim(m.Blob, entry, entry.begun))
		return nil, doing("begin the blob "+short(m.Blob), err)
	}
	entry.writer, entry.manifest, entry.begun = p, m, true
	return p, nil
}

// claim makes the caller the only writer of a blob.
func (s *Store) claim(m *wire.Manifest) (*part, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.find(m.Blob) != nil {
		return nil, centram.Errorf(centram.Conflict, "the blob %s is here already", short(m.Blob))
	}
	entry := s.parts[m.Blob]
	if entry == nil {
		entry = &part{used: s.Now()}
	}
	if entry.busy != nil {
		return nil, centram.Errorf(centram.Conflict, "the blob %s is being fetched already", short(m.Blob))
	}
	entry.busy = make(chan struct{}) // so that making room does not take it
	if err := s.reserve(int64(m.Size) - entry.size); err != nil {
		entry.busy = nil
		return nil, err
	}
	entry.size = int64(m.Size)
	s.parts[m.Blob] = entry
	return entry, nil
}

// unclaim lets others write a blob. s.mu is held.
func (s *Store) unclaim(blob wire.Hash, entry *part, keep bool) error {
	entry.writer, entry.used = nil, s.Now()
	close(entry.busy)
	entry.busy = nil
	if !keep || s.find(blob) != nil {
		return s.dropPart(blob)
	}
	return nil
}

// writerDone is closed when nobody writes a blob any more. It is nil if nobody does now.
func (s *Store) writerDone(blob wire.Hash) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.parts[blob]; p != nil {
		return p.busy
	}
	return nil
}

// open opens the files and finds out which chunks are there.
func (p *Partial) open(ctx context.Context) error {
	st, fresh := p.found()
	p.written = st.written
	p.setsAt = st.setsAt()
	var err error
	if fresh { // the state comes first, so that a crash does not leave a file that has to be hashed
		if err = p.newState(st); err != nil {
			return err
		}
	}
	if p.data, err = os.OpenFile(p.path(partExt), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return explain(err)
	}
	if err := setLength(p.data, int64(p.manifest.Size)); err != nil {
		return err
	}
	if fresh {
		return nil
	}
	if _, err := p.recheck(ctx, st.synced); err != nil {
		return err
	}
	if err := p.data.Sync(); err != nil {
		return explain(err)
	}
	if err := p.writeState(&state{p.manifest, p.written, p.written}); err != nil {
		return err
	}
	p.named = true
	p.file, err = os.OpenFile(p.path(stateExt), os.O_RDWR, 0)
	return err
}

func (p *Partial) path(ext string) string { return p.store.path(p.manifest.Blob, ext) }

// newState makes the state of a blob that has no bytes yet. The disk is not waited for: before the first sync nothing is
// promised, and most blobs are complete before that.
func (p *Partial) newState(st *state) error {
	var err error
	if p.file, err = os.OpenFile(p.path(stateExt), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return explain(err)
	}
	_, err = p.file.Write(st.encode())
	return explain(err)
}

func (p *Partial) writeState(st *state) error { return writeFile(p.path(stateExt), st.encode()) }

// found is the state as far as it can be believed. A fresh blob has no bytes.
func (p *Partial) found() (st *state, fresh bool) {
	n := int(p.manifest.Count())
	info, err := os.Stat(p.path(partExt))
	if err != nil || info.Size() == 0 {
		return &state{p.manifest, newSet(n), newSet(n)}, true
	}
	st = p.store.readState(p.manifest.Blob)
	if st == nil || info.Size() != int64(p.manifest.Size) || !sameManifest(st.manifest, p.manifest) {
		return &state{p.manifest, fullSet(n), newSet(n)}, false // every chunk may be there
	}
	return st, false
}

func sameManifest(a, b *wire.Manifest) bool {
	return a.Blob == b.Blob && a.Size == b.Size && slices.Equal(a.Chunks, b.Chunks)
}

// recheck hashes what was written, but for the chunks in trusted, and returns how many chunks are not there after all.
func (p *Partial) recheck(ctx context.Context, trusted set) (bad int, err error) {
	buf := make([]byte, wire.ChunkSize)
	written := p.have()
	for i := range uint32(p.manifest.Count()) {
		if !written.has(i) || trusted.has(i) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return bad, err
		}
		_, err := readChunk(p.data, p.manifest, i, buf)
		if _, wrong := errors.AsType[*BadChunk](err); wrong {
			bad++
			p.mu.Lock()
			p.written.del(i)
			p.mu.Unlock()
		} else if err != nil {
			return bad, err
		} else {
			p.mu.Lock()
			p.checked.add(i)
			p.mu.Unlock()
		}
	}
	return bad, nil
}

// Have says which chunks are there.
func (p *Partial) Have() wire.HaveMap { return wire.HaveMap{Blob: p.manifest.Blob, Bits: p.have()} }

func (p *Partial) have() set {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.written)
}

// Write keeps a chunk, unless it is there already. It does not keep data. It fails with *BadChunk, and has written
// nothing, if the chunk's hash is another one; with centram.Unavailable if the disk is full.
func (p *Partial) Write(index uint32, data []byte) error {
	if err := checkChunk(p.manifest, index, data); err != nil {
		return err
	}
	p.mu.Lock()
	there := p.written.has(index)
	p.mu.Unlock()
	if there {
		return nil
	}
	if _, err := p.data.WriteAt(data, int64(index)*wire.ChunkSize); err != nil {
		return doing(fmt.Sprintf("write chunk %d", index), explain(err))
	}
	due, err := p.mark(index)
	if err == nil && due && p.syncing.TryLock() {
		p.work.Go(func() { // the disk works while further chunks come
			defer p.syncing.Unlock()
			if err := p.sync(); err != nil {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.failed = err
			}
		})
	}
	return doing(fmt.Sprintf("write chunk %d", index), err)
}

// mark counts a chunk that has been written, and says whether it is time to force some to the disk.
func (p *Partial) mark(index uint32) (due bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed != nil {
		return false, p.failed
	}
	if p.written.has(index) {
		return false, nil
	}
	p.written.add(index)
	p.checked.add(index)
	if _, err := p.file.WriteAt(p.written[index/8:][:1], p.setsAt+int64(index/8)); err != nil {
		p.written.del(index)
		return false, err
	}
	p.unsynced++
	return p.unsynced >= syncChunks || p.store.Now().Sub(p.syncedAt) >= syncAge, nil
}

// sync forces to the disk what has been written, and then says so in the state. p.syncing is held.
func (p *Partial) sync() error {
	p.mu.Lock()
	synced := slices.Clone(p.written)
	p.unsynced, p.syncedAt = 0, p.store.Now()
	p.mu.Unlock()
	if err := p.data.Sync(); err != nil {
		return explain(err)
	}
	if _, err := p.file.WriteAt(synced, p.setsAt+int64(len(synced))); err != nil {
		return err
	}
	if err := p.file.Sync(); err != nil || p.named {
		return err
	}
	p.named = true
	return atomicfile.SyncFolder(p.store.Dir)
}

// Complete makes it a blob of the Store, which closes the Partial. With all chunks the hash of the whole is right; those
// that an earlier Partial wrote are looked at again. Complete fails with centram.Unavailable if chunks are missing, among
// them those that the disk has damaged, and with centram.Invalid if the manifest of no chunks is another's.
func (p *Partial) Complete(ctx context.Context) error {
	p.syncing.Lock()
	defer p.syncing.Unlock()
	if n, all := p.have().count(), int(p.manifest.Count()); n < all {
		return centram.Errorf(centram.Unavailable, "%d of %d chunks of the blob %s are here", n, all, short(p.manifest.Blob))
	}
	err := p.prove(ctx)
	if err == nil {
		err = explain(p.data.Sync())
	}
	if err == nil {
		err = p.commit()
	}
	return doing("complete the blob "+short(p.manifest.Blob), err)
}

func (p *Partial) commit() error {
	return p.store.commit(p.manifest, p.path(partExt), func() error {
		p.entry.size = 0 // its bytes are those of the blob now
		return p.end(false)
	})
}

// prove looks at the chunks that were not seen to be right yet.
func (p *Partial) prove(ctx context.Context) error {
	if p.manifest.Size == 0 && p.manifest.Blob != sha256.Sum256(nil) {
		p.store.mu.Lock()
		defer p.store.mu.Unlock()
		return errors.Join(centram.Errorf(centram.Invalid, "the manifest is wrong: this is not the hash of nothing"), p.end(false))
	}
	p.mu.Lock()
	checked := slices.Clone(p.checked)
	p.mu.Unlock()
	bad, err := p.recheck(ctx, checked)
	if err != nil || bad == 0 {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.file.WriteAt(slices.Concat(p.written, p.written), p.setsAt); err != nil {
		return err
	}
	return centram.Errorf(centram.Unavailable, "the disk has damaged %d chunks", bad).
		WithHint("Fetch the blob again: only they will be transferred.")
}

// Close forces to the disk what has been written, and lets others go on with it. It does nothing after Complete.
func (p *Partial) Close() error {
	p.syncing.Lock()
	defer p.syncing.Unlock()
	if p.ended() {
		return nil
	}
	err := p.sync()
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	return doing("close the blob "+short(p.manifest.Blob), errors.Join(err, p.end(true)))
}

func (p *Partial) ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// end closes the files and lets others write the blob, of which nothing stays unless it is kept. p.syncing and the
// store's mu are held.
func (p *Partial) end(keep bool) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.work.Wait()
	p.entry.sure = p.have()
	return errors.Join(p.closeFiles(), p.store.unclaim(p.manifest.Blob, p.entry, keep))
}

func (p *Partial) closeFiles() error {
	var err error
	for _, f := range []*os.File{p.data, p.file} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}
