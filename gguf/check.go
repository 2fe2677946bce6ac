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
	Tied            bool               // its token embedding is also its output matrix
	Stage           bool               // it is a slice: fed hidden states, without a vocabulary
	SizeBytes       int64              // of all files
	KVBytesPerToken int64              // of a cache in F16
	Slice           centram.LayerRange // the layers of the whole model that are here: all, unless the file is a slice
	WholeLayers     int                // of the model that Slice is a part of
	Tokens          TokenRange         // of the whole's vocabulary: those whose logits it gives
	WholeTokens     int                // of the vocabulary that Tokens are of; 0 if it gives no logits
}

// Whole fails with Invalid if s is of a slice. llama.cpp must not be given text for one: without a vocabulary it
// aborts.
func (s Summary) Whole() error {
	if !s.Stage {
		return nil
	}
	return centram.Errorf(centram.Invalid, "the file is only a part of a model: layers %d to %d of %d, without vocabulary",
		s.Slice.First, s.Slice.End, s.WholeLayers).
		WithHint("Chat needs the file of the whole model, which this part was cut from.")
}

// tail reports whether s has the last layer of the whole, and with it the output.
func (s Summary) tail() bool { return s.Slice.End == s.WholeLayers }

// CheckModel reports whether llama.cpp can be trusted with f: whether f has every key, token and tensor that its
// architecture needs, in the types, ranges and shapes that llama.cpp relies on. The file's data is not read, since any
// bits are sound weights to llama.cpp. A file that is one part of a split model is refused: that is for OpenModel. A
// slice, which has the keys centram.slice.*, is held to what Slice writes: Summary.Stage tells it from a whole model.
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
	if err := c.keyTable(keyRules, c.arch.name); err != nil {
		return Summary{}, err
	}
	if err := c.shape(); err != nil {
		return Summary{}, err
	}
	if err := c.vocabulary(); err != nil {
		return Summary{}, err
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
	numbers map[string]float64 // the keys of the rules that are present; booleans are 0 and 1
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

// keyTable holds the metadata against rules, for the architecture arch.
func (c *checker) keyTable(rules []keyRule, arch string) error {
	for _, rule := range rules {
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
	return c.slice()
}

// slice finds out which layers of which whole are here.
func (c *checker) slice() error {
	s := &c.sum
	s.WholeLayers, s.Slice = s.Layers, centram.LayerRange{End: s.Layers}
	first, hasFirst := c.numbers[sliceFirst]
	end, hasEnd := c.numbers[sliceEnd]
	layers, hasLayers := c.numbers[sliceLayers]
	if !hasFirst && !hasEnd && !hasLayers {
		return nil
	}
	if !hasFirst || !hasEnd || !hasLayers {
		return c.bad("it says that it is a slice, but not with all of the keys %s, %s and %s",
			sliceFirst, sliceEnd, sliceLayers)
	}
	s.Stage, s.WholeLayers = true, int(layers)
	s.Slice = centram.LayerRange{First: int(first), End: int(end)}
	if s.Slice.Len() != s.Layers || s.Slice.End > s.WholeLayers {
		return c.bad("it says it is layers %d to %d of %d, but has %d",
			s.Slice.First, s.Slice.End, s.WholeLayers, s.Layers)
	}
	return nil
}

// vocabulary finds out how many tokens there are.
func (c *checker) vocabulary() error {
	n, ok := c.numbers[".vocab_size"]
	if c.sum.Stage {
		c.sum.VocabSize = int(n)
		if !ok {
			return c.bad("its key %s.vocab_size is missing", c.arch.name)
		}
		return c.noVocabulary()
	}
	vocab, err := checkVocab(c.File)
	if err != nil {
		return err
	}
	c.sum.VocabSize, c.sum.Tokens, c.sum.WholeTokens = vocab, TokenRange{End: vocab}, vocab
	if ok && int(n) != vocab {
		return c.bad("its vocabulary has %d tokens, but %s.vocab_size says %v", vocab, c.arch.name, n)
	}
	return nil
}

// noVocabulary checks that a slice has no tokenizer. llama.cpp then reads no other key of one.
func (c *checker) noVocabulary() error {
	for _, kv := range c.Metadata {
		if strings.HasPrefix(kv.Key, "tokenizer.") && kv.Key != tokenizerModel {
			return c.bad("it is a slice, but has the key %s", kv.Key)
		}
	}
	if model, _ := c.String(tokenizerModel); model != noVocab {
		return c.bad("it is a slice, but its tokenizer is %q, not %q", printable(model), noVocab)
	}
	return c.tokens()
}

// tokens finds out which part of the vocabulary a slice gives logits of.
func (c *checker) tokens() error {
	s := &c.sum
	first, hasFirst := c.numbers[sliceTokensFirst]
	end, hasEnd := c.numbers[sliceTokensEnd]
	whole, hasWhole := c.numbers[sliceTokens]
	some := hasFirst || hasEnd || hasWhole
	switch {
	case !s.tail() && some:
		return c.bad("it is a slice without the output, but says which tokens it gives logits of")
	case !s.tail() && s.VocabSize != fillerTokens:
		return c.bad("it is a slice without the output, but has a vocabulary of %d, not %d", s.VocabSize, fillerTokens)
	case !s.tail():
		return nil
	case !some:
		s.Tokens, s.WholeTokens = TokenRange{End: s.VocabSize}, s.VocabSize
		return nil
	case !hasFirst || !hasEnd || !hasWhole:
		return c.bad("it says that it gives logits of some tokens, but not with all of the keys %s, %s and %s",
			sliceTokensFirst, sliceTokensEnd, sliceTokens)
	}
	s.Tokens, s.WholeTokens = TokenRange{int(first), int(end)}, int(whole)
	if s.Tokens.Len() != s.VocabSize || s.Tokens.End > s.WholeTokens || s.VocabSize == s.WholeTokens {
		return c.bad("it says it gives logits of the tokens %d to %d of %d, but has a vocabulary of %d",
			s.Tokens.First, s.Tokens.End, s.WholeTokens, s.VocabSize)
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
	_, untied := byName[outputMatrix]
	c.sum.Tied = c.sum.tail() && !untied
	for _, want := range c.arch.tensors(c.sum) {
		t, ok := byName[want.Name]
		if !ok {
			if want.Optional {
				continue
			}
			return c.bad("its tensor %s is missing", want.Name)
		}
		delete(byName, want.Name)
		if !sameDims(t.Dims, want.Dims) {
			return c.bad("its tensor %s has shape %v, but its keys ask for %v", t.Name, t.Dims, want.Dims)
		}
		if want.Vector && t.Type != F32 {
			return c.bad("its tensor %s is %v, but llama.cpp computes with it in F32 only", t.Name, t.Type)
		}
		if !want.Vector && !t.Type.weight() {
			return c.bad("its tensor %s is %v, which llama.cpp cannot multiply", t.Name, t.Type)
		}
		if want.Name != tokenEmbedding || !c.sum.filler() {
			c.sum.Parameters += t.Elements()
		}
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
