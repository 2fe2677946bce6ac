// Package download gets the files of models from a hub, however often that is interrupted: what has come stays, in pieces
// and in any order, and a file gets its name only when its SHA-256 is right.
//
// Fetch gets one file. A Queue gets models, one after the other, and remembers them over restarts.
package download

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/centram/centram"
	"github.com/centram/centram/models/hub"
)

// File is what is to be had.
type File struct {
	Path   string // where it is to be
	Size   int64
	SHA256 string // in hex
}

// Source gives the bytes [from, to) of a file. It fails with hub.ErrWhole if it gives a file from its beginning only. Errors
// that are centram.Unavailable or none of ours are worth another try.
type Source interface {
	Open(ctx context.Context, from, to int64) (io.ReadCloser, error)
}

// Config says how a file is fetched. The zero value is fine.
type Config struct {
	Dir         string        // where it lies until it is whole, on the same disk; empty means ".downloads" beside it
	Connections int           // at once; 0 means 4
	Stall       time.Duration // without a byte, after which a connection is given up; 0 means 30 s
	Tries       int           // without a byte, after which it fails; 0 means 6
	Wait        time.Duration // before the second try, four times that before the third, and so on; 0 means 0.5 s
	Limit       *rate.Limiter // of bytes; nil means none
	Near        Near          // asked before the source; nil means nobody
	Tell        func(Progress)
}

// Near gets a file from nearer than the source, such as from another machine in the house, if somebody there has it. What it
// puts in place has to be checked. It is false if nobody has it, or it did not come whole.
type Near func(ctx context.Context, f File, tell func(Progress)) bool

// Progress says how far a file is. Done never falls.
type Progress struct {
	Stage Stage
	Done  int64 // bytes that are here, or that are checked while Verifying
	Total int64
}

// Stage is what is being done.
type Stage string

const (
	Downloading Stage = "downloading"
	Verifying   Stage = "verifying" // all bytes are here
)

const (
	grain   = 256 << 10 // bytes that are written at once, and journalled
	flushIn = time.Second
	reach   = 8 << 20 // bytes that are asked for at once: not so many that those in order lie far apart
)

func (c Config) withDefaults(f File) Config {
	if c.Dir == "" {
		c.Dir = filepath.Join(filepath.Dir(f.Path), Folder)
	}
	if c.Connections == 0 {
		c.Connections = 4
	}
	if c.Stall == 0 {
		c.Stall = 30 * time.Second
	}
	if c.Tries == 0 {
		c.Tries = 6
	}
	if c.Wait == 0 {
		c.Wait = 500 * time.Millisecond
	}
	if c.Tell == nil {
		c.Tell = func(Progress) {}
	}
	return c
}

