package gguf

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/centram/centram"
)

// everyKind is a small sound file with a value of each kind, a list of each kind and two tensors.
func everyKind(t testing.TB) []byte {
	t.Helper()
	metadata := []KV{
		{"a.u8", Of(uint8(200))},
		{"a.i8", Of(int8(-100))},
		{"a.u16", Of(uint16(60000))},
		{"a.i16", Of(int16(-30000))},
		{"a.u32", Of(uint32(4e9))},
		{"a.i32", Of(int32(-2e9))},
		{"a.f32", Of(float32(1.5))},
		{"a.bool", Of(true)},
		{"a.string", Of("Grüße")},
		{"a.u64", Of(uint64(math.MaxUint64))},
		{"a.i64", Of(int64(math.MinInt64))},
		{"a.f64", Of(-2.25)},
		{"l.u8", List([]uint8{1, 2})},
		{"l.i8", List([]int8{-1})},
		{"l.u16", List([]uint16{3})},
		{"l.i16", List([]int16{-3})},
		{"l.u32", List([]uint32{4, 5})},
		{"l.i32", List([]int32{-4})},
		{"l.f32", List([]float32{.5})},
		{"l.bool", List([]bool{true, false})},
		{"l.string", List([]string{"x", "", "yz"})},
		{"l.u64", List([]uint64{6})},
		{"l.i64", List([]int64{-6})},
		{"l.f64", List([]float64{.25})},
		{"l.none", List([]string(nil))},
	}
	var b bytes.Buffer
	err := Write(&b, metadata, []TensorData{
		{"one", F32, []uint64{3, 2}, Copy(bytes.NewReader(make([]byte, 24)))},
		{"two", Q8_0, []uint64{32}, Copy(bytes.NewReader(bytes.Repeat([]byte{7}, 34)))},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func read(b []byte) (*File, error) { return Read(bytes.NewReader(b), int64(len(b))) }

func mustRead(t testing.TB, b []byte) *File {
	t.Helper()
	f, err := read(b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestReadYieldsEveryKindOfValue(t *testing.T) {
	f := mustRead(t, everyKind(t))
	if got := len(f.Metadata); got != 25 {
		t.Errorf("read %d keys, want 25", got)
	}
	for key, want := range map[string]any{
		"a.u8": uint8(200), "a.i64": int64(math.MinInt64), "a.f64": -2.25, "a.bool": true, "a.string": "Grüße",
		"l.bool": []bool{true, false}, "l.string": []string{"x", "", "yz"}, "l.f32": []float32{.5}, "l.none": []string{},
	} {
		v, _ := f.Value(key)
		if !reflect.DeepEqual(v.Any(), want) {
			t.Errorf("%s = %#v, want %#v", key, v.Any(), want)
		}
	}
	one, _ := f.Tensor("one")
	two, ok := f.Tensor("two")
	if !ok || two.Size != 34 || two.Offset != one.Offset+32 || two.Elements() != 32 || one.Elements() != 6 {
		t.Errorf("tensors are %+v and %+v", one, two)
	}
	data, err := io.ReadAll(f.Data(two))
	if err != nil || !bytes.Equal(data, bytes.Repeat([]byte{7}, 34)) {
		t.Errorf("data of two is %v, %v", data, err)
	}
}

func TestGettersConvertWidthsButNotMeanings(t *testing.T) {
	f := mustRead(t, everyKind(t))
	type result struct {
		value any
		ok    bool
	}
	pair := func(v any, ok bool) result { return result{v, ok} }
	for _, row := range []struct {
		what      string
		got, want result
	}{
		{"Uint of u16", pair(f.Uint("a.u16")), pair(uint64(60000), true)},
		{"Int of u8", pair(f.Int("a.u8")), pair(int64(200), true)},
		{"Int of i16", pair(f.Int("a.i16")), pair(int64(-30000), true)},
		{"Float of f32", pair(f.Float("a.f32")), pair(1.5, true)},
		{"Bool", pair(f.Bool("a.bool")), pair(true, true)},
		{"String", pair(f.String("a.string")), pair("Grüße", true)},
	} {
		if row.got != row.want {
			t.Errorf("%s = %v, want %v", row.what, row.got, row.want)
		}
	}
	for what, ok := range map[string]bool{
		"Uint of a negative":  second(f.Uint("a.i8")),
		"Int of a huge u64":   second(f.Int("a.u64")),
		"Uint of a string":    second(f.Uint("a.string")),
		"Float of an integer": second(f.Float("a.u32")),
		"String of a missing": second(f.String("nothing")),
		"Get of another type": second(Get[uint32](f, "a.u16")),
	} {
		if ok {
			t.Errorf("%s succeeds, want it to fail", what)
		}
	}
}

func second[T any](_ T, ok bool) bool { return ok }

func TestReadRefusesHostileFiles(t *testing.T) {
	for name, file := range hostile() {
		t.Run(name, func(t *testing.T) {
			_, err := read(file.b)
			wantError(t, err, centram.Invalid, file.want)
		})
	}
}

// wantError checks code and message of err, and that the message names the file first.
func wantError(t *testing.T, err error, code centram.Code, part string) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no error, want one about %q", part)
	}
	if got := centram.CodeOf(err); got != code {
		t.Errorf("got code %s (%v), want %s", got, err, code)
	}
	if !strings.Contains(err.Error(), part) {
		t.Errorf("got error %q, want one about %q", err, part)
	}
}

func TestReadCostsLittleMemoryForHugeClaims(t *testing.T) {
	for name, file := range hostile() {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		read(file.b)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 256<<10 {
			t.Errorf("%s: allocated %d bytes for a file of %d", name, got, len(file.b))
		}
	}
}

// sparse is a file of any size that holds a header and then zeros, and of which only the header costs anything.
type sparse struct{ header []byte }

func (s sparse) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(s.header)) {
		copy(p, s.header[off:])
	}
	return len(p), nil
}

func TestReadBoundsMemoryEvenIfTheFileIsAsLargeAsItClaims(t *testing.T) {
	for name, header := range map[string][]byte{
		"string":  rawHeader(3, 0, 1).string("k").kind(KindString).u64(1 << 40).b,
		"list":    rawHeader(3, 0, 1).string("k").kind(KindList).kind(KindUint64).u64(1 << 40).b,
		"strings": rawHeader(3, 0, 1).string("k").kind(KindList).kind(KindString).u64(1 << 40).b,
		"keys":    rawHeader(3, 0, 1<<40).b,
		"tensors": rawHeader(3, 1<<40, 0).b,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Read(sparse{header}, 1<<50)
		runtime.ReadMemStats(&after)
		wantError(t, err, centram.Invalid, "more than the")
		if got := after.TotalAlloc - before.TotalAlloc; got > 256<<10 {
			t.Errorf("%s: allocated %d bytes", name, got)
		}
	}
}

func TestLimitsBoundTheHeader(t *testing.T) {
	b := everyKind(t)
	for name, row := range map[string]struct {
		limits Limits
		want   string
	}{
		"header":  {Limits{HeaderBytes: 200}, "header of more than the 200 bytes"},
		"keys":    {Limits{Keys: 24}, "25 metadata keys, more than the 24"},
		"key":     {Limits{KeyBytes: 5}, "string of 6 bytes, more than the 5"},
		"string":  {Limits{StringBytes: 6}, "string of 7 bytes, more than the 6"},
		"list":    {Limits{ListLen: 2}, "list of 3 elements, more than the 2"},
		"tensors": {Limits{Tensors: 1}, "2 tensors, more than the 1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := row.limits.Read(bytes.NewReader(b), int64(len(b)))
			wantError(t, err, centram.Invalid, row.want)
		})
	}
}

