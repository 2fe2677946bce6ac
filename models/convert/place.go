package convert

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hf"
)

// buffered is how much of a tensor is in memory at a time. It is a whole number of values of every type.
const buffered = 1 << 20

// place checks that the folder has the tensors of its model, no fewer and no more, in the shapes that config.json asks for.
func (m *model) place() error {
	wanted, err := m.tensors()
	if err != nil {
		return err
	}
	left := maps.Clone(m.weights)
	for _, e := range wanted {
		name := hfName(e.Name)
		w, ok := left[name]
		if !ok {
			return bad("%s has no tensor %s, for which %s asks", m.src.dir, name, configFile)
		}
		delete(left, name)
		if want := reversed(e.Dims); !slices.Equal(w.Shape, want) {
			return bad("%s: the tensor %s has the shape %d, but %s asks for %d", w.path, name, w.Shape, configFile, want)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		if strings.HasSuffix(name, ".rotary_emb.inv_freq") || name == hf.Head+".weight" && m.shape.Tied {
			continue // made from the configuration; the same as the embedding
		}
		return unsupported("%s has the tensor %.200s, which has no place in a model of %s with %d layers as %s describes it",
			left[name].path, name, m.shape.Architecture, m.shape.Layers, configFile)
	}
	return nil
}

// tensors are those that are copied, in the order in which they are written.
func (m *model) tensors() ([]gguf.Expected, error) {
	all, err := gguf.TensorsOf(m.shape)
	return slices.DeleteFunc(all, func(e gguf.Expected) bool {
		switch {
		case e.Name == "output.weight":
			return m.shape.Tied
		case strings.HasSuffix(e.Name, ".bias"):
			return !m.biased(e.Name)
		}
		return e.Name == freqsTensor
	}), err
}

// freqsTensor is made, not copied.
const freqsTensor = "rope_freqs.weight"

// hfName is the folder's name of a tensor of a GGUF file.
func hfName(tensor string) string {
	dot := strings.LastIndexByte(tensor, '.')
	module, ok := hf.ModuleOf(tensor[:dot])
	if !ok {
		panic("convert: no name for the tensor " + tensor) // a rule of gguf that nobody thought of here
	}
	return module + tensor[dot:]
}

func reversed(dims []uint64) []uint64 {
	out := slices.Clone(dims)
	slices.Reverse(out)
	return out
}

// draft lays the file out.
func (m *model) draft(ctx context.Context, name string) (*gguf.Draft, error) {
	wanted, err := m.tensors()
	if err != nil {
		return nil, err
	}
	through := &pipe{} // one for all tensors, which are written one after the other
	var tensors []gguf.TensorData
	if m.rope.freqs != nil {
		tensors = append(tensors, gguf.TensorData{
			Name: freqsTensor, Type: gguf.F32, Dims: []uint64{uint64(len(m.rope.freqs))}, Write: gguf.Floats(m.rope.freqs),
		})
	}
	for _, e := range wanted {
		w := m.weights[hfName(e.Name)]
		typ := w.Type
		if m.want != nil {
			typ = *m.want
		}
		if e.Vector {
			typ = gguf.F32
		}
		heads := hf.Heads(m.shape, e.Name)
		tensors = append(tensors, gguf.TensorData{Name: e.Name, Type: typ, Dims: e.Dims, Write: func(out io.Writer) error {
			return through.pour(ctx, out, w, typ, heads)
		}})
	}
	return gguf.DraftModel(m.src.dir, m.metadata(name, tensors), tensors)
}

// pipe is what tensors are copied through.
type pipe struct {
	read   []byte
	values []float32
	write  []byte
}

// pour writes the numbers of a tensor in another type, and its rows in llama.cpp's order if they belong to heads.
func (p *pipe) pour(ctx context.Context, out io.Writer, w weight, typ gguf.Type, heads int) error {
	section := io.NewSectionReader(w.file, w.Offset, w.Size)
	var in io.Reader = section
	if heads > 0 {
		rows, err := hf.NewRows(section, heads, w.Shape[0])
		if err != nil {
			return fmt.Errorf("%s: the tensor %s: %w", w.path, w.Name, err)
		}
		in = rows
	}
	if p.read == nil {
		p.read = make([]byte, buffered)
	}
	for left := w.Size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := p.read[:min(left, buffered)]
		if _, err := io.ReadFull(in, b); err != nil {
			return fmt.Errorf("read the tensor %s of %s: %w", w.Name, w.path, err)
		}
		left -= int64(len(b))
		if typ != w.Type {
			p.values = gguf.Decode(p.values[:0], w.Type, b)
			p.write = gguf.Encode(p.write[:0], typ, p.values)
			b = p.write
		}
		if _, err := out.Write(b); err != nil {
			return err
		}
	}
	return nil
}
