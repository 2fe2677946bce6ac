// Package weights brings the weights of a layer range to the machine that computes it.
//
// The owner of a model file publishes it: its tensors become blobs where they lie, named by their hashes, and a recipe says
// of which tensors the file of a range is made. Who is to compute the range gets the recipe's hash, fetches the recipe and
// the tensors from whoever has them, checks each, and writes a file that llama.cpp can load. What was fetched is given away
// from that file in turn.
package weights

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/centram/centram"
	"github.com/centram/centram/atomicfile"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/p2p/blob"
	"github.com/centram/centram/p2p/wire"
)

const (
	fetches = 6 // tensors at a time
	ext     = ".gguf"
	usedExt = ".used" // a file beside it, whose time is when it was used last: its own time says that it has not changed
)

// Config is what a Store stands on. Blobs, Fetch and Dir are needed.
type Config struct {
	Blobs *blob.Store
	Fetch func(ctx context.Context, b wire.Hash) error // from peers into Blobs
	Dir   string                                       // of the files of layer ranges, which are made again if they are deleted
	// Quota is how many bytes these files may have together: those that were not used for longest go first. Zero means no
	// limit.
	Quota int64
}

// Store makes the files of layer ranges. It is safe for concurrent use.
type Store struct {
	cfg Config

	mu        sync.Mutex // guards the following
	published map[string]*Published
	adapters  map[string]*PublishedAdapter
	making    map[wire.Hash]chan struct{} // closed when it is made, or not
}

// New makes the folder.
func New(cfg Config) (*Store, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of layers: %w", err)
	}
	stale, _ := filepath.Glob(filepath.Join(cfg.Dir, atomicfile.TempPattern))
	for _, f := range stale {
		os.Remove(f)
	}
	return &Store{cfg: cfg, published: map[string]*Published{}, adapters: map[string]*PublishedAdapter{}, making: map[wire.Hash]chan struct{}{}}, nil
}

// Published is a model whose tensors are blobs.
type Published struct {
	ID      wire.Hash // of the model: the same for every file with these tensors
	Path    string
	Summary gguf.Summary

	store  *Store
	hashes map[string][32]byte // by tensor
	stamp  stamp
}

// stamp tells whether a file is still the same.
type stamp struct {
	size  int64
	mtime time.Time
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	return stamp{info.Size(), info.ModTime()}, nil
}

// Publish makes the tensors of a model file blobs, which takes as long as reading the file once. progress may be nil.
func (s *Store) Publish(ctx context.Context, path string, progress func(done, of int64)) (*Published, error) {
	now, err := stampOf(path)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	p := s.published[path]
	s.mu.Unlock()
	if p != nil && p.stamp == now {
		return p, nil
	}
	m, err := gguf.OpenModel(path)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if err := m.Summary.Whole(); err != nil {
		return nil, err
	}
	p = &Published{Path: path, Summary: m.Summary, store: s, hashes: map[string][32]byte{}, stamp: now}
	for _, part := range m.Parts {
		if err := s.link(ctx, part, p.hashes, progress); err != nil {
			return nil, err
		}
	}
	p.ID = idOf(p.hashes)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published[path] = p
	return p, nil
}

// link makes the tensors of a file blobs, and notes their hashes.
func (s *Store) link(ctx context.Context, f *gguf.File, hashes map[string][32]byte, progress func(done, of int64)) error {
	var ranges []blob.Range
	for _, t := range f.Tensors {
		ranges = append(ranges, blob.Range{Offset: t.Offset, Length: t.Size})
	}
	manifests, err := s.cfg.Blobs.LinkRanges(ctx, f.Name, ranges, progress)
	if err != nil {
		return err
	}
	for i, t := range f.Tensors {
		hashes[t.Name] = manifests[i].Blob
	}
	return nil
}

// idOf is the hash of all tensors' names and hashes.
func idOf(hashes map[string][32]byte) wire.Hash {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(hashes)) {
		hash := hashes[name]
		fmt.Fprintf(h, "%s\x00%x\n", name, hash)
	}
	return wire.Hash(h.Sum(nil))
}

