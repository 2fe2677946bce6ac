package gguf

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"runtime"
	"sync"

	"github.com/centram/centram"
)

// Shape is the shape of a qwen2 model to be generated.
type Shape struct {
	Name        string // general.name. Zero means "random"
	Layers      int
	Embedding   int
	Heads       int
	KVHeads     int // Zero means Heads
	FeedForward int
	Context     int
	Tied        bool    // the output matrix is the embedding
	RopeBase    float32 // Zero means 1e6
	RMSEps      float32 // Zero means 1e-6
	Type        Type    // of the matrices: F32, F16, BF16 or Q8_0. Zero means F32
	Vocab       *Vocab  // Zero means ByteVocab
	VocabSize   int     // more than Vocab has: padded with unused tokens. Zero means Vocab's size
	// Settled layers do the most of it: those behind them add little, so that a model of the first ones alone, with the same
	// seed, often says the same, as a draft model does. Zero means that all layers count alike.
	Settled int
	// Calm is for a model that is to be trained: at first each layer looks at everything nearly alike and adds little, so that
	// what a token is gets through to where it is needed, and is soon found there.
	Calm bool
}

// Toy is a model small enough to train in a test: 842,496 parameters, tokens that are bytes.
func Toy() Shape {
	return Shape{
		Name: "Centram toy", Layers: 4, Embedding: 128, Heads: 4, KVHeads: 4, FeedForward: 352, Context: 2048, Tied: true,
	}
}

// Qwen05B is the shape of Qwen 2.5 0.5B, in F16. Set Vocab for its real tokens.
func Qwen05B() Shape {
	return Shape{
		Name: "Random 0.5B", Layers: 24, Embedding: 896, Heads: 14, KVHeads: 2, FeedForward: 4864, Context: 32768,
		Tied: true, Type: F16, VocabSize: 151936,
	}
}

// Generate writes a model of random weights, the same for the same shape and seed on every machine. It says nothing
// sensible, but its logits are as spread out as a trained model's, so it serves to compare ways to compute them.
func Generate(w io.Writer, s Shape, seed uint64) error {
	s, err := s.orDefaults()
	if err != nil {
		return err
	}
	var tensors []TensorData
	for _, e := range architectures["qwen2"].tensors(s.summary()) {
		if e.Name == outputBias || e.Name == outputMatrix && s.Tied {
			continue
		}
		typ := s.Type
		if e.Vector {
			typ = F32
		}
		fill := s.fill(e, typ, seed)
		tensors = append(tensors, TensorData{Name: e.Name, Type: typ, Dims: e.Dims, Write: fill})
	}
	d, err := DraftModel("the model to be generated", s.metadata(), tensors)
	if err != nil {
		return fmt.Errorf("generate a model: %w", err)
	}
	return d.Write(w)
}

func (s Shape) orDefaults() (Shape, error) {
	s.Name = cmp.Or(s.Name, "random")
	s.KVHeads = cmp.Or(s.KVHeads, s.Heads)
	s.RopeBase = cmp.Or(s.RopeBase, 1e6)
	s.RMSEps = cmp.Or(s.RMSEps, 1e-6)
	if s.Vocab == nil {
		s.Vocab = ByteVocab()
	}
	s.VocabSize = cmp.Or(s.VocabSize, s.Vocab.size)
	for _, n := range []int{s.Layers, s.Embedding, s.Heads, s.KVHeads, s.FeedForward, s.Context, s.VocabSize} {
		if n < 1 || n > 1<<24 {
			return Shape{}, centram.Errorf(centram.Invalid, "a model cannot be generated with a dimension of %d", n)
		}
	}
	if _, ok := fileTypeOf[s.Type]; !ok {
		return Shape{}, centram.Errorf(centram.Unsupported, "weights of type %v cannot be generated", s.Type)
	}
	var err error
	s.Vocab, err = s.Vocab.pad(s.VocabSize)
	return s, err
}

func (s Shape) summary() Summary {
	return Summary{
		Layers: s.Layers, Embedding: s.Embedding, Heads: s.Heads, KVHeads: s.KVHeads, HeadDim: s.Embedding / s.Heads,
		FeedForward: s.FeedForward, VocabSize: s.VocabSize, Tokens: TokenRange{End: s.VocabSize}, WholeTokens: s.VocabSize,
	}
}

