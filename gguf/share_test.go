package gguf

import (
	"bytes"
	"crypto/sha256"
	"io"
	"slices"
	"testing"

	"github.com/centram/centram"
)

// evenLayers is a model of four layers whose vocabulary can be cut.
func evenLayers(tied bool) Shape {
	s := fourLayers()
	s.Tied, s.VocabSize = tied, 5*TokenStep
	return s
}

func cutShare(t testing.TB, m *Model, s Share) *Model {
	t.Helper()
	var b bytes.Buffer
	if err := Slice(&b, m, s); err != nil {
		t.Fatal(err)
	}
	return openBytes(t, b.Bytes())
}

func TestASliceHasTheRowsOfItsTokens(t *testing.T) {
	for _, tied := range []bool{true, false} {
		whole := openBytes(t, generate(t, evenLayers(tied)))
		matrix := outputMatrix
		if tied {
			matrix = tokenEmbedding
		}
		from, _ := whole.Tensor(matrix)
		all := data(t, whole.Data(from))
		row := len(all) / (5 * TokenStep)
		for _, r := range []TokenRange{{0, TokenStep}, {TokenStep, 3 * TokenStep}, {3 * TokenStep, 5 * TokenStep}} {
			share := Share{Layers: centram.LayerRange{First: 3, End: 4}, Tokens: r}
			slice := cutShare(t, whole, share)
			s := slice.Summary
			if s.Tokens != r || s.WholeTokens != 5*TokenStep || s.VocabSize != r.Len() || s.Tied != tied {
				t.Errorf("tied %t: got tokens %v of %d, a vocabulary of %d, tied %t; want %v of %d", tied, s.Tokens, s.WholeTokens, s.VocabSize, s.Tied, r, 5*TokenStep)
			}
			part, _ := slice.Tensor(matrix)
			if got, want := data(t, slice.Data(part)), all[r.First*row:r.End*row]; !bytes.Equal(got, want) {
				t.Errorf("tied %t, tokens %v: %d bytes of rows differ from the whole's %d", tied, r, len(got), len(want))
			}
			recipe, err := Cut(whole, share, func(tensor Tensor) ([32]byte, error) { return whole.Hash(tensor) })
			if err != nil {
				t.Fatal(err)
			}
			if sum, err := recipe.Check(); err != nil || sum != s {
				t.Errorf("the recipe is of %+v, %v, want %+v", sum, err, s)
			}
			sources, err := recipe.Sources(whole.Parts...)
			if err != nil {
				t.Fatal(err)
			}
			for _, in := range recipe.Tensors {
				if src, ok := sources[in.Name]; ok && sha256.Sum256(data(t, io.NewSectionReader(src.File.r, src.Tensor.Offset, in.Size()))) != in.Hash {
					t.Errorf("the source of %s, %+v, has other data", in.Name, src.Tensor)
				}
			}
			var made bytes.Buffer
			err = recipe.Write(&made, func(hash [32]byte, _ int64) (io.ReadCloser, error) {
				i := slices.IndexFunc(recipe.Tensors, func(in Ingredient) bool { return in.Hash == hash })
				src := sources[recipe.Tensors[i].Name]
				return io.NopCloser(src.File.Data(src.Tensor)), nil
			})
			if err != nil || !bytes.Equal(made.Bytes(), rewrite(t, slice.Parts[0])) {
				t.Errorf("tied %t, tokens %v: the recipe makes another file (%v)", tied, r, err)
			}
		}
		part := cutShare(t, whole, Share{Layers: centram.LayerRange{First: 2, End: 4}, Tokens: TokenRange{TokenStep, 4 * TokenStep}})
		again := cutShare(t, part, Share{Layers: centram.LayerRange{First: 1, End: 2}, Tokens: TokenRange{TokenStep, 2 * TokenStep}})
		direct := cutShare(t, whole, Share{Layers: centram.LayerRange{First: 3, End: 4}, Tokens: TokenRange{2 * TokenStep, 3 * TokenStep}})
		if !bytes.Equal(rewrite(t, again.Parts[0]), rewrite(t, direct.Parts[0])) {
			t.Errorf("tied %t: cut twice, the slice differs from the one cut at once", tied)
		}
	}
}

