package gguf

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/centram/centram"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// tinyShape is as small as a model gets that has everything: two layers, grouped heads.
func tinyShape() Shape {
	return Shape{Layers: 2, Embedding: 32, Heads: 2, KVHeads: 1, FeedForward: 64, Context: 64, Tied: true, Type: Q8_0}
}

func tiny(t testing.TB) []byte { return generate(t, tinyShape()) }

func generate(t testing.TB, s Shape) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Generate(&b, s, 1); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestGenerateIsTheSameOnEveryMachine(t *testing.T) {
	var got strings.Builder
	for _, typ := range []Type{F32, F16, Q8_0} {
		s := tinyShape()
		s.Type, s.Tied = typ, typ == Q8_0
		fmt.Fprintf(&got, "%-4v %x\n", typ, sha256.Sum256(generate(t, s)))
	}
	golden := filepath.Join("testdata", "generate.sha256")
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

func TestGenerateDependsOnTheSeed(t *testing.T) {
	var other bytes.Buffer
	if err := Generate(&other, tinyShape(), 2); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(other.Bytes(), tiny(t)) {
		t.Error("seeds 1 and 2 give the same model")
	}
}

func TestToyHasTheParametersItIsKnownFor(t *testing.T) {
	for _, typ := range []Type{F32, F16, BF16, Q8_0} {
		s := Toy()
		s.Type = typ
		sum, err := CheckModel(mustRead(t, generate(t, s)))
		if err != nil {
			t.Fatal(err)
		}
		want := Summary{
			Architecture: "qwen2", Name: "Centram toy", Parameters: 842496, Layers: 4, Embedding: 128, Heads: 4, KVHeads: 4,
			HeadDim: 32, FeedForward: 352, Context: 2048, VocabSize: 289, Quantization: typ.String(), ChatTemplate: true,
			Tied: true, SizeBytes: sum.SizeBytes, KVBytesPerToken: 2048, Slice: centram.LayerRange{End: 4}, WholeLayers: 4,
			Tokens: TokenRange{End: 289}, WholeTokens: 289,
		}
		if sum != want {
			t.Errorf("got  %+v\nwant %+v", sum, want)
		}
	}
}

func TestQwen05BHasItsParameters(t *testing.T) {
	s, err := Qwen05B().orDefaults()
	if err != nil {
		t.Fatal(err)
	}
	got := uint64(0)
	for _, e := range architectures["qwen2"].tensors(s.summary()) {
		if !e.Optional {
			got += Tensor{Dims: e.Dims}.Elements()
		}
	}
	if want := uint64(494_032_768); got != want {
		t.Errorf("got %d parameters, want %d", got, want)
	}
}

func TestACalmModelsQueriesAndKeysAreSmallAndItsLayersAddLittle(t *testing.T) {
	s := tinyShape()
	s.Type = F32
	as := mustRead(t, generate(t, s))
	s.Calm = true
	calm := mustRead(t, generate(t, s))
	for name, want := range map[string]float32{
		"blk.0.attn_q.weight": 4, "blk.1.attn_k.weight": 4, "blk.1.attn_output.weight": 8, "blk.0.ffn_down.weight": 8,
		"blk.0.attn_v.weight": 1, "blk.0.ffn_up.weight": 1, "blk.0.attn_q.bias": 1, "token_embd.weight": 1,
	} {
		if got := firstNumber(t, as, name) / firstNumber(t, calm, name); math.Abs(float64(got-want)) > 1e-5 {
			t.Errorf("%s: what it is without is %g times as much, want %g", name, got, want)
		}
	}
}

func firstNumber(t *testing.T, f *File, tensor string) float32 {
	t.Helper()
	found, ok := f.Tensor(tensor)
	if !ok {
		t.Fatalf("there is no %s", tensor)
	}
	var b [4]byte
	if _, err := io.ReadFull(f.Data(found), b[:]); err != nil {
		t.Fatal(err)
	}
	return math.Float32frombits(binary.LittleEndian.Uint32(b[:]))
}

func TestGenerateRefusesShapesThatCannotRun(t *testing.T) {
	for name, change := range map[string]func(*Shape){
		"no layers":        func(s *Shape) { s.Layers = 0 },
		"too many layers":  func(s *Shape) { s.Layers = 513 },
		"uneven heads":     func(s *Shape) { s.Heads = 3 },
		"uneven KV heads":  func(s *Shape) { s.Heads, s.KVHeads = 4, 3 },
		"odd head":         func(s *Shape) { s.Heads = 32 },
		"broken rows":      func(s *Shape) { s.FeedForward = 65 },
		"type not made":    func(s *Shape) { s.Type = 12 },
		"vocabulary small": func(s *Shape) { s.VocabSize = 288 },
		"negative":         func(s *Shape) { s.Context = -1 },
	} {
		s := tinyShape()
		change(&s)
		var b bytes.Buffer
		if err := Generate(&b, s, 1); err == nil || b.Len() > 0 {
			t.Errorf("%s: got %v after %d bytes, want an error before the first", name, err, b.Len())
		}
	}
}

func TestGeneratedWeightsAreNearlyNormal(t *testing.T) {
	g := gaussian{key: 42, mean: 0, deviation: 1}
	const n = 1 << 18
	var sum, squares, fourth float64
	for i := range uint64(n) {
		x := float64(g.at(i))
		sum, squares, fourth = sum+x, squares+x*x, fourth+x*x*x*x
	}
	mean, variance, kurtosis := sum/n, squares/n, fourth/n/(squares/n)/(squares/n)
	if math.Abs(mean) > 0.01 || math.Abs(variance-1) > 0.01 || math.Abs(kurtosis-2.7) > 0.05 { // 3 - 1.2/4
		t.Errorf("got mean %.4f, variance %.4f, kurtosis %.4f; want 0, 1, 2.7", mean, variance, kurtosis)
	}
}

func TestChunksJoinWithoutSeam(t *testing.T) {
	g := gaussian{key: 7, deviation: 1}
	const n = 2*chunk + 64
	var got bytes.Buffer
	if err := g.write(&got, F16, n); err != nil {
		t.Fatal(err)
	}
	if want := g.encode(nil, F16, 0, n); !bytes.Equal(got.Bytes(), want) {
		t.Error("made in chunks, the weights differ from those made at once")
	}
}

func TestByteVocabularySpellsBytes(t *testing.T) {
	v := ByteVocab()
	if v.Size() != 289 {
		t.Errorf("got %d tokens, want 289", v.Size())
	}
	f := mustRead(t, tiny(t))
	tokens, _ := f.Strings("tokenizer.ggml.tokens")
	var got []int
	for _, b := range []byte("jumps ") {
		got = append(got, slices.Index(tokens, string(byteChar[b])))
	}
	if want := []int{106, 117, 109, 112, 115, 32}; !slices.Equal(got, want) {
		t.Errorf("jumps is %v, want %v", got, want)
	}
	for id, want := range map[int]string{
		0: "Ā", 10: "Ċ", 32: "Ġ", 33: "!", 127: "ġ", 173: "Ń", 255: "ÿ",
		ByteEndOfText: "<|endoftext|>", ByteIMStart: "<|im_start|>", ByteIMEnd: "<|im_end|>", 288: "<|reserved_29|>",
	} {
		if tokens[id] != want {
			t.Errorf("token %d is %q, want %q", id, tokens[id], want)
		}
	}
}

func TestVocabularyIsPaddedToTheEmbedding(t *testing.T) {
	s := tinyShape()
	s.VocabSize = 300
	f := mustRead(t, generate(t, s))
	tokens, _ := f.Strings("tokenizer.ggml.tokens")
	types, _ := Get[[]int32](f, "tokenizer.ggml.token_type")
	if len(tokens) != 300 || tokens[289] != "[PAD289]" || len(types) != 300 || types[299] != tokenUnused {
		t.Errorf("got %d tokens, %d types, token 289 %q", len(tokens), len(types), tokens[289])
	}
}

func TestVocabularyIsTakenFromAnotherModel(t *testing.T) {
	v, err := VocabFrom(mustRead(t, tiny(t)))
	if err != nil {
		t.Fatal(err)
	}
	s := tinyShape()
	s.Vocab = v
	if !bytes.Equal(generate(t, s), tiny(t)) {
		t.Error("with its own vocabulary taken over, the model differs")
	}
	if _, err := VocabFrom(mustRead(t, everyKind(t))); err == nil {
		t.Error("took a vocabulary from a file that has none")
	}
}

func TestFloat16RoundsLikeIEEE(t *testing.T) {
	for _, row := range []struct {
		f    float32
		want uint16
	}{
		{0, 0},
		{float32(math.Copysign(0, -1)), 0x8000},
		{1, 0x3c00},
		{-2, 0xc000},
		{65504, 0x7bff},
		{65519, 0x7bff},
		{65520, 0x7c00},
		{float32(math.Inf(-1)), 0xfc00},
		{0x1p-14, 0x0400},
		{0x1p-24, 1},
		{0x1p-25, 0},
		{0x1.8p-25, 1},
		{0x1.ff8p-15, 0x3ff},
		{0x1.ffcp-15, 0x400},
		{1 + 0x1p-11, 0x3c00},
		{1 + 0x3p-11, 0x3c02},
		{0.1, 0x2e66},
		{float32(math.NaN()), 0x7e00},
	} {
		if got := float16(row.f); got != row.want {
			t.Errorf("float16(%v) = %#04x, want %#04x", row.f, got, row.want)
		}
	}
}

func TestEveryHalfIsTheSameAfterDecodingAndEncoding(t *testing.T) {
	for _, typ := range []Type{F16, BF16} {
		for h := range 1 << 16 {
			b := binary.LittleEndian.AppendUint16(nil, uint16(h))
			f := Decode(nil, typ, b)
			got := binary.LittleEndian.Uint16(Encode(nil, typ, f))
			if math.IsNaN(float64(f[0])) {
				if back := Decode(nil, typ, Encode(nil, typ, f)); !math.IsNaN(float64(back[0])) {
					t.Fatalf("%v %#04x is no number, and became %v", typ, h, back[0])
				}
			} else if got != uint16(h) {
				t.Fatalf("%v %#04x is %v and became %#04x", typ, h, f[0], got)
			}
		}
	}
	for h, want := range map[uint16]float32{0x3c00: 1, 0xc000: -2, 0x7bff: 65504, 0x0400: 0x1p-14, 0x0001: 0x1p-24, 0x03ff: 0x1.ff8p-15} {
		if got := Decode(nil, F16, binary.LittleEndian.AppendUint16(nil, h)); got[0] != want {
			t.Errorf("F16 %#04x: got %v, want %v", h, got[0], want)
		}
	}
}

func TestBFloat16RoundsToTheEvenOfTwo(t *testing.T) {
	for _, row := range []struct {
		f    float32
		want uint16
	}{
		{1, 0x3f80},
		{-2, 0xc000},
		{1 + 0x1p-8, 0x3f80},
		{1 + 0x3p-8, 0x3f82},
		{1 + 0x1.2p-8, 0x3f81},
		{math.MaxFloat32, 0x7f80},
		{float32(math.Inf(-1)), 0xff80},
		{math.SmallestNonzeroFloat32, 0},
		{math.Float32frombits(0x7f800001), 0x7fc0},
	} {
		if got := bfloat16(row.f); got != row.want {
			t.Errorf("bfloat16(%v) = %#04x, want %#04x", row.f, got, row.want)
		}
	}
}

func TestADraftIsCheckedBeforeItIsWritten(t *testing.T) {
	m := mustRead(t, tiny(t))
	var tensors []TensorData
	for _, x := range m.Tensors {
		tensors = append(tensors, TensorData{Name: x.Name, Type: x.Type, Dims: x.Dims, Write: Copy(m.Data(x))})
	}
	d, err := DraftModel("the draft", m.Metadata, tensors)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := d.Write(&b); err != nil {
		t.Fatal(err)
	}
	if d.Size != int64(b.Len()) || !bytes.Equal(b.Bytes(), tiny(t)) {
		t.Errorf("wrote %d bytes and said %d, want the %d bytes there were", b.Len(), d.Size, len(tiny(t)))
	}
	_, err = DraftModel("the draft", m.Metadata, tensors[1:])
	if centram.CodeOf(err) != centram.Invalid || !strings.HasPrefix(err.Error(), "the draft cannot be used") {
		t.Errorf("with a tensor missing: got %v, want Invalid about the draft", err)
	}
}

func TestQ8RoundsToTheNearestStep(t *testing.T) {
	values := make([]float32, q8Block)
	for i := range values {
		values[i] = float32(i) - 12.5
	}
	b := appendQ8(nil, values)
	scale := 18.5 / 127
	if len(b) != 34 || binary.LittleEndian.Uint16(b) != float16(float32(scale)) {
		t.Fatalf("got %d bytes, scale %#x", len(b), b[:2])
	}
	for i, v := range values {
		if got := float64(int8(b[2+i])) * scale; math.Abs(got-float64(v)) > scale/2*1.001 {
			t.Errorf("value %v became %v, further than half a step of %v", v, got, scale)
		}
	}
	if zero := appendQ8(nil, make([]float32, q8Block)); !bytes.Equal(zero, make([]byte, 34)) {
		t.Errorf("a block of zeros became %x", zero)
	}
}

func BenchmarkGenerateF16(b *testing.B) {
	s := Toy()
	s.Type = F16
	for b.Loop() {
		if err := Generate(io.Discard, s, 1); err != nil {
			b.Fatal(err)
		}
	}
}

func TestGenerateAdapterFitsItsModel(t *testing.T) {
	shape := Toy()
	shape.Layers = 2
	base := openBytes(t, generate(t, shape))
	var one, again, other bytes.Buffer
	for b, seed := range map[*bytes.Buffer]uint64{&one: 1, &again: 1, &other: 2} {
		if err := GenerateAdapter(b, shape, seed); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(one.Bytes(), again.Bytes()) || bytes.Equal(one.Bytes(), other.Bytes()) {
		t.Error("adapters do not go by their seeds")
	}
	got, err := CheckAdapter(mustRead(t, one.Bytes()), base.Summary)
	if err != nil || got.Rank != 4 || got.Alpha != 4 || got.Matrices != 6 {
		t.Errorf("got %+v, %v; want rank 4, alpha 4, 6 matrices", got, err)
	}
}
