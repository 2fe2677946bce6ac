package gguf

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode"

	"github.com/centram/centram"
)

// Summary is what a checked model is.
type Summary struct {
	Architecture    string
	Name            string // as the file says, without control characters; may be empty
	License         string // likewise
	Parameters      uint64
	Layers          int
	Embedding       int
	Heads           int
	KVHeads         int
	HeadDim         int
	FeedForward     int
	Context         int
	VocabSize       int
	Quantization    string             // such as "Q4_K_M" or "F16"; "unknown" if neither the file nor its tensors tell
	ChatTemplate    bool               // whether it brings one
	SizeBytes       int64              // of all files
	KVBytesPerToken int64              // of a cache in F16
	Slice           centram.LayerRange // the layers of the whole model that are here: all, unless the file is a slice
	WholeLayers     int                // of the model that Slice is a part of
}

// CheckModel reports whether llama.cpp can be trusted with f: whether f has every key, token and tensor that its
// architecture needs, in the types, ranges and shapes that llama.cpp relies on. The file's data is not read, since any
// bits are sound weights to llama.cpp. A file that is one part of a split model is refused: that is for OpenModel.
//
// An error is Invalid, or Unsupported for an architecture, tokenizer or feature that is sound but not ours to run.
func CheckModel(f *File) (Summary, error) {
	split, ok, err := f.Split()
	if err != nil {
		return Summary{}, err
	}
	if ok && split.Count > 1 {
		return Summary{}, centram.Errorf(centram.Invalid, "%s is part %d of %d of a split model",
			f.Name, split.No+1, split.Count).
			WithHint("Keep all parts in one directory and open the model by any of them.")
	}
	return check(f, f.Tensors, f.Size)
}

// check checks a model whose metadata is that of f and whose tensors may lie in several files.
func check(f *File, tensors []Tensor, size int64) (Summary, error) {
	c := &checker{File: f, numbers: map[string]float64{}}
	c.sum.SizeBytes = size
	if err := c.architecture(); err != nil {
		return Summary{}, err
	}
	if err := c.keyTable(c.arch.name); err != nil {
		return Summary{}, err
	}
	if err := c.shape(); err != nil {
		return Summary{}, err
	}
	vocab, err := checkVocab(f)
	if err != nil {
		return Summary{}, err
	}
	c.sum.VocabSize = vocab
	if n, ok := c.numbers[".vocab_size"]; ok && int(n) != vocab {
		return Summary{}, c.bad("its vocabulary has %d tokens, but %s.vocab_size says %v", vocab, c.arch.name, n)
	}
	if err := c.tensorTable(tensors); err != nil {
		return Summary{}, err
	}
	c.describe(tensors)
	return c.sum, nil
}

// checker holds what the steps of check find out.
type checker struct {
	*File
	arch    *architecture
	numbers map[string]float64 // the keys of keyRules that are present; booleans are 0 and 1
	sum     Summary
}

func (c *checker) bad(format string, args ...any) error { return unusable(c.File, format, args...) }

func unusable(f *File, format string, args ...any) *centram.Error {
	return centram.Errorf(centram.Invalid, "%s cannot be used: "+format, append([]any{f.Name}, args...)...)
}

func unsupported(f *File, format string, args ...any) *centram.Error {
	e := unusable(f, format, args...)
	e.Code = centram.Unsupported
	return e
}

func (c *checker) architecture() error {
	if kind, _ := c.String("general.type"); kind != "" && kind != "model" {
		return c.bad("it is not a model but of type %q", printable(kind))
	}
	name, ok := c.String("general.architecture")
	if !ok {
		return c.bad("it does not say what architecture it has")
	}
	if c.arch, ok = architectures[name]; !ok {
		return unsupported(c.File, "models of architecture %q are not supported", printable(name)).
			WithHint("Supported are: %s.", strings.Join(slices.Sorted(maps.Keys(architectures)), ", "))
	}
	c.sum.Architecture = name
	return nil
}

// keyTable holds the metadata against keyRules, for the architecture arch.
func (c *checker) keyTable(arch string) error {
	for _, rule := range keyRules {
		key := rule.key
		if strings.HasPrefix(key, ".") {
			key = arch + key
		}
		v, ok := c.Value(key)
		if !ok {
			if rule.required {
				return c.bad("its key %s is missing", key)
			}
			continue
		}
		if v.Kind() != rule.kind {
			return c.bad("its key %s is a %v, not a %v", key, v.Kind(), rule.kind)
		}
		n := measure(v)
		if !(n >= rule.min && n <= rule.max) { // so written, it refuses NaN
			if rule.kind == KindString {
				return c.bad("its key %s is %v bytes long, not %v to %v", key, n, rule.min, rule.max)
			}
			return c.bad("its key %s is %v, not %s", key, v.Any(), rule.allowed())
		}
		if rule.kind == KindString && strings.Contains(v.v.(string), "\x00") {
			return c.bad("its key %s has a zero byte in it", key)
		}
		c.numbers[rule.key] = n
	}
	return nil
}

// measure maps a value to the number that its rule's bounds are about: a string to its length.
func measure(v Value) float64 {
	switch x := v.v.(type) {
	case string:
		return float64(len(x))
	case bool:
		if x {
			return 1
		}
		return 0
	}
	if i, ok := v.int(); ok {
		return float64(i)
	}
	if u, ok := v.uint(); ok {
		return float64(u)
	}
	if x, ok := v.float(); ok {
		return x
	}
	return math.NaN()
}

