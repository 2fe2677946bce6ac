package peft

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hf"
	"pgregory.net/rapid"
)

// base is a small model. In the llama architecture, rows of queries and keys are in another order.
func base(architecture string) gguf.Summary {
	return gguf.Summary{
		Architecture: architecture, Layers: 2, Embedding: 32, Heads: 4, KVHeads: 2, HeadDim: 8, FeedForward: 48, VocabSize: 100,
		Slice: centram.LayerRange{End: 2}, WholeLayers: 2,
	}
}

// shapeOf is in and out of a module of base.
func shapeOf(module string) (in, out uint64) {
	switch module[strings.LastIndexByte(module, '.')+1:] {
	case "q_proj", "o_proj":
		return 32, 32
	case "k_proj", "v_proj":
		return 32, 16
	case "gate_proj", "up_proj":
		return 32, 48
	case "down_proj":
		return 48, 32
	}
	return 32, 100
}

// types are those of the numbers of an adapter.
var types = []gguf.Type{gguf.F32, gguf.F16, gguf.BF16}

// folder is a PEFT adapter to be written.
type folder struct {
	config  map[string]any
	tensors []hf.TensorData
}

func (f *folder) tensor(name string, typ gguf.Type, data []byte, shape ...uint64) {
	f.tensors = append(f.tensors, hf.TensorData{Name: name, Type: typ, Shape: shape, Write: gguf.Copy(bytes.NewReader(data))})
}

// pair adds both halves of a change of a module, of random numbers.
func (f *folder) pair(module string, typ gguf.Type, rank uint64, r *rand.Rand) {
	in, out := shapeOf(module)
	f.tensor(prefix+module+halfA, typ, numbers(r, typ, rank*in), rank, in)
	f.tensor(prefix+module+halfB, typ, numbers(r, typ, rank*out), out, rank)
}

// numbers are bits of any sort: subnormal ones, infinite ones, and what is no number.
func numbers(r *rand.Rand, typ gguf.Type, n uint64) []byte {
	out := make([]byte, n*uint64(map[gguf.Type]int{gguf.F32: 4, gguf.F16: 2, gguf.BF16: 2}[typ]))
	for i := range out {
		out[i] = byte(r.Uint32())
	}
	return out
}

