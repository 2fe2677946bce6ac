package download

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/centram/centram"
	"github.com/centram/centram/atomicfile"
)

const (
	incompleteExt = ".incomplete"
	journalExt    = ".journal"

	syncBytes = 64 << 20 // after so many bytes, or
	syncAge   = 3 * time.Second
)

// partial is a file of which some bytes are here. One process at a time has it open.
type partial struct {
	base    string // of the names of its files
	size    int64
	data    *os.File // locked
	journal *os.File
	boot    string

	syncing sync.Mutex // held while the disk is waited for

	mu       sync.Mutex // guards what follows, and the order of the journal
	have     spans
	unsynced int64
	syncedAt time.Time
	grown    chan struct{} // closed and made anew when have grows
}

// openPartial opens what there is of a file, whose name without extension is base. It fails with centram.Conflict if another
// process has it open, and with centram.Unavailable if there is no room for the rest of the bytes that are wanted.
func openPartial(base string, size, wanted int64) (p *partial, err error) {
	if err := os.MkdirAll(filepath.Dir(base), 0o700); err != nil {
		return nil, explain(err)
	}
	p = &partial{base: base, size: size, boot: bootID(), syncedAt: time.Now(), grown: make(chan struct{})}
	if p.data, err = lockFile(base + incompleteExt); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.data.Close())
		}
	}()
	info, err := p.data.Stat()
	if err != nil {
		return nil, err
	}
	if p.have, err = readJournal(base+journalExt, size, p.boot); err != nil {
		return nil, explain(err)
	}
	if info.Size() != size { // the journal is of a file that somebody has replaced
		p.have = nil
	}
	if err := room(filepath.Dir(base), max(wanted-p.have.total(), 0)); err != nil {
		return nil, err
	}
	if err := p.data.Truncate(size); err != nil {
		return nil, explain(err)
	}
	if p.have != nil { // what the journal is going to say is on the disk has to be
		if err := p.data.Sync(); err != nil {
			return nil, explain(err)
		}
	}
	if p.journal, err = newJournal(base+journalExt, size, p.boot, p.have); err != nil {
		return nil, explain(err)
	}
	return p, nil
}

// lockFile opens a file that nobody else has open so. The kernel lets go of it however the process ends.
func lockFile(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, explain(err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EWOULDBLOCK):
			return nil, errors.Join(centram.Errorf(centram.Conflict, "Another program is downloading this file.").
				WithHint("Wait until it is done. See: centram model download"), f.Close())
		case errors.Is(err, unix.EINTR):
			f.Close()
			continue
		case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ENOLCK), errors.Is(err, unix.ENOSYS): // a network drive without locks
		case err != nil:
			return nil, errors.Join(err, f.Close())
		}
		// Who had it before may have finished it, and so given it another name.
		ours, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if there, err := os.Stat(path); err == nil && os.SameFile(ours, there) {
			return f, nil
		}
		f.Close()
	}
}

// room makes sure that a disk has place for so many bytes more.
func room(dir string, more int64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return nil // then writing will tell
	}
	const margin = 64 << 20 // a disk that is full to the last byte is nobody's friend
	if free := int64(s.Bavail) * int64(s.Bsize); free < more+margin {
		return centram.Errorf(centram.Unavailable, "There are %d MB free in %s, and %d MB are needed.", free/1e6, dir, (more+margin)/1e6).
			WithHint("Make room, or have models in another place: centram config set models FOLDER")
	}
	return nil
}

// explain says what a person can do about an error of the disk.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return centram.Errorf(centram.Unavailable, "The disk is full: %w.", err).
			WithHint("What is here stays. Make room and download again: it goes on where it stopped.")
	case errors.Is(err, syscall.EFBIG):
		return centram.Errorf(centram.Unavailable, "The disk takes no file so large: %w.", err).
			WithHint("Have models on a disk with another file system: centram config set models FOLDER")
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS):
		return centram.Errorf(centram.Forbidden, "The folder of models cannot be written to: %w.", err).
			WithHint("Give yourself the right to, or have models in another place: centram config set models FOLDER")
	}
	return centram.Errorf(centram.Unavailable, "The disk does not do what it should: %w.", err).WithHint("What is here stays. Try again.")
}

// write keeps bytes, and says so in the journal. Those that are here stay as they are, as they may have been hashed: then fresh is
// false.
func (p *partial) write(b []byte, at int64) (fresh bool, err error) {
	s := span{at, at + int64(len(b))}
	p.mu.Lock()
	missing := p.have.without(s)
	p.mu.Unlock()
	for _, m := range missing {
		if _, err := p.data.WriteAt(b[m.from-at:m.to-at], m.from); err != nil {
			return false, explain(err)
		}
	}
	p.mu.Lock()
	_, err = p.journal.WriteString(record('w', s))
	if err == nil {
		p.have = p.have.add(s)
		p.unsynced += s.len()
		close(p.grown)
		p.grown = make(chan struct{})
	}
	due := p.unsynced >= syncBytes || time.Since(p.syncedAt) >= syncAge
	p.mu.Unlock()
	if err == nil && due && p.syncing.TryLock() {
		defer p.syncing.Unlock()
		err = p.sync()
	}
	return len(missing) == 1 && missing[0] == s, explain(err)
}

// sync forces to the disk what has been written, and then says so. p.syncing is held.
func (p *partial) sync() error {
	p.mu.Lock()
	have := slices.Clone(p.have)
	p.unsynced, p.syncedAt = 0, time.Now()
	p.mu.Unlock()
	if err := p.data.Sync(); err != nil {
		return explain(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.journal.WriteString(record('s', have...))
	return explain(err)
}

// done is how many bytes are here.
func (p *partial) done() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.have.total()
}

// prefix is how far the file is here without a gap, and a channel that is closed when more is.
func (p *partial) prefix() (int64, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.have.prefix(), p.grown
}

// finish gives the whole file its name. The partial is closed then.
func (p *partial) finish(path string) error {
	err := p.data.Sync()
	if err == nil {
		err = p.data.Chmod(0o644)
	}
	if err == nil {
		err = os.Rename(p.base+incompleteExt, path)
	}
	if err != nil {
		return errors.Join(explain(err), p.close())
	}
	return errors.Join(os.Remove(p.base+journalExt), p.journal.Close(), p.data.Close(), atomicfile.SyncFolder(filepath.Dir(path)))
}

// close keeps what is here for the next time.
func (p *partial) close() error {
	p.syncing.Lock()
	defer p.syncing.Unlock()
	err := p.sync()
	return errors.Join(err, p.journal.Close(), p.data.Close())
}

// remove removes what is here, and closes the partial.
func (p *partial) remove() error {
	return errors.Join(os.Remove(p.base+journalExt), os.Remove(p.base+incompleteExt), p.journal.Close(), p.data.Close())
}

// Discard removes what is here of a file that is not whole. It fails with centram.Conflict if it is being downloaded.
func Discard(dir, sha256 string) error {
	base := filepath.Join(dir, sha256)
	if _, err := os.Stat(base + incompleteExt); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	f, err := lockFile(base + incompleteExt)
	if err != nil {
		return err
	}
	defer f.Close()
	err = os.Remove(base + journalExt)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.Remove(f.Name()))
}
