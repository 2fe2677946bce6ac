package local

import (
	"path/filepath"
	"slices"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/llama"
)

// adapters are the LoRA adapters of one context. They are loaded at their first use and kept.
type adapters struct {
	model  *llama.Model
	ctx    *llama.Context
	loaded map[string]*llama.Adapter
	active []engine.AdapterScale
}

// set has the following batches computed with these adapters and no others.
func (a *adapters) set(want []engine.AdapterScale) error {
	if slices.Equal(want, a.active) {
		return nil
	}
	list, scales := make([]*llama.Adapter, len(want)), make([]float32, len(want))
	for i, w := range want {
		one, ok := a.loaded[w.Path]
		if !ok {
			var err error
			if one, err = a.model.LoadAdapter(w.Path); err != nil {
				return centram.Errorf(centram.Invalid, "adapter %s: %w", filepath.Base(w.Path), err)
			}
			if a.loaded == nil {
				a.loaded = map[string]*llama.Adapter{}
			}
			a.loaded[w.Path] = one
		}
		list[i], scales[i] = one, w.Scale
	}
	if err := a.ctx.SetAdapters(list, scales); err != nil {
		return err
	}
	a.active = append(a.active[:0], want...)
	return nil
}

// close frees them; the context goes first.
func (a *adapters) close() {
	for _, one := range a.loaded {
		one.Close()
	}
}
