package wire

import (
	"bytes"
	"reflect"
	"runtime/metrics"
	"testing"
)

// FuzzDecode reads bytes as all that they may be: a frame, the body of a type, a record. What can be read is what would be
// written, to the bit; what cannot be read is refused, without a panic and without taking much memory for it.
func FuzzDecode(f *testing.F) {
	for _, m := range samples {
		frame, err := Seal(m, testKey, testScope, 0, 42)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame.Append(nil))
		f.Add(append([]byte{byte(frame.Type)}, frame.Body...))
		f.Add([]byte(RecordOf(frame)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		given, most := bytes.Clone(b), uint64(1<<20+200*len(b))
		for try := 1; ; try++ {
			before := allocated()
			fuzzAll(t, b)
			got := allocated() - before
			if got <= most {
				break
			}
			if try == 3 { // now and then it was the fuzzer that took it
				t.Errorf("%d bytes of memory for %d bytes, want at most %d", got, len(b), most)
				break
			}
		}
		if !bytes.Equal(b, given) {
			t.Error("the bytes were changed")
		}
	})
}

func fuzzAll(t *testing.T, b []byte) {
	t.Helper()
	fuzzFrame(t, b)
	if len(b) > 0 {
		fuzzBody(t, &Frame{Type: Type(b[0]), Body: b[1:]})
	}
	fuzzRecord(t, b)
}

func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

func fuzzFrame(t *testing.T, b []byte) {
	t.Helper()
	f, err := Parse(b)
	read, errRead := Read(bytes.NewReader(b))
	if err != nil {
		if errRead == nil && len(read.Append(nil)) == len(b) {
			t.Errorf("Read takes what Parse does not: %v", err)
		}
		return
	}
	if errRead != nil || !reflect.DeepEqual(read, f) && len(f.Body) > 0 {
		t.Errorf("Read: got %+v %v, want %+v", read, errRead, f)
	}
	if again := f.Append(nil); !bytes.Equal(again, b) || f.Size() != len(b) {
		t.Errorf("written again: got %x, want %x", again, b)
	}
	fuzzBody(t, f)
}

func fuzzBody(t *testing.T, f *Frame) {
	t.Helper()
	m, err := f.Decode()
	if err != nil {
		if _, ok := asStatus(err); !ok {
			t.Errorf("%s: got %v, want a status", f.Type, err)
		}
		return
	}
	_ = f.Verify(testScope) // may fail, but not panic
	if err := m.Validate(); err != nil {
		t.Errorf("%s: decoded, but %v", f.Type, err)
	}
	row := RowFor(m)
	if row.Type != f.Type {
		t.Errorf("%s: decoded as %s", f.Type, row.Name)
	}
	if len(f.Body) > row.Max {
		return // Parse and Read refuse it
	}
	again, err := Encode(m)
	if err != nil || !bytes.Equal(again, f.Body) {
		t.Errorf("%s: written again: got %x %v, want %x", f.Type, again, err, f.Body)
	}
}

func fuzzRecord(t *testing.T, b []byte) {
	t.Helper()
	r := Record(b)
	f, err := r.Frame()
	if err != nil {
		return
	}
	if again := RecordOf(f); !bytes.Equal(again, b) {
		t.Errorf("written again: got %x, want %x", again, b)
	}
	if _, err := r.ID(testScope.Network); err != nil {
		t.Errorf("%s: id: %v", f.Type, err)
	}
	if _, author, err := r.Open(testScope.Network); err == nil && author != f.Author {
		t.Errorf("%s: author %v, want %v", f.Type, author, f.Author)
	}
	fuzzBody(t, f)
}
