package quantize

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
)

func TestTypesAreFoundByNameAndOthersRefusedWithTheList(t *testing.T) {
	for name, want := range map[string]string{"q4_k_m": "q4_k_m", "Q8_0": "q8_0", "q4_K": "q4_k_m", "BF16": "bf16"} {
		if got, err := ParseType(name); err != nil || got.Name != want {
			t.Errorf("%s: got %q, %v", name, got.Name, err)
		}
	}
	for name, row := range map[string]struct {
		code centram.Code
		says string
	}{
		"q9_k": {centram.Invalid, `"q9_k"`}, "": {centram.Invalid, "no type"}, "iq2_xxs": {centram.Unsupported, "importance matrix"}, "Q2_K_S": {centram.Unsupported, "importance matrix"},
	} {
		_, err := ParseType(name)
		if centram.CodeOf(err) != row.code || !strings.Contains(err.Error(), row.says) || !strings.Contains(centram.HintOf(err), "q4_k_m (4.9)") {
			t.Errorf("%q: got %v, %v, hint %s", name, centram.CodeOf(err), err, centram.HintOf(err))
		}
	}
	for i := 1; i < len(Types); i++ {
		if Types[i].Bits < Types[i-1].Bits {
			t.Errorf("%s stands behind the larger %s", Types[i].Name, Types[i-1].Name)
		}
	}
}