// Recipe makes the recipe of a share of the model a blob, and returns its hash.
func (p *Published) Recipe(ctx context.Context, share gguf.Share) (wire.Hash, error) {
	m, err := gguf.OpenModel(p.Path)
	if err != nil {
		return wire.Hash{}, err
	}
	defer m.Close()
	recipe, err := gguf.Cut(m, share, func(t gguf.Tensor) ([32]byte, error) { return p.store.hash(ctx, m.Parts, p.hashes, t) })
	if err != nil {
		return wire.Hash{}, err
	}
	return p.store.put(ctx, recipe)
}

// hash is that of a tensor's data, whose blob there is. Of some of its rows it makes a blob now.
func (s *Store) hash(ctx context.Context, files []*gguf.File, hashes map[string][32]byte, t gguf.Tensor) ([32]byte, error) {
	for _, f := range files {
		whole, here := f.Tensor(t.Name)
		if !here || whole.Size == t.Size {
			continue
		}
		rows, err := s.cfg.Blobs.LinkRanges(ctx, f.Name, []blob.Range{{Offset: t.Offset, Length: t.Size}}, nil)
		if err != nil {
			return [32]byte{}, err
		}
		return rows[0].Blob, nil
	}
	return hashes[t.Name], nil
}

// put makes a recipe a blob.
func (s *Store) put(ctx context.Context, r *gguf.Recipe) (wire.Hash, error) {
	b, err := r.AppendBinary(nil)
	if err != nil {
		return wire.Hash{}, err
	}
	id := wire.Hash(sha256.Sum256(b))
	if s.cfg.Blobs.Have(id).Complete {
		return id, nil
	}
	_, err = s.cfg.Blobs.Put(ctx, bytes.NewReader(b), int64(len(b)))
	return id, err
}

// Describe says what the file of a recipe would be. Only the recipe is fetched.
func (s *Store) Describe(ctx context.Context, recipe wire.Hash) (gguf.Summary, error) {
	r, err := s.recipe(ctx, recipe)
	if err != nil {
		return gguf.Summary{}, fmt.Errorf("get the recipe of the layers: %w", err)
	}
	return r.Check()
}

// Slice returns the file of a recipe. What is not here of it is fetched and checked. progress, which may be nil, is told
// how many bytes are here.
func (s *Store) Slice(ctx context.Context, recipe wire.Hash, progress func(have, of int64)) (string, error) {
	return s.file(ctx, recipe, progress, func(r *gguf.Recipe) (int64, error) {
		summary, err := r.Check()
		return summary.SizeBytes, err
	})
}

// file makes the file of a recipe that check, which returns its size, has found sound.
func (s *Store) file(ctx context.Context, recipe wire.Hash, progress func(have, of int64), check func(*gguf.Recipe) (int64, error)) (string, error) {
	path := filepath.Join(s.cfg.Dir, recipe.String()+ext)
	for {
		if _, err := os.Stat(path); err == nil {
			s.use(path)
			return path, nil
		}
		s.mu.Lock()
		other := s.making[recipe]
		if other == nil {
			s.making[recipe] = make(chan struct{})
			s.mu.Unlock()
			break
		}
		s.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		close(s.making[recipe])
		delete(s.making, recipe)
	}()
	return path, s.make(ctx, recipe, path, progress, check)
}

func (s *Store) make(ctx context.Context, id wire.Hash, path string, progress func(have, of int64), check func(*gguf.Recipe) (int64, error)) error {
	r, err := s.recipe(ctx, id)
	if err != nil {
		return fmt.Errorf("get the recipe of the layers: %w", err)
	}
	size, err := check(r)
	if err != nil {
		return err
	}
	if s.cfg.Quota > 0 && size > s.cfg.Quota {
		return centram.Errorf(centram.Unavailable, "the layers have %d MiB, but only %d MiB are set aside for layers", size>>20, s.cfg.Quota>>20)
	}
	s.prune(size) // before it shows which weights are here: they may be in a file that goes
	fetched, err := s.fetch(ctx, r, progress)
	if err != nil {
		return fmt.Errorf("get the weights of the layers: %w", err)
	}
	if err := s.write(r, path); err != nil {
		return fmt.Errorf("write the layers: %w", err)
	}
	s.use(path)
	return s.exchange(ctx, r, path, fetched)
}