// shape derives the model's dimensions from its keys and checks that they fit each other, as llama.cpp's graph asserts.
func (c *checker) shape() error {
	get := func(key string, otherwise int) int {
		if n, ok := c.numbers[key]; ok {
			return int(n)
		}
		return otherwise
	}
	s := &c.sum
	s.Layers = get(".block_count", 0)
	s.Embedding = get(".embedding_length", 0)
	s.FeedForward = get(".feed_forward_length", 0)
	s.Context = get(".context_length", 0)
	s.Heads = get(".attention.head_count", 0)
	s.KVHeads = get(".attention.head_count_kv", s.Heads)
	if s.Embedding%s.Heads != 0 {
		return c.bad("its embedding of %d does not divide into %d heads", s.Embedding, s.Heads)
	}
	if s.Heads%s.KVHeads != 0 {
		return c.bad("its %d heads do not divide among %d KV heads", s.Heads, s.KVHeads)
	}
	square := s.Embedding / s.Heads
	s.HeadDim = get(".attention.key_length", square)
	if v := get(".attention.value_length", square); v != s.HeadDim {
		return c.bad("its keys have %d values a head but its values have %d", s.HeadDim, v)
	}
	if s.HeadDim != square && !c.arch.freeHeadDim {
		return c.bad("its heads have %d values, but %d/%d is %d", s.HeadDim, s.Embedding, s.Heads, square)
	}
	if rot := get(".rope.dimension_count", s.HeadDim); rot != s.HeadDim || rot%2 != 0 {
		return c.bad("its rope turns %d of the %d values of a head; it must be all, and an even number", rot, s.HeadDim)
	}
	if out := get(".embedding_length_out", s.Embedding); out != s.Embedding {
		return unsupported(c.File, "its output embedding of %d differs from its embedding of %d", out, s.Embedding)
	}
	if scaling, ok := c.String(c.arch.name + ".rope.scaling.type"); ok && !slices.Contains(ropeScalings, scaling) {
		return unsupported(c.File, "its rope scaling %q is not known", printable(scaling))
	}
	s.WholeLayers = get("centram.slice.layers", s.Layers)
	s.Slice = centram.LayerRange{First: get("centram.slice.first", 0), End: get("centram.slice.end", s.WholeLayers)}
	if s.Slice.Len() != s.Layers || s.Slice.End > s.WholeLayers {
		return c.bad("it says it is layers %d to %d of %d, but has %d",
			s.Slice.First, s.Slice.End, s.WholeLayers, s.Layers)
	}
	return nil
}

// tensorTable checks that the tensors are those of the architecture, no fewer and no more, in the expected shapes.
func (c *checker) tensorTable(tensors []Tensor) error {
	byName := make(map[string]Tensor, len(tensors))
	for _, t := range tensors {
		byName[t.Name] = t
		// llama.cpp maps the file and asserts that what it maps starts at such an address.
		if t.Offset%DefaultAlignment != 0 {
			return c.bad("the data of tensor %s is not aligned to %d bytes", t.Name, DefaultAlignment)
		}
	}
	for _, want := range c.arch.tensors(c.sum) {
		t, ok := byName[want.name]
		if !ok {
			if want.optional {
				continue
			}
			return c.bad("its tensor %s is missing", want.name)
		}
		delete(byName, want.name)
		if !sameDims(t.Dims, want.dims) {
			return c.bad("its tensor %s has shape %v, but its keys ask for %v", t.Name, t.Dims, want.dims)
		}
		if want.vector && t.Type != F32 {
			return c.bad("its tensor %s is %v, but llama.cpp computes with it in F32 only", t.Name, t.Type)
		}
		if !want.vector && !t.Type.weight() {
			return c.bad("its tensor %s is %v, which llama.cpp cannot multiply", t.Name, t.Type)
		}
		c.sum.Parameters += t.Elements()
	}
	for _, t := range tensors {
		if _, left := byName[t.Name]; left {
			return c.bad("its tensor %s has no place in a model of architecture %s with %d layers",
				t.Name, c.arch.name, c.sum.Layers)
		}
	}
	return nil
}

// sameDims compares shapes as ggml does, to which further dimensions of 1 are nothing.
func sameDims(a, b []uint64) bool {
	for i := range max(len(a), len(b)) {
		x, y := uint64(1), uint64(1)
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return false
		}
	}
	return true
}

// describe fills in what nothing depends on.
func (c *checker) describe(tensors []Tensor) {
	s := &c.sum
	name, _ := c.String("general.name")
	license, _ := c.String("general.license")
	template, _ := c.String("tokenizer.chat_template")
	s.Name, s.License, s.ChatTemplate = printable(name), printable(license), template != ""
	s.Quantization = quantization(c.File, tensors)
	s.KVBytesPerToken = int64(s.Layers) * int64(s.KVHeads) * int64(s.HeadDim) * 2 * 2
}

// quantization goes by the file's own word, which alone tells Q4_K_M from Q4_K_S, and else by the type that most
// matrices have.
func quantization(f *File, tensors []Tensor) string {
	if n, ok := f.Uint("general.file_type"); ok {
		return cmp.Or(fileTypes[n], "unknown")
	}
	count := map[Type]int{}
	best := "unknown"
	most := 0
	for _, t := range tensors {
		if len(t.Dims) < 2 {
			continue
		}
		if count[t.Type]++; count[t.Type] > most {
			best, most = t.Type.String(), count[t.Type]
		}
	}
	return best
}

// printable makes a stranger's text fit for one line of a terminal or a page.
func printable(s string) string {
	clean := []rune(strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))))
	return string(clean[:min(len(clean), 200)])
}
