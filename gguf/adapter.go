package gguf

import (
	"math"
	"strings"
)

// AdapterSummary is what a checked LoRA adapter is. For each matrix W that it changes it has two, A and B, and llama.cpp
// computes W x + scale · Alpha / rank · B A x.
type AdapterSummary struct {
	Name       string  // as the file says, without control characters; may be empty
	Rank       int     // the largest
	Alpha      float64 // 0 means the rank of each matrix
	Matrices   int     // of the model that it changes
	Parameters uint64
	Embedding  bool // it changes the token embedding too, so it cannot be cut
	SizeBytes  int64
}

// The halves of a pair end so. What comes before is the name of the matrix that they change.
const (
	halfA = ".lora_a"
	halfB = ".lora_b"
)

// adapterRules are the keys that llama.cpp reads of an adapter, which aborts if one is of another kind, and ours.
var adapterRules = []keyRule{
	{"general.type", KindString, true, 1, 64},
	{"general.architecture", KindString, true, 1, 64},
	{"general.name", KindString, false, 0, maxTextBytes},
	{"adapter.type", KindString, true, 1, 64},
	{"adapter.lora.alpha", KindFloat32, false, 0, math.MaxFloat32},
	{sliceFirst, KindUint32, false, 0, MaxLayers},
	{sliceEnd, KindUint32, false, 1, MaxLayers},
	{sliceLayers, KindUint32, false, 1, MaxLayers},
	{sliceTokensFirst, KindUint32, false, 0, MaxListLen},
	{sliceTokensEnd, KindUint32, false, 1, MaxListLen},
	{sliceTokens, KindUint32, false, 2, MaxListLen},
}

// CheckAdapter reports whether llama.cpp can be trusted with f as a LoRA adapter for the model that base is of: whether
// its keys are of the right kinds, and its tensors are pairs that fit matrices of the model. If the model is a slice, f
// must have been cut for the same share of its model; if it is whole, f must not have been cut.
//
// An error is Invalid, or Unsupported for an adapter that is sound but not ours to run.
func CheckAdapter(f *File, base Summary) (AdapterSummary, error) {
	c := &adapterChecker{checker: checker{File: f, numbers: map[string]float64{}}, base: base}
	c.out.SizeBytes = f.Size
	for _, step := range []func() error{c.keys, c.layers, c.pairs, c.shapes} {
		if err := step(); err != nil {
			return AdapterSummary{}, err
		}
	}
	return c.out, nil
}

// CutAdapter returns the recipe of the part of f for a share of the model that base is of, its layers renumbered as
// Slice does it; what changes the output goes with the output's rows. hash is as for Cut. If f changes nothing in the
// share, the recipe is nil: llama.cpp takes no adapter without tensors.
//
// It fails with Unsupported if f changes the token embedding, which no slice has.
func CutAdapter(f *File, base Summary, share Share, hash func(Tensor) ([32]byte, error)) (*Recipe, error) {
	sum, err := CheckAdapter(f, base)
	if err != nil {
		return nil, err
	}
	if sum.Embedding {
		return nil, unsupported(f, "it changes the token embedding, which no slice of the model has").
			WithHint("Use it with the whole model on one machine.")
	}
	s, err := base.slice(share)
	if err != nil {
		return nil, err
	}
	st := stage{metadata: adapterMetadata(f.Metadata, s)}
	for _, t := range f.Tensors {
		matrix, isHalf := changes(t.Name)
		if !isHalf || matrix == outputMatrix && !s.tail() {
			continue
		}
		name, here, err := renumber(t.Name, share.Layers)
		if err != nil {
			return nil, err
		}
		if t.Name == outputMatrix+halfB {
			t = t.rows(s.Tokens.in(base))
		}
		if here {
			st.pieces = append(st.pieces, piece{name: name, typ: t.Type, dims: t.Dims, from: t})
		}
	}
	if len(st.pieces) == 0 {
		return nil, nil
	}
	return st.recipe(hash)
}

func adapterMetadata(whole []KV, s Summary) (out []KV) {
	for _, kv := range whole {
		if !dropped(kv.Key) {
			out = append(out, kv)
		}
	}
	return append(out, sliceKeys(s)...)
}

// changes returns the name of the matrix that a tensor is half of the change of.
func changes(name string) (matrix string, ok bool) {
	if matrix, ok = strings.CutSuffix(name, halfA); ok {
		return matrix, true
	}
	return strings.CutSuffix(name, halfB)
}

// adapterChecker holds what the steps of CheckAdapter find out.
type adapterChecker struct {
	checker
	base   Summary
	halves map[string]Tensor // those of f's tensors that do something, by name
	out    AdapterSummary
}

func (c *adapterChecker) keys() error {
	if kind, _ := c.String("general.type"); kind != "adapter" {
		return c.bad("it is not an adapter but of type %q", printable(kind))
	}
	if err := c.keyTable(adapterRules, ""); err != nil {
		return err
	}
	if arch, _ := c.String("general.architecture"); arch != c.base.Architecture {
		return c.bad("it is for models of architecture %q, not %q", printable(arch), c.base.Architecture)
	}
	if kind, _ := c.String("adapter.type"); kind != "lora" {
		return unsupported(c.File, "adapters of type %q are not supported", printable(kind))
	}
	if _, ok := c.Value("adapter.alora.invocation_tokens"); ok {
		return unsupported(c.File, "it is to be switched on by certain tokens, which is not supported")
	}
	name, _ := c.String("general.name")
	c.out.Name, c.out.Alpha = printable(name), c.numbers["adapter.lora.alpha"]
	return nil
}

