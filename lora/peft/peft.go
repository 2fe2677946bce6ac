// Package peft reads and writes LoRA adapters the way Hugging Face's PEFT keeps them, a folder with adapter_config.json and
// adapter_model.safetensors, from and to the GGUF adapters of this project.
//
// The numbers are never touched: a tensor in F32, F16 or BF16 has the same bits in both, its rows in another order where
// llama.cpp orders the rows of queries and keys differently. PEFT adds lora_alpha/r · B A to a matrix, llama.cpp
// alpha/rank · B A, so alpha carries over as it is. Whatever else a PEFT adapter may do is refused, as it would be lost.
//
// A folder may come from strangers: every count and offset is held against the file's size before it is believed, and
// pickled weights (adapter_model.bin), which are programs, are never opened.
package peft

import (
	"bytes"
	"io"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hf"
)

// The files of a folder.
const (
	configFile  = "adapter_config.json"
	weightsFile = "adapter_model.safetensors"
)

const (
	prefix     = "base_model.model."
	head       = hf.Head
	halfA      = ".lora_A.weight"
	halfB      = ".lora_B.weight"
	headMatrix = "output.weight"

	keyAlpha     = "adapter.lora.alpha"
	keyBaseModel = "centram.peft.base_model" // base_model_name_or_path of the folder that the adapter came from, if it is a name on the hub
)

// matrixOf returns GGUF's name of a module of PEFT, such as model.layers.3.mlp.up_proj.
func matrixOf(module string) (string, bool) {
	if module == head {
		return headMatrix, true
	}
	layer, name, ok := hf.SplitLayer(module, hf.Layers)
	if !ok {
		return "", false
	}
	for _, m := range hf.Matrices {
		if m.Name == name {
			return "blk." + layer + "." + m.Tensor + ".weight", true
		}
	}
	return "", false
}

// moduleOf is the reverse of matrixOf.
func moduleOf(matrix string) (string, bool) {
	name, ok := strings.CutSuffix(matrix, ".weight")
	if !ok {
		return "", false
	}
	return hf.ModuleOf(name)
}

// reordered writes a B with its rows in another order, if heads is not 0.
func reordered(r *io.SectionReader, heads int, rows uint64, order func([]byte, int, uint64) ([]byte, error)) func(io.Writer) error {
	if heads == 0 {
		return gguf.Copy(r)
	}
	return func(w io.Writer) error {
		data := make([]byte, r.Size())
		if _, err := io.ReadFull(r, data); err != nil {
			return err
		}
		data, err := order(data, heads, rows)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, bytes.NewReader(data))
		return err
	}
}

func bad(format string, args ...any) *centram.Error {
	return centram.Errorf(centram.Invalid, format, args...)
}

func unsupported(format string, args ...any) *centram.Error {
	return centram.Errorf(centram.Unsupported, format, args...)
}
