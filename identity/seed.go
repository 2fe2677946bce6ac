package identity

import (
	"encoding/base64"
	"errors"
)

// seed is a private key; in text it is base64, and in a log it is nothing.
type seed []byte

func (s seed) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, s), nil
}

func (s *seed) UnmarshalText(text []byte) error {
	b, err := base64.StdEncoding.Strict().AppendDecode(nil, text)
	if err != nil {
		return errors.New("a key is not base64") // without the text, which is secret
	}
	*s = b
	return nil
}

func (seed) String() string { return "(secret)" }
