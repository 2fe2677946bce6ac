package hyperlink_test

import (
	"testing"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/gguf"
)

// BenchmarkDecode is one token of the toy model, alone and over two machines in this process.
func BenchmarkDecode(b *testing.B) {
	m := generate(b, gguf.Toy())
	cfg := runConfig
	cfg.Context = 2048
	run := func(b *testing.B, r engine.Runner) {
		greedy(b, r, prompts(1, 6), 2, 40)
		b.ResetTimer()
		for i := range b.N {
			pos := 8 + i%1000
			if pos == 8 {
				_ = r.Trim(0, 7)
				_, _ = r.Step(b.Context(), engine.Batch{Rows: []engine.Row{{Token: 1, Pos: 7, Logits: true, Top: 40}}})
			}
			if _, err := r.Step(b.Context(), engine.Batch{Rows: []engine.Row{{Token: 1, Pos: pos, Logits: true, Top: 40}}}); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("solo", func(b *testing.B) { run(b, m.solo(b, cfg)) })
	b.Run("split", func(b *testing.B) {
		nodes := network(b, 2, m.opener(b, cfg), nil)
		run(b, m.chain(b, nodes, cfg, 2))
	})
}