func (s Shape) metadata() []KV {
	return append([]KV{
		{"general.architecture", Of("qwen2")},
		{"general.type", Of("model")},
		{"general.name", Of(s.Name)},
		{"general.file_type", Of(fileTypeOf[s.Type])},
		{"general.quantization_version", Of(uint32(2))},
		{"qwen2.block_count", Of(uint32(s.Layers))},
		{"qwen2.context_length", Of(uint32(s.Context))},
		{"qwen2.embedding_length", Of(uint32(s.Embedding))},
		{"qwen2.feed_forward_length", Of(uint32(s.FeedForward))},
		{"qwen2.attention.head_count", Of(uint32(s.Heads))},
		{"qwen2.attention.head_count_kv", Of(uint32(s.KVHeads))},
		{"qwen2.rope.freq_base", Of(s.RopeBase)},
		{"qwen2.attention.layer_norm_rms_epsilon", Of(s.RMSEps)},
	}, s.Vocab.metadata...)
}

// fill returns what writes the weights of e: mean plus deviation times a normal number.
//
// A matrix deviates by one over the root of its row length, so that it keeps the size of what it is given; the
// embedding likewise, which spreads tied logits by about one. Some deviate by twice that: queries and keys, or
// attention would look at everything alike, and what the feed-forward adds, which its gate has halved. What the layers
// add then outweighs the embedding in the residual stream; else a tied model would repeat its last token for ever.
func (s Shape) fill(e Expected, typ Type, seed uint64) func(io.Writer) error {
	mean, deviation := 0.0, 1/math.Sqrt(float64(e.Dims[0]))
	name, layer, _ := splitLayer(e.Name)
	switch {
	case e.Vector && (name == "attn_norm.weight" || name == "ffn_norm.weight" || name == "output_norm.weight"):
		mean, deviation = 1, 0.05
	case e.Vector:
		deviation = 0.1
	case name == "attn_q.weight" || name == "attn_k.weight" || name == "ffn_down.weight":
		deviation *= 2
	}
	if s.Settled > 0 && layer >= s.Settled && (name == "attn_output.weight" || name == "ffn_down.weight") {
		deviation *= little
	}
	switch {
	case !s.Calm || e.Vector:
	case name == "attn_q.weight" || name == "attn_k.weight":
		deviation /= calm
	case name == "attn_output.weight" || name == "ffn_down.weight":
		deviation /= 2 * calm
	}
	h := fnv.New64a()
	h.Write([]byte(e.Name))
	g := gaussian{key: mix(seed) ^ h.Sum64(), mean: float32(mean), deviation: float32(deviation)}
	values := uint64(1)
	for _, d := range e.Dims {
		values *= d
	}
	return func(w io.Writer) error { return g.write(w, typ, values) }
}

// little is what a layer behind the settled ones adds, as a part of what it would. With two of 24 layers settled, a model of
// those two says the same token two times in three.
const little = 0.02

// calm is by how much a calm model's queries and keys are smaller, and by twice that what its layers add.
const calm = 4

// gaussian yields nearly normal numbers. Each depends on its index alone, so they can be made in any order.
type gaussian struct {
	key             uint64
	mean, deviation float32
}

// chunk is how many values one goroutine makes at a time: a multiple of every block size.
const chunk = 1 << 18

// write writes the first n numbers, making chunks on all cores and writing them in order.
func (g gaussian) write(w io.Writer, typ Type, n uint64) error {
	workers := runtime.GOMAXPROCS(0)
	bufs := make([][]byte, workers)
	for start := uint64(0); start < n; {
		var wg sync.WaitGroup
		used := 0
		for ; used < workers && start < n; used++ {
			buf, first, count := &bufs[used], start, min(chunk, n-start)
			wg.Go(func() { *buf = g.encode((*buf)[:0], typ, first, count) })
			start += count
		}
		wg.Wait()
		for _, b := range bufs[:used] {
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g gaussian) encode(b []byte, typ Type, start, count uint64) []byte {
	var block [q8Block]float32
	for i := uint64(0); i < count; i += q8Block {
		values := block[:min(q8Block, count-i)]
		for j := range values {
			values[j] = g.at(start + i + uint64(j))
		}
		if typ == Q8_0 {
			b = appendQ8(b, values)
		} else {
			b = Encode(b, typ, values)
		}
	}
	return b
}

// at is the i-th number: the sum of four uniform ones, which ends at 3.5 deviations. The conversions keep a compiler
// from fusing the multiplication with the addition, which would round differently on some machines.
func (g gaussian) at(i uint64) float32 {
	const centre, spread = 4 * 65535 / 2, 37837.2 // of the sum of four 16-bit numbers
	z := mix(g.key + i*0x9e3779b97f4a7c15)
	sum := int32(z&0xffff) + int32(z>>16&0xffff) + int32(z>>32&0xffff) + int32(z>>48)
	return g.mean + float32(float32(sum-centre)*(g.deviation/spread))
}

// mix is the finalizer of splitmix64.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
