// Package gguf reads, checks, writes, cuts and makes GGUF files, the format in which llama.cpp keeps a model.
//
// It exists because a model file comes from strangers and llama.cpp trusts it: a hostile count, length or shape has
// more than once meant memory corruption there, and often means abort(). A file therefore goes through Open, which
// believes no number that the real file size does not bear out, and through CheckModel, which refuses the values that
// llama.cpp would abort on; only then may it be handed to llama.cpp.
//
// The bytes, all little-endian:
//
//	"GGUF"  u32 version  u64 tensors  u64 keys
//	keys    × { string key, u32 kind, value }          string: u64 length, bytes; list: u32 kind, u64 count, values
//	tensors × { string name, u32 rank, u64 dims[rank], u32 type, u64 offset }
//	padding to the alignment, then the tensors' data, in order, each padded to the alignment
//
// A File is safe for concurrent use until it is closed, since nothing changes it and its data is read with ReadAt. The
// package does not notice if the file on disk is changed after it was checked.
package gguf

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/centram/centram"
)

// The bounds that a file is held to unless Limits says otherwise. The largest vocabularies in use need 260 thousand
// strings and 16 MB of header; the bounds leave room above that and keep a hostile file's cost in memory small.
const (
	MaxHeaderBytes = 128 << 20
	MaxKeys        = 4096
	MaxKeyBytes    = 256
	MaxStringBytes = 16 << 20
	MaxListLen     = 1 << 22
	MaxTensors     = 65536
	MaxDims        = 4  // GGML_MAX_DIMS
	MaxNameBytes   = 63 // GGML_MAX_NAME, which counts the closing zero

	// MinAlignment and MaxAlignment bound general.alignment. A huge one makes ggml's rounding wrap around to zero.
	MinAlignment = 8
	MaxAlignment = 64 << 10

	// DefaultAlignment holds for a file that does not say, and for every file that this package writes.
	DefaultAlignment = 32
)

// Limits bounds what a file may declare. In each field zero means the Max constant of the same name.
type Limits struct {
	HeaderBytes int64 // everything before the tensors' data
	Keys        uint64
	KeyBytes    uint64
	StringBytes uint64
	ListLen     uint64
	Tensors     uint64
}

// Open opens and parses the GGUF file at path. The tensors' data is not read. An error is a *centram.Error: NotFound if
// nothing is there, Invalid if it is not a sound GGUF file.
func Open(path string) (*File, error) { return Limits{}.Open(path) }

// Read parses a GGUF file of size bytes from r, which it keeps for the tensors' data.
func Read(r io.ReaderAt, size int64) (*File, error) { return Limits{}.Read(r, size) }

// Open is like the function Open, within l.
func (l Limits) Open(path string) (*File, error) {
	// Stat before opening: opening a named pipe would wait for its other end.
	info, err := os.Stat(path)
	if err != nil {
		return nil, openError(path, err)
	}
	if info.IsDir() {
		return nil, centram.Errorf(centram.Invalid, "%s is a directory, not a GGUF file", path).
			WithHint("Name the .gguf file inside it.")
	}
	if !info.Mode().IsRegular() {
		return nil, centram.Errorf(centram.Invalid, "%s is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, openError(path, err)
	}
	if info, err = file.Stat(); err != nil {
		file.Close()
		return nil, openError(path, err)
	}
	f, err := l.parse(path, file, info.Size())
	if err != nil {
		file.Close()
		return nil, err
	}
	f.closer = file
	return f, nil
}

// Read is like the function Read, within l.
func (l Limits) Read(r io.ReaderAt, size int64) (*File, error) {
	name := "the file"
	if n, ok := r.(interface{ Name() string }); ok {
		name = n.Name()
	}
	return l.parse(name, r, size)
}

func openError(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		e := centram.Errorf(centram.NotFound, "%s does not exist", path)
		e.Err = err
		return e
	}
	if errors.Is(err, fs.ErrPermission) {
		e := centram.Errorf(centram.Forbidden, "%s may not be read by this user", path)
		e.Err = err
		return e
	}
	return fmt.Errorf("open %s: %w", path, err)
}

// File is an open GGUF file whose header was found sound.
type File struct {
	Name      string // its path, or how error messages call it
	Version   uint32
	Size      int64 // of the whole file, in bytes
	Alignment int64
	Metadata  []KV     // in file order
	Tensors   []Tensor // in file order, which is also the order of their data

	keys   map[string]Value
	byName map[string]Tensor
	r      io.ReaderAt
	closer io.Closer
}

// Tensor says what a tensor is and where its data lies.
type Tensor struct {
	Name   string
	Type   Type
	Dims   []uint64 // row length first, as ggml counts
	Offset int64    // from the start of the file
	Size   int64    // in bytes, without padding
}

// Elements is the number of values in t.
func (t Tensor) Elements() uint64 {
	n := uint64(1)
	for _, d := range t.Dims {
		n *= d // the parser has checked that this does not overflow
	}
	return n
}

// Tensor returns the tensor of that name.
func (f *File) Tensor(name string) (Tensor, bool) {
	t, ok := f.byName[name]
	return t, ok
}

// Data reads the data of t, which must be one of f's tensors.
func (f *File) Data(t Tensor) *io.SectionReader { return io.NewSectionReader(f.r, t.Offset, t.Size) }

// Hash is the SHA-256 of the data of t, which must be one of f's tensors.
func (f *File) Hash(t Tensor) ([32]byte, error) { return hashData(t, f.Data(t)) }

func hashData(t Tensor, data io.Reader) (sum [32]byte, err error) {
	h := sha256.New()
	n, err := io.Copy(h, data)
	if err == nil && n != t.Size {
		err = io.ErrUnexpectedEOF // the file has shrunk
	}
	if err != nil {
		return sum, fmt.Errorf("hash tensor %s: %w", t.Name, err)
	}
	return [32]byte(h.Sum(nil)), nil
}

// Close closes the file. It may be called again, to no effect.
func (f *File) Close() error {
	if f.closer == nil {
		return nil
	}
	c := f.closer
	f.closer = nil
	return c.Close()
}

// Value returns the value of key.
func (f *File) Value(key string) (Value, bool) {
	v, ok := f.keys[key]
	return v, ok
}

// String returns the value of key if it is a string.
func (f *File) String(key string) (string, bool) { return Get[string](f, key) }

// Bool returns the value of key if it is a boolean.
func (f *File) Bool(key string) (bool, bool) { return Get[bool](f, key) }

// Strings returns the value of key if it is a list of strings. The caller must not change it.
func (f *File) Strings(key string) ([]string, bool) { return Get[[]string](f, key) }

// Uint returns the value of key if it is an integer of any width, not negative.
func (f *File) Uint(key string) (uint64, bool) { return f.keys[key].uint() }

// Int returns the value of key if it is an integer of any width that an int64 can hold.
func (f *File) Int(key string) (int64, bool) { return f.keys[key].int() }

// Float returns the value of key if it is a floating-point number of either width.
func (f *File) Float(key string) (float64, bool) { return f.keys[key].float() }

// Get returns the value of key if it has exactly the type T: one of the Element types or a slice of one, which the
// caller must not change.
func Get[T any](f *File, key string) (T, bool) {
	v, ok := f.keys[key].v.(T)
	return v, ok
}
