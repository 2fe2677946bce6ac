package gguf

import (
	"bytes"
	"encoding/binary"
)

// sniffBytes is how much of a file's start lookalike sees.
const sniffBytes = 512

// lookalike says what a file that is not GGUF probably is, going by its first bytes, and what to do about it.
func lookalike(start []byte) (what, hint string) {
	for _, row := range lookalikes {
		if row.is(start) {
			return row.what, row.hint
		}
	}
	return "it starts with other bytes than a GGUF file", "Check that this is the file you meant."
}

const (
	convert = "Get the model in GGUF form, or convert it with llama.cpp's convert_hf_to_gguf.py."
	unpack  = "Unpack it first."
)

var lookalikes = []struct {
	is         func([]byte) bool
	what, hint string
}{
	{prefix("FUGG"), "it looks like a big-endian GGUF file", "Get the little-endian version."},
	{
		prefix("version https://git-lfs"), "it is a Git LFS pointer, which stands for the real file",
		"Fetch the real file with: git lfs pull",
	},
	{prefix("PK\x03\x04"), "it looks like a zip archive, such as a PyTorch checkpoint", convert},
	{prefix("\x80\x02"), "it looks like a Python pickle, such as an old PyTorch checkpoint", convert},
	{prefix("\x89HDF"), "it looks like an HDF5 file, such as a Keras model", convert},
	{
		safetensors, "it looks like a safetensors file",
		"Name the folder that it came in: one of a Qwen 2.5 or Llama model is converted when it is imported.",
	},
	{prefix("lmgg"), "it is a model in the GGML format of before GGUF", "Get a GGUF conversion of the model."},
	{prefix("fmgg"), "it is a model in the GGMF format of before GGUF", "Get a GGUF conversion of the model."},
	{prefix("tjgg"), "it is a model in the GGJT format of before GGUF", "Get a GGUF conversion of the model."},
	{prefix("algg"), "it is an adapter in the GGLA format of before GGUF", "Get a GGUF conversion of the adapter."},
	{
		text("<"), "it is a web page or XML",
		"The server may have sent a login or error page: check the address and download again.",
	},
	{text("{"), "it is JSON", "The server may have sent an error: look inside, and check the address."},
	{prefix("\x1f\x8b"), "it looks like a gzip archive", unpack},
	{prefix("\x28\xb5\x2f\xfd"), "it looks like a zstd archive", unpack},
	{prefix("\xfd7zXZ"), "it looks like an xz archive", unpack},
	{prefix("7z\xbc\xaf"), "it looks like a 7-Zip archive", unpack},
	{zeros, "it starts with zeros, as a download does that was never finished", downloadAgain},
}

func prefix(p string) func([]byte) bool {
	return func(b []byte) bool { return bytes.HasPrefix(b, []byte(p)) }
}

func text(p string) func([]byte) bool {
	return func(b []byte) bool {
		b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
		return bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte(p))
	}
}

// safetensors: u64 length of a JSON header, then the header.
func safetensors(b []byte) bool {
	return len(b) > 8 && binary.LittleEndian.Uint64(b) < 1<<32 && b[8] == '{'
}

func zeros(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
