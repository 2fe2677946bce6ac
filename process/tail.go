package process

import (
	"bytes"
	"strings"
)

// Tail keeps the last of what is written to it: what a process said before it broke.
type Tail struct{ b []byte }

const tailBytes = 2 << 10

// Write keeps the end of p.
func (t *Tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > tailBytes {
		t.b = bytes.Clone(t.b[len(t.b)-tailBytes:])
	}
	return len(p), nil
}

// String is what was kept, as text.
func (t *Tail) String() string { return strings.ToValidUTF8(strings.TrimSpace(string(t.b)), "") }
