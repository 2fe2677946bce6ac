package lora

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama"
)

// Scaled is an adapter's file and how much of it counts: 1 is as it was trained.
type Scaled struct {
	Path  string
	Scale float64
}

// pair is what one adapter adds to a matrix: scale · B A.
type pair struct {
	rank  int
	scale float64
	a, b  []float32 // rank rows of the matrix's input, and a row of rank numbers for each of its outputs
}

// mixture is what several adapters add together, by matrix. A sum of products of low rank is one of the sum of their ranks:
// so it is exact.
type mixture map[string][]pair

// readMixture reads adapters for the model that base is of.
func readMixture(list []Scaled, base gguf.Summary) (mixture, error) {
	m := mixture{}
	for _, s := range list {
		if err := m.add(s, base); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m mixture) add(s Scaled, base gguf.Summary) (err error) {
	f, err := gguf.Open(s.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum, err := gguf.CheckAdapter(f, base)
	if err != nil {
		return err
	}
	for _, t := range f.Tensors {
		matrix, isA := strings.CutSuffix(t.Name, ".lora_a")
		if !isA {
			continue
		}
		if target(matrix) == "" {
			return centram.Errorf(centram.Unsupported, "%s changes %s, which cannot be looked at here", s.Path, matrix).
				WithHint("Adapters of the matrices of layers can.")
		}
		other, ok := f.Tensor(matrix + ".lora_b")
		if !ok {
			return centram.Errorf(centram.Invalid, "%s has a half of a pair for %s", s.Path, matrix)
		}
		p := pair{rank: int(t.Dims[1]), scale: s.Scale}
		if sum.Alpha > 0 {
			p.scale *= sum.Alpha / float64(p.rank)
		}
		if p.a, err = floats(f, t); err != nil {
			return err
		}
		if p.b, err = floats(f, other); err != nil {
			return err
		}
		m[matrix] = append(m[matrix], p)
	}
	return nil
}

// target is the name of a matrix of a layer, as llama.Targets has it, or nothing.
func target(matrix string) string {
	for _, t := range llama.Targets() {
		if strings.HasPrefix(matrix, "blk.") && strings.HasSuffix(matrix, "."+t+".weight") {
			return t
		}
	}
	return ""
}

// floats are a tensor's numbers.
func floats(f interface {
	Data(gguf.Tensor) *io.SectionReader
}, t gguf.Tensor,
) ([]float32, error) {
	raw, err := io.ReadAll(f.Data(t))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.Name, err)
	}
	out := make([]float32, t.Elements())
	if err := llama.Dequantize(uint32(t.Type), raw, out); err != nil {
		return nil, fmt.Errorf("read %s: %w", t.Name, err)
	}
	return out, nil
}

// rank is that of the widest sum.
func (m mixture) rank() int {
	most := 1
	for _, pairs := range m {
		sum := 0
		for _, p := range pairs {
			sum += p.rank
		}
		most = max(most, sum)
	}
	return most
}

// targets are the matrices that any layer's pairs are for.
func (m mixture) targets() []string {
	var out []string
	for matrix := range m {
		if t := target(matrix); !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}

// into makes the mixture the values of a trainer of its rank and targets.
func (m mixture) into(t *llama.Trainer) error {
	for _, p := range t.Params() {
		matrix, isA := strings.CutSuffix(p.Name, ".lora_a")
		values, err := t.Values(p.Name)
		if err != nil {
			return err
		}
		clear(values)
		if isA {
			at := 0
			for _, q := range m[matrix] {
				at += copy(values[at:], q.a)
			}
		} else {
			m.b(strings.TrimSuffix(p.Name, ".lora_b"), values, p.Dims[0])
		}
		if err := t.SetValues(p.Name, values); err != nil {
			return err
		}
	}
	return nil
}

// b writes the second halves of a matrix's pairs side by side into rows of so many numbers.
func (m mixture) b(matrix string, out []float32, rank int) {
	first := 0
	for _, q := range m[matrix] {
		for row := range len(q.b) / q.rank {
			for i, x := range q.b[row*q.rank : (row+1)*q.rank] {
				out[row*rank+first+i] = float32(q.scale) * x
			}
		}
		first += q.rank
	}
}
