package hf

import "strings"

// Module is a part of a model, as a folder and as a GGUF file call it, without ".weight" or ".bias".
type Module struct{ Name, Tensor string }

// Matrices are those of a layer that are multiplied with. They are the same in qwen2 and llama.
var Matrices = []Module{
	{"self_attn.q_proj", "attn_q"},
	{"self_attn.k_proj", "attn_k"},
	{"self_attn.v_proj", "attn_v"},
	{"self_attn.o_proj", "attn_output"},
	{"mlp.gate_proj", "ffn_gate"},
	{"mlp.up_proj", "ffn_up"},
	{"mlp.down_proj", "ffn_down"},
}

// norms are the rest of a layer.
var norms = []Module{
	{"input_layernorm", "attn_norm"},
	{"post_attention_layernorm", "ffn_norm"},
}

// ends are the modules outside the layers.
var ends = []Module{
	{"model.embed_tokens", "token_embd"},
	{"model.norm", "output_norm"},
	{Head, "output"},
}

// What modules are called by.
const (
	Head   = "lm_head"
	Layers = "model.layers."
	blocks = "blk."
)

// ModuleOf returns the folder's name of a module of a GGUF file: model.layers.3.mlp.up_proj of blk.3.ffn_up.
func ModuleOf(tensor string) (string, bool) {
	for _, m := range ends {
		if m.Tensor == tensor {
			return m.Name, true
		}
	}
	layer, part, ok := SplitLayer(tensor, blocks)
	if !ok {
		return "", false
	}
	for _, list := range [][]Module{Matrices, norms} {
		for _, m := range list {
			if m.Tensor == part {
				return Layers + layer + "." + m.Name, true
			}
		}
	}
	return "", false
}

// SplitLayer cuts a name such as model.layers.3.mlp.up_proj into its layer and what it is of it.
func SplitLayer(name, prefix string) (layer, part string, ok bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return "", "", false
	}
	layer, part, ok = strings.Cut(rest, ".")
	return layer, part, ok && isNumber(layer)
}

// isNumber reports whether s is a number as one is usually written, so that there is one name for each layer.
func isNumber(s string) bool {
	return s != "" && len(s) <= 3 && strings.Trim(s, "0123456789") == "" && (s == "0" || s[0] != '0')
}
