package lora

import (
	"errors"
	"io"
	"os"
	"slices"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama"
)

// export writes what was trained, if it is something that may be loaded.
func (r *run) export() error {
	if r.cfg.Full {
		return r.exportModel()
	}
	return r.exportAdapter()
}

func (r *run) exportAdapter() error {
	var tensors []gguf.TensorData
	for _, p := range r.trainer.Params() {
		values, err := r.trainer.Values(p.Name)
		if err != nil {
			return err
		}
		dims := make([]uint64, len(p.Dims))
		for i, d := range p.Dims {
			dims[i] = uint64(d)
		}
		for len(dims) < 2 {
			dims = append(dims, 1) // a pair of rank 1
		}
		tensors = append(tensors, gguf.TensorData{Name: p.Name, Type: gguf.F32, Dims: dims, Write: gguf.Floats(values)})
	}
	err := replace(r.cfg.Out, 0o644, func(w io.Writer) error {
		return gguf.WriteAdapter(w, r.base.summary.Architecture, r.cfg.Name, float32(r.cfg.Rank), tensors, r.protection()...)
	})
	if err != nil {
		return r.unsaved("adapter", err)
	}
	f, err := gguf.Open(r.cfg.Out)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = gguf.CheckAdapter(f, r.base.summary)
	return err
}

// exportModel writes the model with the numbers that it has now.
func (r *run) exportModel() (err error) {
	m, err := gguf.OpenModel(r.cfg.Model)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	matrices := gguf.F16
	if r.cfg.Exact {
		matrices = gguf.F32
	}
	err = replace(r.cfg.Out, 0o644, func(w io.Writer) error {
		return m.Rewrite(w, matrices, append([]gguf.KV{{Key: "general.name", Value: gguf.Of(r.cfg.Name)}}, r.protection()...), func(name string) ([]float32, error) {
			if slices.ContainsFunc(r.trainer.Params(), func(p llama.Param) bool { return p.Name == name }) {
				return r.trainer.Values(name)
			}
			t, _ := m.Tensor(name)
			return floats(m, t) // such as the frequencies of positions
		})
	})
	if err != nil {
		return r.unsaved("model", err)
	}
	made, err := gguf.OpenModel(r.cfg.Out)
	if err != nil {
		return err
	}
	return made.Close()
}

// writable says whether what is trained can be written, before anybody has waited for it. Another adapter may be replaced;
// nothing else is, but for what a run that was saved has written already.
func (r *run) writable() error {
	path := r.cfg.Out
	if _, err := os.Stat(path); err == nil {
		if r.cfg.Full {
			if _, err := os.Stat(r.state()); err != nil {
				return centram.Errorf(centram.Conflict, "%s is there already", path).WithHint("Name another file with --out, or remove that one.")
			}
			return nil
		}
		old, err := gguf.Open(path)
		if err == nil {
			_, err = gguf.CheckAdapter(old, r.base.summary)
			err = errors.Join(err, old.Close())
		}
		if err != nil {
			return centram.Errorf(centram.Conflict, "%s is there already, and is no adapter of this model", path).WithHint("Name another file with --out, or remove that one.")
		}
	}
	err := replace(path+".tmp", 0o644, func(io.Writer) error { return nil })
	if err == nil {
		err = os.Remove(path + ".tmp")
	}
	if err != nil {
		return centram.Errorf(centram.Invalid, "%s could not be written: %w", path, err).WithHint("Name another file with --out.")
	}
	return nil
}
