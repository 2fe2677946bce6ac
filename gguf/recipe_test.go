package gguf

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/centram/centram"
)

func cutRecipe(t testing.TB, m *Model, first, end int) *Recipe {
	t.Helper()
	r, err := Cut(m, Share{Layers: centram.LayerRange{First: first, End: end}}, m.Hash)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func recipeBytes(t testing.TB, r *Recipe) []byte {
	t.Helper()
	b, err := r.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// larder opens the data of the tensors that the files hold, by hash.
func larder(t testing.TB, files ...*File) func([32]byte, int64) (io.ReadCloser, error) {
	t.Helper()
	blobs := map[[32]byte][]byte{}
	for _, f := range files {
		for _, tensor := range f.Tensors {
			b := data(t, f.Data(tensor))
			blobs[sha256.Sum256(b)] = b
		}
	}
	return func(hash [32]byte, size int64) (io.ReadCloser, error) {
		b, ok := blobs[hash]
		if !ok || int64(len(b)) != size {
			return nil, os.ErrNotExist
		}
		return io.NopCloser(bytes.NewReader(b)), nil
	}
}

func TestRecipeMakesTheSlice(t *testing.T) {
	for _, tied := range []bool{false, true} {
		s := fourLayers()
		s.Tied = tied
		whole := openBytes(t, generate(t, s))
		open := larder(t, whole.Parts...)
		for _, bounds := range [][2]int{{0, 2}, {1, 3}, {3, 4}, {0, 4}} {
			r := centram.LayerRange{First: bounds[0], End: bounds[1]}
			recipe := cutRecipe(t, whole, r.First, r.End)
			var got, want bytes.Buffer
			if err := recipe.Write(&got, open); err != nil {
				t.Fatal(err)
			}
			if err := Slice(&want, whole, Share{Layers: r}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want.Bytes()) {
				t.Errorf("tied %v, %v: the recipe makes another file than Slice", tied, r)
			}
			promised, err := recipe.Check()
			if err != nil {
				t.Fatal(err)
			}
			if made := openBytes(t, got.Bytes()).Summary; promised != made {
				t.Errorf("tied %v, %v: the recipe promises %+v\nbut makes %+v", tied, r, promised, made)
			}
		}
	}
}

func TestRecipeCountsWhatIsToBeFetched(t *testing.T) {
	whole := openBytes(t, generate(t, fourLayers()))
	recipe := cutRecipe(t, whole, 1, 3)
	want := int64(0)
	for _, tensor := range whole.Tensors {
		if strings.HasPrefix(tensor.Name, "blk.1.") || strings.HasPrefix(tensor.Name, "blk.2.") ||
			tensor.Name == "output_norm.weight" {
			want += tensor.Size
		}
	}
	if got := recipe.Bytes(); got != want {
		t.Errorf("got %d bytes, want %d", got, want)
	}
}

func TestRecipeIsNamedByItsBytes(t *testing.T) {
	whole := openBytes(t, generate(t, fourLayers()))
	recipe := cutRecipe(t, whole, 1, 3)
	got, err := recipe.ID()
	if want := sha256.Sum256(recipeBytes(t, recipe)); err != nil || got != want {
		t.Errorf("got %x, %v, want %x", got, err, want)
	}
	if again, _ := cutRecipe(t, cut(t, whole, 1, 4), 0, 2).ID(); again != got {
		t.Errorf("cut from a slice: got %x, want %x", again, got)
	}
}

func TestRecipeBytesStayAsTheyAre(t *testing.T) {
	recipe := cutRecipe(t, openBytes(t, tiny(t)), 1, 2)
	var got strings.Builder
	for b := recipeBytes(t, recipe); len(b) > 0; {
		n := min(32, len(b))
		got.WriteString(hex.EncodeToString(b[:n]) + "\n")
		b = b[n:]
	}
	golden := filepath.Join("testdata", "recipe.hex")
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

func TestParseRecipeGivesBackWhatWasAppended(t *testing.T) {
	for name, recipe := range map[string]*Recipe{
		"slice": cutRecipe(t, openBytes(t, tiny(t)), 0, 1),
		"none":  {},
		"kinds": {
			Metadata: mustRead(t, everyKind(t)).Metadata,
			Tensors:  []Ingredient{{Name: "t", Type: F32, Dims: []uint64{3, 2}, Hash: [32]byte{1}}},
		},
	} {
		b := recipeBytes(t, recipe)
		got, err := ParseRecipe(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(got.Metadata) != len(recipe.Metadata) || len(got.Tensors) != len(recipe.Tensors) ||
			!bytes.Equal(recipeBytes(t, got), b) {
			t.Errorf("%s: parsed and appended again, the recipe differs", name)
		}
	}
}

func TestEveryPrefixOfARecipeIsRefused(t *testing.T) {
	b := recipeBytes(t, cutRecipe(t, openBytes(t, tiny(t)), 1, 2))
	for n := range len(b) {
		if _, err := ParseRecipe(b[:n]); centram.CodeOf(err) != centram.Invalid {
			t.Fatalf("prefix of %d bytes: got %v, want an invalid recipe", n, err)
		}
	}
}

// hostileRecipes each come with a part of the message that they must give.
func hostileRecipes() map[string]struct {
	b    []byte
	want string
} {
	type row = struct {
		b    []byte
		want string
	}
	recipe := func(header *raw, hashes int) []byte {
		return append(append([]byte(recipeMagic), header.b...), make([]byte, 32*hashes)...)
	}
	one := func(typ Type, dims ...uint64) *raw { return rawHeader(3, 1, 0).tensor("t", typ, 0, dims...).align(32) }
	out := map[string]row{
		"empty":            {nil, "does not start like one"},
		"another version":  {[]byte("ggufcut\x02"), "does not start like one"},
		"a model":          {one(F32, 8).b, "does not start like one"},
		"magic only":       {[]byte(recipeMagic), "is empty"},
		"no header":        {append([]byte(recipeMagic), "{}"...), "not a GGUF file"},
		"hash missing":     {recipe(one(F32, 8), 0), "for 1 tensors it must have"},
		"hash cut":         {recipe(one(F32, 8), 1)[:len(recipeMagic)+64+31], "for 1 tensors it must have"},
		"hash too many":    {recipe(one(F32, 8), 2), "for 1 tensors it must have"},
		"trailing byte":    {append(recipe(one(F32, 8), 1), 0), "for 1 tensors it must have"},
		"padding not zero": {recipe(&raw{append(one(F32, 8).b[:63:63], 1)}, 1), "not written as recipes are"},
		"no padding":       {recipe(rawHeader(3, 0, 0), 0), "it must have"},
		"version 2":        {recipe(rawHeader(2, 0, 0).align(32), 0), "not written as recipes are"},
		"data too large": {
			recipe(rawHeader(3, 2, 0).tensor("t", 24, 0, 1<<59).tensor("u", 24, 1<<59, 1<<59).align(32), 2),
			"is cut short: tensor u",
		},
		"shape wraps":  {recipe(one(F32, 1<<32, 1<<32), 1), "impossible shape"},
		"byte wraps":   {recipe(one(F32, 1<<62), 1), "impossible shape"},
		"alignment":    {recipe(rawHeader(3, 0, 1).alignment(64).align(64), 0), "alignment of 32"},
		"offset a gap": {recipe(rawHeader(3, 1, 0).tensor("t", F32, 32, 8).align(32), 1), "gap of 32 bytes"},
		"tensors huge": {recipe(rawHeader(3, math.MaxUint64, 0), 0), "declares 18446744073709551615 tensors"},
		"tensors many": {recipe(rawHeader(3, 60000, 0), 0), "is cut short"},
		"keys huge":    {recipe(rawHeader(3, 0, math.MaxUint64), 0), "metadata keys, more than"},
		"string huge":  {recipe(rawHeader(3, 0, 1).string("k").kind(KindString).u64(1<<20), 0), "is cut short"},
		"string wraps": {recipe(rawHeader(3, 0, 1).string("k").kind(KindString).u64(math.MaxUint64-7), 0), "more than the"},
		"list huge": {
			recipe(rawHeader(3, 0, 1).string("k").kind(KindList).kind(KindUint64).u64(1<<20), 0), "is cut short",
		},
		"over the size": {append([]byte(recipeMagic), make([]byte, MaxRecipeBytes)...), "more than the 4194304 allowed"},
	}
	for name, file := range hostile() {
		if !strings.Contains(name, "over the file") && !strings.HasPrefix(name, "no padding") {
			out["header: "+name] = row{append([]byte(recipeMagic), file.b...), ""}
		}
	}
	return out
}

func TestParseRecipeRefusesHostileBytes(t *testing.T) {
	for name, row := range hostileRecipes() {
		t.Run(name, func(t *testing.T) {
			_, err := ParseRecipe(row.b)
			wantError(t, err, centram.Invalid, row.want)
		})
	}
}

func TestParseRecipeCostsLittleMemoryForHugeClaims(t *testing.T) {
	for name, row := range hostileRecipes() {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		ParseRecipe(row.b)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 256<<10 {
			t.Errorf("%s: allocated %d bytes for a recipe of %d", name, got, len(row.b))
		}
	}
}

func TestARecipeThatIsTooLargeIsNotMade(t *testing.T) {
	_, err := (&Recipe{Metadata: []KV{{"k", Of(strings.Repeat("x", MaxRecipeBytes))}}}).AppendBinary(nil)
	wantError(t, err, centram.Invalid, "more than the 4194304 allowed")
}

func TestCheckRefusesRecipesOfOtherThings(t *testing.T) {
	whole := openBytes(t, generate(t, fourLayers()))
	whole0 := &Recipe{Metadata: whole.Parts[0].Metadata}
	for _, tensor := range whole.Tensors {
		whole0.Tensors = append(whole0.Tensors, Ingredient{tensor.Name, tensor.Type, tensor.Dims, [32]byte{1}})
	}
	spoilt := func(change func(*Ingredient)) *Recipe {
		r := cutRecipe(t, whole, 1, 3)
		for i := range r.Tensors {
			change(&r.Tensors[i])
		}
		return r
	}
	for name, row := range map[string]struct {
		r    *Recipe
		want string
	}{
		"a whole model": {whole0, "is not of a slice"},
		"nothing":       {&Recipe{}, "what architecture"},
		"a layer of zeros": {spoilt(func(i *Ingredient) {
			if i.Name == "blk.1.ffn_up.weight" {
				i.Hash = [32]byte{}
			}
		}), "no hash for the tensor blk.1.ffn_up.weight"},
		"an embedding for nothing": {
			spoilt(func(i *Ingredient) { i.Hash[0] |= 1 }), "has a hash for the tensor token_embd.weight",
		},
		"a tensor of another shape": {spoilt(func(i *Ingredient) {
			if i.Name == "blk.1.ffn_up.weight" {
				i.Dims = []uint64{32, 32}
			}
		}), "blk.1.ffn_up.weight has shape [32 32]"},
		"no tensor": {spoilt(func(i *Ingredient) { i.Dims = nil }), "0 dimensions"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := row.r.Check()
			wantError(t, err, centram.Invalid, row.want)
		})
	}
}

func TestWriteChecksTheDataOfEveryTensor(t *testing.T) {
	whole := openBytes(t, generate(t, fourLayers()))
	recipe := cutRecipe(t, whole, 1, 3)
	good := larder(t, whole.Parts...)
	broken := errors.New("peer went away")
	var hash [32]byte // of a tensor in the middle
	const name = "blk.1.attn_output.weight"
	for _, in := range recipe.Tensors {
		if in.Name == name {
			hash = in.Hash
		}
	}
	for what, row := range map[string]struct {
		change func([]byte) ([]byte, error)
		want   string
	}{
		"changed": {func(b []byte) ([]byte, error) { b[7] ^= 1; return b, nil }, "its data has the hash"},
		"short":   {func(b []byte) ([]byte, error) { return b[1:], nil }, "its data has the hash"},
		"long":    {func(b []byte) ([]byte, error) { return append(b, 0), nil }, "longer than its shape"},
		"empty":   {func([]byte) ([]byte, error) { return nil, nil }, "its data has the hash"},
		"gone":    {func([]byte) ([]byte, error) { return nil, broken }, broken.Error()},
	} {
		var out bytes.Buffer
		err := recipe.Write(&out, func(h [32]byte, size int64) (io.ReadCloser, error) {
			r, err := good(h, size)
			if err != nil || h != hash {
				return r, err
			}
			b, err := row.change(data(t, r))
			return io.NopCloser(bytes.NewReader(b)), err
		})
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want an error about %s and %q", what, err, name, row.want)
		}
		if what == "gone" && !errors.Is(err, broken) {
			t.Errorf("got %v, want it to wrap %v", err, broken)
		}
		if what == "changed" && centram.CodeOf(err) != centram.Invalid {
			t.Errorf("got code %s, want %s", centram.CodeOf(err), centram.Invalid)
		}
	}
}

func TestCutPassesOnThatATensorHasNoHash(t *testing.T) {
	whole := openBytes(t, tiny(t))
	broken := errors.New("disk on fire")
	_, err := Cut(whole, Share{Layers: centram.LayerRange{End: 1}}, func(Tensor) ([32]byte, error) { return [32]byte{}, broken })
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want it to wrap %v", err, broken)
	}
	_, err = Cut(whole, Share{Layers: centram.LayerRange{End: 1}}, func(Tensor) ([32]byte, error) { return [32]byte{}, nil })
	if err == nil || !strings.Contains(err.Error(), "there is no hash") {
		t.Errorf("got %v, want an error about a hash that is not there", err)
	}
	_, err = Cut(whole, Share{Layers: centram.LayerRange{End: 3}}, whole.Hash)
	wantError(t, err, centram.Invalid, "cannot be cut from a model of 2 layers")
}

func TestHashNoticesThatTheFileShrank(t *testing.T) {
	b := tiny(t)
	f := mustRead(t, b)
	f.r = bytes.NewReader(b[:len(b)-100])
	last := f.Tensors[len(f.Tensors)-1]
	if _, err := f.Hash(last); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

func TestSourcesAreTheDataThatTheRecipeNames(t *testing.T) {
	split, err := OpenModel(writeParts(t, 3, nil)[0])
	if err != nil {
		t.Fatal(err)
	}
	defer split.Close()
	whole := openBytes(t, generate(t, fourLayers()))
	for name, row := range map[string]struct {
		m          *Model
		first, end int
	}{
		"head": {whole, 0, 2}, "middle": {whole, 1, 3}, "tail": {whole, 3, 4}, "split": {split, 1, 2},
		"of a slice": {cut(t, whole, 1, 4), 1, 2},
	} {
		recipe := cutRecipe(t, row.m, row.first, row.end)
		got, err := recipe.Sources(row.m.Parts...)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range recipe.Tensors {
			s, ok := got[in.Name]
			if ok == in.Zeros() {
				t.Errorf("%s: %s has a source: %v, but zeros: %v", name, in.Name, ok, in.Zeros())
			}
			if ok && sha256.Sum256(data(t, io.NewSectionReader(s.File.r, s.Tensor.Offset, in.Size()))) != in.Hash {
				t.Errorf("%s: the source of %s, %+v, has other data", name, in.Name, s.Tensor)
			}
		}
	}
	_, err = cutRecipe(t, whole, 1, 3).Sources(split.Parts...)
	wantError(t, err, centram.Invalid, "has no tensor blk.2.attn_norm.weight like the recipe's blk.1.attn_norm.weight")
	_, err = (&Recipe{}).Sources(whole.Parts...)
	wantError(t, err, centram.Invalid, "which layers")
}

func FuzzParseRecipe(f *testing.F) {
	m := adapterBase(f, false)
	slice := cut(f, m, 2, 4).Summary
	f.Add(recipeBytes(f, cutRecipe(f, m, 0, 1)))
	f.Add(recipeBytes(f, cutRecipe(f, m, 2, 4)))
	f.Add(recipeBytes(f, cutAdapter(f, adapterDraft().file(f), m.Summary, 2, 4)))
	f.Add(recipeBytes(f, &Recipe{}))
	for _, row := range hostileRecipes() {
		if len(row.b) < 1<<16 {
			f.Add(row.b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRecipe(b)
		if err != nil {
			if code := centram.CodeOf(err); code != centram.Invalid {
				t.Fatalf("got code %s for %v, want %s", code, err, centram.Invalid)
			}
			return
		}
		if again := recipeBytes(t, r); !bytes.Equal(again, b) {
			t.Fatalf("appended again, the recipe differs")
		}
		r.Bytes()
		r.Sources(m.Parts...)
		r.Check()
		r.CheckAdapter(m.Summary)
		r.CheckAdapter(slice)
	})
}
