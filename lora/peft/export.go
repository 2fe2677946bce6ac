package peft

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hf"
)

// ExportConfig says how an adapter is exported.
type ExportConfig struct {
	// BaseModel is the name that PEFT loads the model by. Zero means what the adapter says, if it was imported.
	BaseModel string
}

// Export writes the GGUF adapter at path, which is for the model that base is of, to the PEFT folder dir. dir is made if
// it does not exist. It fails with Conflict if an adapter is there already, and with Unsupported for what a folder cannot
// hold: quantised weights, changes of the token embedding, or several ranks without an alpha. Norms in the adapter are
// left out, as llama.cpp ignores them.
func Export(path, dir string, base gguf.Summary, cfg ExportConfig) error {
	if err := base.Whole(); err != nil {
		return err
	}
	f, err := gguf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum, err := gguf.CheckAdapter(f, base)
	if err != nil {
		return err
	}
	tensors, ranks, err := halves(f, sum, base)
	if err != nil {
		return err
	}
	c, err := describe(f, sum, base, ranks)
	if err != nil {
		return err
	}
	if cfg.BaseModel != "" {
		c.BaseModel = &cfg.BaseModel
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", configFile, err)
	}
	return writeFolder(dir, append(text, '\n'), tensors)
}

// halves are the tensors to be written, and the rank of each module.
func halves(f *gguf.File, sum gguf.AdapterSummary, base gguf.Summary) (out []hf.TensorData, ranks map[string]int, err error) {
	if sum.Embedding {
		return nil, nil, unsupported("%s cannot be exported: it changes the token embedding", f.Name)
	}
	ranks = map[string]int{}
	for _, matrix := range matrices(base) {
		a, hasA := f.Tensor(matrix + ".lora_a")
		b, hasB := f.Tensor(matrix + ".lora_b")
		if !hasA || !hasB {
			continue
		}
		for _, t := range []gguf.Tensor{a, b} {
			if t.Type != gguf.F32 && t.Type != gguf.F16 && t.Type != gguf.BF16 {
				return nil, nil, unsupported("%s cannot be exported: its tensor %s is %v, which PEFT does not know", f.Name, t.Name, t.Type).
					WithHint("Export an adapter in F32, F16 or BF16.")
			}
		}
		module, ok := moduleOf(matrix)
		if !ok {
			return nil, nil, unsupported("%s cannot be exported: PEFT has no name for %s", f.Name, matrix)
		}
		// The checked adapter's shapes, in which a last dimension of 1 may be missing.
		rank := b.Dims[0]
		rows := b.Elements() / rank
		ranks[module] = int(rank)
		out = append(
			out,
			hf.TensorData{Name: prefix + module + halfA, Type: a.Type, Shape: []uint64{rank, a.Dims[0]}, Write: gguf.Copy(f.Data(a))},
			hf.TensorData{
				Name: prefix + module + halfB, Type: b.Type, Shape: []uint64{rows, rank},
				Write: reordered(f.Data(b), hf.Heads(base, matrix), rows, hf.Separate),
			},
		)
	}
	if len(ranks) != sum.Matrices {
		return nil, nil, unsupported("%s cannot be exported: PEFT has names for %d of the %d matrices that it changes", f.Name, len(ranks), sum.Matrices)
	}
	return out, ranks, nil
}

func describe(f *gguf.File, sum gguf.AdapterSummary, base gguf.Summary, ranks map[string]int) (writtenConfig, error) {
	c := writtenConfig{
		PeftType: "LORA", TaskType: "CAUSAL_LM", Rank: sum.Rank, Bias: "none", InferenceMode: true, InitWeights: true,
		RankPattern: map[string]int{}, AlphaPattern: map[string]int{}, TargetModules: targets(base, ranks),
	}
	alpha := sum.Alpha
	for module, rank := range ranks {
		if rank == sum.Rank {
			continue
		}
		if alpha == 0 { // for llama.cpp: a scale of 1, whatever the rank
			return c, unsupported("%s cannot be exported: it has several ranks and no alpha", f.Name)
		}
		c.RankPattern[strings.TrimPrefix(module, "model.")] = rank
	}
	if alpha == 0 {
		alpha = float64(sum.Rank)
	}
	c.Alpha = json.Number(strconv.FormatFloat(alpha, 'g', -1, 64))
	if name, ok := f.String(keyBaseModel); ok && name != "" {
		c.BaseModel = &name
	}
	return c, nil
}

// targets names the modules that are changed: by their last name if all layers' are, and else one by one, or PEFT would
// make empty changes of the other layers too.
func targets(base gguf.Summary, ranks map[string]int) []string {
	count := map[string]int{}
	last := func(module string) string { return module[strings.LastIndexByte(module, '.')+1:] }
	for module := range ranks {
		count[last(module)]++
	}
	var out []string
	for module := range ranks {
		name := last(module)
		if module != head && count[name] != base.Layers {
			name = module
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func writeFolder(dir string, config []byte, tensors []hf.TensorData) error {
	for _, name := range []string{configFile, weightsFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return centram.Errorf(centram.Conflict, "%s has an adapter already, or cannot be written", dir).
				WithHint("Export into a new folder.")
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write %s: %w", dir, err)
	}
	err := replace(filepath.Join(dir, weightsFile), func(f *os.File) error { return hf.WriteSafetensors(f, tensors) })
	if err != nil {
		return err
	}
	// The configuration last: a folder without it is no adapter.
	return replace(filepath.Join(dir, configFile), func(f *os.File) error {
		_, err := f.Write(config)
		return err
	})
}
