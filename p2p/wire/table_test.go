package wire

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/centram/centram"
)

var (
	update      = flag.Bool("update", false, "rewrite the golden files")
	testKey     = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	strangerKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, ed25519.SeedSize))
	testScope   = Scope{Network: NetworkOf("test"), Session: Hash{1, 2, 3}}
)

func TestTheTableHasNinetySixTypes(t *testing.T) {
	if len(Table) != 96 {
		t.Errorf("the table has %d rows, want 96", len(Table))
	}
	names := map[string]bool{}
	for i, r := range Table {
		if i > 0 && Table[i-1].Type >= r.Type {
			t.Errorf("%s is not in the order of the numbers", r.Name)
		}
		if names[r.Name] {
			t.Errorf("%s is a name twice", r.Name)
		}
		names[r.Name] = true
		if r.About == "" || r.Max <= 0 {
			t.Errorf("%s: about %q, limit %d", r.Name, r.About, r.Max)
		}
		for _, reply := range r.Replies {
			if to := RowOf(reply); to == nil || to.Lane != r.Lane {
				t.Errorf("%s: its reply %v does not travel in its lane", r.Name, reply)
			}
		}
		if (r.Way == Spread) && r.Signature != ByAuthor {
			t.Errorf("%s is passed on, but not signed by its author", r.Name)
		}
	}
}

// TestEveryType goes over the whole table: what one type promises, all do.
func TestEveryType(t *testing.T) {
	for _, row := range Table {
		t.Run(row.Name, func(t *testing.T) {
			found := samplesOf(row.Type)
			if len(found) == 0 {
				t.Fatal("there is no sample")
			}
			allFieldsSet(t, found)
			var golden strings.Builder
			for _, m := range found {
				f, err := Seal(m, testKey, testScope, 0, 42)
				if err != nil {
					t.Fatalf("seal: %v", err)
				}
				whole := f.Append(nil)
				fmt.Fprintln(&golden, hex.EncodeToString(whole))
				roundTrip(t, m, f, whole)
				everyPrefixFails(t, m, f, whole)
				strangersAreRefused(t, &row, m, f)
			}
			overTheLimit(t, &row)
			compareGolden(t, filepath.Join("testdata", "golden", strings.ToLower(row.Name)+".hex"), golden.String())
		})
	}
}

func samplesOf(t Type) []Message {
	return slices.DeleteFunc(slices.Clone(samples), func(m Message) bool { return RowFor(m).Type != t })
}

// allFieldsSet wants every field to be set in one of the samples, so that the golden bytes cover it.
func allFieldsSet(t *testing.T, found []Message) {
	t.Helper()
	typ := reflect.TypeOf(found[0]).Elem()
	for i := range typ.NumField() {
		if !slices.ContainsFunc(found, func(m Message) bool { return !reflect.ValueOf(m).Elem().Field(i).IsZero() }) {
			t.Errorf("no sample sets the field %s", typ.Field(i).Name)
		}
	}
}

func roundTrip(t *testing.T, m Message, f *Frame, whole []byte) {
	t.Helper()
	if f.Size() != len(whole) {
		t.Errorf("size %d, want %d", f.Size(), len(whole))
	}
	for how, read := range map[string]func() (*Frame, error){
		"Read":  func() (*Frame, error) { return Read(bytes.NewReader(whole)) },
		"Parse": func() (*Frame, error) { return Parse(whole) },
	} {
		got, err := read()
		if err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		if err := got.Verify(testScope); err != nil {
			t.Errorf("%s: verify: %v", how, err)
		}
		back, err := got.Decode()
		if err != nil {
			t.Fatalf("%s: decode: %v", how, err)
		}
		if !reflect.DeepEqual(back, m) {
			t.Errorf("%s: got %+v, want %+v", how, back, m)
		}
		if again := got.Append(nil); !bytes.Equal(again, whole) {
			t.Errorf("%s: written again: got %x, want %x", how, again, whole)
		}
	}
}

func everyPrefixFails(t *testing.T, m Message, f *Frame, whole []byte) {
	t.Helper()
	for n := range whole {
		if _, err := Parse(whole[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are a frame", n, len(whole))
		}
		if _, err := Read(bytes.NewReader(whole[:n])); err == nil {
			t.Errorf("the first %d of %d bytes can be read", n, len(whole))
		} else if n > 0 && err == io.EOF {
			t.Errorf("the first %d of %d bytes end like a whole frame", n, len(whole))
		}
	}
	if _, byHand := m.(raw); byHand {
		return // its last field is the rest of the body; the length is in the header
	}
	for n := range f.Body {
		short := *f
		short.Body = f.Body[:n]
		if _, err := short.Decode(); err == nil {
			t.Errorf("the first %d of %d bytes of the body are a message", n, len(f.Body))
		}
	}
}

// strangersAreRefused wants the signature to fail for another author, another network, another session and another byte.
func strangersAreRefused(t *testing.T, row *Row, m Message, f *Frame) {
	t.Helper()
	if row.Signature == ByNobody {
		if f.Flags&Signed != 0 {
			t.Error("signed, but it should not be")
		}
		return
	}
	wants := func(what string, f Frame, scope Scope) {
		t.Helper()
		err := f.Verify(scope)
		if s, ok := errors.AsType[*Status](err); !ok || s.Code != BadSignature {
			t.Errorf("%s: got %v, want %v", what, err, BadSignature)
		}
	}
	forged := *f
	forged.Author = centram.PeerID(strangerKey.Public().(ed25519.PublicKey))
	wants("another author", forged, testScope)
	wants("another network", *f, Scope{NetworkOf("other"), testScope.Session})
	changed := *f
	changed.Body = slices.Clone(f.Body)
	changed.Body[len(changed.Body)-1] ^= 1
	wants("another byte", changed, testScope)
	other := Scope{testScope.Network, Hash{9}}
	if row.Signature == ByPeer {
		wants("another session", *f, other)
		replayed := *f
		replayed.Request++
		wants("another request", replayed, testScope)
	} else if err := f.Verify(other); err != nil {
		t.Errorf("a record does not hold in another session: %v", err)
	}
}

// overTheLimit wants a body over the row's limit to be refused before it is read.
func overTheLimit(t *testing.T, row *Row) {
	t.Helper()
	f := Frame{Type: row.Type, Body: make([]byte, row.Max+1)}
	if row.Signature != ByNobody {
		f.Flags |= Signed
	}
	var header [headerSize]byte
	copy(header[:], f.appendHeader(nil))
	_, err := Read(bytes.NewReader(header[:]))
	if s, ok := errors.AsType[*Status](err); !ok || s.Code != TooLarge {
		t.Errorf("over the limit: got %v, want %v", err, TooLarge)
	}
}

func compareGolden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the bytes have changed; peers in the field would not understand them.\ngot  %swant %s", got, want)
	}
}
