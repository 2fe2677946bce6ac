package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"

	"github.com/centram/centram"
)

const downloadAgain = "Download it again; if it was copied, check that the copy finished."

// decoder reads the numbers and strings of a header. The first error sticks: later calls do nothing and return zero.
type decoder struct {
	name   string
	at     string // what is being read, for messages
	r      *bufio.Reader
	off    int64
	size   int64 // of the file
	limits Limits
	err    error
	buf    [4096]byte
}

// number reads one number or boolean.
func number[T Element](d *decoder) (v T) {
	if b := d.next(binary.Size(v)); b != nil {
		decode(d, b, &v)
	}
	return v
}

// numbers reads n of them. The list grows by what was read, never by what was promised.
func numbers[T Element](d *decoder, n uint64) []T {
	size := binary.Size(*new(T))
	out := []T{}
	if !d.room(n, uint64(size)) {
		return out
	}
	for n > 0 {
		k := int(min(n, uint64(len(d.buf)/size)))
		b := d.next(k * size)
		if b == nil {
			return nil
		}
		out = slices.Grow(out, k)[:len(out)+k]
		decode(d, b, out[len(out)-k:])
		n -= uint64(k)
	}
	return out
}

func decode(d *decoder, b []byte, v any) {
	switch v.(type) {
	case *bool, []bool:
		if slices.ContainsFunc(b, func(c byte) bool { return c > 1 }) {
			d.fail("is damaged: %s has a boolean that is neither 0 nor 1", d.at)
			return
		}
	}
	if _, err := binary.Decode(b, binary.LittleEndian, v); err != nil {
		d.err = fmt.Errorf("decode %s: %w", d.at, err)
	}
}

// string reads a string of at most limit bytes.
func (d *decoder) string(limit uint64) string {
	n := number[uint64](d)
	if d.err != nil {
		return ""
	}
	if n > limit {
		d.fail("is damaged: %s has a string of %d bytes, more than the %d allowed", d.at, n, limit)
		return ""
	}
	if !d.room(n, 1) {
		return ""
	}
	if n <= uint64(len(d.buf)) {
		return string(d.next(int(n)))
	}
	var out []byte
	for n > 0 {
		b := d.next(int(min(n, uint64(len(d.buf)))))
		if b == nil {
			return ""
		}
		out = append(out, b...)
		n -= uint64(len(b))
	}
	return string(out)
}

func (d *decoder) strings(n uint64) []string {
	out := []string{}
	if !d.room(n, 8) {
		return out
	}
	for range n {
		s := d.string(d.limits.StringBytes)
		if d.err != nil {
			return nil
		}
		out = append(out, s)
	}
	return out
}

// next reads n bytes, at most len(d.buf), which stay valid until the next call. It returns nil after an error.
func (d *decoder) next(n int) []byte {
	if !d.room(uint64(n), 1) {
		return nil
	}
	b := d.buf[:n]
	if _, err := io.ReadFull(d.r, b); err != nil {
		d.readFailed(err)
		return nil
	}
	d.off += int64(n)
	return b
}

// room reports whether n things of at least size bytes can still follow, and fails if not.
func (d *decoder) room(n, size uint64) bool {
	if d.err != nil {
		return false
	}
	hi, need := bits.Mul64(n, size)
	if hi != 0 || need > uint64(d.size-d.off) {
		d.short()
		return false
	}
	if need > uint64(d.limits.HeaderBytes-d.off) {
		d.fail("has a header of more than the %d bytes allowed", d.limits.HeaderBytes)
		return false
	}
	return true
}

// count checks a number of things to come, each of which takes at least size bytes.
func (d *decoder) count(n, limit, size uint64, what string) {
	if d.err == nil && n > limit {
		d.fail("is damaged: it declares %d %s, more than the %d allowed", n, what, limit)
	}
	d.at = "the list of " + what
	d.room(n, size)
}

func (d *decoder) readFailed(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		d.short() // it shrank under our eyes
		return
	}
	d.err = fmt.Errorf("read %s: %w", d.name, err)
}

func (d *decoder) short() {
	d.fail("is cut short: it ends at byte %d, inside %s", d.size, d.at)
	d.hint(downloadAgain)
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = centram.Errorf(centram.Invalid, "%s "+format, append([]any{d.name}, args...)...)
	}
}

func (d *decoder) hint(text string) {
	if e, ok := d.err.(*centram.Error); ok && text != "" && e.Hint == "" {
		d.err = e.WithHint("%s", text)
	}
}
