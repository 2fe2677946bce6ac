package peft

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/atomicfile"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hf"
)

// ImportConfig says how an adapter is imported.
type ImportConfig struct {
	Name string // general.name of the adapter. Zero means the folder's

	// Fold multiplies each B by alpha/rank, so that alpha is the rank, as in the adapters that are trained here. It is done
	// only if it is exact: all ranks are equal, alpha/rank is a power of two, and no number leaves the range of its type.
	// Otherwise alpha stays, which computes the same. Zero means alpha always stays.
	Fold bool
}

// Import writes the adapter of the PEFT folder dir to the GGUF file path, for the model that base is of. It computes
// exactly what the folder says: what cannot be kept fails with Unsupported, and a folder that is not sound, or of another
// model, with Invalid. The file at path is replaced only by a whole adapter that passes gguf.CheckAdapter.
func Import(dir, path string, base gguf.Summary, cfg ImportConfig) (gguf.AdapterSummary, error) {
	if err := base.Whole(); err != nil {
		return gguf.AdapterSummary{}, err
	}
	c, err := readConfig(filepath.Join(dir, configFile))
	if err != nil {
		return gguf.AdapterSummary{}, err
	}
	weights, tensors, err := openWeights(filepath.Join(dir, weightsFile))
	if err != nil {
		return gguf.AdapterSummary{}, err
	}
	defer weights.Close()
	im := importer{config: c, base: base, name: weights.Name(), data: weights}
	if err := im.pair(tensors); err != nil {
		return gguf.AdapterSummary{}, err
	}
	if cfg.Fold {
		if err := im.fold(); err != nil {
			return gguf.AdapterSummary{}, err
		}
	}
	name := cfg.Name
	if name == "" {
		if whole, err := filepath.Abs(dir); err == nil {
			name = filepath.Base(whole)
		}
	}
	return im.write(path, name)
}

