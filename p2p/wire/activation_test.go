package wire

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"github.com/centram/centram"
)

// handMade are the samples of this family whose bodies are laid out by hand.
func handMade(t *testing.T, each func(m Message, body []byte)) {
	t.Helper()
	for _, m := range activationSamples {
		if _, ok := m.(raw); !ok {
			continue
		}
		body, err := Encode(m)
		if err != nil {
			t.Fatalf("%s: %v", RowFor(m).Name, err)
		}
		each(m, body)
	}
}

func decodeBody(m Message, body []byte) (Message, error) {
	return (&Frame{Type: RowFor(m).Type, Body: body}).Decode()
}

func TestAHandMadeBodyHasOneLength(t *testing.T) {
	handMade(t, func(m Message, body []byte) {
		for n := range body {
			if s, ok := m.(*SpecBatch); ok && n > stepSize && (n-stepSize)%4 == 0 && n < stepSize+4*len(s.Tokens) {
				continue // a shorter draft is one, too
			}
			if _, err := decodeBody(m, body[:n]); err == nil {
				t.Errorf("%s: the first %d of %d bytes are a message", RowFor(m).Name, n, len(body))
			}
		}
		if _, err := decodeBody(m, append(bytes.Clone(body), 0)); err == nil {
			t.Errorf("%s: a byte too many is accepted", RowFor(m).Name)
		}
	})
}

// TestAHandMadeBodyIsWrittenInOneWay changes every bit: what is still a message has to be written with that bit again.
func TestAHandMadeBodyIsWrittenInOneWay(t *testing.T) {
	handMade(t, func(m Message, body []byte) {
		for i := range 8 * len(body) {
			changed := bytes.Clone(body)
			changed[i/8] ^= 1 << (i % 8)
			back, err := decodeBody(m, changed)
			if err != nil {
				continue
			}
			again, err := Encode(back)
			if err != nil || !bytes.Equal(again, changed) {
				t.Errorf("%s, bit %d of byte %d: got %x and %v, want %x", RowFor(m).Name, i%8, i/8, again, err, changed)
			}
		}
	})
}

