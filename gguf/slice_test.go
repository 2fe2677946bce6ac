package gguf

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	if err := Slice(&b, m, Share{Layers: centram.LayerRange{First: first, End: end}}); err != nil {
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
	want.Stage, want.VocabSize, want.ChatTemplate = true, 32, false
	want.Parameters, want.SizeBytes = slice.Summary.Parameters, slice.Summary.SizeBytes
	want.KVBytesPerToken /= 2
	want.Tokens, want.WholeTokens = TokenRange{}, 0
	if slice.Summary != want {
		t.Errorf("got  %+v\nwant %+v", slice.Summary, want)
	}
	for _, got := range slice.Tensors {
		name := got.Name
		if name == "token_embd.weight" {
			continue
		}
		for from, to := range map[string]string{"blk.0.": "blk.1.", "blk.1.": "blk.2."} {
			if strings.HasPrefix(got.Name, from) {
				name = to + strings.TrimPrefix(got.Name, from)
			}
		}
		wantSame(t, slice, got.Name, whole, name)
	}
}

// wantSame checks that the tensor a of one model is b of the other.
func wantSame(t *testing.T, m *Model, a string, other *Model, b string) {
	t.Helper()
	got, gotOK := m.Tensor(a)
	want, wantOK := other.Tensor(b)
	if !gotOK || !wantOK || got.Type != want.Type || !sameDims(got.Dims, want.Dims) {
		t.Errorf("%s is %+v, but %s is %+v", a, got, b, want)
		return
	}
	if !bytes.Equal(data(t, m.Data(got)), data(t, other.Data(want))) {
		t.Errorf("the data of %s differs from that of %s", a, b)
	}
}

// wantZeros checks that a tensor has that type and number of rows, and is zeros.
func wantZeros(t *testing.T, m *Model, name string, typ Type, rows uint64) {
	t.Helper()
	got, ok := m.Tensor(name)
	if !ok || got.Type != typ || !sameDims(got.Dims, []uint64{uint64(m.Summary.Embedding), rows}) {
		t.Errorf("got %s as %v %v, want %v with %d rows", name, got.Type, got.Dims, typ, rows)
	}
	if b := data(t, m.Data(got)); len(bytes.Trim(b, "\x00")) > 0 {
		t.Errorf("%s is not zeros", name)
	}
}

func wantTensors(t *testing.T, m *Model, present bool, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, ok := m.Tensor(name); ok != present {
			t.Errorf("%s is in the slice: %v, want %v", name, ok, present)
		}
	}
}

func TestSliceBeforeTheEndHasNoOutputAndZerosForAnEmbedding(t *testing.T) {
	for _, tied := range []bool{false, true} {
		s := fourLayers()
		s.Tied = tied
		slice := cut(t, openBytes(t, generate(t, s)), 0, 2)
		wantZeros(t, slice, "token_embd.weight", F32, 32)
		wantTensors(t, slice, true, "output_norm.weight")
		wantTensors(t, slice, false, "output.weight", "output.bias")
	}
}

func TestTheLastSliceHasTheOutput(t *testing.T) {
	s := fourLayers()
	s.Tied = true
	whole := openBytes(t, generate(t, s))
	for _, first := range []int{0, 3} {
		slice := cut(t, whole, first, 4)
		wantSame(t, slice, "token_embd.weight", whole, "token_embd.weight")
		wantTensors(t, slice, false, "output.weight")
		if got := slice.Summary; !got.Stage || !got.Tied || got.VocabSize != 289 {
			t.Errorf("got %+v, want a tied stage with 289 tokens", got)
		}
	}
	d := newDraft(t)
	d.tensor("output.weight", F16, 32, 289)
	d.tensor("output.bias", F32, 289)
	whole = openBytes(t, rewrite(t, d.file(t)))
	for _, first := range []int{0, 1} {
		slice := cut(t, whole, first, 2)
		wantSame(t, slice, "output.weight", whole, "output.weight")
		wantSame(t, slice, "output.bias", whole, "output.bias")
		wantZeros(t, slice, "token_embd.weight", 39, 289) // MXFP4: the rows have 32 values
		if got := slice.Summary; !got.Stage || got.Tied || got.VocabSize != 289 {
			t.Errorf("got %+v, want an untied stage with 289 tokens", got)
		}
	}
}

func TestZerosAreInTheSmallestTypeThatFitsTheRows(t *testing.T) {
	for row, want := range map[int]string{33: "F16", 32: "MXFP4", 64: "Q2_0", 128: "Q1_0", 896: "Q1_0", 8192: "Q1_0"} {
		if got := fillerType(Summary{Embedding: row}).String(); got != want {
			t.Errorf("rows of %d: got %s, want %s", row, got, want)
		}
	}
}

func TestSliceHasNoVocabulary(t *testing.T) {
	f := cut(t, openBytes(t, generate(t, fourLayers())), 2, 4).Parts[0]
	var got []string
	for _, kv := range f.Metadata {
		if strings.HasPrefix(kv.Key, "tokenizer.") {
			got = append(got, kv.Key)
		}
	}
	if model, _ := f.String("tokenizer.ggml.model"); len(got) != 1 || model != "no_vocab" {
		t.Errorf("got the keys %v, model %q; want tokenizer.ggml.model, no_vocab, alone", got, model)
	}
}

