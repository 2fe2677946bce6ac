package gguf

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/centram/centram"
)

// The keys of a slice: which layers of which whole it is, and if it gives logits of a part of the vocabulary only, of which.
// A slice of a slice counts in layers and tokens of the whole.
const (
	sliceFirst       = "centram.slice.first"
	sliceEnd         = "centram.slice.end"
	sliceLayers      = "centram.slice.layers"
	sliceTokensFirst = "centram.slice.tokens_first"
	sliceTokensEnd   = "centram.slice.tokens_end"
	sliceTokens      = "centram.slice.tokens"
)

// fillerTokens is the vocabulary of a slice without the output. No token is ever looked up in it.
const fillerTokens = 32

// Share is what a slice has of a model.
type Share struct {
	Layers centram.LayerRange
	// Tokens are those whose logits it gives: so many rows of the output matrix, which comes with the last layer. Zero means
	// all that there are.
	Tokens TokenRange
}

// TokenStep is where a vocabulary may be cut: at multiples of it, and only one that is a multiple itself. ggml multiplies
// matrices whose rows do not come in such numbers by other kernels, or does not repack them, and their last bits differ.
const TokenStep = 64

// TokenRange is a part of a vocabulary: tokens First to End, without End.
type TokenRange struct{ First, End int }

// Len is how many tokens there are in r.
func (r TokenRange) Len() int { return r.End - r.First }

// Slice writes a share of m as a file of its own that llama.cpp loads: one stage of a model that is split over several
// machines. The layers are renumbered from 0, and the keys stay, except those that say how many layers there are, which
// they are of the whole (centram.slice.*), and the tokenizer.
//
// A stage is fed hidden states, also the first one: whoever asks looks up the embedding rows himself. So it has no
// vocabulary ("no_vocab"), and where llama.cpp insists on a token embedding that is not also the output matrix, it is
// zeros: 32 rows of F32, or in the stage with the last layer, which has the output, a row for each token that it gives
// logits of, in the smallest type there is. If dst is a file, these are a hole in it.
func Slice(dst io.Writer, m *Model, share Share) error {
	st, err := newStage(m, share)
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
		return fmt.Errorf("cut layers %d to %d from %s: %w", share.Layers.First, share.Layers.End, m.Path(), err)
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

func newStage(m *Model, share Share) (stage, error) {
	s, err := m.Summary.slice(share)
	if err != nil {
		return stage{}, err
	}
	rows := s.Tokens.in(m.Summary)
	st := stage{metadata: sliceMetadata(m.Parts[0].Metadata, s)}
	for _, t := range m.Tensors {
		p := piece{name: t.Name, typ: t.Type, dims: t.Dims, from: t}
		switch {
		case t.Name == tokenEmbedding && s.filler():
			p.typ, p.dims, p.filler = fillerType(s), []uint64{uint64(s.Embedding), uint64(s.VocabSize)}, true
		case givesLogits(t.Name) && !s.tail():
			continue
		case givesLogits(t.Name) || t.Name == tokenEmbedding: // which is the output matrix as well, or it would be filler
			p.from = t.rows(rows)
			p.dims = p.from.Dims
		default:
			var here bool
			if p.name, here, err = renumber(t.Name, share.Layers); err != nil {
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

// givesLogits says whether a tensor has something for each token whose logits are given.
func givesLogits(name string) bool { return name == outputMatrix || name == outputBias }

// perToken says whether a tensor of a slice, or of an adapter for one, has a row for each token whose logits are given.
func perToken(name string) bool {
	return givesLogits(name) || name == tokenEmbedding || name == outputMatrix+halfB
}

// in counts r in tokens of s.
func (r TokenRange) in(s Summary) TokenRange {
	return TokenRange{r.First - s.Tokens.First, r.End - s.Tokens.First}
}

// hasRows says whether there is such a part of t.
func (t Tensor) hasRows(r TokenRange) bool {
	return len(t.Dims) > 0 && 0 <= r.First && r.First < r.End && uint64(r.End) <= t.Dims[len(t.Dims)-1]
}

// rows is the part of t, which has a row or a number for each token, that belongs to tokens r.
func (t Tensor) rows(r TokenRange) Tensor {
	last := len(t.Dims) - 1
	row := t.Size / int64(t.Dims[last])
	t.Offset, t.Size = t.Offset+int64(r.First)*row, int64(r.Len())*row
	t.Dims = append(slices.Clone(t.Dims[:last]), uint64(r.Len()))
	return t
}

// slice says what a share of s will be, as far as it takes to cut it.
func (s Summary) slice(share Share) (Summary, error) {
	r, tokens := share.Layers, share.Tokens
	if r.First < 0 || r.First >= r.End || r.End > s.Layers {
		return Summary{}, centram.Errorf(centram.Invalid, "layers %d to %d cannot be cut from a model of %d layers",
			r.First, r.End, s.Layers)
	}
	s.Stage, s.Layers = true, r.Len()
	s.Slice = centram.LayerRange{First: s.Slice.First + r.First, End: s.Slice.First + r.End}
	switch all := s.Tokens; {
	case tokens == TokenRange{}:
	case !s.tail():
		return Summary{}, centram.Errorf(centram.Invalid, "layers %d to %d give no logits: the last layer is not among them", r.First, r.End)
	case tokens.First < 0 || tokens.First >= tokens.End || tokens.End > all.Len():
		return Summary{}, centram.Errorf(centram.Invalid, "tokens %d to %d cannot be cut from a vocabulary of %d", tokens.First, tokens.End, all.Len())
	case tokens.First%TokenStep != 0 || tokens.End%TokenStep != 0 || all.Len()%TokenStep != 0:
		return Summary{}, centram.Errorf(centram.Invalid, "tokens %d to %d of %d cannot be cut: all three have to be multiples of %d",
			tokens.First, tokens.End, all.Len(), TokenStep)
	default:
		s.Tokens = TokenRange{all.First + tokens.First, all.First + tokens.End}
		s.VocabSize = tokens.Len()
	}
	if !s.tail() {
		s.VocabSize, s.Tied, s.Tokens, s.WholeTokens = fillerTokens, false, TokenRange{}, 0
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
	keys := []KV{
		{sliceFirst, Of(uint32(s.Slice.First))},
		{sliceEnd, Of(uint32(s.Slice.End))},
		{sliceLayers, Of(uint32(s.WholeLayers))},
	}
	if s.Tokens.Len() == s.WholeTokens {
		return keys
	}
	return append(keys,
		KV{sliceTokensFirst, Of(uint32(s.Tokens.First))},
		KV{sliceTokensEnd, Of(uint32(s.Tokens.End))},
		KV{sliceTokens, Of(uint32(s.WholeTokens))})
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
