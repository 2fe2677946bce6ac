package gguf

// Join makes a model of files that were read one by one, which are all its parts in order. It takes them over, and closes them if
// they do not make a model.
func Join(parts ...*File) (*Model, error) { return newModel(parts) }

// Need is a tensor that a slice is made of.
type Need struct {
	Part   int    // index of the model's part that has it
	Tensor Tensor // or those rows of it that are needed
}

// Needs are the tensors that Slice reads, so that they can be fetched before.
func Needs(m *Model, share Share) ([]Need, error) {
	st, err := newStage(m, share)
	if err != nil {
		return nil, err
	}
	var all []Need
	for _, p := range st.pieces {
		for i, f := range m.Parts {
			if !p.filler && m.part[p.from.Name] == f {
				all = append(all, Need{i, p.from})
			}
		}
	}
	return all, nil
}
