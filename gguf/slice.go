package gguf

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/centram/centram"
)

// Slice writes layers r of m as a model of its own: an ordinary GGUF file with its layers renumbered from 0. The keys
// stay, except that block_count says how many layers are left; centram.slice.first, .end and .layers say what of which
// whole they are. A slice of a slice counts in layers of the whole.
//
// token_embd and output_norm, and output if there is one, are in every slice, also in those that have no use for them:
// llama.cpp loads no model without them, and a slice must load as any other model does.
func Slice(dst io.Writer, m *Model, r centram.LayerRange) error {
	s := m.Summary
	if r.First < 0 || r.First >= r.End || r.End > s.Layers {
		return centram.Errorf(centram.Invalid, "layers %d to %d cannot be cut from a model of %d layers",
			r.First, r.End, s.Layers)
	}
	tensors, err := sliceTensors(m, r)
	if err != nil {
		return err
	}
	if err := Write(dst, sliceMetadata(m, r), tensors); err != nil {
		return fmt.Errorf("cut layers %d to %d from %s: %w", r.First, r.End, m.Path(), err)
	}
	return nil
}

func sliceMetadata(m *Model, r centram.LayerRange) []KV {
	var out []KV
	for _, kv := range m.Parts[0].Metadata {
		switch {
		case kv.Key == m.Summary.Architecture+".block_count":
			kv.Value = Of(uint32(r.Len()))
		case kv.Key == "general.alignment",
			strings.HasPrefix(kv.Key, "split."),
			strings.HasPrefix(kv.Key, "centram.slice."):
			continue
		}
		out = append(out, kv)
	}
	first := m.Summary.Slice.First
	return append(out,
		KV{"centram.slice.first", Of(uint32(first + r.First))},
		KV{"centram.slice.end", Of(uint32(first + r.End))},
		KV{"centram.slice.layers", Of(uint32(m.Summary.WholeLayers))},
	)
}

func sliceTensors(m *Model, r centram.LayerRange) ([]TensorData, error) {
	var out []TensorData
	for _, t := range m.Tensors {
		name, layer, err := splitLayer(t.Name)
		if err != nil {
			return nil, err
		}
		if layer >= 0 {
			if layer < r.First || layer >= r.End {
				continue
			}
			name = fmt.Sprintf("blk.%d.%s", layer-r.First, name)
		}
		out = append(out, TensorData{Name: name, Type: t.Type, Dims: t.Dims, Write: Copy(m.Data(t))})
	}
	return out, nil
}

// splitLayer splits "blk.3.ffn_up.weight" into the name and 3. The layer is -1 for a tensor of no layer.
func splitLayer(name string) (rest string, layer int, err error) {
	after, ok := strings.CutPrefix(name, "blk.")
	if !ok {
		return name, -1, nil
	}
	number, rest, _ := strings.Cut(after, ".")
	if layer, err = strconv.Atoi(number); err != nil {
		return "", 0, fmt.Errorf("read the layer of tensor %s: %w", name, err)
	}
	return rest, layer, nil
}
