package local

import (
	"path/filepath"
	"slices"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama"
)

// adapters are the LoRA adapters of one context. They are loaded at their first use and kept, but for those that nobody has
// used for longest once there are many.
type adapters struct {
	model  *llama.Model
	ctx    *llama.Context
	base   gguf.Summary
	loaded []*loadedAdapter // the one used last comes last
	active []engine.AdapterScale
}

// mostAdapters are more than answers under way need, or most of them would be read from the disk again and again.
const mostAdapters = 64

type loadedAdapter struct {
	*llama.Adapter
	path, digest string
}

// set has the following batches computed with these adapters and no others.
func (a *adapters) set(want []engine.AdapterScale) error {
	if slices.Equal(want, a.active) {
		return nil
	}
	list, scales := make([]*llama.Adapter, len(want)), make([]float32, len(want))
	for i, w := range want {
		one, err := a.find(w)
		if err != nil {
			return centram.Errorf(centram.Invalid, "adapter %s: %w", filepath.Base(w.Path), err)
		}
		list[i], scales[i] = one, w.Scale
	}
	if err := a.ctx.SetAdapters(list, scales); err != nil {
		return err
	}
	a.active = append(a.active[:0], want...)
	for len(a.loaded) > max(mostAdapters, len(want)) {
		a.loaded[0].Close()
		a.loaded = slices.Delete(a.loaded, 0, 1)
	}
	return nil
}

// find returns an adapter, which it loads if it has to, and moves it to the end of the list.
func (a *adapters) find(w engine.AdapterScale) (*llama.Adapter, error) {
	i := slices.IndexFunc(a.loaded, func(o *loadedAdapter) bool { return o.path == w.Path && o.digest == w.Digest })
	if i < 0 {
		one, err := a.load(w)
		if err != nil {
			return nil, err
		}
		a.loaded = append(a.loaded, one)
		return one.Adapter, nil
	}
	one := a.loaded[i]
	a.loaded = append(slices.Delete(a.loaded, i, i+1), one)
	return one.Adapter, nil
}

// load checks the file first, since llama.cpp aborts on some bad ones.
func (a *adapters) load(w engine.AdapterScale) (*loadedAdapter, error) {
	f, err := gguf.Open(w.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := gguf.CheckAdapter(f, a.base); err != nil {
		return nil, err
	}
	one, err := a.model.LoadAdapter(w.Path)
	return &loadedAdapter{one, w.Path, w.Digest}, err
}

// close frees them; the context goes first.
func (a *adapters) close() {
	for _, one := range a.loaded {
		one.Close()
	}
}