// Fetch gets a file from a source. If it was interrupted, by whatever, the next Fetch goes on with what is here. If the file
// is here already, it is only checked. It fails with centram.Conflict if another file has the name or another process
// fetches it, with centram.Invalid if what came is another file, of which nothing stays then, and with what the source or
// the disk said.
func Fetch(ctx context.Context, f File, src Source, cfg Config) error {
	cfg = cfg.withDefaults(f)
	if info, err := os.Stat(f.Path); err == nil {
		return checkExisting(ctx, f, info, cfg)
	}
	base := filepath.Join(cfg.Dir, f.SHA256)
	if cfg.Near != nil {
		if cfg.Near(ctx, f, cfg.Tell) {
			return Discard(cfg.Dir, f.SHA256)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	p, err := openPartial(base, f.Size, f.Size)
	if err != nil {
		return err
	}
	t := &fetch{file: f, src: src, cfg: cfg, partial: p, resumed: p.done() > 0, recent: recent{pieces: map[int64][]byte{}}}
	digest, err := t.run(ctx)
	switch {
	case err != nil && p.done() == 0:
		return errors.Join(err, p.remove())
	case err != nil:
		return errors.Join(err, p.close())
	case digest != f.SHA256 && t.resumed: // a disk may have damaged what was here before
		if err := p.remove(); err != nil {
			return err
		}
		return Fetch(ctx, f, src, cfg)
	case digest != f.SHA256:
		err := centram.Errorf(centram.Invalid, "What came is another file than %s: its SHA-256 is %s, not %s.", filepath.Base(f.Path), digest, f.SHA256).
			WithHint("Nothing of it was kept. Try again, or from another server (HF_ENDPOINT): somebody between here and there may have changed it.")
		return errors.Join(err, p.remove())
	}
	return p.finish(f.Path)
}

// checkExisting looks whether a file that is here is the one.
func checkExisting(ctx context.Context, f File, info os.FileInfo, cfg Config) error {
	other := centram.Errorf(centram.Conflict, "There is another file of that name: %s", f.Path).WithHint("Move it away.")
	if info.Size() != f.Size {
		return other
	}
	digest, err := Digest(ctx, f.Path, func(done int64) { cfg.Tell(Progress{Verifying, done, f.Size}) })
	if err == nil && digest != f.SHA256 {
		return other
	}
	return err
}

// FromHub is a file of a hub as a Source.
func FromHub(h *hub.Hub, f hub.File, size int64) Source { return hubFile{h, f, size} }

type hubFile struct {
	hub  *hub.Hub
	file hub.File
	size int64
}

func (f hubFile) Open(ctx context.Context, from, to int64) (io.ReadCloser, error) {
	return f.hub.Open(ctx, f.file, f.size, from, to)
}

// fetch is one Fetch under way.
type fetch struct {
	file    File
	src     Source
	cfg     Config
	partial *partial
	resumed bool // some of it was here
	recent  recent

	mu       sync.Mutex
	taken    spans         // by connections, or here
	failures int           // in a row without a byte
	working  int           // connections
	allTaken chan struct{} // closed when there is no part that nobody gets
	whole    bool          // the server gives the file from its beginning only
	told     Progress
}

// run gets what is missing and hashes it as it comes. It returns the SHA-256 of the whole in hex.
func (t *fetch) run(ctx context.Context) (digest string, err error) {
	t.tell(0)
	t.taken = append(t.taken, t.partial.have...)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		digest, err = t.hash(gctx)
		return err
	})
	g.Go(func() error {
		err := t.connect(gctx)
		if errors.Is(err, hub.ErrWhole) {
			err = t.fromTheStart(gctx)
		}
		return err
	})
	if err := g.Wait(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return "", err
	}
	return digest, nil
}

// tell says how many bytes are here, after n more have come.
func (t *fetch) tell(n int64) {
	t.mu.Lock()
	if n > 0 && !t.whole {
		t.failures = 0
	}
	t.mu.Unlock()
	t.report(Progress{Downloading, t.partial.done(), t.file.Size})
}

// report tells of progress, unless there was more already.
func (t *fetch) report(p Progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.Stage == t.told.Stage && p.Done < t.told.Done || p.Stage == Downloading && t.told.Stage == Verifying {
		return
	}
	t.told = p
	t.cfg.Tell(p)
}

// hash follows what comes without a gap.
func (t *fetch) hash(ctx context.Context) (string, error) {
	sum, buf := newHash(), make([]byte, 1<<20)
	for at := int64(0); at < t.file.Size; {
		ready, more := t.partial.prefix()
		if at == ready {
			select {
			case <-more:
				continue
			case <-ctx.Done():
				return "", context.Cause(ctx)
			}
		}
		piece, next := t.recent.take(at, ready)
		fresh := piece
		if piece == nil {
			piece = buf[:min(int64(len(buf)), next-at)]
			if _, err := t.partial.data.ReadAt(piece, at); err != nil {
				return "", &diskError{explain(fmt.Errorf("read what came: %w", err))}
			}
		}
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		sum.Write(piece)
		at += int64(len(piece))
		if t.recent.done(at, fresh); ready == t.file.Size {
			t.report(Progress{Verifying, at, t.file.Size})
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
