package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"golang.org/x/sys/unix"
)

// write writes the drafted file to path, where it appears when it is whole and was checked once more.
func write(ctx context.Context, d *gguf.Draft, path string, progress func(done, total int64)) (gguf.Summary, error) {
	f, err := newHidden(path)
	if err != nil {
		return gguf.Summary{}, explain(path, err)
	}
	defer f.discard()
	if err := d.Write(&watched{ctx: ctx, w: f, total: d.Size, told: progress}); err != nil {
		return gguf.Summary{}, explain(path, err)
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync()); err != nil {
		return gguf.Summary{}, explain(path, err)
	}
	written, err := gguf.OpenModel(f.where())
	if err != nil {
		return gguf.Summary{}, fmt.Errorf("check what was written: %w", err)
	}
	sum := written.Summary
	if err := errors.Join(written.Close(), ctx.Err()); err != nil {
		return gguf.Summary{}, err
	}
	if err := f.appear(path); err != nil {
		return gguf.Summary{}, explain(path, err)
	}
	return sum, nil
}

// watched is a file being written: it tells how far it has come, and stops when ctx ends.
type watched struct {
	ctx         context.Context // of one write
	w           io.Writer
	done, total int64
	told        func(done, total int64)
}

func (w *watched) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.w.Write(p)
	w.done += int64(n)
	if w.told != nil {
		w.told(w.done, w.total)
	}
	return n, err
}

// explain turns a full disk and a taken name into what a person can act on.
func explain(path string, err error) error {
	_, ours := errors.AsType[*centram.Error](err)
	switch {
	case ours || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return centram.Errorf(centram.Unavailable, "the disk is full: %w", err).WithHint("Free some room and convert again: nothing was left there.")
	case errors.Is(err, os.ErrExist):
		return exists(path)
	}
	return fmt.Errorf("write %s: %w", path, err)
}

// enough fails with Unavailable if a folder has no room for a file.
func enough(folder string, size int64, free func(string) (int64, error)) error {
	have, err := free(folder)
	if errors.Is(err, os.ErrNotExist) {
		return centram.Errorf(centram.NotFound, "there is no folder %s to write to: %w", folder, err).WithHint("Make it first.")
	}
	if err != nil {
		return fmt.Errorf("look how much room %s has: %w", folder, err)
	}
	if have < size {
		return centram.Errorf(centram.Unavailable, "the model takes %s, but %s has room for %s only", bytesText(size), folder, bytesText(have)).
			WithHint("Free some room, or write the file to another disk.")
	}
	return nil
}

func bytesText(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

func freeBytes(folder string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(folder, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
