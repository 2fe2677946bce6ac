package gguf

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/centram/centram"
)

// writeParts writes the tiny model in n parts and returns their paths. The keys of a part can be changed.
func writeParts(t testing.TB, n int, change func(part int, metadata []KV) []KV) []string {
	t.Helper()
	whole := mustRead(t, tiny(t))
	tensors := contents(whole)
	dir := t.TempDir()
	var paths []string
	for i := range n {
		metadata := []KV{
			{"split.no", Of(uint16(i))},
			{"split.count", Of(uint16(n))},
			{"split.tensors.count", Of(int32(len(tensors)))},
		}
		if i == 0 {
			metadata = append(metadata, whole.Metadata...)
		}
		if change != nil {
			metadata = change(i, metadata)
		}
		var b bytes.Buffer
		if err := Write(&b, metadata, tensors[i*len(tensors)/n:(i+1)*len(tensors)/n]); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, fmt.Sprintf("m-%05d-of-%05d.gguf", i+1, n))
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func TestOpenModelJoinsParts(t *testing.T) {
	paths := writeParts(t, 3, nil)
	whole := mustRead(t, tiny(t))
	for _, path := range paths { // any of them stands for the model
		m, err := OpenModel(path)
		if err != nil {
			t.Fatal(err)
		}
		if m.Path() != paths[0] || len(m.Parts) != 3 || len(m.Tensors) != len(whole.Tensors) {
			t.Errorf("got path %s, %d parts, %d tensors", m.Path(), len(m.Parts), len(m.Tensors))
		}
		for _, want := range whole.Tensors {
			got, ok := m.Tensor(want.Name)
			if !ok || !bytes.Equal(data(t, m.Data(got)), data(t, whole.Data(want))) {
				t.Errorf("tensor %s of the parts differs from that of the whole", want.Name)
			}
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if err := m.Close(); err != nil {
			t.Errorf("closed again: %v", err)
		}
	}
}

func data(t testing.TB, r io.Reader) []byte {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPartTellsItsSiblings(t *testing.T) {
	paths := writeParts(t, 2, nil)
	f, err := Open(paths[1])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	split, ok, err := f.Split()
	if err != nil || !ok || split.No != 1 || split.Count != 2 ||
		strings.Join(split.Files, " ") != "m-00001-of-00002.gguf m-00002-of-00002.gguf" {
		t.Errorf("got %+v, %v, %v", split, ok, err)
	}
	_, err = CheckModel(f)
	wantError(t, err, centram.Invalid, "is part 2 of 2 of a split model")
}

func TestOpenModelRefusesBrokenSplits(t *testing.T) {
	set := func(part int, key string, v Value) func(int, []KV) []KV {
		return func(i int, metadata []KV) []KV {
			for j := range metadata {
				if i == part && metadata[j].Key == key {
					metadata[j].Value = v
				}
			}
			return metadata
		}
	}
	for name, row := range map[string]struct {
		change func(int, []KV) []KV
		after  func(paths []string) error
		want   string
		code   centram.Code
	}{
		"part missing": {
			after: func(p []string) error { return os.Remove(p[2]) },
			want:  "part 3 of 3 of the model, is missing", code: centram.NotFound,
		},
		"part cut short": {
			after: func(p []string) error { return os.Truncate(p[1], 500) },
			want:  "is cut short", code: centram.Invalid,
		},
		"part twice": {
			after: func(p []string) error { return copyFile(p[1], p[2]) },
			want:  "named part 3 of 3 but says it is part 2 of 3", code: centram.Invalid,
		},
		"part of another kind": {
			after:  nil,
			change: set(2, "split.no", Of(uint32(2))),
			want:   "split.no is missing or not a u16", code: centram.Invalid,
		},
		"part beyond the count": {
			change: set(2, "split.no", Of(uint16(9))), want: "part 10 of 3", code: centram.Invalid,
		},
		"another count": {
			change: set(1, "split.count", Of(uint16(4))), want: "named part 2 of 3 but says", code: centram.Invalid,
		},
		"part not a part": {
			change: set(1, "split.count", Of(uint16(1))), want: "is not part 2 of 3", code: centram.Invalid,
		},
		"tensors missing": {
			change: set(0, "split.tensors.count", Of(int32(99))), want: "split.tensors.count says 99", code: centram.Invalid,
		},
		"count of another kind": {
			change: set(0, "split.tensors.count", Of(uint32(27))), want: "split.tensors.count says 0", code: centram.Invalid,
		},
		"renamed": {
			after: func(p []string) error { return os.Rename(p[0], filepath.Join(filepath.Dir(p[0]), "m.gguf")) },
			want:  "is not named like one", code: centram.Invalid,
		},
	} {
		t.Run(name, func(t *testing.T) {
			paths := writeParts(t, 3, row.change)
			open := paths[0]
			if row.after != nil {
				if err := row.after(paths); err != nil {
					t.Fatal(err)
				}
			}
			if name == "renamed" {
				open = filepath.Join(filepath.Dir(open), "m.gguf")
			}
			_, err := OpenModel(open)
			wantError(t, err, row.code, row.want)
		})
	}
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}
