package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
)

// Run computes the digests of models that have none, one file at a time, until ctx ends. Then it returns nil.
func (l *Library) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.unhashed:
		}
		if err := l.hashAll(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

func (l *Library) wakeHasher() {
	select {
	case l.unhashed <- struct{}{}:
	default:
	}
}

func (l *Library) hashAll(ctx context.Context) error {
	list, err := allModels(ctx, l.DB)
	if err != nil {
		return fmt.Errorf("look for models without digest: %w", err)
	}
	for _, m := range list {
		if m.State != Ready || m.Digest != "" || !slices.Equal(fingerprint(paths(m.files)), m.files) {
			continue
		}
		digest, err := hash(ctx, m.files)
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			slog.WarnContext(ctx, "Digest of a model not computed", "model", m.Name, "err", err)
			continue
		}
		if err := l.setDigest(ctx, m, digest); err != nil {
			return err
		}
	}
	return nil
}

// setDigest stores the digest of m unless its files have changed while it was computed.
func (l *Library) setDigest(ctx context.Context, m Model, digest string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(fingerprint(paths(m.files)), m.files) {
		return nil
	}
	_, err := l.DB.ExecContext(ctx, `UPDATE models SET digest = ? WHERE path = ?`, digest, m.Path)
	if err != nil {
		return fmt.Errorf("store the digest of %s: %w", m.Name, err)
	}
	return nil
}

func hash(ctx context.Context, files []file) (string, error) {
	sum := sha256.New()
	for _, f := range files {
		if err := hashFile(ctx, sum, f.Path); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func hashFile(ctx context.Context, sum io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := io.CopyN(sum, f, 1<<20)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