func (f *folder) write(t fataler) string {
	dir, err := os.MkdirTemp("", "peft")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	text, err := json.Marshal(f.config)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := hf.WriteSafetensors(&b, f.tensors); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{configFile: text, weightsFile: b.Bytes()} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// fataler is a test, or one drawn by rapid.
type fataler interface {
	Fatal(args ...any)
	Cleanup(func())
}

func settings(r int, alpha any) map[string]any {
	return map[string]any{
		"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": r, "lora_alpha": alpha, "target_modules": []string{"q_proj"},
		"base_model_name_or_path": "somebody/small", "bias": "none", "use_dora": false, "use_rslora": false, "modules_to_save": nil,
		"rank_pattern": map[string]int{}, "alpha_pattern": map[string]int{}, "init_lora_weights": true, "inference_mode": true,
		"lora_dropout": 0.05, "layers_to_transform": nil, "fan_in_fan_out": false,
	}
}

// draft is a folder with every module in one type or another.
func draft() *folder {
	f := &folder{config: settings(4, 8)}
	r := rand.New(rand.NewPCG(1, 2))
	for layer := range 2 {
		for i, m := range hf.Matrices {
			f.pair(fmt.Sprintf("model.layers.%d.%s", layer, m.Name), types[(layer+i)%3], 4, r)
		}
	}
	f.pair(head, gguf.F32, 4, r)
	return f
}

func imported(t fataler, dir string, base gguf.Summary, cfg ImportConfig) (string, gguf.AdapterSummary) {
	path := filepath.Join(dir, "adapter.gguf")
	sum, err := Import(dir, path, base, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return path, sum
}

func file(t fataler, parts ...string) []byte {
	b, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAnAdapterGoesThroughBothFormatsBitForBit(t *testing.T) {
	for _, architecture := range []string{"qwen2", "llama"} {
		rapid.Check(t, func(t *rapid.T) {
			r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
			rank := rapid.Uint64Range(1, 5).Draw(t, "rank")
			f := &folder{config: settings(int(rank), rapid.SampledFrom([]any{1, 16, 0.1875, 3.5}).Draw(t, "alpha"))}
			for layer := range 2 {
				for _, m := range hf.Matrices {
					if layer == 0 && m.Name == "mlp.up_proj" || r.IntN(3) > 0 {
						f.pair(fmt.Sprintf("model.layers.%d.%s", layer, m.Name), types[r.IntN(3)], rank, r)
					}
				}
			}
			dir := f.write(t)
			path, sum := imported(t, dir, base(architecture), ImportConfig{})
			if want := len(f.tensors) / 2; sum.Matrices != want || sum.Rank != int(rank) {
				t.Errorf("got %d matrices of rank %d, want %d of %d", sum.Matrices, sum.Rank, want, rank)
			}
			out := filepath.Join(dir, "out")
			if err := Export(path, out, base(architecture), ExportConfig{}); err != nil {
				t.Fatal(err)
			}
			if got, want := file(t, out, weightsFile), file(t, dir, weightsFile); !bytes.Equal(got, want) {
				t.Errorf("%s: the weights came back as other %d bytes than the %d there were", architecture, len(got), len(want))
			}
			var got map[string]any
			if err := json.Unmarshal(file(t, out, configFile), &got); err != nil {
				t.Fatal(err)
			}
			for field, want := range map[string]string{
				"r": fmt.Sprint(rank), "lora_alpha": fmt.Sprint(f.config["lora_alpha"]), "base_model_name_or_path": "somebody/small", "peft_type": "LORA",
			} {
				if fmt.Sprint(got[field]) != want {
					t.Errorf("%s came back as %v, want %s", field, got[field], want)
				}
			}
			again := filepath.Join(dir, "again.gguf")
			if _, err := Import(out, again, base(architecture), ImportConfig{Name: filepath.Base(dir)}); err != nil {
				t.Fatal(err)
			}
			if got, want := file(t, again), file(t, path); !bytes.Equal(got, want) {
				t.Errorf("%s: imported again, the GGUF file differs", architecture)
			}
		})
	}
}

func TestOfLlamaTheRowsOfQueriesAndKeysAreReordered(t *testing.T) {
	f := &folder{config: settings(1, 1)}
	for _, m := range hf.Matrices[:3] {
		module := "model.layers.0." + m.Name
		in, out := shapeOf(module)
		rows := make([]byte, 0, 4*out)
		for i := range out {
			rows = binary.LittleEndian.AppendUint32(rows, math.Float32bits(float32(i)))
		}
		f.tensor(prefix+module+halfA, gguf.F32, make([]byte, 4*in), 1, in)
		f.tensor(prefix+module+halfB, gguf.F32, rows, out, 1)
	}
	dir := f.write(t)
	// In a head of eight, row 1 of llama.cpp is the first of the second half.
	head := []float32{0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15}
	plain := []float32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	for architecture, want := range map[string]map[string][]float32{
		"llama": {"attn_q": head, "attn_k": head, "attn_v": plain},
		"qwen2": {"attn_q": plain, "attn_k": plain, "attn_v": plain},
	} {
		path, _ := imported(t, dir, base(architecture), ImportConfig{})
		g, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		for name, want := range want {
			b, ok := g.Tensor("blk.0." + name + ".weight.lora_b")
			if !ok {
				t.Fatalf("no %s", name)
			}
			got := make([]float32, len(want))
			if err := binary.Read(g.Data(b), binary.LittleEndian, got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s %s: got rows %v, want %v", architecture, name, got, want)
			}
		}
	}
}

func alphaOf(t *testing.T, path string) float32 {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	alpha, ok := gguf.Get[float32](f, keyAlpha)
	if !ok {
		t.Fatal("no alpha")
	}
	return alpha
}

// scaled is a folder with one change, B of the given numbers.
func scaled(rank int, alpha any, typ gguf.Type, b []byte) *folder {
	f := &folder{config: settings(rank, alpha)}
	module := "model.layers.1.self_attn.v_proj"
	r := rand.New(rand.NewPCG(3, 4))
	f.tensor(prefix+module+halfA, typ, numbers(r, typ, uint64(rank)*32), uint64(rank), 32)
	f.tensor(prefix+module+halfB, typ, b, 16, uint64(rank))
	return f
}

func floats(values ...float32) []byte {
	out := make([]byte, 4*16*2)
	for i, v := range values {
		binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(v))
	}
	return out
}

func TestAlphaIsFoldedOnlyIfThatIsExact(t *testing.T) {
	half := make([]byte, 2*16*2) // 1.5, the smallest subnormal, 65504
	for i, bits := range []uint16{0x3e00, 0x0001, 0x7bff} {
		binary.LittleEndian.PutUint16(half[2*i:], bits)
	}
	quarter := bytes.Clone(half)
	binary.LittleEndian.PutUint16(quarter[2:], 0x0004) // four times the smallest
	for _, row := range []struct {
		name  string
		f     *folder
		fold  bool
		alpha float32
		first []byte // of B
	}{
		{"twice", scaled(2, 4, gguf.F32, floats(0.1, -3)), true, 2, floats(0.2, -6)},
		{"an eighth", scaled(2, 0.25, gguf.F32, floats(0.1, -3)), true, 2, floats(0.0125, -0.375)},
		{"as it is", scaled(2, 2, gguf.F32, floats(0.1, -3)), true, 2, floats(0.1, -3)},
		{"not asked for", scaled(2, 4, gguf.F32, floats(0.1, -3)), false, 4, floats(0.1, -3)},
		{"three times", scaled(2, 6, gguf.F32, floats(0.1, -3)), true, 6, floats(0.1, -3)},
		{"overflow", scaled(2, 4, gguf.F32, floats(math.MaxFloat32)), true, 4, floats(math.MaxFloat32)},
		{"overflow of F16", scaled(2, 4, gguf.F16, half), true, 4, half},
		{"loses a bit", scaled(2, 1, gguf.F16, half), true, 1, half},
		{"subnormal, exact", scaled(2, 0.5, gguf.F16, quarter), true, 2, []byte{0x00, 0x36, 0x01, 0x00, 0xff, 0x73}},
	} {
		dir := row.f.write(t)
		path, sum := imported(t, dir, base("qwen2"), ImportConfig{Fold: row.fold})
		if got := alphaOf(t, path); got != row.alpha || sum.Alpha != float64(row.alpha) {
			t.Errorf("%s: got alpha %v, want %v", row.name, got, row.alpha)
		}
		g, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := g.Tensor("blk.1.attn_v.weight.lora_b")
		got := make([]byte, len(row.first))
		if _, err := g.Data(b).ReadAt(got, 0); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, row.first) {
			t.Errorf("%s: got B % x, want % x", row.name, got[:8], row.first[:6])
		}
		g.Close()
	}
}

func TestShiftingBitsIsMultiplication(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits, by := rapid.Uint32().Draw(t, "bits"), rapid.IntRange(-300, 300).Draw(t, "by")
		value := math.Float32frombits(bits)
		want := float32(math.Ldexp(float64(value), by))
		exact := math.Ldexp(float64(want), -by) == float64(value) && !math.IsInf(float64(want), 0) || math.IsInf(float64(value), 0)
		if value != value {
			exact, want = true, value
		}
		got, ok := shiftBits(bits, 8, 23, by)
		if ok != exact || ok && got != math.Float32bits(want) {
			t.Errorf("%v times 2^%d: got %v (exact: %v), want %v (%v)", value, by, math.Float32frombits(got), ok, want, exact)
		}
	})
}

