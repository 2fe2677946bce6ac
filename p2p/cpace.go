package p2p

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/gtank/ristretto255"
)

// cpace is one side of a password-authenticated key exchange: CPace over ristretto255 with SHA-512, as in
// draft-irtf-cfrg-cpace-21. Who does not know the code learns nothing from the exchange but whether one guess was right, so a
// code of a few digits is enough as long as guesses are counted.
type cpace struct {
	scalar *ristretto255.Scalar
	share  []byte
	sid    []byte
}

const (
	cpaceName  = "CPaceRistretto255"
	sha512Size = 128 // bytes of a block
)

// newCPace starts an exchange. channel names both parties, sid is the same for both and never twice.
func newCPace(code string, channel, sid []byte) *cpace {
	var random [64]byte
	rand.Read(random[:])                                             // never fails
	scalar, _ := ristretto255.NewScalar().SetUniformBytes(random[:]) // fails for another length alone
	share := ristretto255.NewIdentityElement().ScalarMult(scalar, generator(code, channel, sid))
	return &cpace{scalar, share.Bytes(), sid}
}

// generator is the point that takes the place of the group's own one: only who knows the code can find it.
func generator(code string, channel, sid []byte) *ristretto255.Element {
	g, _ := ristretto255.NewIdentityElement().SetUniformBytes(sum512(generatorString(code, channel, sid))) // as above
	return g
}

// generatorString pads the code so that it fills the hash's first block, whatever its length.
func generatorString(code string, channel, sid []byte) []byte {
	pad := max(0, sha512Size-1-len(withLength(nil, []byte(code)))-len(withLength(nil, []byte(cpaceName))))
	b := withLength(nil, []byte(cpaceName))
	b = withLength(b, []byte(code))
	b = withLength(b, make([]byte, pad))
	b = withLength(b, channel)
	return withLength(b, sid)
}

// proofs takes the other side's share and returns what each side has to show. It fails if the share is not a point that
// an honest side would send. asker and answerer are the shares in this order on both sides.
func (c *cpace) proofs(theirs, asker, answerer []byte) (askers, answerers []byte, err error) {
	// No associated data: the session's secret covers both identities.
	key, err := c.key(theirs, slices.Concat(withLength(withLength(nil, asker), nil), withLength(withLength(nil, answerer), nil)))
	if err != nil {
		return nil, nil, err
	}
	return tag(key, "asker"), tag(key, "answerer"), nil
}

// key is the ISK of the draft: the same on both sides if both know the code and have seen the same transcript.
func (c *cpace) key(theirs, transcript []byte) ([]byte, error) {
	point, err := ristretto255.NewIdentityElement().SetCanonicalBytes(theirs)
	if err != nil {
		return nil, err
	}
	secret := ristretto255.NewIdentityElement().ScalarMult(c.scalar, point)
	if secret.Equal(ristretto255.NewIdentityElement()) == 1 {
		return nil, errors.New("the share is the neutral element")
	}
	b := withLength(nil, []byte(cpaceName+"_ISK"))
	b = withLength(b, c.sid)
	b = withLength(b, secret.Bytes())
	return sum512(append(b, transcript...)), nil
}

func tag(key []byte, who string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("centram/1/pair/" + who))
	return mac.Sum(nil)
}

func sum512(b []byte) []byte {
	sum := sha512.Sum512(b)
	return sum[:]
}

func withLength(b, part []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}
