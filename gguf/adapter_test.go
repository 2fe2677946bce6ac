package gguf

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/centram/centram"
)

// adapterDraft is an adapter of rank 2 for some matrices of a model of fourLayers.
func adapterDraft() *draft {
	d := &draft{metadata: []KV{
		{"general.architecture", Of("qwen2")},
		{"general.type", Of("adapter")},
		{"general.name", Of("terse\n")},
		{"adapter.type", Of("lora")},
		{"adapter.lora.alpha", Of(float32(4))},
	}}
	for _, layer := range []int{0, 2} {
		d.pair(fmt.Sprintf("blk.%d.attn_q.weight", layer), F32, 32, 2, 32)
		d.pair(fmt.Sprintf("blk.%d.ffn_down.weight", layer), F16, 64, 3, 32)
	}
	d.pair("output.weight", bf16, 32, 2, 289)
	return d
}

const bf16 Type = 30

// pair adds the halves of a change of a matrix.
func (d *draft) pair(matrix string, typ Type, in, rank, out uint64) {
	d.tensor(matrix+".lora_a", typ, in, rank)
	d.tensor(matrix+".lora_b", typ, rank, out)
}

func adapterBase(t testing.TB, tied bool) *Model {
	s := fourLayers()
	s.Tied = tied
	return openBytes(t, generate(t, s))
}