func TestWhatCannotBeMadeIsRefusedBeforehand(t *testing.T) {
	in := generate(t, small(gguf.F16))
	dir := t.TempDir()
	there := filepath.Join(dir, "there.gguf")
	if err := os.WriteFile(there, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link.gguf")
	if err := os.Symlink(in, link); err != nil {
		t.Fatal(err)
	}
	quantized := filepath.Join(dir, "q8.gguf")
	if err := write(t.Context(), Config{In: in, Out: quantized, Type: typeOf(t, "q8_0")}, func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out.gguf")
	for name, row := range map[string]struct {
		c          Config
		code       centram.Code
		says, hint string
	}{
		"no model":                 {Config{In: filepath.Join(dir, "none.gguf"), Out: out}, centram.NotFound, "none.gguf", ""},
		"no GGUF":                  {Config{In: there, Out: out}, centram.Invalid, "there.gguf", ""},
		"a slice":                  {Config{In: sliceOf(t, in), Out: out}, centram.Invalid, "layers 0 to 1 of 4", "whole model"},
		"another alignment":        {Config{In: aligned64(t, in), Out: out}, centram.Unsupported, "multiples of 64", "multiples of 32"},
		"quantised already":        {Config{In: quantized, Out: out}, centram.Invalid, "quantised already (Q8_0)", "--requantize"},
		"the model itself":         {Config{In: in, Out: in, Replace: true}, centram.Invalid, "the model itself", "--out"},
		"the model itself, linked": {Config{In: in, Out: link, Replace: true}, centram.Invalid, "the model itself", "--out"},
		"a file that is there":     {Config{In: in, Out: there}, centram.Conflict, "already", "--force"},
		"a folder":                 {Config{In: in, Out: makeFolder(t, dir, "d.gguf"), Replace: true}, centram.Invalid, "a folder", "--out"},
		"no folder":                {Config{In: in, Out: filepath.Join(dir, "no", "out.gguf")}, centram.NotFound, "no folder", "mkdir -p"},
		"a folder that is a file":  {Config{In: in, Out: filepath.Join(there, "out.gguf")}, centram.Invalid, "not a folder", "--out"},
		"another ending":           {Config{In: in, Out: filepath.Join(dir, "out.bin")}, centram.Invalid, ".gguf", "--out"},
		"the name of a part":       {Config{In: in, Out: filepath.Join(dir, "m-00001-of-00002.gguf")}, centram.Invalid, "part of a split model", "--out"},
		"little memory":            {Config{In: in, Out: out, Memory: 50 << 20}, centram.Unavailable, "50 MiB are free", "Close"},
	} {
		row.c.Type = typeOf(t, "q4_k_m")
		_, err := row.c.Plan()
		if centram.CodeOf(err) != row.code || !strings.Contains(err.Error(), row.says) || !strings.Contains(centram.HintOf(err), row.hint) {
			t.Errorf("%s: got %v: %v; hint: %s", name, centram.CodeOf(err), err, centram.HintOf(err))
		}
	}
	if got := strings.Join(files(t, dir), " "); strings.Contains(got, suffix) || strings.Contains(got, "out.gguf") {
		t.Errorf("got %s, where nothing was to be written", got)
	}
	if b, err := os.ReadFile(there); err != nil || string(b) != "x" {
		t.Errorf("the file that was there is %q now, %v", b, err)
	}
	for name, c := range map[string]Config{
		"replacing":    {In: in, Out: there, Replace: true, Memory: 1 << 40},
		"requantising": {In: quantized, Out: out, Requantize: true},
	} {
		c.Type = typeOf(t, "q4_k_m")
		if err := write(t.Context(), c, func(Progress) {}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if m, err := gguf.OpenModel(c.Out); err != nil || m.Summary.Quantization != "Q4_K_M" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRowsThatDoNotFitGetAnotherTypeAndItIsSaid(t *testing.T) {
	shape := small(gguf.F32)
	shape.Embedding, shape.FeedForward = 96, 512
	in := generate(t, shape)
	p, err := Config{In: in, Out: filepath.Join(t.TempDir(), "out.gguf"), Type: typeOf(t, "q4_k_m")}.Plan()
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Misfits) == 0 || p.Bits < 5 {
		t.Fatalf("got %d misfits and %.1f bits a weight", len(p.Misfits), p.Bits)
	}
	for _, m := range p.Misfits {
		if m.Columns != 96 || m.Block != 256 || !strings.HasSuffix(m.Type, "_K") || m.Instead == "" || m.Name == "" {
			t.Errorf("got %+v", m)
		}
	}
	if err := p.Write(t.Context(), workCommand(), func(Progress) {}); err != nil {
		t.Error(err)
	}
}

func TestASplitModelBecomesOneFileWithTheSameWeights(t *testing.T) {
	in, dir := generate(t, small(gguf.F32)), t.TempDir()
	whole, parts := filepath.Join(dir, "whole.gguf"), split(t, in)
	for from, to := range map[string]string{in: whole, parts: filepath.Join(dir, "parts.gguf")} {
		if err := write(t.Context(), Config{In: from, Out: to, Type: typeOf(t, "q8_0")}, func(Progress) {}); err != nil {
			t.Fatal(err)
		}
	}
	a, err := gguf.OpenModel(whole)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := gguf.OpenModel(filepath.Join(dir, "parts.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if len(a.Tensors) != len(b.Tensors) || len(b.Parts) != 1 {
		t.Fatalf("got %d tensors in %d parts, want %d", len(b.Tensors), len(b.Parts), len(a.Tensors))
	}
	for _, x := range a.Tensors {
		want, err := a.Hash(x)
		if err != nil {
			t.Fatal(err)
		}
		if y, ok := b.Tensor(x.Name); !ok {
			t.Errorf("%s is lacking", x.Name)
		} else if got, err := b.Hash(y); err != nil || got != want {
			t.Errorf("%s differs, %v", x.Name, err)
		}
	}
}

func makeFolder(t testing.TB, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// sliceOf writes the first layer of a model.
func sliceOf(t testing.TB, path string) string {
	t.Helper()
	m, err := gguf.OpenModel(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var b bytes.Buffer
	if err := gguf.Slice(&b, m, gguf.Share{Layers: centram.LayerRange{First: 0, End: 1}}); err != nil {
		t.Fatal(err)
	}
	return save(t, "slice.gguf", b.Bytes())
}

func save(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// rewritten is a model's file with more metadata, and those of its tensors that are wanted.
func rewritten(t testing.TB, path string, more []gguf.KV, want func(i int) bool) []byte {
	t.Helper()
	m, err := gguf.OpenModel(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var tensors []gguf.TensorData
	for i, x := range m.Tensors {
		if want(i) {
			tensors = append(tensors, gguf.TensorData{Name: x.Name, Type: x.Type, Dims: x.Dims, Write: gguf.Copy(m.Data(x))})
		}
	}
	var b bytes.Buffer
	if err := gguf.Write(&b, append(m.Parts[0].Metadata, more...), tensors); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// aligned64 is a model whose tensors begin at multiples of 64, and that says so.
func aligned64(t testing.TB, path string) string {
	t.Helper()
	const key = "general.alignment"
	b := rewritten(t, path, []gguf.KV{{Key: key, Value: gguf.Of(uint32(32))}}, func(int) bool { return true })
	i := bytes.Index(b, []byte(key)) + len(key) + 4
	binary.LittleEndian.PutUint32(b[i:], 64)
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	last := f.Tensors[len(f.Tensors)-1]
	data := len(b) - int(last.Offset+last.Size-f.Tensors[0].Offset) // where it begins in b
	b = append(b[:data:data], append(make([]byte, data%64), b[data:]...)...)
	return save(t, "aligned.gguf", b)
}

// split writes a model as two parts, and returns the second.
func split(t testing.TB, path string) string {
	t.Helper()
	dir := t.TempDir()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	n := len(f.Tensors)
	f.Close()
	for m := range 2 {
		more := []gguf.KV{
			{Key: "split.no", Value: gguf.Of(uint16(m))},
			{Key: "split.count", Value: gguf.Of(uint16(2))},
			{Key: "split.tensors.count", Value: gguf.Of(int32(n))},
		}
		b := rewritten(t, path, more, func(i int) bool { return i < n/2 == (m == 0) })
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("m-%05d-of-00002.gguf", m+1)), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "m-00002-of-00002.gguf")
}
