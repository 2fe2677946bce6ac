package gguf

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/centram/centram"
)

// The keys of a slice: which layers of which whole it is. A slice of a slice counts in layers of the whole.
const (
	sliceFirst  = "centram.slice.first"
	sliceEnd    = "centram.slice.end"
	sliceLayers = "centram.slice.layers"
)

// fillerTokens is the vocabulary of a slice without the output. No token is ever looked up in it.
const fillerTokens = 32

// Slice writes layers r of m as a file of its own that llama.cpp loads: one stage of a model that is split over several
// machines. The layers are renumbered from 0, and the keys stay, except those that say how many layers there are, which
// they are of the whole (centram.slice.first, .end and .layers), and the tokenizer.
//
// A stage is fed hidden states, also the first one: whoever asks looks up the embedding rows himself. So it has no
// vocabulary ("no_vocab"), and where llama.cpp insists on a token embedding that is not also the output matrix, it is
// zeros: 32 rows of F32, or in the stage with the last layer, which has the output, a row for each token of the whole,
// in the smallest type there is. If dst is a file, these are a hole in it.
func Slice(dst io.Writer, m *Model, r centram.LayerRange) error {
	st, err := newStage(m, r)
	if err != nil {
		return err
	}
	var tensors []TensorData
	for _, p := range st.pieces {
		t := TensorData{Name: p.name, Type: p.typ, Dims: p.dims}
		if !p.filler {
			t.Write = Copy(m.Data(p.from))
		}
		tensors = append(tensors, t)
	}
	if err := Write(dst, st.metadata, tensors); err != nil {
		return fmt.Errorf("cut layers %d to %d from %s: %w", r.First, r.End, m.Path(), err)
	}
	return nil
}

// stage is a slice before anything of it was read.
type stage struct {
	metadata []KV
	pieces   []piece
}

// piece is a tensor of a slice.
type piece struct {
	name   string
	typ    Type
	dims   []uint64
	from   Tensor // of the whole, unless it is filler
	filler bool   // zeros
}

func newStage(m *Model, r centram.LayerRange) (stage, error) {
	s, err := m.Summary.slice(r)
	if err != nil {
		return stage{}, err
	}
	st := stage{metadata: sliceMetadata(m.Parts[0].Metadata, s)}
	for _, t := range m.Tensors {
		p := piece{name: t.Name, typ: t.Type, dims: t.Dims, from: t}
		switch {
		case t.Name == tokenEmbedding && s.filler():
			p.typ, p.dims, p.filler = fillerType(s), []uint64{uint64(s.Embedding), uint64(s.VocabSize)}, true
		case (t.Name == outputMatrix || t.Name == outputBias) && !s.tail():
			continue
		default:
			var here bool
			if p.name, here, err = renumber(t.Name, r); err != nil {
				return stage{}, err
			}
			if !here {
				continue
			}
		}
		st.pieces = append(st.pieces, p)
	}
	return st, nil
}

// slice says what layers r of s will be, as far as it takes to cut them.
func (s Summary) slice(r centram.LayerRange) (Summary, error) {
	if r.First < 0 || r.First >= r.End || r.End > s.Layers {
		return Summary{}, centram.Errorf(centram.Invalid, "layers %d to %d cannot be cut from a model of %d layers",
			r.First, r.End, s.Layers)
	}
	s.Stage, s.Layers = true, r.Len()
	s.Slice = centram.LayerRange{First: s.Slice.First + r.First, End: s.Slice.First + r.End}
	if !s.tail() {
		s.VocabSize, s.Tied = fillerTokens, false
	}
	return s, nil
}

// filler reports whether the token embedding of s is there only because llama.cpp wants one.
func (s Summary) filler() bool { return s.Stage && !s.Tied }

// fillerType is the type of a filler's zeros: F32 for a few of them, else the smallest whose blocks make up a row.
// llama.cpp looks up rows on the processor, which can do that in all of our weight types.
func fillerType(s Summary) Type {
	if !s.tail() {
		return F32
	}
	best := F32
	for i := range types {
		t := Type(i)
		values, bytes := t.Block()
		bestValues, bestBytes := best.Block()
		if t.weight() && uint64(s.Embedding)%values == 0 && bytes*bestValues < bestBytes*values {
			best = t
		}
	}
	return best
}

func sliceMetadata(whole []KV, s Summary) []KV {
	vocabSize := s.Architecture + ".vocab_size"
	var out []KV
	for _, kv := range whole {
		if kv.Key == s.Architecture+".block_count" {
			kv.Value = Of(uint32(s.Layers))
		}
		if kv.Key != vocabSize && !dropped(kv.Key) {
			out = append(out, kv)
		}
	}
	return append(append(out,
		KV{vocabSize, Of(uint32(s.VocabSize))},
		KV{tokenizerModel, Of(noVocab)},
	), sliceKeys(s)...)
}

// dropped reports whether a slice does not take over a key of the whole.
func dropped(key string) bool {
	return key == "general.alignment" || strings.HasPrefix(key, "split.") || strings.HasPrefix(key, "tokenizer.") ||
		strings.HasPrefix(key, "centram.slice.")
}

func sliceKeys(s Summary) []KV {
	return []KV{
		{sliceFirst, Of(uint32(s.Slice.First))},
		{sliceEnd, Of(uint32(s.Slice.End))},
		{sliceLayers, Of(uint32(s.WholeLayers))},
	}
}

// renumber returns the name that a tensor has among layers r, and whether it is there. One of no layer always is.
func renumber(name string, r centram.LayerRange) (string, bool, error) {
	rest, layer, err := splitLayer(name)
	if err != nil || layer < 0 {
		return name, true, err
	}
	return layerName(layer-r.First, rest), layer >= r.First && layer < r.End, nil
}

func layerName(layer int, rest string) string { return fmt.Sprintf("blk.%d.%s", layer, rest) }

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