// layers checks that f counts layers as the model does.
func (c *adapterChecker) layers() error {
	c.sum.Layers = c.base.Layers
	if err := c.slice(); err != nil {
		return err
	}
	switch got, want := c.sum, c.base; {
	case !got.Stage && want.Stage:
		return c.bad("it is for a whole model, not for layers %d to %d of %d",
			want.Slice.First, want.Slice.End, want.WholeLayers)
	case got.Stage && !want.Stage:
		return c.bad("it is for layers %d to %d of %d, not for a whole model",
			got.Slice.First, got.Slice.End, got.WholeLayers)
	case got.Slice != want.Slice || got.WholeLayers != want.WholeLayers:
		return c.bad("it is for layers %d to %d of %d, not for %d to %d of %d",
			got.Slice.First, got.Slice.End, got.WholeLayers, want.Slice.First, want.Slice.End, want.WholeLayers)
	}
	if !c.base.Stage {
		return nil
	}
	c.sum.VocabSize = c.base.VocabSize
	if err := c.tokens(); err != nil {
		return err
	}
	if got, want := c.sum, c.base; got.Tokens != want.Tokens || got.WholeTokens != want.WholeTokens {
		return c.bad("it is for the tokens %d to %d of %d, not for %d to %d of %d",
			got.Tokens.First, got.Tokens.End, got.WholeTokens, want.Tokens.First, want.Tokens.End, want.WholeTokens)
	}
	return nil
}

// pairs sorts out the tensors. Whole norms are ignored, as llama.cpp ignores them: an adapter that was trained with them
// works without.
func (c *adapterChecker) pairs() error {
	model := c.modelTensors()
	c.halves = map[string]Tensor{}
	for _, t := range c.Tensors {
		matrix, isHalf := changes(t.Name)
		if !isHalf {
			norm, ok := model[t.Name]
			if !ok || !strings.HasSuffix(t.Name, "_norm.weight") || !sameDims(t.Dims, norm.Dims) {
				return c.bad("its tensor %s is not %s or %s of a matrix", t.Name, halfA, halfB)
			}
			continue
		}
		want, ok := model[matrix]
		switch {
		case matrix == tokenEmbedding && c.base.Stage:
			return unsupported(c.File, "it changes the token embedding, which a slice does not have")
		case matrix == tokenEmbedding && c.base.Tied:
			// llama.cpp would multiply the output by the embedding's halves, which lie the other way, and abort.
			return unsupported(c.File, "it changes the token embedding of a model whose output is the same matrix")
		case !ok:
			return c.bad("it changes %s, which the model does not have", matrix)
		case want.Vector:
			return c.bad("it changes %s, which is not a matrix", matrix)
		case !t.Type.weight():
			return c.bad("its tensor %s is %v, which llama.cpp cannot multiply", t.Name, t.Type)
		}
		c.halves[t.Name] = t
		c.out.Parameters += t.Elements()
	}
	if len(c.halves) == 0 {
		return c.bad("it changes nothing")
	}
	return nil
}

func (c *adapterChecker) modelTensors() map[string]Expected {
	out := map[string]Expected{}
	arch, ok := architectures[c.base.Architecture]
	if !ok {
		return out
	}
	for _, e := range arch.tensors(c.base) {
		if e.Name != outputMatrix || !c.base.Tied {
			out[e.Name] = e
		}
	}
	return out
}

// shapes checks that both halves of each pair are there and fit. Those of the token embedding lie the other way, so
// that llama.cpp can look up rows in A.
func (c *adapterChecker) shapes() error {
	model := c.modelTensors()
	for _, half := range c.Tensors {
		if _, ok := c.halves[half.Name]; !ok {
			continue
		}
		matrix, _ := changes(half.Name)
		a, hasA := c.halves[matrix+halfA]
		b, hasB := c.halves[matrix+halfB]
		if !hasA || !hasB {
			return c.bad("its tensor %s has no other half", half.Name)
		}
		in, out := model[matrix].Dims[0], model[matrix].Dims[1]
		rank := b.Dims[0]
		wantA, wantB := []uint64{in, rank}, []uint64{rank, out}
		if matrix == tokenEmbedding {
			wantA, wantB = []uint64{rank, out}, []uint64{rank, in}
			c.out.Embedding = true
		}
		if !sameDims(a.Dims, wantA) || !sameDims(b.Dims, wantB) {
			return c.bad("its halves of %s have the shapes %v and %v, but for rank %d the model asks for %v and %v",
				matrix, a.Dims, b.Dims, rank, wantA, wantB)
		}
		c.out.Rank = max(c.out.Rank, int(rank))
		if strings.HasSuffix(half.Name, halfA) {
			c.out.Matrices++
		}
	}
	return nil
}