func (s *Store) recipe(ctx context.Context, id wire.Hash) (*gguf.Recipe, error) {
	if err := s.bring(ctx, id); err != nil {
		return nil, err
	}
	f, err := s.cfg.Blobs.Open(id)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, gguf.MaxRecipeBytes+1))
	if err != nil {
		return nil, err
	}
	return gguf.ParseRecipe(b)
}

func (s *Store) bring(ctx context.Context, b wire.Hash) error {
	if s.cfg.Blobs.Have(b).Complete {
		return nil
	}
	return s.cfg.Fetch(ctx, b)
}

// fetch brings the tensors of a recipe that are not here, and returns which those were.
func (s *Store) fetch(ctx context.Context, r *gguf.Recipe, progress func(have, of int64)) (map[wire.Hash]bool, error) {
	fetched := map[wire.Hash]bool{}
	var missing []gguf.Ingredient
	total, have := r.Bytes(), atomic.Int64{}
	for _, t := range r.Tensors {
		hash := wire.Hash(t.Hash)
		switch {
		case t.Zeros() || fetched[hash]:
		case s.cfg.Blobs.Have(hash).Complete:
			have.Add(t.Size())
		default:
			fetched[hash] = true
			missing = append(missing, t)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fetches)
	for _, t := range missing {
		g.Go(func() error {
			if err := s.bring(ctx, t.Hash); err != nil {
				return err
			}
			if now := have.Add(t.Size()); progress != nil {
				progress(now, total)
			}
			return nil
		})
	}
	return fetched, g.Wait()
}

// write makes the file.
func (s *Store) write(r *gguf.Recipe, path string) error {
	return atomicfile.WriteFunc(path, 0o600, func(f *os.File) error {
		return r.Write(f, func(hash [32]byte, _ int64) (io.ReadCloser, error) { return s.cfg.Blobs.Open(hash) })
	})
}

// exchange has the file give away the tensors that were fetched for it, so that the disk does not hold them twice.
func (s *Store) exchange(ctx context.Context, r *gguf.Recipe, path string, fetched map[wire.Hash]bool) error {
	if len(fetched) == 0 {
		return nil
	}
	f, err := gguf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	at := map[wire.Hash]int64{}
	for _, t := range r.Tensors {
		if fetched[t.Hash] {
			tensor, _ := f.Tensor(t.Name)
			at[t.Hash] = tensor.Offset
		}
	}
	return s.cfg.Blobs.Replace(ctx, path, at, nil)
}

// use notes that a file is used: others are removed before it.
func (s *Store) use(path string) { _ = os.WriteFile(path+usedExt, nil, 0o600) }

// prune makes room for so many bytes by removing files that were not used for longest. A file that is open stays readable.
func (s *Store) prune(size int64) {
	if s.cfg.Quota == 0 {
		return
	}
	type file struct {
		path string
		size int64
		used time.Time
	}
	var files []file
	used := size
	names, _ := filepath.Glob(filepath.Join(s.cfg.Dir, "*"+ext))
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			continue
		}
		f := file{name, info.Size(), info.ModTime()}
		if info, err := os.Stat(name + usedExt); err == nil {
			f.used = info.ModTime()
		}
		files, used = append(files, f), used+f.size
	}
	slices.SortFunc(files, func(a, b file) int { return a.used.Compare(b.used) })
	for _, f := range files {
		if used <= s.cfg.Quota {
			return
		}
		if os.Remove(f.path) == nil {
			used -= f.size
			os.Remove(f.path + usedExt)
		}
	}
}
