package hyperlink_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/p2ptest"
	"github.com/centram/centram/p2p/wire"
)

// attacker is a node that speaks to a host as a head and as the stage before, and says what it likes.
type attacker struct {
	t     *testing.T
	park  *park
	to    *p2p.Peer
	chain wire.ChainID
	plan  *p2p.Exchange
	lane  *p2p.Exchange
}

const attackedWidth = oracleWidth

// attack has the host serve the last layers in a chain of the attacker's.
func attack(t *testing.T, p *park) *attacker {
	t.Helper()
	a := &attacker{t: t, park: p, to: p.nodes[0].Peer(p.nodes[1].ID()), chain: wire.ChainID{byte(time.Now().Nanosecond()), 1}}
	var err error
	a.plan, err = a.to.Open(t.Context(), a.proposal())
	if err != nil {
		t.Fatal(err)
	}
	for {
		m, err := a.plan.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, ready := m.(*wire.HLReady); ready {
			break
		}
	}
	if a.lane, err = a.to.Open(t.Context(), &wire.KVTrim{Step: wire.Step{Chain: a.chain, Epoch: 1}}); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *attacker) proposal() *wire.HLPlan {
	return &wire.HLPlan{
		Chain: a.chain, Epoch: 1, Model: wire.Hash{1}, Layers: oracleLayers, Width: attackedWidth, Stage: 1,
		Stages: []wire.PlanStage{
			{Node: a.park.nodes[0].ID(), Layers: wire.LayerSpan{First: 0, End: 6}, Weights: wire.Hash{1}},
			{Node: a.park.nodes[1].ID(), Layers: wire.LayerSpan{First: 6, End: oracleLayers}, Weights: wire.Hash{2}},
		},
		Keys: wire.F16, Values: wire.F16, Context: 1000, Lanes: 2, Tokens: 128, Frames: 4, Privacy: wire.Friend, ReadyMs: 10_000,
	}
}

// frame is one of n tokens at a position of a lane.
func (a *attacker) frame(seq, lane, pos, n int, want wire.Result, flags wire.FwdFlags) *wire.ActFwd {
	f := &wire.ActFwd{
		Step:   wire.Step{Chain: a.chain, Epoch: 1, Seq: uint32(seq), Pos: uint32(pos), Lane: uint16(lane)},
		Tokens: uint16(n), Width: attackedWidth, Want: want, Flags: flags, Rows: make([]byte, 4*n*attackedWidth),
	}
	if want == wire.TopRows {
		f.Top = 5
	}
	return f
}

// TestNoFrameBringsAHostDown sends a host what only a broken or hostile node sends. It must refuse it, and go on to serve others.
func TestNoFrameBringsAHostDown(t *testing.T) {
	for name, send := range map[string]func(a *attacker) []wire.Message{
		"more rows wanted than can be": func(a *attacker) []wire.Message {
			return []wire.Message{a.frame(1, 0, 0, 65, wire.LogitRows, wire.FwdEvery)}
		},
		"hidden states of more rows than can be": func(a *attacker) []wire.Message {
			return []wire.Message{a.frame(1, 0, 0, 65, wire.HiddenRows, 0)}
		},
		"logits and hidden states in one batch": func(a *attacker) []wire.Message {
			return []wire.Message{a.frame(1, 0, 0, 1, wire.HiddenRows, wire.FwdJoin), a.frame(2, 1, 0, 1, wire.LogitRows, 0)}
		},
		"a lane that goes back within a batch": func(a *attacker) []wire.Message {
			return []wire.Message{a.frame(1, 0, 0, 5, wire.NoRows, wire.FwdJoin), a.frame(2, 0, 2, 1, wire.LogitRows, 0)}
		},
		"a lane cut within a batch": func(a *attacker) []wire.Message {
			return []wire.Message{a.frame(1, 0, 0, 5, wire.NoRows, wire.FwdJoin), &wire.KVTrim{Step: wire.Step{Chain: a.chain, Epoch: 1, Seq: 2}}}
		},
		"a batch without end": func(a *attacker) []wire.Message {
			var all []wire.Message
			for i := range 200 {
				all = append(all, a.frame(i+1, 0, i, 1, wire.NoRows, wire.FwdJoin))
			}
			return all
		},
		"a lane that is not there": func(a *attacker) []wire.Message { return []wire.Message{a.frame(1, 2, 0, 1, wire.LogitRows, 0)} },
		"a position beyond the lane": func(a *attacker) []wire.Message {
			return []wire.Message{a.frame(1, 0, 0, 1, wire.NoRows, 0), a.frame(2, 0, 2, 1, wire.LogitRows, 0)}
		},
		"a position beyond the context": func(a *attacker) []wire.Message {
			var all []wire.Message
			for i := range 8 {
				all = append(all, a.frame(i+1, 0, 126*i, 126, wire.NoRows, 0))
			}
			return all
		},
		"another width": func(a *attacker) []wire.Message {
			f := a.frame(1, 0, 0, 1, wire.LogitRows, 0)
			f.Width, f.Rows = 3, make([]byte, 12)
			return []wire.Message{f}
		},
		"not a number": func(a *attacker) []wire.Message {
			f := a.frame(1, 0, 0, 1, wire.LogitRows, 0)
			bits := math.Float32bits(float32(math.NaN()))
			f.Rows[0], f.Rows[1], f.Rows[2], f.Rows[3] = byte(bits), byte(bits>>8), byte(bits>>16), byte(bits>>24)
			return []wire.Message{f}
		},
		"adapters that are not in the plan": func(a *attacker) []wire.Message {
			f := a.frame(1, 0, 0, 1, wire.LogitRows, 0)
			f.Adapters = wire.Hash{9}
			return []wire.Message{f}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPark(t, 1, 3, p2ptest.Faults{})
				p.shape = func(_ int, o *oracle) { o.info.Outputs = 64 }
				a := attack(t, p)
				for _, m := range send(a) {
					if err := a.lane.Send(t.Context(), m); err != nil {
						break // it has had enough
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				_, err := a.lane.Receive(ctx)
				if err == nil || errors.Is(err, io.EOF) || ctx.Err() != nil {
					t.Errorf("the stream of frames ended with %v, want a refusal", err)
				}
				a.lane.Close()
				a.plan.Close()
				// The host serves others as before.
				q := p.nodes
				p.nodes[0], p.hosts[0], p.nodes[2], p.hosts[2] = q[2], p.hosts[2], q[0], p.hosts[0]
				c, err := p.chain(2, 2, false)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				want, _ := greedy(t, alone{newOracle(0, oracleLayers, 2)}, prompts(2, 5), 10, 0)
				if got, _ := greedy(t, c, prompts(2, 5), 10, 0); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("afterwards another head got %v, want %v", got, want)
				}
			})
		})
	}
}
