package hyperlink_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/p2p/p2ptest"
)

func TestAChainSaysWhatItsStagesTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPark(t, 1, 2, p2ptest.Faults{})
		p.shape = func(_ int, o *oracle) { o.delay = 30 * time.Millisecond }
		c, err := p.chain(2, 1, false)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if m := c.Measured(); len(m.Stages) != 2 || m.Stages[0] != 0 || m.Stages[1] != 0 || m.Step != 0 || m.Epoch != 1 {
			t.Errorf("before the first step: got %+v", m)
		}
		for pos := range 20 {
			if _, err := c.Step(t.Context(), engine.Batch{Rows: []engine.Row{{Token: 1, Pos: pos, Logits: true}}}); err != nil {
				t.Fatal(err)
			}
		}
		m := c.Measured()
		if m.Stages[0] != 0 || m.Stages[1] != 30*time.Millisecond {
			t.Errorf("the stages take %v, want nothing and 30ms", m.Stages)
		}
		if m.Step < 30*time.Millisecond || m.Step > 60*time.Millisecond {
			t.Errorf("a step takes %v, want 30ms and the way", m.Step)
		}
	})
}