func openWeights(path string) (*os.File, []hf.Tensor, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), "adapter_model.bin")); err == nil {
			return nil, nil, unsupported("%s has its weights in adapter_model.bin, a pickle, which can run any program when it is opened", filepath.Dir(path)).
				WithHint("Load it with PEFT where you trust it, and save it again: save_pretrained writes %s.", weightsFile)
		}
	}
	if err != nil {
		return nil, nil, openError(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, bad("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, openError(path, err)
	}
	tensors, err := hf.ReadSafetensors(path, f, info.Size())
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, tensors, nil
}

type importer struct {
	config
	base  gguf.Summary
	name  string // of the weights
	data  io.ReaderAt
	pairs []pair
	shift int // each B is multiplied by 2^shift
}

// pair is the change of one matrix.
type pair struct {
	matrix string
	a, b   hf.Tensor
}

// pair puts the tensors together, in the order of the model's layers.
func (im *importer) pair(tensors []hf.Tensor) error {
	pairs := map[string]*pair{}
	for _, t := range tensors {
		matrix, isA, err := im.half(t)
		if err != nil {
			return err
		}
		p := pairs[matrix]
		if p == nil {
			p = &pair{matrix: matrix}
			pairs[matrix] = p
		}
		if isA {
			p.a = t
		} else {
			p.b = t
		}
	}
	for _, matrix := range matrices(im.base) {
		p := pairs[matrix]
		if p == nil {
			continue
		}
		delete(pairs, matrix)
		if err := im.check(*p); err != nil {
			return err
		}
		im.pairs = append(im.pairs, *p)
	}
	for matrix := range pairs {
		return bad("%s changes %s, but the model has %d layers", im.name, matrix, im.base.Layers).
			WithHint("The adapter is for another model.")
	}
	if len(im.pairs) == 0 {
		return bad("%s changes nothing", im.name)
	}
	return nil
}

// half says of which matrix t is a half, and of which sort.
func (im *importer) half(t hf.Tensor) (matrix string, isA bool, err error) {
	for what, part := range map[string]string{
		"it is a DoRA adapter, which also scales each row of a matrix": "lora_magnitude_vector",
		"it changes the token embedding":                               "lora_embedding_",
		"it has biases":                                                "lora_B.bias",
		"it replaces whole modules":                                    "modules_to_save",
	} {
		if strings.Contains(t.Name, part) {
			return "", false, unsupported("%s cannot be imported: %s (%.200s)", im.name, what, t.Name)
		}
	}
	module, isA := strings.CutSuffix(t.Name, halfA)
	isB := false
	if !isA {
		module, isB = strings.CutSuffix(t.Name, halfB)
	}
	module, ours := strings.CutPrefix(module, prefix)
	matrix, known := matrixOf(module)
	if !(isA || isB) || !ours || !known {
		return "", false, unsupported("%s has the tensor %.200q, which is not a half of a matrix that can be changed", im.name, t.Name).
			WithHint("Adapters of the seven matrices of a layer and of lm_head can be imported.")
	}
	return matrix, isA, nil
}

// check checks what the config says of ranks, and what has to hold before rows are put in another order. Shapes are held
// against the model when the whole is checked.
func (im *importer) check(p pair) error {
	if p.a.Name == "" || p.b.Name == "" {
		return bad("%s has only one half of the change of %s", im.name, p.matrix)
	}
	if len(p.a.Shape) != 2 || len(p.b.Shape) != 2 || p.a.Shape[0] != p.b.Shape[1] {
		return bad("%s has halves of %s of the shapes %d and %d, which do not fit each other", im.name, p.matrix, p.a.Shape, p.b.Shape)
	}
	rank := p.a.Shape[0]
	if rank != uint64(im.rank) && !slices.Contains(im.otherRank, int(min(rank, math.MaxInt32))) {
		return bad("%s has a rank of %d for %s, but %s says %d", im.name, rank, p.matrix, configFile, im.rank)
	}
	if n := hf.Heads(im.base, p.matrix); n > 0 && p.b.Shape[0] != uint64(n)*uint64(im.base.HeadDim) {
		return bad("%s has %d rows for %s, but the model has %d", im.name, p.b.Shape[0], p.matrix, n*im.base.HeadDim).
			WithHint("The adapter is for another model.")
	}
	return nil
}

// matrices are those that can be changed, in order.
func matrices(base gguf.Summary) []string {
	var out []string
	for i := range base.Layers {
		for _, m := range hf.Matrices {
			out = append(out, fmt.Sprintf("blk.%d.%s.weight", i, m.Tensor))
		}
	}
	return append(out, headMatrix)
}

// fold sets shift and alpha if that is exact.
func (im *importer) fold() error {
	scale, exponent := math.Frexp(float64(im.alpha) / float64(im.rank))
	if scale != 0.5 || float64(im.alpha) != math.Ldexp(float64(im.rank), exponent-1) {
		return nil
	}
	for _, p := range im.pairs {
		if p.b.Shape[1] != uint64(im.rank) {
			return nil
		}
		data, err := io.ReadAll(im.section(p.b))
		if err != nil {
			return fmt.Errorf("read %s: %w", im.name, err)
		}
		if !shift(data, p.b.Type, exponent-1) {
			return nil
		}
	}
	im.shift, im.alpha = exponent-1, float32(im.rank)
	return nil
}

func (im *importer) section(t hf.Tensor) *io.SectionReader {
	return io.NewSectionReader(im.data, t.Offset, t.Size)
}

func (im *importer) write(path, name string) (gguf.AdapterSummary, error) {
	metadata := []gguf.KV{
		{Key: "general.architecture", Value: gguf.Of(im.base.Architecture)},
		{Key: "general.type", Value: gguf.Of("adapter")},
		{Key: "general.name", Value: gguf.Of(strings.ToValidUTF8(name, "?"))},
		{Key: "adapter.type", Value: gguf.Of("lora")},
		{Key: keyAlpha, Value: gguf.Of(im.alpha)},
	}
	if im.baseModel != "" {
		metadata = append(metadata, gguf.KV{Key: keyBaseModel, Value: gguf.Of(im.baseModel)})
	}
	var tensors []gguf.TensorData
	for _, p := range im.pairs {
		in, rank, out := p.a.Shape[1], p.a.Shape[0], p.b.Shape[0]
		writeB := reordered(im.section(p.b), hf.Heads(im.base, p.matrix), out, hf.Interleave)
		if im.shift != 0 {
			writeB = shifted(writeB, p.b.Type, im.shift)
		}
		tensors = append(
			tensors,
			gguf.TensorData{Name: p.matrix + ".lora_a", Type: p.a.Type, Dims: []uint64{in, rank}, Write: gguf.Copy(im.section(p.a))},
			gguf.TensorData{Name: p.matrix + ".lora_b", Type: p.b.Type, Dims: []uint64{rank, out}, Write: writeB},
		)
	}
	var sum gguf.AdapterSummary
	err := replace(path, func(f *os.File) error {
		if err := gguf.Write(f, metadata, tensors); err != nil {
			return err
		}
		written, err := gguf.Open(f.Name())
		if err != nil {
			return err
		}
		defer written.Close()
		written.Name = im.name // which errors are about
		sum, err = gguf.CheckAdapter(written, im.base)
		return err
	})
	return sum, err
}

// replace puts what write writes in the place of the file at path, or leaves everything as it was.
func replace(path string, write func(*os.File) error) error {
	err := atomicfile.WriteFunc(path, 0o644, write)
	if _, ours := errors.AsType[*centram.Error](err); err == nil || ours {
		return err
	}
	return fmt.Errorf("write %s: %w", path, err)
}
