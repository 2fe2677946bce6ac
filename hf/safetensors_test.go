package hf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
)

// container makes a file of a header and so many bytes of data.
func container(header string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, data)...)
}

func readBytes(b []byte) ([]Tensor, error) {
	return ReadSafetensors("the file", bytes.NewReader(b), int64(len(b)))
}

const (
	twoTensors = `{"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[2,3],"data_offsets":[4,16]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}   `
	emptyOnes  = `{"a":{"dtype":"F32","shape":[0,5],"data_offsets":[0,0]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}`
)

func TestSafetensorsAreRead(t *testing.T) {
	got, err := readBytes(container(twoTensors, 16))
	if err != nil {
		t.Fatal(err)
	}
	start := int64(8 + len(twoTensors))
	want := []Tensor{{"a", gguf.F32, []uint64{}, start, 4}, {"b", gguf.F16, []uint64{2, 3}, start + 4, 12}}
	if !slices.EqualFunc(got, want, func(a, b Tensor) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, err := readBytes(container(emptyOnes, 2)); err != nil || len(got) != 2 {
		t.Errorf("with an empty tensor: got %v, %v, want two", got, err)
	}
	if got, err := readBytes(container(`{}`, 0)); err != nil || len(got) != 0 {
		t.Errorf("with none: got %v, %v, want none", got, err)
	}
}

func TestHostileSafetensorsAreRefused(t *testing.T) {
	one := func(dtype, shape, offsets string) string {
		return fmt.Sprintf(`{"a":{"dtype":%s,"shape":%s,"data_offsets":%s}}`, dtype, shape, offsets)
	}
	for _, row := range []struct {
		name string
		b    []byte
		want string
	}{
		{"empty", nil, "cut off"},
		{"seven bytes", make([]byte, 7), "cut off"},
		{"no header", make([]byte, 8), "not a JSON object"},
		{"header of 2^64-1", append(bytes.Repeat([]byte{0xff}, 8), "{}"...), "would have"},
		{"header of 2^63", append([]byte{0, 0, 0, 0, 0, 0, 0, 0x80}, "{}"...), "would have"},
		{"header longer than the file", append([]byte{3, 0, 0, 0, 0, 0, 0, 0}, "{}"...), "cut off"},
		{"GGUF", append([]byte("GGUF"), make([]byte, 100)...), "would have"},
		{"a pointer", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"), "Git LFS pointer"},
		{"not JSON", container(`{"a"`, 0), "not JSON"},
		{"a list", container(`[]`, 0), "not a JSON object"},
		{"white space first", container(` {}`, 0), "not a JSON object"},
		{"followed", container(`{}x`, 0), "header"},
		{"not UTF-8", container("{\"\xff\":{}}", 0), "UTF-8"},
		{"metadata", container(`{"__metadata__":{"a":1}}`, 0), "metadata"},
		{"a tensor twice", container(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4), `"a" twice`},
		{"twice by an escape", container(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\u0061":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4), `"a" twice`},
		{"a field twice", container(`{"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}`, 4), `"dtype" twice`},
		{"a field more", container(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}`, 4), "not known"},
		{"a field in capitals", container(`{"a":{"Dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4), "no dtype"},
		{"type a number", container(one(`5`, `[1]`, `[0,4]`), 4), "bad dtype"},
		{"shape null", container(one(`"F32"`, `[null]`, `[0,4]`), 4), "shape"},
		{"shape negative", container(one(`"F32"`, `[-1]`, `[0,4]`), 4), "bad shape"},
		{"shape a fraction", container(one(`"F32"`, `[1.5]`, `[0,4]`), 4), "bad shape"},
		{"shape that overflows to 4", container(one(`"F32"`, `[9223372036854775809,1]`, `[0,4]`), 4), "more than"},
		{"shape whose product overflows", container(one(`"F32"`, `[4294967296,4294967296]`, `[0,0]`), 0), "more than"},
		{"zero and overflow", container(one(`"F32"`, `[18446744073709551615,0]`, `[0,0]`), 0), "more than"},
		{"many dimensions", container(one(`"F32"`, `[1,1,1,1,1,1,1,1,1]`, `[0,4]`), 4), "9 dimensions"},
		{"shape and bytes differ", container(one(`"F16"`, `[1]`, `[0,4]`), 4), "takes 2"},
		{"offsets backwards", container(one(`"F32"`, `[1]`, `[4,0]`), 4), "lies at"},
		{"offsets beyond", container(one(`"F32"`, `[1]`, `[0,8]`), 4), "lies at"},
		{"offsets beyond all", container(one(`"F32"`, `[1]`, `[0,18446744073709551615]`), 4), "lies at"},
		{"one offset", container(one(`"F32"`, `[1]`, `[0]`), 4), "lies at"},
		{"gap before", container(one(`"F32"`, `[1]`, `[4,8]`), 8), "begins at 4"},
		{"bytes behind", container(one(`"F32"`, `[1]`, `[0,4]`), 5), "there are 5"},
		{"overlap", container(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12), "begins at 4"},
		{"the same bytes", container(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4), "begins at 0"},
		{"gap between", container(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}`, 12), "begins at 8"},
		{"no name", container(`{"":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4), "name of 0 bytes"},
		{"long name", container(`{"`+strings.Repeat("a", 300)+`":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4), "name of 300 bytes"},
		{"deep", container(`{"a":`+strings.Repeat("[", 20000)+`}`, 0), "not JSON"},
	} {
		got, err := readBytes(row.b)
		if centram.CodeOf(err) != centram.Invalid || !strings.Contains(fmt.Sprint(err), row.want) {
			t.Errorf("%s: got %v, %v, want Invalid that says %q", row.name, got, err, row.want)
		}
	}
}

func TestATypeThatIsNotOursIsNotDamage(t *testing.T) {
	_, err := readBytes(container(`{"a.qweight":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}`, 4))
	if centram.CodeOf(err) != centram.Unsupported || !strings.Contains(fmt.Sprint(err), `"a.qweight" in "I32"`) {
		t.Errorf("got %v, want Unsupported that names the tensor and its type", err)
	}
}

func TestEveryPrefixOfSafetensorsIsRefused(t *testing.T) {
	var b bytes.Buffer
	var tensors []TensorData
	for i, d := range dtypes {
		for _, name := range []string{"model.norm.weight", "lm_head.weight"} {
			data := bytes.Repeat([]byte{byte(i)}, int(6*d.size))
			tensors = append(tensors, TensorData{d.name + name, d.typ, []uint64{2, 3}, gguf.Copy(bytes.NewReader(data))})
		}
	}
	if err := WriteSafetensors(&b, tensors); err != nil {
		t.Fatal(err)
	}
	if _, err := readBytes(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	for n := range b.Len() {
		if got, err := readBytes(b.Bytes()[:n]); err == nil {
			t.Fatalf("%d of %d bytes were read as %v", n, b.Len(), got)
		}
	}
}

func TestAFileThatShrinksIsAnError(t *testing.T) {
	whole := container(twoTensors, 16)
	if got, err := ReadSafetensors("the file", bytes.NewReader(whole[:60]), int64(len(whole))); err == nil {
		t.Errorf("got %v, want an error", got)
	}
}

func FuzzSafetensors(f *testing.F) {
	f.Add(container(twoTensors, 16))
	f.Add(container(emptyOnes, 2))
	f.Add(container(`{}`, 0))
	f.Add(container(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		tensors, err := readBytes(b)
		if err != nil {
			if code := centram.CodeOf(err); code != centram.Invalid && code != centram.Unsupported {
				t.Errorf("got %v, want Invalid or Unsupported", err)
			}
			return
		}
		var again []TensorData
		end := int64(0)
		for i, x := range tensors {
			if x.Offset < 8 || x.Size < 0 || x.Offset+x.Size > int64(len(b)) || i > 0 && x.Offset != end {
				t.Fatalf("%v does not lie in %d bytes, behind %d", x, len(b), end)
			}
			end = x.Offset + x.Size
			again = append(again, TensorData{x.Name, x.Type, x.Shape, gguf.Copy(io.NewSectionReader(bytes.NewReader(b), x.Offset, x.Size))})
		}
		// What was read can be written, and is the same then.
		var out bytes.Buffer
		if err := WriteSafetensors(&out, again); err != nil {
			t.Fatal(err)
		}
		back, err := readBytes(out.Bytes())
		if err != nil || len(back) != len(tensors) {
			t.Errorf("written and read again: got %d tensors, %v, want %d", len(back), err, len(tensors))
		}
	})
}
