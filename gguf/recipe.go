package gguf

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/centram/centram"
)

// MaxRecipeBytes bounds a recipe. One of a model with a thousand tensors takes a hundred kilobytes.
const MaxRecipeBytes = 4 << 20

// recipeMagic begins a recipe. Its last byte is the version.
const recipeMagic = "ggufcut\x01"

// Recipe is a GGUF file with the SHA-256 of every tensor's data in place of the data. Whoever has a recipe fetches the
// tensors by these hashes and writes the file. The bytes of a recipe:
//
//	"ggufcut" u8 version  the file's header as Write makes it, padding included  tensors × u8 hash[32]
type Recipe struct {
	Metadata []KV
	Tensors  []Ingredient // in file order
}

// Ingredient is a tensor of a recipe.
type Ingredient struct {
	Name string
	Type Type
	Dims []uint64
	Hash [32]byte // of its data. Zero means that the data is all zeros, and nothing is to be fetched
}

// Zeros reports whether the data of i is all zeros, so that it need not be fetched.
func (i Ingredient) Zeros() bool { return i.Hash == [32]byte{} }

// Size is how long the data of i is, in bytes, and 0 if i is no sound tensor.
func (i Ingredient) Size() int64 {
	if len(i.Dims) == 0 {
		return 0
	}
	size, _ := dataSize(i.Type, i.Dims)
	return size
}

// Cut returns the recipe of what Slice would write. It calls hash for the SHA-256 of the data of each of m's tensors
// that is in it: m.Hash, or what remembers its results. Of the output matrix it may be some rows, as their offset and shape
// say.
func Cut(m *Model, share Share, hash func(Tensor) ([32]byte, error)) (*Recipe, error) {
	st, err := newStage(m, share)
	if err != nil {
		return nil, err
	}
	return st.recipe(hash)
}

func (st stage) recipe(hash func(Tensor) ([32]byte, error)) (*Recipe, error) {
	out := &Recipe{Metadata: st.metadata}
	for _, p := range st.pieces {
		in := Ingredient{Name: p.name, Type: p.typ, Dims: p.dims}
		if !p.filler {
			var err error
			if in.Hash, err = hash(p.from); err != nil {
				return nil, err
			}
			if in.Zeros() {
				return nil, fmt.Errorf("cut tensor %s: there is no hash of its data", p.from.Name)
			}
		}
		out.Tensors = append(out.Tensors, in)
	}
	return out, nil
}

// AppendBinary appends the bytes of r to b. The same recipe always has the same bytes. It fails with Invalid if r is
// not the recipe of a file that Read would accept.
func (r *Recipe) AppendBinary(b []byte) ([]byte, error) {
	header, _, err := r.layout()
	if err != nil {
		return nil, err
	}
	if n := len(recipeMagic) + len(header) + sha256.Size*len(r.Tensors); n > MaxRecipeBytes {
		return nil, centram.Errorf(centram.Invalid, "the recipe takes %d bytes, more than the %d allowed", n, MaxRecipeBytes)
	}
	b = append(append(b, recipeMagic...), header...)
	for _, t := range r.Tensors {
		b = append(b, t.Hash[:]...)
	}
	return b, nil
}

// ParseRecipe reads a recipe, which may be hostile: its header is held to what Read demands of a file that has room for
// all its tensors, and no bytes but those that AppendBinary makes are accepted. An error is Invalid. What the recipe is
// of is for Check or CheckAdapter to find out.
func ParseRecipe(b []byte) (*Recipe, error) {
	bad := func(format string, args ...any) error {
		return centram.Errorf(centram.Invalid, "the recipe "+format, args...)
	}
	if len(b) > MaxRecipeBytes {
		return nil, bad("has %d bytes, more than the %d allowed", len(b), MaxRecipeBytes)
	}
	rest, ok := bytes.CutPrefix(b, []byte(recipeMagic))
	if !ok {
		return nil, bad("does not start like one")
	}
	f, n, err := Limits{HeaderBytes: MaxRecipeBytes}.parseHeader("the recipe", rest)
	if err != nil {
		return nil, err
	}
	if want := n + sha256.Size*int64(len(f.Tensors)); int64(len(rest)) != want {
		return nil, bad("has %d bytes of header and hashes, but for %d tensors it must have %d",
			len(rest), len(f.Tensors), want)
	}
	out := &Recipe{Metadata: f.Metadata}
	for i, t := range f.Tensors {
		hash := rest[n+sha256.Size*int64(i):][:sha256.Size]
		out.Tensors = append(out.Tensors, Ingredient{Name: t.Name, Type: t.Type, Dims: t.Dims, Hash: [32]byte(hash)})
	}
	again, err := out.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, bad("is not written as recipes are")
	}
	return out, nil
}

// ID is the SHA-256 of the bytes of r. It names the slice, since the bytes determine the file that r makes.
func (r *Recipe) ID() ([32]byte, error) {
	b, err := r.AppendBinary(nil)
	if err != nil {
		return [32]byte{}, err
	}
	return sha256.Sum256(b), nil
}

// Bytes is how many bytes of tensors there are to be fetched.
func (r *Recipe) Bytes() int64 {
	n := int64(0)
	for _, t := range r.Tensors {
		if !t.Zeros() {
			n += t.Size()
		}
	}
	return n
}