func TestSliceRefusesTokensThatCannotBeCut(t *testing.T) {
	whole, odd := openBytes(t, generate(t, evenLayers(true))), openBytes(t, generate(t, fourLayers()))
	last := centram.LayerRange{First: 3, End: 4}
	for _, c := range []struct {
		m     *Model
		share Share
		want  string
	}{
		{whole, Share{centram.LayerRange{End: 3}, TokenRange{0, TokenStep}}, "give no logits"},
		{whole, Share{last, TokenRange{-TokenStep, TokenStep}}, "cannot be cut from a vocabulary of 320"},
		{whole, Share{last, TokenRange{TokenStep, TokenStep}}, "cannot be cut from a vocabulary of 320"},
		{whole, Share{last, TokenRange{0, 6 * TokenStep}}, "cannot be cut from a vocabulary of 320"},
		{whole, Share{last, TokenRange{0, TokenStep + 1}}, "multiples of 64"},
		{odd, Share{last, TokenRange{0, TokenStep}}, "multiples of 64"},
	} {
		var b bytes.Buffer
		wantError(t, Slice(&b, c.m, c.share), centram.Invalid, c.want)
	}
}

func TestCheckModelRefusesWrongTokens(t *testing.T) {
	whole := openBytes(t, generate(t, evenLayers(true)))
	slice := cutShare(t, whole, Share{Layers: centram.LayerRange{First: 3, End: 4}, Tokens: TokenRange{TokenStep, 3 * TokenStep}}).Parts[0]
	for name, c := range map[string]struct {
		spoil func(*draft)
		want  string
	}{
		"first missing":      {func(d *draft) { d.drop(sliceTokensFirst) }, "not with all of the keys"},
		"end missing":        {func(d *draft) { d.drop(sliceTokensEnd) }, "not with all of the keys"},
		"whole missing":      {func(d *draft) { d.drop(sliceTokens) }, "not with all of the keys"},
		"of another kind":    {func(d *draft) { d.set(sliceTokens, Of("320")) }, "is a string, not a u32"},
		"too many":           {func(d *draft) { d.set(sliceTokensEnd, Of(uint32(4*TokenStep))) }, "has a vocabulary of 128"},
		"backwards":          {func(d *draft) { d.set(sliceTokensFirst, Of(uint32(5*TokenStep))) }, "has a vocabulary of 128"},
		"beyond the whole":   {func(d *draft) { d.set(sliceTokens, Of(uint32(2*TokenStep))) }, "64 to 192 of 128"},
		"no last layer":      {func(d *draft) { d.slice(2, 3, 4) }, "without the output, but says which tokens"},
		"rows of the others": {func(d *draft) { d.tensor(tokenEmbedding, Q8_0, 32, 5*TokenStep) }, "has shape [32 320]"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &draft{slices.Clone(slice.Metadata), contents(slice)}
			c.spoil(d)
			_, err := CheckModel(d.file(t))
			wantError(t, err, centram.Invalid, c.want)
		})
	}
}

func TestAnAdapterOfTheOutputIsCutWithItsRows(t *testing.T) {
	whole := openBytes(t, generate(t, evenLayers(false)))
	d := adapterDraft()
	d.pair(outputMatrix, F32, 32, 2, 5*TokenStep)
	f := d.file(t)
	b, _ := f.Tensor(outputMatrix + halfB)
	all := data(t, f.Data(b))
	for _, r := range []TokenRange{{0, 2 * TokenStep}, {2 * TokenStep, 5 * TokenStep}} {
		share := Share{Layers: centram.LayerRange{First: 3, End: 4}, Tokens: r}
		slice := cutShare(t, whole, share)
		recipe, err := CutAdapter(f, whole.Summary, share, f.Hash)
		if err != nil || recipe == nil {
			t.Fatalf("got %v, %v", recipe, err)
		}
		if _, err := recipe.CheckAdapter(slice.Summary); err != nil {
			t.Error(err)
		}
		_, err = recipe.CheckAdapter(cut(t, whole, 3, 4).Summary)
		wantError(t, err, centram.Invalid, "it says it gives logits of")
		sources, err := recipe.Sources(f)
		if err != nil {
			t.Fatal(err)
		}
		src := sources[outputMatrix+halfB]
		if got, want := data(t, src.File.Data(src.Tensor)), all[r.First*8:r.End*8]; !bytes.Equal(got, want) {
			t.Errorf("tokens %v: %d bytes of B differ from the whole's %d", r, len(got), len(want))
		}
	}
}