func TestScaleIsWhatTheConfigurationSays(t *testing.T) {
	for _, row := range []struct {
		field string
		value any
		rank  int
		alpha any
		want  float32
	}{
		{"", nil, 4, 8, 8},
		{"", nil, 4, 8.0, 8},
		{"use_rslora", true, 4, 8, 16}, // 8/√4 = 16/4
		{"use_rslora", true, 16, 1, 4},
		{"alpha_pattern", map[string]int{"q_proj": 8}, 4, 8, 8},
	} {
		f := draft()
		f.config = settings(row.rank, row.alpha)
		if row.rank != 4 {
			f.tensors = nil
			f.pair("model.layers.0.mlp.up_proj", gguf.BF16, uint64(row.rank), rand.New(rand.NewPCG(5, 6)))
		}
		if row.field != "" {
			f.config[row.field] = row.value
		}
		dir := f.write(t)
		path, _ := imported(t, dir, base("qwen2"), ImportConfig{})
		if got := alphaOf(t, path); got != row.want {
			t.Errorf("%s %v, rank %d, alpha %v: got %v, want %v", row.field, row.value, row.rank, row.alpha, got, row.want)
		}
	}
}

func TestAPathOfTheOtherMachineIsNotKept(t *testing.T) {
	for name, want := range map[string]string{"somebody/small": "somebody/small", "/home/somebody/small": "", "small": "", "../a": "", "C:\\small": ""} {
		f := draft()
		f.config["base_model_name_or_path"] = name
		path, _ := imported(t, f.write(t), base("qwen2"), ImportConfig{})
		g, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := g.String(keyBaseModel); got != want {
			t.Errorf("of %q, %q is kept, want %q", name, got, want)
		}
		g.Close()
	}
}

