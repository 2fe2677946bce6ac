package convert

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/centram/centram/gguf"
)

// metadata are all keys of the file.
func (m *model) metadata(name string, tensors []gguf.TensorData) []gguf.KV {
	out := []gguf.KV{
		{Key: "general.architecture", Value: gguf.Of(m.shape.Architecture)},
		{Key: "general.type", Value: gguf.Of("model")},
		{Key: "general.name", Value: gguf.Of(strings.ToValidUTF8(name, "?"))},
		{Key: "general.size_label", Value: gguf.Of(sizeLabel(tensors))},
	}
	out = append(out, m.about...)
	out = append(out, m.keys()...)
	out = append(
		out,
		gguf.KV{Key: "general.file_type", Value: gguf.Of(fileType(tensors))},
		gguf.KV{Key: "general.quantization_version", Value: gguf.Of(uint32(2))},
	)
	return append(out, m.vocab.metadata()...)
}

// sizeLabel is how many parameters there are, in at least two digits: 494M, 7.6B.
func sizeLabel(tensors []gguf.TensorData) string {
	total := 0.0
	for _, t := range tensors {
		n := 1.0
		for _, d := range t.Dims {
			n *= float64(d)
		}
		total += n
	}
	unit := "K"
	total /= 1e3
	for _, larger := range []string{"M", "B", "T"} {
		if total > 1e3 {
			total, unit = total/1e3, larger
		}
	}
	digits := 0
	if math.Round(total) < 10 {
		digits = 1
	}
	return fmt.Sprintf("%.*f%s", digits, total, unit)
}

// fileType is llama.cpp's number of the type that most matrices have.
func fileType(tensors []gguf.TensorData) uint32 {
	count := map[gguf.Type]int{}
	for _, t := range tensors {
		if len(t.Dims) > 1 {
			count[t.Type]++
		}
	}
	switch {
	case count[gguf.F32] >= count[gguf.F16] && count[gguf.F32] >= count[gguf.BF16]:
		return 0
	case count[gguf.F16] >= count[gguf.BF16]:
		return 1
	}
	return 32
}

// readAbout reads what is good to know of a model: its licence, and how its makers sample from it.
func readAbout(src *folder) ([]gguf.KV, error) {
	out, err := readCard(src)
	if err != nil {
		return nil, err
	}
	f, err := src.optional(generationFile, maxSettings)
	if err != nil {
		return nil, err
	}
	for _, row := range []struct{ field, key string }{
		{"top_p", "top_p"}, {"min_p", "min_p"}, {"temperature", "temp"}, {"repetition_penalty", "penalty_repeat"},
	} {
		if f.has(row.field) {
			out = append(out, gguf.KV{Key: "general.sampling." + row.key, Value: gguf.Of(float32(get(f, row.field, 0.0)))})
		}
	}
	if f.has("top_k") {
		k := get(f, "top_k", 0)
		out = append(out, gguf.KV{Key: "general.sampling.top_k", Value: gguf.Of(int32(max(math.MinInt32, min(k, math.MaxInt32))))})
	}
	return out, f.err()
}

// readCard reads the licence from the head of README.md, which is YAML between two lines of dashes. Only lines of the form
// "license: text" are understood, and the rest is passed over: nothing depends on it.
func readCard(src *folder) ([]gguf.KV, error) {
	b, err := src.read(cardFile, maxSettings)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !utf8.Valid(b) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []gguf.KV
	head, _, _ := strings.Cut(strings.TrimPrefix(strings.ReplaceAll(string(b), "\r\n", "\n"), "---\n"), "\n---")
	if !strings.HasPrefix(string(b), "---") {
		return nil, nil
	}
	for _, row := range []struct{ field, key string }{
		{"license", "general.license"}, {"license_name", "general.license.name"}, {"license_link", "general.license.link"},
	} {
		for line := range strings.Lines(head) {
			value, ok := strings.CutPrefix(line, row.field+":")
			if value = strings.Trim(value, " \t\r\n\"'"); ok && value != "" && len(value) <= 200 {
				out = append(out, gguf.KV{Key: row.key, Value: gguf.Of(value)})
				break
			}
		}
	}
	return out, nil
}
