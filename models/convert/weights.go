package convert

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/hf"
)

// maxShards bounds over how many files the weights of a folder may be spread.
const maxShards = 512

// weights are the tensors of a folder, by name.
type weights map[string]weight

// weight is a tensor and the file that it is in.
type weight struct {
	hf.Tensor
	file *os.File
	path string
}

// openWeights reads the headers of all files of weights, which stay open until f is closed. One file goes before many, as for
// Hugging Face.
func (f *folder) openWeights(ctx context.Context) (weights, error) {
	w := weights{}
	if f.has(weightsFile) {
		return w, f.openShard(w, weightsFile)
	}
	index, err := f.object(indexFile, maxTokenizer)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, f.noWeights()
	}
	if err != nil {
		return nil, err
	}
	said, err := weightMap(index)
	if err != nil {
		return nil, err
	}
	shards := slices.Compact(slices.Sorted(maps.Values(said)))
	if len(shards) == 0 || len(shards) > maxShards {
		return nil, bad("%s names %d files of weights, not from 1 to %d", index.file, len(shards), maxShards)
	}
	for _, name := range shards {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := f.openShard(w, name); err != nil {
			return nil, err
		}
	}
	return w, w.match(index.file, f, said)
}

// weightMap reads which tensor is in which file.
func weightMap(index *fields) (map[string]string, error) {
	entries := index.object("weight_map")
	said := map[string]string{}
	for name := range entries.raw {
		said[name] = get(entries, name, "")
		if !plain(said[name]) {
			return nil, bad("%s: the tensor %.100q would be in %.100q, which is not the name of a file of the folder", index.file, name, said[name]).
				WithHint("Files of weights are named like model-00001-of-00002.safetensors.")
		}
	}
	return said, index.err()
}

// plain reports whether a name is that of a file of weights in the folder itself.
func plain(name string) bool {
	return strings.HasSuffix(name, ".safetensors") && !strings.ContainsAny(name, "/\\\x00:") && filepath.Base(name) == name && filepath.IsLocal(name)
}

func (f *folder) openShard(w weights, name string) error {
	path := f.path(name)
	file, size, err := f.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return centram.Errorf(centram.NotFound, "%s, with a part of the weights, is missing", path).
			WithHint("Download it into the same folder.")
	}
	if err != nil {
		return err
	}
	f.held = append(f.held, file)
	tensors, err := hf.ReadSafetensors(path, file, size)
	if e, ok := errors.AsType[*centram.Error](err); ok && e.Code == centram.Unsupported {
		return e.WithHint("If the weights were quantised, take the folder of the model before that.")
	}
	if err != nil {
		return err
	}
	for _, t := range tensors {
		if other, twice := w[t.Name]; twice {
			return bad("%s has the tensor %.200s, which is also in %s", path, t.Name, other.path)
		}
		w[t.Name] = weight{t, file, path}
	}
	return nil
}

// match holds what the index says against what is in the files.
func (w weights) match(index string, f *folder, said map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(said)) {
		have, ok := w[name]
		if !ok || have.path != f.path(said[name]) {
			return bad("%s says that the tensor %.200s is in %s, but it is not", index, name, said[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w)) {
		if _, ok := said[name]; !ok {
			return bad("%s has the tensor %.200s, of which %s says nothing", w[name].path, name, index)
		}
	}
	return nil
}

// noWeights says what there is in place of safetensors.
func (f *folder) noWeights() error {
	for _, name := range []string{"pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"} {
		if f.has(name) {
			return unsupported("%s has its weights in %s, a pickle, which can run any program when it is opened; they have to be safetensors",
				f.dir, name).
				WithHint("Load the model with transformers where you trust it, and save it again: save_pretrained writes %s.", weightsFile)
		}
	}
	if f.has("adapter_model.safetensors") {
		return bad("%s has an adapter, not a model", f.dir).
			WithHint("Make a GGUF adapter of it with: centram lora import %s FILE.gguf --model MODEL", f.dir)
	}
	return centram.Errorf(centram.NotFound, "%s has no %s", f.dir, weightsFile).
		WithHint("Download all files of the model: the weights are in %s, or in parts beside %s.", weightsFile, indexFile)
}