func TestSeveralRanksGoThroughBothFormats(t *testing.T) {
	f := &folder{config: settings(2, 4)}
	r := rand.New(rand.NewPCG(7, 8))
	f.config["rank_pattern"] = map[string]int{"layers.1.mlp.up_proj": 3}
	f.pair("model.layers.0.mlp.up_proj", gguf.F32, 2, r)
	f.pair("model.layers.1.mlp.up_proj", gguf.F32, 3, r)
	dir := f.write(t)
	path, _ := imported(t, dir, base("qwen2"), ImportConfig{Fold: true})
	if got := alphaOf(t, path); got != 4 {
		t.Errorf("got alpha %v, want 4: with several ranks it cannot be folded", got)
	}
	out := filepath.Join(dir, "out")
	if err := Export(path, out, base("qwen2"), ExportConfig{BaseModel: "another/name"}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(file(t, out, weightsFile), file(t, dir, weightsFile)) {
		t.Error("the weights changed")
	}
	got := string(file(t, out, configFile))
	for _, want := range []string{`"r": 3`, `"layers.0.mlp.up_proj": 2`, `"lora_alpha": 4`, `"up_proj"`, `"another/name"`} {
		if !strings.Contains(got, want) {
			t.Errorf("the configuration has no %s:\n%s", want, got)
		}
	}
}

func TestExportNamesModulesOneByOneIfSomeLayersHaveNone(t *testing.T) {
	f := &folder{config: settings(2, 2)}
	r := rand.New(rand.NewPCG(7, 8))
	for _, module := range []string{"model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj", "model.layers.1.self_attn.q_proj", head} {
		f.pair(module, gguf.F16, 2, r)
	}
	dir := f.write(t)
	path, _ := imported(t, dir, base("llama"), ImportConfig{})
	out := filepath.Join(dir, "out")
	if err := Export(path, out, base("llama"), ExportConfig{}); err != nil {
		t.Fatal(err)
	}
	var got writtenConfig
	if err := json.Unmarshal(file(t, out, configFile), &got); err != nil {
		t.Fatal(err)
	}
	if want := []string{"lm_head", "model.layers.1.self_attn.q_proj", "up_proj"}; !reflect.DeepEqual(got.TargetModules, want) {
		t.Errorf("got %v, want %v", got.TargetModules, want)
	}
	if err := Export(path, out, base("llama"), ExportConfig{}); centram.CodeOf(err) != centram.Conflict {
		t.Errorf("into the same folder again: got %v, want Conflict", err)
	}
}

func TestImportRefusesWhatWouldBeLost(t *testing.T) {
	set := func(field string, value any) func(*folder) {
		return func(f *folder) { f.config[field] = value }
	}
	without := func(field string) func(*folder) {
		return func(f *folder) { delete(f.config, field) }
	}
	rename := func(old, by string) func(*folder) {
		return func(f *folder) {
			for i := range f.tensors {
				f.tensors[i].Name = strings.Replace(f.tensors[i].Name, old, by, 1)
			}
		}
	}
	add := func(name string) func(*folder) {
		return func(f *folder) { f.tensor(name, gguf.F32, make([]byte, 4), 1) }
	}
	for _, row := range []struct {
		name  string
		spoil func(*folder)
		code  centram.Code
		want  string
	}{
		{"another kind", set("peft_type", "LOHA"), centram.Unsupported, `type "LOHA"`},
		{"no kind", without("peft_type"), centram.Unsupported, `type ""`},
		{"another task", set("task_type", "SEQ_CLS"), centram.Unsupported, "not for generating text"},
		{"DoRA", set("use_dora", true), centram.Unsupported, "DoRA"},
		{"QALoRA", set("use_qalora", true), centram.Unsupported, "QALoRA"},
		{"biases", set("bias", "lora_only"), centram.Unsupported, "biases"},
		{"biases of B", set("lora_bias", true), centram.Unsupported, "biases"},
		{"whole modules", set("modules_to_save", []string{"lm_head"}), centram.Unsupported, "whole modules"},
		{"activated", set("alora_invocation_tokens", []int{1}), centram.Unsupported, "activated"},
		{"token rows", set("trainable_token_indices", []int{1}), centram.Unsupported, "token embedding"},
		{"layers twice", set("layer_replication", [][]int{{0, 1}}), centram.Unsupported, "repeats"},
		{"parameters", set("target_parameters", []string{"x"}), centram.Unsupported, "not modules"},
		{"the other way", set("fan_in_fan_out", true), centram.Unsupported, "other way"},
		{"PiSSA", set("init_lora_weights", "pissa"), centram.Unsupported, "changed model"},
		{"yet unknown", set("use_newlora", true), centram.Unsupported, `"use_newlora"`},
		{"scale of √8", func(f *folder) { f.config = settings(8, 8); f.config["use_rslora"] = true }, centram.Unsupported, "exactly"},
		{"an alpha of its own", set("alpha_pattern", map[string]int{"q_proj": 2}), centram.Unsupported, "alpha_pattern"},
		{"alpha of 0", set("lora_alpha", 0), centram.Unsupported, "more than 0"},
		{"alpha missing", without("lora_alpha"), centram.Unsupported, "more than 0"},
		{"alpha too fine", set("lora_alpha", 0.1), centram.Unsupported, "exactly"},
		{"rank of 0", set("r", 0), centram.Invalid, "rank of 1 or more"},
		{"rank missing", without("r"), centram.Invalid, "rank of 1 or more"},
		{"another rank", set("r", 5), centram.Invalid, "rank of 4"},
		{"another rank by pattern", set("rank_pattern", "x"), centram.Invalid, "rank_pattern"},
		{"magnitudes", add(prefix + "model.layers.0.mlp.up_proj.lora_magnitude_vector"), centram.Unsupported, "DoRA"},
		{"a bias", add(prefix + "model.layers.0.mlp.up_proj.lora_B.bias"), centram.Unsupported, "biases"},
		{"embedding", add(prefix + "model.embed_tokens.lora_embedding_A"), centram.Unsupported, "embedding"},
		{"a saved module", add(prefix + "lm_head.modules_to_save.weight"), centram.Unsupported, "whole modules"},
		{"unknown module", rename("up_proj", "side_proj"), centram.Unsupported, "side_proj"},
		{"no prefix", rename("base_model.", ""), centram.Unsupported, "not a half"},
		{"layer spelt oddly", rename("layers.0", "layers.00"), centram.Unsupported, "layers.00"},
		{"layer beyond", rename("layers.1", "layers.2"), centram.Invalid, "2 layers"},
		{"half missing", func(f *folder) { f.tensors = f.tensors[1:] }, centram.Invalid, "only one half"},
		{"nothing", func(f *folder) { f.tensors = nil }, centram.Invalid, "changes nothing"},
		{"A of another shape", func(f *folder) { f.tensors[0].Shape = []uint64{32, 4} }, centram.Invalid, "do not fit"},
		{"three dimensions", func(f *folder) { f.tensors[0].Shape = []uint64{4, 32, 1} }, centram.Invalid, "do not fit"},
		{"of another width", func(f *folder) {
			f.tensors = nil
			f.tensor(prefix+"model.layers.0.mlp.up_proj"+halfA, gguf.F32, make([]byte, 4*4*33), 4, 33)
			f.tensor(prefix+"model.layers.0.mlp.up_proj"+halfB, gguf.F32, make([]byte, 4*4*48), 48, 4)
		}, centram.Invalid, "model asks for"},
		{"queries of another model", func(f *folder) {
			f.tensors = nil
			f.tensor(prefix+"model.layers.0.self_attn.q_proj"+halfA, gguf.F32, make([]byte, 4*4*32), 4, 32)
			f.tensor(prefix+"model.layers.0.self_attn.q_proj"+halfB, gguf.F32, make([]byte, 4*4*30), 30, 4)
		}, centram.Invalid, "the model has 32"},
	} {
		f := draft()
		row.spoil(f)
		dir := f.write(t)
		path := filepath.Join(dir, "adapter.gguf")
		_, err := Import(dir, path, base("llama"), ImportConfig{})
		if centram.CodeOf(err) != row.code || !strings.Contains(fmt.Sprint(err), row.want) {
			t.Errorf("%s: got %v, want code %s and %q", row.name, err, row.code, row.want)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*.gguf*")); left != nil {
			t.Errorf("%s: %v was left behind", row.name, left)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".*")); left != nil {
			t.Errorf("%s: %v was left behind", row.name, left)
		}
	}
}