func TestEveryPrefixOfAFileIsCutShort(t *testing.T) {
	b := everyKind(t)
	end := len(b) - 30 // the padding after the last tensor may be missing
	for n := 1; n < end; n++ {
		_, err := read(b[:n])
		wantError(t, err, centram.Invalid, "is cut short")
		if centram.HintOf(err) == "" {
			t.Fatalf("prefix of %d bytes: no hint in %q", n, err)
		}
	}
	if _, err := read(b[:end]); err != nil {
		t.Errorf("without the last padding: %v", err)
	}
}

func TestReadNoticesThatTheFileShrank(t *testing.T) {
	b := everyKind(t)
	_, err := Read(bytes.NewReader(b[:100]), int64(len(b)))
	wantError(t, err, centram.Invalid, "is cut short")
}

func TestReadPassesOnAFailingDisk(t *testing.T) {
	broken := errors.New("disk on fire")
	_, err := Read(failing{broken}, 1000)
	if !errors.Is(err, broken) || centram.CodeOf(err) != centram.Internal {
		t.Errorf("got %v, want it to wrap %v", err, broken)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func TestOpenSaysWhatAFileIsInstead(t *testing.T) {
	dir := t.TempDir()
	for name, row := range map[string]struct{ content, want string }{
		"empty":       {"", "is empty"},
		"safetensors": {"\x40\x00\x00\x00\x00\x00\x00\x00{\"a\":{}}", "safetensors"},
		"pytorch":     {"PK\x03\x04\x00\x00\x08\x08", "zip archive, such as a PyTorch"},
		"pickle":      {"\x80\x02}q\x00", "pickle"},
		"html":        {"\n <!DOCTYPE html><html>", "web page"},
		"json":        {`{"error":"Unauthorized"}`, "JSON"},
		"lfs":         {"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"},
		"ggml":        {"lmgg\x00\x00\x00\x00", "GGML format of before GGUF"},
		"ggjt":        {"tjgg\x03\x00\x00\x00", "GGJT format of before GGUF"},
		"zeros":       {strings.Repeat("\x00", 600), "never finished"},
		"gzip":        {"\x1f\x8b\x08\x00", "gzip"},
		"swapped":     {"FUGG\x03\x00\x00\x00", "big-endian"},
		"text":        {"hello, world", "other bytes"},
		"start":       {"GGU", "is cut short"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name+".gguf")
			if err := os.WriteFile(path, []byte(row.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(path)
			wantError(t, err, centram.Invalid, row.want)
			if !strings.HasPrefix(err.Error(), path) {
				t.Errorf("got error %q, want it to start with the file's name", err)
			}
			if centram.HintOf(err) == "" {
				t.Errorf("got no hint with %q", err)
			}
		})
	}
	_, err := Open(dir)
	wantError(t, err, centram.Invalid, "is a directory")
	_, err = Open(filepath.Join(dir, "nothing.gguf"))
	wantError(t, err, centram.NotFound, "does not exist")
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want it to wrap os.ErrNotExist", err)
	}
}

func TestReadKeepsPercentSignsOfAName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "100%d.gguf")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(path)
	wantError(t, err, centram.Invalid, "100%d.gguf is empty")
}

