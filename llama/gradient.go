package llama

import "fmt"

// CopyGradient writes the gradient of all parameters, in the order of Params, to out, which has as many numbers.
func (t *Trainer) CopyGradient(out []float32) error {
	if t.c == nil {
		return ErrClosed
	}
	if len(out) != len(t.gradients) {
		return fmt.Errorf("llama: a gradient has %d numbers, not %d", len(t.gradients), len(out))
	}
	copy(out, t.gradients)
	return nil
}

// PutGradient makes in the gradient of all parameters.
func (t *Trainer) PutGradient(in []float32) error {
	if t.c == nil {
		return ErrClosed
	}
	if len(in) != len(t.gradients) {
		return fmt.Errorf("llama: a gradient has %d numbers, not %d", len(t.gradients), len(in))
	}
	copy(t.gradients, in)
	return nil
}
