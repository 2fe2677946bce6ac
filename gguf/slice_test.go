package gguf

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/centram/centram"
)

// openBytes opens a model that is not in a file yet.
func openBytes(t testing.TB, b []byte) *Model {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := OpenModel(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func cut(t testing.TB, m *Model, first, end int) *Model {
	t.Helper()
	var b bytes.Buffer
	if err := Slice(&b, m, centram.LayerRange{First: first, End: end}); err != nil {
		t.Fatal(err)
	}
	return openBytes(t, b.Bytes())
}

func fourLayers() Shape {
	s := tinyShape()
	s.Layers, s.Tied = 4, false
	return s
}

func TestSliceHoldsTheLayersOfTheWhole(t *testing.T) {
	whole := openBytes(t, generate(t, fourLayers()))
	slice := cut(t, whole, 1, 3)
	want := whole.Summary
	want.Layers, want.Slice = 2, centram.LayerRange{First: 1, End: 3}
	want.Parameters, want.SizeBytes = slice.Summary.Parameters, slice.Summary.SizeBytes
	want.KVBytesPerToken /= 2
	if slice.Summary != want {
		t.Errorf("got  %+v\nwant %+v", slice.Summary, want)
	}
	for _, got := range slice.Tensors {
		name := got.Name
		for from, to := range map[string]string{"blk.0.": "blk.1.", "blk.1.": "blk.2."} {
			if strings.HasPrefix(got.Name, from) {
				name = to + strings.TrimPrefix(got.Name, from)
			}
		}
		original, ok := whole.Tensor(name)
		if !ok || original.Type != got.Type || !sameDims(original.Dims, got.Dims) {
			t.Errorf("%s is %+v, but %s is %+v", got.Name, got, name, original)
			continue
		}
		if !bytes.Equal(data(t, slice.Data(got)), data(t, whole.Data(original))) {
			t.Errorf("the data of %s differs from that of %s", got.Name, name)
		}
	}
	for _, name := range []string{"token_embd.weight", "output_norm.weight", "output.weight"} {
		if _, ok := slice.Tensor(name); !ok {
			t.Errorf("%s is not in the slice", name)
		}
	}
}

func TestSlicesTogetherAreTheWhole(t *testing.T) {
	whole := openBytes(t, generate(t, fourLayers()))
	shared := uint64(0) // counted in each slice
	for _, name := range []string{"token_embd.weight", "output_norm.weight", "output.weight"} {
		tensor, _ := whole.Tensor(name)
		shared += tensor.Elements()
	}
	sum := cut(t, whole, 0, 1).Summary.Parameters + cut(t, whole, 1, 4).Summary.Parameters - shared
	if sum != whole.Summary.Parameters {
		t.Errorf("the slices have %d parameters together, the whole has %d", sum, whole.Summary.Parameters)
	}
}

func TestSliceOfASliceCountsInTheWhole(t *testing.T) {
	whole := openBytes(t, generate(t, fourLayers()))
	got := cut(t, cut(t, whole, 1, 4), 1, 2)
	direct := cut(t, whole, 2, 3)
	if got.Summary.Slice != (centram.LayerRange{First: 2, End: 3}) || got.Summary.WholeLayers != 4 {
		t.Errorf("got layers %v of %d, want 2 to 3 of 4", got.Summary.Slice, got.Summary.WholeLayers)
	}
	if !bytes.Equal(rewrite(t, got.Parts[0]), rewrite(t, direct.Parts[0])) {
		t.Error("cut twice, the slice differs from the one cut at once")
	}
}

func TestSliceOfASplitModelIsOneFile(t *testing.T) {
	split, err := OpenModel(writeParts(t, 3, nil)[0])
	if err != nil {
		t.Fatal(err)
	}
	defer split.Close()
	slice := cut(t, split, 1, 2)
	if _, ok, err := slice.Parts[0].Split(); ok || err != nil {
		t.Errorf("the slice says it is a part: %v", err)
	}
}

func TestSliceRefusesBadRanges(t *testing.T) {
	m := openBytes(t, tiny(t))
	for _, r := range [][2]int{{-1, 1}, {0, 0}, {1, 1}, {1, 0}, {0, 3}, {2, 3}} {
		var b bytes.Buffer
		err := Slice(&b, m, centram.LayerRange{First: r[0], End: r[1]})
		wantError(t, err, centram.Invalid, "cannot be cut from a model of 2 layers")
		if b.Len() > 0 {
			t.Errorf("%v: wrote %d bytes before it refused", r, b.Len())
		}
	}
}
