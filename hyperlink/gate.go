package hyperlink

// gate is a mutex that may be held for seconds: who waits for it can give up, by waiting for the channel.
type gate chan struct{}

func newGate() gate {
	g := make(gate, 1)
	g <- struct{}{}
	return g
}

func (g gate) Lock()   { <-g }
func (g gate) Unlock() { g <- struct{}{} }

// Pass waits until whoever has the gate leaves it.
func (g gate) Pass() { g <- <-g }