func TestReadKnowsVersion2(t *testing.T) {
	b := everyKind(t)
	b[4] = 2
	if f := mustRead(t, b); f.Version != 2 {
		t.Errorf("version is %d, want 2", f.Version)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(everyKind(f))
	f.Add(tiny(f))
	f.Add(rewrite(f, cut(f, openBytes(f, tiny(f)), 0, 1).Parts[0]))
	for _, file := range hostile() {
		f.Add(file.b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := read(b)
		if err != nil {
			if code := centram.CodeOf(err); code != centram.Invalid {
				t.Fatalf("got code %s for %v, want %s", code, err, centram.Invalid)
			}
			return
		}
		for _, tensor := range file.Tensors {
			if _, err := io.Copy(io.Discard, file.Data(tensor)); err != nil {
				t.Fatalf("read tensor %s: %v", tensor.Name, err)
			}
			if tensor.Offset < 0 || tensor.Size < 0 || tensor.Offset+tensor.Size > int64(len(b)) {
				t.Fatalf("tensor %+v is outside a file of %d bytes", tensor, len(b))
			}
		}
		CheckModel(file)
		if file.Alignment != DefaultAlignment {
			return
		}
		// What can be read can be written, and is then read the same.
		again := mustRead(t, rewrite(t, file))
		if !sameMetadata(again.Metadata, file.Metadata) || len(again.Tensors) != len(file.Tensors) {
			t.Fatalf("written and read again, the file differs")
		}
	})
}

// sameMetadata compares the bytes, since NaN is not equal to itself.
func sameMetadata(a, b []KV) bool {
	x, _, errX := layout(a, nil)
	y, _, errY := layout(b, nil)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
