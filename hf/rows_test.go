package hf

import (
	"bytes"
	"io"
	"testing"

	"github.com/centram/centram/gguf"
	"pgregory.net/rapid"
)

func TestReorderingRowsIsUndone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		heads, half, width := rapid.IntRange(1, 5).Draw(t, "heads"), rapid.IntRange(1, 9).Draw(t, "half"), rapid.IntRange(1, 4).Draw(t, "width")
		data := rapid.SliceOfN(rapid.Byte(), heads*half*2*width, heads*half*2*width).Draw(t, "data")
		rows := uint64(heads * half * 2)
		there, err := Interleave(data, heads, rows)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Separate(there, heads, rows)
		if err != nil || !bytes.Equal(back, data) {
			t.Errorf("got %v, %v, want %v", back, err, data)
		}
		r, err := NewRows(io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), heads, rows)
		if err != nil {
			t.Fatal(err)
		}
		if read, err := io.ReadAll(r); err != nil || !bytes.Equal(read, there) {
			t.Errorf("read row by row: got %v, %v, want %v", read, err, there)
		}
	})
	for _, rows := range []uint64{0, 3, 7} {
		if _, err := NewRows(io.NewSectionReader(bytes.NewReader(make([]byte, 28)), 0, 28), 2, rows); err == nil {
			t.Errorf("%d rows of two heads were read", rows)
		}
		if _, err := Interleave(make([]byte, 28), 2, rows); err == nil {
			t.Errorf("%d rows of two heads were accepted", rows)
		}
	}
}

func TestOnlyQueriesAndKeysOfLlamaLieInAnotherOrder(t *testing.T) {
	for _, row := range []struct {
		architecture, tensor string
		want                 int
	}{
		{"llama", "blk.0.attn_q.weight", 4},
		{"llama", "blk.17.attn_q.bias", 4},
		{"llama", "blk.0.attn_k.weight", 2},
		{"llama", "blk.0.attn_v.weight", 0},
		{"llama", "output.weight", 0},
		{"qwen2", "blk.0.attn_q.weight", 0},
	} {
		got := Heads(gguf.Summary{Architecture: row.architecture, Heads: 4, KVHeads: 2}, row.tensor)
		if got != row.want {
			t.Errorf("%s %s: got %d heads, want %d", row.architecture, row.tensor, got, row.want)
		}
	}
}

func TestModulesAreNamedAsInAFolder(t *testing.T) {
	for tensor, want := range map[string]string{
		"blk.3.ffn_up": "model.layers.3.mlp.up_proj", "blk.10.attn_norm": "model.layers.10.input_layernorm", "output": "lm_head",
		"token_embd": "model.embed_tokens", "blk.03.ffn_up": "", "blk.3.ffn_side": "", "rope_freqs": "", "blk.": "",
	} {
		if got, ok := ModuleOf(tensor); got != want || ok != (want != "") {
			t.Errorf("%s: got %q, %v, want %q", tensor, got, ok, want)
		}
	}
}
