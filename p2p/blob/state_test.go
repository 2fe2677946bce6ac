package blob

import (
	"bytes"
	"testing"
)

func stateFile(n int, written ...uint32) []byte {
	s := state{manifestOf(content(n)), nil, nil}
	s.written = newSet(int(s.manifest.Count()))
	s.synced = newSet(int(s.manifest.Count()))
	for _, i := range written {
		s.written.add(i)
		s.synced.add(i / 2)
	}
	return s.encode()
}

func TestAStateIsReadAsItWasWritten(t *testing.T) {
	for _, b := range [][]byte{stateFile(0), stateFile(1, 0), stateFile(8*mib, 0, 7), stateFile(9*mib, 8)} {
		s, err := parseState(b)
		if err != nil || !bytes.Equal(s.encode(), b) {
			t.Errorf("got %v, %v; want the state of %d bytes", s, err, len(b))
		}
	}
}

func TestNothingButAWholeStateIsAState(t *testing.T) {
	b := stateFile(9*mib, 0, 8)
	for n := range b {
		if _, err := parseState(b[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are taken for a state", n, len(b))
		}
	}
	if _, err := parseState(append(bytes.Clone(b), 0)); err == nil {
		t.Error("a state and a byte are taken for a state")
	}
	head := len(b) - 4
	for n := range head {
		c := bytes.Clone(b)
		c[n] ^= 1
		if _, err := parseState(c); err == nil {
			t.Errorf("a state with byte %d changed is taken for one", n)
		}
	}
	b[len(b)-1] |= 1 << 1
	if _, err := parseState(b); err == nil {
		t.Error("a chunk behind the last one is taken for one")
	}
}

func FuzzState(f *testing.F) {
	b := stateFile(9*mib, 0, 3, 8)
	for _, b := range [][]byte{nil, b, b[:headSize], b[:len(b)-1], append(bytes.Clone(b), 0), stateFile(0), stateFile(1, 0)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseState(b)
		if err != nil {
			return
		}
		if s.manifest.Validate() != nil || !bytes.Equal(s.encode(), b) {
			t.Errorf("%d bytes are taken for a state that is written with %d", len(b), len(s.encode()))
		}
	})
}
