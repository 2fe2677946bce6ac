package weights

import (
	"context"

	"github.com/centram/centram/gguf"
	"github.com/centram/centram/p2p/wire"
)

// PublishedAdapter is a LoRA adapter whose tensors are blobs.
type PublishedAdapter struct {
	ID   wire.Hash // the same for every file with these tensors
	Path string

	store  *Store
	base   gguf.Summary
	hashes map[string][32]byte
	stamp  stamp
}

// PublishAdapter makes the tensors of an adapter for the model that base is of blobs.
func (s *Store) PublishAdapter(ctx context.Context, path string, base gguf.Summary) (*PublishedAdapter, error) {
	now, err := stampOf(path)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	a := s.adapters[path]
	s.mu.Unlock()
	if a != nil && a.stamp == now {
		return a, nil
	}
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := gguf.CheckAdapter(f, base); err != nil {
		return nil, err
	}
	a = &PublishedAdapter{Path: path, store: s, base: base, hashes: map[string][32]byte{}, stamp: now}
	if err := s.link(ctx, f, a.hashes, nil); err != nil {
		return nil, err
	}
	a.ID = idOf(a.hashes)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.adapters[path] = a
	return a, nil
}

// Recipe makes the recipe of the adapter's part for a share of the model a blob, and returns its hash. It is zero if the
// adapter changes nothing there.
func (a *PublishedAdapter) Recipe(ctx context.Context, share gguf.Share) (wire.Hash, error) {
	f, err := gguf.Open(a.Path)
	if err != nil {
		return wire.Hash{}, err
	}
	defer f.Close()
	recipe, err := gguf.CutAdapter(f, a.base, share, func(t gguf.Tensor) ([32]byte, error) {
		return a.store.hash(ctx, []*gguf.File{f}, a.hashes, t)
	})
	if err != nil || recipe == nil {
		return wire.Hash{}, err
	}
	return a.store.put(ctx, recipe)
}

// Adapter returns the file of an adapter's recipe, for the layers in the file slice.
func (s *Store) Adapter(ctx context.Context, recipe wire.Hash, slice string) (string, error) {
	m, err := gguf.OpenModel(slice)
	if err != nil {
		return "", err
	}
	base := m.Summary
	m.Close()
	return s.file(ctx, recipe, nil, func(r *gguf.Recipe) (int64, error) {
		sum, err := r.CheckAdapter(base)
		return sum.SizeBytes, err
	})
}
