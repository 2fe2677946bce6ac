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
	"fmt"
	"io"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
)

// The files of a folder.
const (
	configFile  = "adapter_config.json"
	weightsFile = "adapter_model.safetensors"
)

// bf16 is ggml's number of BF16.
const bf16 gguf.Type = 30

// dtypes are the types that both formats know.
var dtypes = []struct {
	name string
	typ  gguf.Type
	size int64
}{{"F32", gguf.F32, 4}, {"F16", gguf.F16, 2}, {"BF16", bf16, 2}}

// modules are the matrices of a layer, as both formats call them. They are the same in qwen2 and llama.
var modules = []struct{ peft, gguf string }{
	{"self_attn.q_proj", "attn_q.weight"},
	{"self_attn.k_proj", "attn_k.weight"},
	{"self_attn.v_proj", "attn_v.weight"},
	{"self_attn.o_proj", "attn_output.weight"},
	{"mlp.gate_proj", "ffn_gate.weight"},
	{"mlp.up_proj", "ffn_up.weight"},
	{"mlp.down_proj", "ffn_down.weight"},
}

const (
	prefix     = "base_model.model."
	layers     = "model.layers."
	head       = "lm_head"
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
	rest, ok := strings.CutPrefix(module, layers)
	if !ok {
		return "", false
	}
	layer, name, ok := strings.Cut(rest, ".")
	if !ok || !isNumber(layer) {
		return "", false
	}
	for _, m := range modules {
		if m.peft == name {
			return "blk." + layer + "." + m.gguf, true
		}
	}
	return "", false
}

// moduleOf is the reverse of matrixOf.
func moduleOf(matrix string) (string, bool) {
	if matrix == headMatrix {
		return head, true
	}
	rest, ok := strings.CutPrefix(matrix, "blk.")
	if !ok {
		return "", false
	}
	layer, name, ok := strings.Cut(rest, ".")
	if !ok || !isNumber(layer) {
		return "", false
	}
	for _, m := range modules {
		if m.gguf == name {
			return layers + layer + "." + m.peft, true
		}
	}
	return "", false
}

// isNumber reports whether s is a number as one is usually written, so that there is one name for each layer.
func isNumber(s string) bool {
	return s != "" && len(s) <= 3 && strings.Trim(s, "0123456789") == "" && (s == "0" || s[0] != '0')
}

// heads returns how many heads the rows of a matrix belong to if llama.cpp has them in another order, and 0 if not. For
// the llama architecture, its rotary embedding turns neighbouring rows, where Hugging Face's turns a row of the first
// half of the head with one of the second.
func heads(base gguf.Summary, matrix string) int {
	if base.Architecture != "llama" {
		return 0
	}
	switch {
	case strings.HasSuffix(matrix, ".attn_q.weight"):
		return base.Heads
	case strings.HasSuffix(matrix, ".attn_k.weight"):
		return base.KVHeads
	}
	return 0
}

// interleave puts the rows of each head in llama.cpp's order: row j of the half i of a head becomes row 2j+i.
func interleave(data []byte, heads int, rows uint64) ([]byte, error) {
	return reorder(data, heads, rows, false)
}

// separate is the reverse of interleave.
func separate(data []byte, heads int, rows uint64) ([]byte, error) {
	return reorder(data, heads, rows, true)
}

func reorder(data []byte, heads int, rows uint64, back bool) ([]byte, error) {
	if heads < 1 || rows == 0 || rows%uint64(2*heads) != 0 || uint64(len(data))%rows != 0 {
		return nil, fmt.Errorf("%d rows in %d bytes are not those of %d heads", rows, len(data), heads)
	}
	width := len(data) / int(rows)
	half := int(rows) / heads / 2
	out := make([]byte, 0, len(data))
	for row := range int(rows) {
		first, in := row/(2*half)*2*half, row%(2*half)
		from := in%2*half + in/2
		if back {
			from = in%half*2 + in/half
		}
		out = append(out, data[(first+from)*width:][:width]...)
	}
	return out, nil
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
