package convert

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hf/hftest"
)

func TestScalingIsKeptAsLlamaCppHasIt(t *testing.T) {
	yarn := map[string]any{"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 32, "attention_factor": nil}
	for _, row := range []struct {
		what   string
		config map[string]any
		want   map[string]any
	}{
		{"none", map[string]any{"rope_scaling": map[string]any{"rope_type": "default"}}, map[string]any{"rope.scaling.type": nil, "rope.freq_base": float32(10000)}},
		{"linear", map[string]any{"rope_scaling": map[string]any{"type": "linear", "factor": 2}}, map[string]any{
			"rope.scaling.type": "linear", "rope.scaling.factor": float32(2), "rope.scaling.original_context_length": nil,
		}},
		{"yarn", map[string]any{"rope_scaling": yarn}, map[string]any{
			"rope.scaling.type": "yarn", "rope.scaling.factor": float32(4), "rope.scaling.original_context_length": uint32(32),
			"rope.scaling.yarn_beta_fast": float32(32), "rope.scaling.yarn_beta_slow": nil,
		}},
		{"yarn without a context", map[string]any{"rope_scaling": map[string]any{"rope_type": "yarn", "factor": 2}}, map[string]any{
			"rope.scaling.original_context_length": uint32(128),
		}},
		{"newer folders", map[string]any{"rope_theta": nil, "rope_scaling": nil, "rope_parameters": map[string]any{"rope_type": "default", "rope_theta": 5e5}}, map[string]any{
			"rope.freq_base": float32(5e5),
		}},
		{"no base", map[string]any{"rope_theta": nil}, map[string]any{"rope.freq_base": float32(10000)}},
	} {
		for _, architecture := range []string{"qwen2", "llama"} {
			w := newTwin(t, architecture, small())
			w.change(configFile, row.config)
			m := converted(t, w.dir, Config{})
			for key, want := range row.want {
				if got, _ := m.Parts[0].Value(architecture + "." + key); got.Any() != want {
					t.Errorf("%s of %s: %s is %v, want %v", row.what, architecture, key, got.Any(), want)
				}
			}
			logits(t, m.Path()) // llama.cpp takes it
		}
	}
}

func TestTheFrequenciesOfLlama3AreThoseOfItsFormula(t *testing.T) {
	const base, factor, low, high, context, dim = 500000.0, 8.0, 1.0, 4.0, 64.0, 16
	var want []float32
	for i := range dim / 2 {
		// As the model's own code has it: a frequency, and what becomes of it.
		frequency := 1 / math.Pow(base, float64(2*i)/dim)
		scaled := frequency
		wave := 2 * math.Pi / frequency
		if wave > context/low {
			scaled = frequency / factor
		} else if wave > context/high {
			smooth := (context/wave - low) / (high - low)
			scaled = (1-smooth)*frequency/factor + smooth*frequency
		}
		want = append(want, float32(frequency/scaled))
	}
	if want[0] != 1 || want[7] != factor || want[1] == 1 && want[2] == factor {
		t.Fatalf("the test has no frequency between the ends: %v", want)
	}
	w := newTwin(t, "llama", small())
	w.asLlama(false, gguf.TensorData{Name: freqsTensor, Type: gguf.F32, Dims: []uint64{dim / 2}, Write: gguf.Floats(want)})
	w.must(hftest.WriteFolder(w.dir, w.Model))
	w.change(configFile, map[string]any{"rope_theta": base, "rope_scaling": map[string]any{
		"rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high, "original_max_position_embeddings": context,
	}})
	m := converted(t, w.dir, Config{})
	freqs, ok := m.Tensor(freqsTensor)
	if !ok {
		t.Fatal("there is no " + freqsTensor)
	}
	got := make([]float32, dim/2)
	if err := binary.Read(m.Data(freqs), binary.LittleEndian, got); err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if math.Abs(float64(got[i]/want[i]-1)) > 1e-6 {
			t.Errorf("frequency %d is divided by %v, want %v", i, got[i], want[i])
		}
	}
	if _, ok := m.Parts[0].Value("llama.rope.scaling.type"); ok {
		t.Error("the file has a kind of scaling besides")
	}
	logits(t, m.Path())
}
