package p2p

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/gtank/ristretto255"
)

// The values are those of draft-irtf-cfrg-cpace-21, appendix B.3.
func TestCPaceGivesTheValuesOfTheDraft(t *testing.T) {
	sid := unhex(t, "7e4b4791d6a8ef019b936c79fb7f2c57")
	channel := []byte("\x0bA_initiator\x0bB_responder")
	want := func(what, want string, got []byte) {
		t.Helper()
		if hex.EncodeToString(got) != want {
			t.Errorf("%s: got %x, want %s", what, got, want)
		}
	}
	g := generator("Password", channel, sid)
	want("generator", "222b6b195fe84b1652badb6f6a3ae3d24341e7306967f0b8115b40d5698c7e56", g.Bytes())
	a := &cpace{scalar: scalar(t, "da3d23700a9e5699258aef94dc060dfda5ebb61f02a5ea77fad53f4ff0976d08"), sid: sid}
	b := &cpace{scalar: scalar(t, "d2316b454718c35362d83d69df6320f38578ed5984651435e2949762d900b80d"), sid: sid}
	for _, c := range []*cpace{a, b} {
		c.share = ristretto255.NewIdentityElement().ScalarMult(c.scalar, g).Bytes()
	}
	want("share of A", "d6bac480f2c386c394efc7c47adb9925dcd2630b64f240c50f8d0eec482b9157", a.share)
	want("share of B", "3ea7e0b19560d7c0b0f5734f63b955286dfa8232b5ebe63324e2d9e7433f7258", b.share)
	transcript := slices.Concat(withLength(withLength(nil, a.share), []byte("ADa")), withLength(withLength(nil, b.share), []byte("ADb")))
	for name, k := range map[string]func() ([]byte, error){
		"key of A": func() ([]byte, error) { return a.key(b.share, transcript) },
		"key of B": func() ([]byte, error) { return b.key(a.share, transcript) },
	} {
		got, err := k()
		if err != nil {
			t.Fatal(err)
		}
		want(name, "b69effbf61b51d56401c0f65601abe428de8206feaaf0e32198896dcae7b35cd2b38950a39dfd5d4a79164614c2984f7daa460b588c1e80c3fa2068af7900447", got)
	}
}

func TestCPaceProofsAreRightForTheSameCodeAlone(t *testing.T) {
	for name, other := range map[string]struct{ code, channel, sid string }{
		"the same":        {"12345678", "ab", "s"},
		"another code":    {"12345679", "ab", "s"},
		"another pair":    {"12345678", "ac", "s"},
		"another session": {"12345678", "ab", "r"},
	} {
		a := newCPace("12345678", []byte("ab"), []byte("s"))
		b := newCPace(other.code, []byte(other.channel), []byte(other.sid))
		a1, a2, err := a.proofs(b.share, a.share, b.share)
		if err != nil {
			t.Fatal(err)
		}
		b1, b2, err := b.proofs(a.share, a.share, b.share)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := bytes.Equal(a1, b1) && bytes.Equal(a2, b2), name == "the same"; got != want {
			t.Errorf("%s: the proofs are equal: %t", name, got)
		}
		if bytes.Equal(a1, a2) {
			t.Errorf("%s: one side could show what the other has shown", name)
		}
	}
}

func TestCPaceRefusesSharesThatNobodyHonestSends(t *testing.T) {
	c := newCPace("12345678", nil, nil)
	for name, share := range map[string][]byte{
		"the neutral element": make([]byte, 32),
		"no point":            bytes.Repeat([]byte{0xff}, 32),
		"too short":           make([]byte, 31),
		"none":                nil,
	} {
		if _, _, err := c.proofs(share, c.share, share); err == nil {
			t.Errorf("%s is taken for a share", name)
		}
	}
}

func scalar(t *testing.T, text string) *ristretto255.Scalar {
	t.Helper()
	s, err := ristretto255.NewScalar().SetCanonicalBytes(unhex(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