func TestImportRefusesFoldersThatAreNone(t *testing.T) {
	empty := t.TempDir()
	if _, err := Import(empty, filepath.Join(empty, "a.gguf"), base("qwen2"), ImportConfig{}); centram.CodeOf(err) != centram.NotFound {
		t.Errorf("an empty folder: got %v, want NotFound", err)
	}
	dir := draft().write(t)
	if err := os.Rename(filepath.Join(dir, weightsFile), filepath.Join(dir, "adapter_model.bin")); err != nil {
		t.Fatal(err)
	}
	_, err := Import(dir, filepath.Join(dir, "a.gguf"), base("qwen2"), ImportConfig{})
	if centram.CodeOf(err) != centram.Unsupported || !strings.Contains(fmt.Sprint(err), "pickle") || centram.HintOf(err) == "" {
		t.Errorf("a pickle: got %v, want Unsupported with a hint", err)
	}
	for name, text := range map[string]string{
		"twice": `{"peft_type":"LORA","r":4,"r":8,"lora_alpha":8}`, "a list": `[]`, "cut": `{"peft_type":`, "not UTF-8": "{\"\xff\":1}",
		"followed": `{} {}`, "huge": `{"a":"` + strings.Repeat("x", maxConfig) + `"}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, configFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Import(dir, filepath.Join(dir, "a.gguf"), base("qwen2"), ImportConfig{}); centram.CodeOf(err) != centram.Invalid {
			t.Errorf("%s: got %v, want Invalid", name, err)
		}
	}
}

func TestAFailedImportLeavesTheFileThatWasThere(t *testing.T) {
	f := draft()
	f.config["use_dora"] = true
	dir := f.write(t)
	path := filepath.Join(dir, "adapter.gguf")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Import(dir, path, base("qwen2"), ImportConfig{}); err == nil {
		t.Error("a DoRA adapter was imported")
	}
	if got := string(file(t, path)); got != "old" {
		t.Errorf("got %.20q, want the old file", got)
	}
}

func TestExportRefusesWhatPEFTDoesNotKnow(t *testing.T) {
	zeros := func(name string, typ gguf.Type, dims ...uint64) gguf.TensorData {
		return gguf.TensorData{Name: name, Type: typ, Dims: dims}
	}
	pair := func(matrix string, typ gguf.Type, in, rank, out uint64) []gguf.TensorData {
		return []gguf.TensorData{zeros(matrix+".lora_a", typ, in, rank), zeros(matrix+".lora_b", typ, rank, out)}
	}
	for name, row := range map[string]struct {
		tensors []gguf.TensorData
		want    string
	}{
		"quantised": {pair("blk.0.attn_output.weight", gguf.Q8_0, 32, 32, 32), "Q8_0"},
		"embedding": {[]gguf.TensorData{
			zeros("token_embd.weight.lora_a", gguf.F32, 2, 100), zeros("token_embd.weight.lora_b", gguf.F32, 2, 32),
		}, "token embedding"},
		"several ranks": {append(pair("blk.0.ffn_up.weight", gguf.F32, 32, 2, 48), pair("blk.1.ffn_up.weight", gguf.F32, 32, 3, 48)...), "several ranks"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "a.gguf")
		err := replace(path, func(f *os.File) error {
			return gguf.Write(f, []gguf.KV{
				{Key: "general.architecture", Value: gguf.Of("qwen2")},
				{Key: "general.type", Value: gguf.Of("adapter")},
				{Key: "adapter.type", Value: gguf.Of("lora")},
			}, row.tensors)
		})
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(dir, "out")
		if err := Export(path, out, base("qwen2"), ExportConfig{}); centram.CodeOf(err) != centram.Unsupported || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want Unsupported that says %q", name, err, row.want)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%s: a folder was made all the same", name)
		}
	}
}

func TestExportWithoutAlphaSaysTheRank(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.gguf")
	err := replace(path, func(f *os.File) error {
		return gguf.Write(f, []gguf.KV{
			{Key: "general.architecture", Value: gguf.Of("qwen2")},
			{Key: "general.type", Value: gguf.Of("adapter")},
			{Key: "adapter.type", Value: gguf.Of("lora")},
		}, []gguf.TensorData{
			{Name: "blk.0.ffn_up.weight.lora_a", Type: gguf.F32, Dims: []uint64{32}}, // a rank of 1, its dimension left out
			{Name: "blk.0.ffn_up.weight.lora_b", Type: gguf.F32, Dims: []uint64{1, 48}},
			{Name: "blk.0.ffn_norm.weight", Type: gguf.F32, Dims: []uint64{32}},
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	if err := Export(path, out, base("qwen2"), ExportConfig{}); err != nil {
		t.Fatal(err)
	}
	if got := string(file(t, out, configFile)); !strings.Contains(got, `"lora_alpha": 1,`) || !strings.Contains(got, `"base_model_name_or_path": null`) {
		t.Errorf("got\n%s\nwant an alpha of 1 and no base model", got)
	}
	if _, err := Import(out, path, base("qwen2"), ImportConfig{}); err != nil {
		t.Errorf("imported again: %v", err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"peft_type":"LORA","r":8,"lora_alpha":16,"rank_pattern":{"q_proj":4},"bias":"none"}`))
	f.Add([]byte(`{"peft_type":"LORA","r":16,"lora_alpha":1.5,"use_rslora":true,"task_type":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseConfig("the file", b)
		if err == nil && (c.rank < 1 || !(c.alpha > 0)) || err != nil && centram.CodeOf(err) == centram.Internal {
			t.Errorf("got %+v, %v", c, err)
		}
	})
}