func TestEverySliceOfALlamaHasItsRopeFrequencies(t *testing.T) {
	d := llamaDraft()
	d.set("llama.block_count", Of(uint32(2)))
	for _, tensor := range slices.Clone(d.tensors) {
		if rest, ok := strings.CutPrefix(tensor.Name, "blk.0."); ok {
			d.tensor("blk.1."+rest, tensor.Type, tensor.Dims...)
		}
	}
	whole := openBytes(t, rewrite(t, d.file(t)))
	for first := range 2 {
		wantTensors(t, cut(t, whole, first, first+1), true, "rope_freqs.weight")
	}
}

func TestASliceIsNotAWholeModel(t *testing.T) {
	whole := openBytes(t, tiny(t))
	if err := whole.Summary.Whole(); err != nil {
		t.Errorf("the whole: got %v, want no error", err)
	}
	for _, r := range [][2]int{{0, 1}, {1, 2}, {0, 2}} {
		err := cut(t, whole, r[0], r[1]).Summary.Whole()
		wantError(t, err, centram.Invalid, fmt.Sprintf("layers %d to %d of 2", r[0], r[1]))
		if centram.HintOf(err) == "" {
			t.Errorf("got no hint with %q", err)
		}
	}
}

func TestSlicesTogetherAreTheWhole(t *testing.T) {
	whole := openBytes(t, generate(t, fourLayers()))
	norm, _ := whole.Tensor("output_norm.weight") // in each slice
	embedding, _ := whole.Tensor("token_embd.weight")
	got := cut(t, whole, 0, 1).Summary.Parameters + cut(t, whole, 1, 4).Summary.Parameters
	if want := whole.Summary.Parameters + norm.Elements() - embedding.Elements(); got != want {
		t.Errorf("the slices have %d parameters together, want %d", got, want)
	}
}

func TestZerosAreAHoleInAFile(t *testing.T) {
	whole := openBytes(t, generate(t, fourLayers()))
	for _, r := range []centram.LayerRange{{First: 1, End: 3}, {First: 3, End: 4}} {
		var want bytes.Buffer
		if err := Slice(&want, whole, Share{Layers: r}); err != nil {
			t.Fatal(err)
		}
		for name, flags := range map[string]int{"rewritten": os.O_RDWR, "appended": os.O_WRONLY | os.O_APPEND | os.O_TRUNC} {
			path := filepath.Join(t.TempDir(), "slice.gguf")
			if err := os.WriteFile(path, bytes.Repeat([]byte{0xff}, 1<<17), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, flags, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := Slice(f, whole, Share{Layers: r}); err != nil {
				t.Fatal(err)
			}
			f.Close()
			if got, _ := os.ReadFile(path); !bytes.Equal(got, want.Bytes()) {
				t.Errorf("%v, %s: the file differs from what was written to memory", r, name)
			}
		}
	}
}

func TestZerosAreWrittenIntoAPipe(t *testing.T) {
	whole := openBytes(t, generate(t, fourLayers()))
	var want bytes.Buffer
	if err := Slice(&want, whole, Share{Layers: centram.LayerRange{End: 1}}); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		defer w.Close()
		done <- Slice(w, whole, Share{Layers: centram.LayerRange{End: 1}})
	}()
	if got := data(t, r); !bytes.Equal(got, want.Bytes()) {
		t.Errorf("got %d bytes that differ from the %d written to memory", len(got), want.Len())
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSliceOfASliceCountsInTheWhole(t *testing.T) {
	for _, tied := range []bool{false, true} {
		shape := fourLayers()
		shape.Tied = tied
		whole := openBytes(t, generate(t, shape))
		for _, row := range [][3][2]int{ // a slice, a slice of that, and the same at once
			{{1, 4}, {1, 2}, {2, 3}},
			{{1, 4}, {1, 3}, {2, 4}},
			{{0, 4}, {0, 4}, {0, 4}},
			{{0, 3}, {1, 3}, {1, 3}},
		} {
			got := cut(t, cut(t, whole, row[0][0], row[0][1]), row[1][0], row[1][1])
			direct := cut(t, whole, row[2][0], row[2][1])
			want := centram.LayerRange{First: row[2][0], End: row[2][1]}
			if got.Summary.Slice != want || got.Summary.WholeLayers != 4 {
				t.Errorf("got layers %v of %d, want %v of 4", got.Summary.Slice, got.Summary.WholeLayers, want)
			}
			if !bytes.Equal(rewrite(t, got.Parts[0]), rewrite(t, direct.Parts[0])) {
				t.Errorf("tied %v, %v: cut twice, the slice differs from the one cut at once", tied, want)
			}
		}
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
		err := Slice(&b, m, Share{Layers: centram.LayerRange{First: r[0], End: r[1]}})
		wantError(t, err, centram.Invalid, "cannot be cut from a model of 2 layers")
		if b.Len() > 0 {
			t.Errorf("%v: wrote %d bytes before it refused", r, b.Len())
		}
	}
}
