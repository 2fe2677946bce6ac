package gguf

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/centram/centram"
)

// rewrite writes what f holds.
func rewrite(t testing.TB, f *File) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, f.Metadata, contents(f)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func contents(f *File) (out []TensorData) {
	for _, t := range f.Tensors {
		out = append(out, TensorData{t.Name, t.Type, t.Dims, Copy(f.Data(t))})
	}
	return out
}

func TestWriteGivesBackTheFileThatWasRead(t *testing.T) {
	for name, b := range map[string][]byte{"every kind": everyKind(t), "model": tiny(t)} {
		if got := rewrite(t, mustRead(t, b)); !bytes.Equal(got, b) {
			t.Errorf("%s: read and written again, %d bytes differ from the %d there were", name, len(got), len(b))
		}
	}
}

func TestWriteRefusesWhatReadRefuses(t *testing.T) {
	row := func(name string, typ Type, dims ...uint64) []TensorData {
		return []TensorData{{name, typ, dims, Copy(strings.NewReader(""))}}
	}
	for name, c := range map[string]struct {
		metadata []KV
		tensors  []TensorData
		want     string
	}{
		"empty key":       {metadata: []KV{{"", Of(true)}}, want: "is empty"},
		"key twice":       {metadata: []KV{{"k", Of(true)}, {"k", Of(true)}}, want: "twice"},
		"long key":        {metadata: []KV{{strings.Repeat("k", 300), Of(true)}}, want: "300 bytes"},
		"other alignment": {metadata: []KV{{"general.alignment", Of(uint32(64))}}, want: "alignment of 32"},
		"long name":       {tensors: row(strings.Repeat("n", 64), F32, 1), want: "64 bytes"},
		"name twice":      {tensors: append(row("t", F32, 1), row("t", F32, 1)...), want: "twice"},
		"no dimensions":   {tensors: row("t", F32), want: "0 dimensions"},
		"many dimensions": {tensors: row("t", F32, 1, 1, 1, 1, 1), want: "5 dimensions"},
		"zero dimension":  {tensors: row("t", F32, 4, 0), want: "dimension of 0"},
		"broken row":      {tensors: row("t", Q8_0, 31), want: "multiple of 32"},
		"unknown type":    {tensors: row("t", Type(5), 32), want: "unknown type"},
		"too large":       {tensors: append(row("t", Type(24), 1<<62), row("u", Type(24), 1<<62)...), want: "too large"},
		"larger than ever": {
			tensors: row("t", F32, math.MaxUint64, math.MaxUint64),
			want:    "impossible shape",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			err := Write(&b, c.metadata, c.tensors)
			wantError(t, err, centram.Invalid, c.want)
			if b.Len() > 0 {
				t.Errorf("wrote %d bytes before it refused", b.Len())
			}
		})
	}
	if err := Write(io.Discard, []KV{{"k", Value{}}}, nil); err == nil {
		t.Error("wrote a key without a value")
	}
}

func TestWriteRefusesDataOfTheWrongLength(t *testing.T) {
	for n, want := range map[int]string{31: "1 bytes short", 33: "longer than its shape"} {
		err := Write(io.Discard, nil, []TensorData{{"t", F32, []uint64{8}, Copy(bytes.NewReader(make([]byte, n)))}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d bytes for 32: got %v, want %q", n, err, want)
		}
	}
}

func TestWritePassesOnAFullDisk(t *testing.T) {
	full := errors.New("no space left")
	err := Write(fullDisk{full}, nil, []TensorData{{"t", F32, []uint64{8}, Copy(bytes.NewReader(make([]byte, 32)))}})
	if !errors.Is(err, full) {
		t.Errorf("got %v, want it to wrap %v", err, full)
	}
}

type fullDisk struct{ err error }

func (f fullDisk) Write([]byte) (int, error) { return 0, f.err }