func TestCheckAdapterTellsWhatAnAdapterIs(t *testing.T) {
	f := adapterDraft().file(t)
	got, err := CheckAdapter(f, adapterBase(t, false).Summary)
	if err != nil {
		t.Fatal(err)
	}
	want := AdapterSummary{
		Name: "terse", Rank: 3, Alpha: 4, Matrices: 5, Parameters: 2*(2*32*2) + 2*(3*(64+32)) + 2*(32+289), SizeBytes: f.Size,
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestCheckAdapterAcceptsWhatLlamaCppAccepts(t *testing.T) {
	for name, change := range map[string]func(*draft){
		"no alpha":   func(d *draft) { d.drop("adapter.lora.alpha") },
		"alpha of 0": func(d *draft) { d.set("adapter.lora.alpha", Of(float32(0))) },
		"a norm":     func(d *draft) { d.tensor("blk.1.attn_norm.weight", F32, 32) },
		"rank of 1": func(d *draft) {
			d.tensor("output.weight.lora_a", F32, 32)
			d.tensor("output.weight.lora_b", F32, 1, 289)
		},
		"embedding": func(d *draft) {
			d.tensor("token_embd.weight.lora_a", F32, 2, 289)
			d.tensor("token_embd.weight.lora_b", F32, 2, 32)
		},
	} {
		d := adapterDraft()
		change(d)
		got, err := CheckAdapter(d.file(t), adapterBase(t, false).Summary)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if want := name == "embedding"; got.Embedding != want {
			t.Errorf("%s: got embedding %v, want %v", name, got.Embedding, want)
		}
	}
}

func TestCheckAdapterRefusesAdaptersThatWouldHurtLlamaCpp(t *testing.T) {
	alpha := func(v float64) func(*draft) { return f32("adapter.lora.alpha", v) }
	for _, row := range []struct {
		name  string
		spoil func(*draft)
		want  string
	}{
		{"a model", func(d *draft) { d.set("general.type", Of("model")) }, `of type "model"`},
		{"type missing", func(d *draft) { d.drop("general.type") }, `of type ""`},
		{"type a number", u32("general.type", 1), `of type ""`},
		{"architecture missing", func(d *draft) { d.drop("general.architecture") }, "general.architecture is missing"},
		{"architecture a number", u32("general.architecture", 1), "is a u32, not a string"},
		{"another architecture", func(d *draft) { d.set("general.architecture", Of("llama")) }, `"llama", not "qwen2"`},
		{"adapter type missing", func(d *draft) { d.drop("adapter.type") }, "adapter.type is missing"},
		{"adapter type a number", u32("adapter.type", 1), "is a u32, not a string"},
		{"alpha an integer", u32("adapter.lora.alpha", 1), "is a u32, not a f32"},
		{"alpha f64", func(d *draft) { d.set("adapter.lora.alpha", Of(4.0)) }, "is a f64, not a f32"},
		{"alpha not a number", alpha(math.NaN()), "alpha is NaN"},
		{"alpha infinite", alpha(math.Inf(1)), "alpha is +Inf"},
		{"alpha negative", alpha(-1), "alpha is -1"},
		{"no tensors", func(d *draft) { d.tensors = nil }, "changes nothing"},
		{"norms only", func(d *draft) {
			d.tensors = nil
			d.tensor("output_norm.weight", F32, 32)
		}, "changes nothing"},
		{"A missing", func(d *draft) { d.dropTensor("blk.2.attn_q.weight.lora_a") }, "lora_b has no other half"},
		{"B missing", func(d *draft) { d.dropTensor("blk.2.attn_q.weight.lora_b") }, "lora_a has no other half"},
		{"layer beyond", func(d *draft) { d.pair("blk.4.attn_q.weight", F32, 32, 2, 32) }, "changes blk.4.attn_q.weight"},
		{"layer spelt oddly", func(d *draft) { d.pair("blk.01.attn_q.weight", F32, 32, 2, 32) }, "which the model does not"},
		{"matrix unknown", func(d *draft) { d.pair("blk.1.attn_x.weight", F32, 32, 2, 32) }, "which the model does not"},
		{"no name", func(d *draft) { d.tensor(".lora_a", F32, 32, 2) }, "which the model does not"},
		{"a bias", func(d *draft) { d.pair("blk.1.attn_q.bias", F32, 32, 2, 1) }, "is not a matrix"},
		{"a norm's halves", func(d *draft) { d.pair("blk.1.attn_norm.weight", F32, 32, 2, 1) }, "is not a matrix"},
		{"a whole matrix", func(d *draft) { d.tensor("blk.1.attn_q.weight", F32, 32, 32) }, "is not .lora_a or .lora_b"},
		{"a norm unknown", func(d *draft) { d.tensor("blk.9.attn_norm.weight", F32, 32) }, "is not .lora_a or .lora_b"},
		{"a norm of another shape", func(d *draft) { d.tensor("blk.1.attn_norm.weight", F32, 33) }, "is not .lora_a"},
		{"ranks differ", func(d *draft) { d.tensor("blk.0.attn_q.weight.lora_a", F32, 32, 3) }, "for rank 2 the model asks"},
		{"A of another width", func(d *draft) { d.tensor("blk.0.attn_q.weight.lora_a", F32, 33, 2) }, "[33 2]"},
		{"A transposed", func(d *draft) { d.tensor("blk.0.attn_q.weight.lora_a", F32, 2, 32) }, "[2 32]"},
		{"B of another height", func(d *draft) { d.tensor("blk.0.attn_q.weight.lora_b", F32, 2, 31) }, "[2 31]"},
		{"B in a third dimension", func(d *draft) { d.tensor("blk.0.attn_q.weight.lora_b", F32, 2, 32, 2) }, "[2 32 2]"},
		{"integers", func(d *draft) { d.tensor("blk.0.attn_q.weight.lora_a", 26, 32, 2) }, "I32, which llama.cpp cannot"},
		{"embedding like others", func(d *draft) { d.pair("token_embd.weight", F32, 32, 2, 289) }, "token_embd.weight have"},
		{"embedding of two ranks", func(d *draft) {
			d.tensor("token_embd.weight.lora_a", F32, 3, 289)
			d.tensor("token_embd.weight.lora_b", F32, 2, 32)
		}, "token_embd.weight have the"},
		{"cut", func(d *draft) { d.slice(0, 4, 4) }, "for layers 0 to 4 of 4, not for a whole model"},
		{"cut to another length", func(d *draft) { d.slice(0, 2, 4) }, "layers 0 to 2 of 4, but has 4"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := adapterDraft()
			row.spoil(d)
			_, err := CheckAdapter(d.file(t), adapterBase(t, false).Summary)
			wantError(t, err, centram.Invalid, row.want)
		})
	}
}

func TestCheckAdapterTellsUnsupportedFromBroken(t *testing.T) {
	embedding := func(d *draft) {
		d.tensors = nil
		d.tensor("token_embd.weight.lora_a", F32, 2, 289)
		d.tensor("token_embd.weight.lora_b", F32, 2, 32)
	}
	for name, row := range map[string]struct {
		change func(*draft)
		base   Summary
		want   string
	}{
		"another kind": {func(d *draft) { d.set("adapter.type", Of("ia3")) }, adapterBase(t, false).Summary, `type "ia3"`},
		"activated": {
			func(d *draft) { d.set("adapter.alora.invocation_tokens", List([]uint32{1})) },
			adapterBase(t, false).Summary, "certain tokens",
		},
		"embedding that is the output": {embedding, adapterBase(t, true).Summary, "whose output is the same matrix"},
		"embedding of a slice": {
			func(d *draft) { embedding(d); d.slice(2, 4, 4) },
			cut(t, adapterBase(t, false), 2, 4).Summary, "which a slice does not have",
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := adapterDraft()
			row.change(d)
			_, err := CheckAdapter(d.file(t), row.base)
			wantError(t, err, centram.Unsupported, row.want)
		})
	}
	d := adapterDraft()
	_, err := CheckAdapter(d.file(t), adapterBase(t, true).Summary)
	wantError(t, err, centram.Invalid, "changes output.weight, which the model does not have")
}

