package gguf

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/centram/centram"
)

// TensorData is a tensor to be written.
type TensorData struct {
	Name string
	Type Type
	Dims []uint64

	// Write writes the data: exactly as many bytes as Type and Dims make. It is called once, when it is its turn. Nil
	// means zeros, which take no space on the disk if the file can have holes.
	Write func(io.Writer) error
}

// Copy makes a TensorData.Write of a reader.
func Copy(r io.Reader) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	}
}

// Write writes a GGUF file of version 3 with DefaultAlignment. The same arguments give the same bytes, and what was
// read from a file that Write made gives that file again. It refuses what Read would refuse, before it writes anything.
func Write(w io.Writer, metadata []KV, tensors []TensorData) error {
	header, f, err := layout(metadata, tensors)
	if err != nil {
		return err
	}
	return writeTo(w, header, f, tensors)
}

// layout returns the header of the file to be written, padding included, and that file as Read will see it.
func layout(metadata []KV, tensors []TensorData) ([]byte, *File, error) {
	b := []byte("GGUF")
	b = binary.LittleEndian.AppendUint32(b, 3)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(tensors)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(metadata)))
	for _, kv := range metadata {
		if a, ok := kv.Value.v.(uint32); kv.Key == "general.alignment" && (!ok || a != DefaultAlignment) {
			return nil, nil, centram.Errorf(centram.Invalid, "a GGUF file is written with an alignment of %d, not %v",
				DefaultAlignment, kv.Value.v)
		}
		var err error
		if b, err = kv.Value.append(appendString(b, kv.Key)); err != nil {
			return nil, nil, fmt.Errorf("write the key %s: %w", kv.Key, err)
		}
	}
	size := int64(0)
	for _, t := range tensors {
		b = appendString(b, t.Name)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(t.Dims)))
		for _, d := range t.Dims {
			b = binary.LittleEndian.AppendUint64(b, d)
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(t.Type))
		b = binary.LittleEndian.AppendUint64(b, uint64(size))
		if len(t.Dims) > 0 {
			n, reason := dataSize(t.Type, t.Dims)
			if reason != "" {
				return nil, nil, centram.Errorf(centram.Invalid, "the tensor %s to be written %s", t.Name, reason)
			}
			if size = pad(size+n, DefaultAlignment); size < 0 {
				return nil, nil, centram.Errorf(centram.Invalid, "the tensors to be written are too large")
			}
		}
	}
	b = append(b, make([]byte, pad(int64(len(b)), DefaultAlignment)-int64(len(b)))...)
	if size += int64(len(b)); size < 0 {
		return nil, nil, centram.Errorf(centram.Invalid, "the tensors to be written are too large")
	}
	// Reading back what was made keeps the writer exactly as strict as the reader.
	f, err := Limits{}.parse("the file to be written", bytes.NewReader(b), size)
	return b, f, err
}

func writeTo(w io.Writer, header []byte, f *File, tensors []TensorData) error {
	out := &sink{Writer: bufio.NewWriterSize(w, 1<<20), under: w}
	if _, err := out.Write(header); err != nil {
		return fmt.Errorf("write the header: %w", err)
	}
	for i, t := range tensors {
		size := f.Tensors[i].Size
		if err := out.tensor(size, t.Write); err != nil {
			return fmt.Errorf("write tensor %s: %w", t.Name, err)
		}
		if _, err := out.Write(make([]byte, pad(size, DefaultAlignment)-size)); err != nil {
			return fmt.Errorf("write tensor %s: %w", t.Name, err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write the last tensor: %w", err)
	}
	return nil
}

// sink is what a file is written through.
type sink struct {
	*bufio.Writer
	under io.Writer
}

func (s *sink) tensor(size int64, write func(io.Writer) error) error {
	if write == nil {
		return s.zeros(size)
	}
	left := &exactly{w: s, left: size}
	if err := write(left); err != nil {
		return err
	}
	if left.left != 0 {
		return fmt.Errorf("its data is %d bytes short", left.left)
	}
	return nil
}

// zeros writes n zeros, as a hole if what is written to is a file.
func (s *sink) zeros(n int64) error {
	if err := s.Flush(); err != nil {
		return err
	}
	file, ok := s.under.(interface {
		io.Seeker
		Truncate(int64) error
	})
	var at int64
	if ok {
		var err error
		at, err = file.Seek(0, io.SeekCurrent)
		ok = err == nil // a pipe cannot seek
	}
	if !ok {
		_, err := io.CopyN(s, zeroReader{}, n)
		return err
	}
	for _, size := range []int64{at, at + n} { // the first drops what may have been there before
		if err := file.Truncate(size); err != nil {
			return err
		}
	}
	_, err := file.Seek(at+n, io.SeekStart)
	return err
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// exactly refuses to write more than is left.
type exactly struct {
	w    io.Writer
	left int64
}

func (e *exactly) Write(p []byte) (int, error) {
	if int64(len(p)) > e.left {
		return 0, fmt.Errorf("its data is longer than its shape says")
	}
	n, err := e.w.Write(p)
	e.left -= int64(n)
	return n, err
}