// Check checks the slice that r makes as CheckModel would, before anything of it is fetched. It fails with Invalid if r
// is the recipe of something else, or leaves out tensors whose data is read.
func (r *Recipe) Check() (Summary, error) {
	f, err := r.file()
	if err != nil {
		return Summary{}, err
	}
	sum, err := CheckModel(f)
	if err != nil {
		return Summary{}, err
	}
	if !sum.Stage {
		return Summary{}, unusable(f, "it is not of a slice")
	}
	for _, t := range r.Tensors {
		filler := t.Name == tokenEmbedding && sum.filler()
		if t.Zeros() && !filler {
			return Summary{}, unusable(f, "it has no hash for the tensor %s", t.Name)
		}
		if !t.Zeros() && filler {
			return Summary{}, unusable(f, "it has a hash for the tensor %s, whose data is never read", t.Name)
		}
	}
	return sum, nil
}

// CheckAdapter is Check for the recipe of an adapter: it checks as the function CheckAdapter does.
func (r *Recipe) CheckAdapter(base Summary) (AdapterSummary, error) {
	f, err := r.file()
	if err != nil {
		return AdapterSummary{}, err
	}
	for _, t := range r.Tensors {
		if t.Zeros() {
			return AdapterSummary{}, unusable(f, "it has no hash for the tensor %s", t.Name)
		}
	}
	return CheckAdapter(f, base)
}

// Write writes the file that r makes. For each tensor in turn it calls open for the data with that hash and of that
// size, and checks it: if it is other data, Write fails with Invalid and names the tensor, and what was written by then
// is of no use. If dst is a file, zeros are holes in it.
func (r *Recipe) Write(dst io.Writer, open func(hash [32]byte, size int64) (io.ReadCloser, error)) error {
	header, f, err := r.layout()
	if err != nil {
		return err
	}
	tensors := r.tensors()
	for i, t := range r.Tensors {
		if t.Zeros() {
			continue
		}
		tensors[i].Write = func(w io.Writer) error {
			data, err := open(t.Hash, f.Tensors[i].Size)
			if err != nil {
				return err
			}
			defer data.Close()
			return t.copy(w, data)
		}
	}
	return writeTo(dst, header, f, tensors)
}

func (i Ingredient) copy(w io.Writer, data io.Reader) error {
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, h), data); err != nil {
		return err
	}
	if got := [32]byte(h.Sum(nil)); got != i.Hash {
		return centram.Errorf(centram.Invalid, "its data has the hash %x, not %x", got, i.Hash)
	}
	return nil
}

// Source is where a tensor's data lies: Tensor.Size bytes at Tensor.Offset in File.
type Source struct {
	File   *File
	Tensor Tensor
}

// Sources says where in the files that r was cut from, a model's Parts or an adapter, the data is that r names, by the names of
// r's tensors. It fails with Invalid if they have no such tensor. It does not compare the data.
func (r *Recipe) Sources(from ...*File) (map[string]Source, error) {
	f, err := r.file()
	if err != nil {
		return nil, err
	}
	first, ok := f.Uint(sliceFirst)
	if !ok || len(from) == 0 {
		return nil, unusable(f, "it does not say which layers it is of")
	}
	start, _ := from[0].Uint(sliceFirst) // none in a whole file
	tokens := tokensOf(f, from[0])
	out := map[string]Source{}
	for _, t := range r.Tensors {
		if t.Zeros() {
			continue
		}
		name := t.Name
		rest, layer, err := splitLayer(name)
		if err != nil {
			return nil, err
		}
		if layer >= 0 {
			name = layerName(layer+int(first)-int(start), rest)
		}
		source, ok := locate(from, name)
		if ok && perToken(t.Name) && source.Tensor.hasRows(tokens) {
			source.Tensor = source.Tensor.rows(tokens)
		}
		if !ok || source.Tensor.Type != t.Type || !sameDims(source.Tensor.Dims, t.Dims) {
			return nil, centram.Errorf(centram.Invalid, "%s has no tensor %s like the recipe's %s", from[0].Name, name, t.Name)
		}
		out[t.Name] = source
	}
	return out, nil
}

// tokensOf are the tokens that a slice gives logits of, counted in those of the file that it was cut from. Zero: all.
func tokensOf(slice, whole *File) TokenRange {
	first, ok := slice.Uint(sliceTokensFirst)
	end, _ := slice.Uint(sliceTokensEnd)
	if !ok || first >= end || end > MaxListLen {
		return TokenRange{}
	}
	start, _ := whole.Uint(sliceTokensFirst) // none in a whole file
	return TokenRange{int(first) - int(start), int(end) - int(start)}
}

func locate(files []*File, name string) (Source, bool) {
	for _, f := range files {
		if t, ok := f.Tensor(name); ok {
			return Source{f, t}, true
		}
	}
	return Source{}, false
}

// file is the file that r makes, to look at: it has no data.
func (r *Recipe) file() (*File, error) {
	_, f, err := r.layout()
	if err != nil {
		return nil, err
	}
	f.Name = "the recipe"
	return f, nil
}

func (r *Recipe) layout() ([]byte, *File, error) { return layout(r.Metadata, r.tensors()) }

func (r *Recipe) tensors() (out []TensorData) {
	for _, t := range r.Tensors {
		out = append(out, TensorData{Name: t.Name, Type: t.Type, Dims: t.Dims})
	}
	return out
}