func cutAdapter(t testing.TB, f *File, base Summary, first, end int) *Recipe {
	t.Helper()
	r, err := CutAdapter(f, base, Share{Layers: centram.LayerRange{First: first, End: end}}, f.Hash)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCutAdapterFitsTheSliceOfTheSameLayers(t *testing.T) {
	whole := adapterBase(t, false)
	d := adapterDraft()
	d.tensor("blk.2.attn_norm.weight", F32, 32)
	f := d.file(t)
	for _, row := range []struct {
		first, end int
		matrices   []string
	}{
		{0, 2, []string{"blk.0.attn_q.weight", "blk.0.ffn_down.weight"}},
		{1, 3, []string{"blk.1.attn_q.weight", "blk.1.ffn_down.weight"}},
		{2, 4, []string{"blk.0.attn_q.weight", "blk.0.ffn_down.weight", "output.weight"}},
		{3, 4, []string{"output.weight"}},
	} {
		recipe := cutAdapter(t, f, whole.Summary, row.first, row.end)
		var got, want []string
		for _, in := range recipe.Tensors {
			got = append(got, in.Name)
		}
		for _, m := range row.matrices {
			want = append(want, m+".lora_a", m+".lora_b")
		}
		if !slices.Equal(got, want) {
			t.Errorf("layers %d to %d: got %v, want %v", row.first, row.end, got, want)
		}
		slice := cut(t, whole, row.first, row.end)
		promised, err := recipe.CheckAdapter(slice.Summary)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := recipe.Write(&b, larder(t, f)); err != nil {
			t.Fatal(err)
		}
		made := mustRead(t, b.Bytes())
		sum, err := CheckAdapter(made, slice.Summary)
		if err != nil || sum != promised || sum.Matrices != len(row.matrices) {
			t.Errorf("layers %d to %d: got %+v, %v, want %+v with %d matrices",
				row.first, row.end, sum, err, promised, len(row.matrices))
		}
		sources, err := recipe.Sources(f)
		if err != nil || len(sources) != len(recipe.Tensors) {
			t.Errorf("layers %d to %d: got %d sources, %v, want %d", row.first, row.end, len(sources), err, len(recipe.Tensors))
		}
		for name, s := range sources {
			tensor, _ := made.Tensor(name)
			if !bytes.Equal(data(t, made.Data(tensor)), data(t, s.File.Data(s.Tensor))) {
				t.Errorf("layers %d to %d: the data of %s is not that of %s", row.first, row.end, name, s.Tensor.Name)
			}
		}
	}
}

func TestACutAdapterFitsNoOtherSlice(t *testing.T) {
	whole := adapterBase(t, false)
	f := adapterDraft().file(t)
	recipe := cutAdapter(t, f, whole.Summary, 0, 2)
	for _, row := range []struct {
		base Summary
		want string
	}{
		{whole.Summary, "says it is layers 0 to 2 of 4, but has 4"},
		{cut(t, whole, 1, 3).Summary, "it is for layers 0 to 2 of 4, not for 1 to 3 of 4"},
		{cut(t, whole, 0, 1).Summary, "says it is layers 0 to 2 of 4, but has 1"},
	} {
		_, err := recipe.CheckAdapter(row.base)
		wantError(t, err, centram.Invalid, row.want)
	}
	_, err := CheckAdapter(f, cut(t, whole, 1, 3).Summary)
	wantError(t, err, centram.Invalid, "it is for a whole model, not for layers 1 to 3 of 4")
	recipe.Tensors[0].Hash = [32]byte{}
	_, err = recipe.CheckAdapter(cut(t, whole, 0, 2).Summary)
	wantError(t, err, centram.Invalid, "no hash for the tensor blk.0.attn_q.weight.lora_a")
}

func TestAnAdapterThatChangesNothingHereIsNoRecipe(t *testing.T) {
	if got := cutAdapter(t, adapterDraft().file(t), adapterBase(t, false).Summary, 1, 2); got != nil {
		t.Errorf("got a recipe of %d tensors, want none", len(got.Tensors))
	}
}

func TestCutAdapterRefusesWhatItCannotCut(t *testing.T) {
	base := adapterBase(t, false).Summary
	d := adapterDraft()
	_, err := CutAdapter(d.file(t), base, Share{Layers: centram.LayerRange{First: 1, End: 5}}, nil)
	wantError(t, err, centram.Invalid, "layers 1 to 5 cannot be cut")
	d.tensor("token_embd.weight.lora_a", F32, 2, 289)
	d.tensor("token_embd.weight.lora_b", F32, 2, 32)
	_, err = CutAdapter(d.file(t), base, Share{Layers: centram.LayerRange{First: 1, End: 3}}, nil)
	wantError(t, err, centram.Unsupported, "changes the token embedding")
	d.tensors = nil
	_, err = CutAdapter(d.file(t), base, Share{Layers: centram.LayerRange{First: 1, End: 3}}, nil)
	wantError(t, err, centram.Invalid, "changes nothing")
}