func TestHostileActivationsAreRefused(t *testing.T) {
	fwd := &ActFwd{Step: step, Tokens: 1, Width: 2, Rows: make([]byte, 8)}
	ret := &ActRet{Step: step, Tokens: 1, Width: 2, Kind: LogitRows, Rows: make([]byte, 8)}
	sync := &KVSync{Step: step, Tokens: 1, End: 78, First: 3, Layers: 1, KeyWidth: 2, ValueWidth: 2, Rows: make([]byte, 16)}
	trim := &KVTrim{Step: step}
	spec := &SpecBatch{Step: step, Tokens: []uint32{1, 2}}
	type patch struct {
		at    int
		bytes []byte
	}
	u16 := func(at int, v uint16) patch { return patch{at, binary.BigEndian.AppendUint16(nil, v)} }
	u32 := func(at int, v uint32) patch { return patch{at, binary.BigEndian.AppendUint32(nil, v)} }
	u8 := func(at int, v byte) patch { return patch{at, []byte{v}} }
	for _, test := range []struct {
		name    string
		m       Message
		patches []patch
	}{
		{"no chain", fwd, []patch{{0, make([]byte, 16)}}},
		{"no tokens", fwd, []patch{u16(30, 0)}},
		{"more tokens than rows", fwd, []patch{u16(30, 2)}},
		{"65535 tokens", fwd, []patch{u16(30, math.MaxUint16)}},
		{"a row without numbers", fwd, []patch{u32(32, 0)}},
		{"a width whose bytes are 0 in 32 bits", fwd, []patch{u32(32, 1<<30)}},
		{"a width whose bytes are 8 in 32 bits", fwd, []patch{u32(32, 1<<30+2)}},
		{"tokens and width whose bytes are 0 in 32 bits", fwd, []patch{u16(30, 1<<15), u32(32, 1<<20)}},
		{"the largest width", fwd, []patch{u32(32, math.MaxUint32)}},
		{"another dtype than the rows have", fwd, []patch{u8(36, byte(F16))}},
		{"blocks that are not whole", fwd, []patch{u8(36, byte(Q8))}},
		{"an unknown dtype", fwd, []patch{u8(36, 3)}},
		{"an unknown wish", fwd, []patch{u8(37, 4)}},
		{"an unknown flag", fwd, []patch{u16(38, 1<<4)}},
		{"a flag in the high byte", fwd, []patch{u16(38, 1<<15)}},
		{"all rows of nothing", fwd, []patch{u16(38, uint16(FwdEvery))}},
		{"a replay that wants rows", fwd, []patch{u8(37, byte(LogitRows)), u16(38, uint16(FwdReplay))}},
		{"candidates of nothing", fwd, []patch{u32(40, 5)}},
		{"no candidates", fwd, []patch{u8(37, byte(TopRows))}},
		{"more candidates than tokens exist", fwd, []patch{u8(37, byte(TopRows)), u32(40, math.MaxUint32)}},
		{"a position after the last one", fwd, []patch{u32(24, math.MaxUint32)}},
		{"a position at the last one", fwd, []patch{u32(24, maxPos)}},

		{"no rows", ret, []patch{u16(30, 0)}},
		{"more rows than bytes", ret, []patch{u16(30, 2)}},
		{"candidates without ids", ret, []patch{u8(37, byte(TopRows))}},
		{"candidates whose bytes are 8 in 32 bits", ret, []patch{u8(37, byte(TopRows)), u32(32, 1<<29+1)}},
		{"rows of nothing", ret, []patch{u8(37, byte(NoRows))}},
		{"an unknown kind", ret, []patch{u8(37, 4)}},
		{"logits in blocks", ret, []patch{u8(36, byte(Q8)), u32(32, 32)}},
		{"a width of 2^31", ret, []patch{u32(32, 1<<31)}},

		{"no layers", sync, []patch{u16(38, 0)}},
		{"more layers than rows", sync, []patch{u16(38, 2)}},
		{"65535 layers of 65535 tokens", sync, []patch{u16(30, math.MaxUint16), u16(38, math.MaxUint16), u32(32, maxPos)}},
		{"layers after the last one", sync, []patch{u16(36, math.MaxUint16)}},
		{"no keys", sync, []patch{u32(40, 0), u32(44, 4)}},
		{"no values", sync, []patch{u32(40, 4), u32(44, 0)}},
		{"keys whose bytes are 0 in 32 bits", sync, []patch{u32(40, 1<<30), u32(44, 4)}},
		{"unknown keys", sync, []patch{u8(48, 9)}},
		{"unknown values", sync, []patch{u8(49, 9)}},
		{"an end before the part", sync, []patch{u32(32, 77)}},
		{"an end after the last position", sync, []patch{u32(32, math.MaxUint32)}},

		{"no chain to trim", trim, []patch{{0, make([]byte, 16)}}},
		{"a trim after the last position", trim, []patch{u32(24, math.MaxUint32)}},
		{"a token that no vocabulary has", spec, []patch{u32(30, math.MaxUint32)}},
		{"a draft after the last position", spec, []patch{u32(24, maxPos-1)}},
	} {
		body, err := Encode(test.m)
		if err != nil {
			t.Fatalf("%s: before the change: %v", test.name, err)
		}
		for _, p := range test.patches {
			copy(body[p.at:], p.bytes)
		}
		if got, err := decodeBody(test.m, body); asCode(err) != Malformed {
			t.Errorf("%s: got %+v and %v, want %v", test.name, got, err, Malformed)
		}
	}

	endless := append((&SpecBatch{Step: step}).Step.append(nil), make([]byte, 4*(maxDraft+1))...)
	if _, err := decodeBody(spec, endless); asCode(err) != Malformed {
		t.Errorf("a draft of %d tokens: got %v, want %v", maxDraft+1, err, Malformed)
	}
}

func asCode(err error) StatusCode {
	if s, ok := asStatus(err); ok {
		return s.Code
	}
	return OK
}

func TestAPromptOf512TokensFitsAFrame(t *testing.T) {
	m := &ActFwd{Step: step, Tokens: 512, Width: 8192, DType: F16}
	m.Rows = make([]byte, 512*m.DType.row(m.Width))
	f, err := Seal(m, testKey, testScope, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read(bytes.NewReader(f.Append(nil)))
	if err != nil {
		t.Fatal(err)
	}
	back, err := got.Decode()
	if err != nil {
		t.Fatal(err)
	}
	if rows := back.(*ActFwd).Rows; len(rows) != len(m.Rows) || &rows[0] != &got.Body[fwdHead] {
		t.Errorf("%d bytes of rows, want %d that are a part of the body", len(rows), len(m.Rows))
	}
	m.Rows = m.Rows[1:]
	if _, err := Encode(m); centram.CodeOf(err) != centram.Invalid {
		t.Errorf("a byte too few: got %v, want %v", err, centram.Invalid)
	}
}
