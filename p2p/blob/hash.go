package blob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

// hashRanges makes the manifests of ranges of a file, and tells how many bytes of them are done. It fails with
// centram.Conflict if the file has changed since it was looked at.
func hashRanges(ctx context.Context, file stamp, ranges []Range, tell func(done int64)) ([]*wire.Manifest, error) {
	f, err := os.Open(file.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := digestRanges(ctx, f, ranges, tell)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("hash %s: %w", file.Path, err)
	}
	if now, statErr := stampOfFile(file.Path); err != nil || statErr != nil || now != file {
		return nil, centram.Errorf(centram.Conflict, "%s has changed while it was read", file.Path).
			WithHint("Wait until nobody writes to it.")
	}
	return list, nil
}

// digestRanges reads a file once, in order, where the ranges are, and returns their manifests. It fails with io.EOF if the
// file is too short.
func digestRanges(ctx context.Context, f io.ReaderAt, ranges []Range, tell func(done int64)) ([]*wire.Manifest, error) {
	var all, waiting, open []*ranged
	for _, r := range ranges {
		all = append(all, &ranged{r, newDigester(r.Length)})
	}
	waiting = slices.Clone(all)
	slices.SortStableFunc(waiting, func(a, b *ranged) int { return cmp.Compare(a.Offset, b.Offset) })
	buf := make([]byte, wire.ChunkSize)
	at, done := int64(0), int64(0)
	for len(open)+len(waiting) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if len(open) == 0 {
			at = waiting[0].Offset
		}
		for len(waiting) > 0 && waiting[0].Offset < at+int64(len(buf)) {
			open, waiting = append(open, waiting[0]), waiting[1:]
		}
		end := at
		for _, r := range open {
			end = max(end, r.Offset+r.Length)
		}
		data := buf[:min(end-at, int64(len(buf)))]
		if n, err := f.ReadAt(data, at); n < len(data) {
			return nil, err
		}
		at += int64(len(data))
		for _, r := range open {
			done += r.take(data, at-int64(len(data)))
		}
		open = slices.DeleteFunc(open, func(r *ranged) bool { return r.Offset+r.Length <= at })
		tell(done)
	}
	list := make([]*wire.Manifest, len(all))
	for i, r := range all {
		list[i] = r.digester.end()
	}
	return list, nil
}

// ranged is a range that is being hashed.
type ranged struct {
	Range
	*digester
}

// take hashes what data, which lies in the file from at on, has of the range, and returns how many bytes that is.
func (r *ranged) take(data []byte, at int64) int64 {
	from := max(r.Offset-at, 0)
	to := min(r.Offset+r.Length-at, int64(len(data)))
	if from >= to {
		return 0
	}
	r.digester.take(data[from:to])
	return to - from
}
