package download

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
)

func newHash() hash.Hash { return sha256.New() }

// Digest is the SHA-256 of a file in hex. It tells how many bytes it has read.
func Digest(ctx context.Context, path string, tell func(done int64)) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := newHash()
	for done := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return "", context.Cause(ctx)
		}
		n, err := io.CopyN(sum, f, 4<<20)
		done += n
		tell(done)
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(sum.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}
