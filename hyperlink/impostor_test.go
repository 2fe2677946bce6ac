package hyperlink_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/p2p/p2ptest"
	"github.com/centram/centram/p2p/wire"
)

// impostor is a peer that hosts layers of the oracle. It speaks the protocol by itself, over connections of QUIC that it keeps
// up, so that it can do on its streams what a Host does not.
type impostor struct {
	dripsFrom    int                               // the frame from which on its answers take for ever; 0: none
	lie          func(frame int, ret *wire.ActRet) // changes an answer that it has committed itself to
	reticent     bool                              // it commits itself to nothing
	commitsAfter time.Duration
	falseOut     bool                            // it commits itself to another output than it gives
	says         func(frame int) *wire.HLReroute // what it says of others with a frame, if anything

	raw    *p2ptest.Raw                    // the head
	others map[centram.PeerID]*p2ptest.Raw // that may be the next stage
	oracle *oracle
	plan   *wire.HLPlan
	back   *quic.Stream // of the plan
	asked  uint64       // number of the plan's request
	frames int          // that it has computed

	windows  map[uint16]*impostorWindow // by lane
	complete []*wire.WinCommit          // of the batch so far

	mu     sync.Mutex // guards next
	next   centram.PeerID
	stream *quic.Stream // to the next stage
	to     centram.PeerID
}

type impostorWindow struct {
	next    int
	in, out hash.Hash
}

// impose connects the impostor with all machines of a park.
func impose(t *testing.T, p *park, is *impostor) {
	t.Helper()
	is.raw, is.windows, is.others = p.net.Raw(len(p.nodes), 0), map[uint16]*impostorWindow{}, map[centram.PeerID]*p2ptest.Raw{}
	for i := 1; i < len(p.nodes); i++ {
		is.others[p.nodes[i].ID()] = is.raw.Dial(i)
	}
	for _, r := range append(slices.Collect(maps.Values(is.others)), is.raw) {
		if err := r.Hello(); err != nil {
			t.Fatal(err)
		}
		go is.hear(r)
	}
	go func() {
		for {
			s, err := is.raw.Conn.AcceptStream(context.Background())
			if err != nil {
				return
			}
			go is.serve(s)
		}
	}()
}

func (is *impostor) id() centram.PeerID {
	return centram.PeerID(is.raw.Key.Public().(ed25519.PublicKey))
}

// hear answers pings, and learns who is the next stage now.
func (is *impostor) hear(r *p2ptest.Raw) {
	for {
		f, err := wire.Read(r.Control)
		if err != nil {
			return
		}
		switch m := must(f.Decode()).(type) {
		case *wire.Ping:
			_ = r.Say(&wire.Pong{Nonce: m.Nonce})
		case *wire.HLReroute:
			is.mu.Lock()
			is.next = m.Node
			is.mu.Unlock()
		}
	}
}

// serve answers the plan, and computes the stream of frames.
func (is *impostor) serve(s *quic.Stream) {
	for {
		f, err := wire.Read(s)
		if err != nil {
			return
		}
		switch m := must(f.Decode()).(type) {
		case *wire.HLPlan:
			is.plan, is.back, is.asked = m, s, f.Request
			span := m.Stages[m.Stage].Layers
			is.oracle = newOracle(int(span.First), int(span.End), int(m.Lanes))
			is.oracle.delay = 10 * time.Millisecond
			if int(m.Stage)+1 < len(m.Stages) {
				is.next = m.Stages[m.Stage+1].Node
			}
			is.reply(&wire.HLReady{Chain: m.Chain, Epoch: m.Epoch, Stage: m.Stage, Weights: m.Stages[m.Stage].Weights, StepUs: 1})
		case *wire.KVTrim:
			_ = is.oracle.Trim(int(m.Lane), int(m.Pos))
		case *wire.ActFwd:
			is.compute(m)
		}
	}
}

// compute answers a frame before those that are joined with it are there: to the oracle it makes no difference.
func (is *impostor) compute(f *wire.ActFwd) {
	_ = is.oracle.Trim(int(f.Lane), int(f.Pos))
	var b engine.StageBatch
	for i := range int(f.Tokens) {
		last := i == int(f.Tokens)-1
		b.Rows = append(b.Rows, engine.Row{Seq: int(f.Lane), Pos: int(f.Pos) + i, Logits: f.Want == wire.LogitRows && (last || f.Flags&wire.FwdEvery != 0)})
	}
	for at := 0; at < len(f.Rows); at += 4 {
		b.Hidden = append(b.Hidden, math.Float32frombits(binary.LittleEndian.Uint32(f.Rows[at:])))
	}
	out := must(is.oracle.Run(context.Background(), b))
	ret := &wire.ActRet{Step: f.Step, Stage: is.plan.Stage}
	if n := len(out.Logits); n > 0 {
		ret.Kind, ret.Tokens, ret.Width, ret.Rows = wire.LogitRows, uint16(n), oracleVocab, bytesOf(out.Logits...)
	}
	is.note(f, b.Rows, bytesOf(append(out.Logits, out.Hidden)...))
	if is.says != nil {
		if m := is.says(is.frames); m != nil {
			m.Chain, m.Epoch = f.Chain, f.Epoch
			_ = is.raw.Say(m)
		}
	}
	if is.lie != nil {
		is.lie(is.frames, ret)
	}
	answer := must(wire.AppendBulk(nil, ret, wire.Reply|wire.More, is.asked))
	if is.frames++; is.oracle.info.Last {
		is.write(is.back, answer)
	} else {
		_, _ = is.back.Write(answer) // it says that it is done
		next := *f
		next.Rows = bytesOf(out.Hidden)
		is.forward(&next)
	}
	if f.Flags&wire.FwdJoin != 0 {
		return // commitments follow the whole batch
	}
	if len(is.complete) > 0 {
		time.Sleep(is.commitsAfter)
	}
	for _, c := range is.complete {
		is.reply(c)
	}
	is.complete = nil
}

func bytesOf(rows ...[]float32) []byte {
	var b []byte
	for _, x := range slices.Concat(rows...) {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// note adds a frame to the windows, and makes the commitments to those that it completes. The rows of out are those of the
// frame, or of what was wanted of them.
func (is *impostor) note(f *wire.ActFwd, rows []engine.Row, out []byte) {
	size := 4 * oracleWidth
	if is.oracle.info.Last {
		size = 4 * oracleVocab
	}
	for i, r := range rows {
		w := is.windows[f.Lane]
		if w == nil || w.next != r.Pos {
			w = &impostorWindow{next: r.Pos, in: sha256.New(), out: sha256.New()}
			is.windows[f.Lane] = w
		}
		w.in.Write(f.Rows[4*oracleWidth*i : 4*oracleWidth*(i+1)])
		if r.Logits || !is.oracle.info.Last {
			w.out.Write(out[:size])
			out = out[size:]
		}
		if w.next++; w.next%wire.CommitTokens != 0 || is.reticent {
			continue
		}
		if is.falseOut {
			w.out.Write([]byte("but"))
		}
		delete(is.windows, f.Lane)
		is.complete = append(is.complete, &wire.WinCommit{
			Chain: is.plan.Chain, Head: is.plan.Stages[0].Node, Stage: is.plan.Stage, Epoch: f.Epoch, Lane: f.Lane,
			First: uint32(w.next - wire.CommitTokens), End: uint32(w.next), In: wire.Hash(w.in.Sum(nil)), Out: wire.Hash(w.out.Sum(nil)), Fingerprint: []byte{0},
		})
	}
}

// forward sends a frame to who is the next stage now. What it has sent before it does not send again.
func (is *impostor) forward(f *wire.ActFwd) {
	is.mu.Lock()
	next := is.next
	is.mu.Unlock()
	const request = 7
	if is.to != next {
		r := is.others[next]
		is.to, is.stream = next, must(r.Conn.OpenStream())
		_, _ = is.stream.Write(r.Frame(&wire.KVTrim{Step: wire.Step{Chain: f.Chain, Epoch: f.Epoch}}, request).Append(nil))
	}
	is.write(is.stream, must(wire.AppendBulk(nil, f, 0, request)))
}

func (is *impostor) reply(m wire.Message) {
	_, _ = is.back.Write(must(wire.Seal(m, is.raw.Key, is.raw.Scope, wire.Reply|wire.More, is.asked)).Append(nil))
}

// write writes at once, or a few bytes at a time, slower than any answer takes, until the stream breaks.
func (is *impostor) write(s *quic.Stream, b []byte) {
	if is.dripsFrom == 0 || is.frames < is.dripsFrom {
		_, _ = s.Write(b)
		return
	}
	for piece := range slices.Chunk(b, 3) {
		if _, err := s.Write(piece); err != nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestAMachineThatCheatsOnItsStreamIsReplaced has the last machine of a chain do what no Host does. The answer goes on as if
// nothing was, and the log says who was replaced and why.
func TestAMachineThatCheatsOnItsStreamIsReplaced(t *testing.T) {
	for name, c := range map[string]struct {
		impostor *impostor
		audits   time.Duration
		report   string // of the one that is replaced; empty: nobody is
	}{
		"an answer of a few bytes at a time": {impostor: &impostor{dripsFrom: 20}, report: "late: it does no work"},
		"no commitments":                     {impostor: &impostor{reticent: true}, audits: time.Hour, report: "wrong: it does not commit itself to what it has computed"},
		"no commitments, and no audits":      {impostor: &impostor{reticent: true}},
		"a loss of one that is not there": {impostor: &impostor{says: func(frame int) *wire.HLReroute {
			return &wire.HLReroute{Stage: 2 + uint16(frame)%62, Cause: wire.StageLost}
		}}},
		"a slander of the asker": {impostor: &impostor{says: func(frame int) *wire.HLReroute {
			if frame == 10 {
				return &wire.HLReroute{Cause: wire.StageWrong}
			}
			return nil
		}}, report: "wrong: %s says so"},
		"nothing that is wrong": {impostor: &impostor{}, audits: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPark(t, 1, 2, p2ptest.Faults{Latency: time.Millisecond})
				p.auditEvery = c.audits
				impose(t, p, c.impostor)
				chain, err := p.open(2, spread([]centram.PeerID{p.nodes[0].ID(), c.impostor.id()}))
				if err != nil {
					t.Fatal(err)
				}
				defer chain.Close()
				const steps = 900 // of 20 ms and more: longer than a commitment may take
				want, _ := greedy(t, alone{newOracle(0, oracleLayers, 2)}, prompts(2, 5), steps, 0)
				watched := &stopwatch{Runner: chain}
				if got, _ := greedy(t, watched, prompts(2, 5), steps, 0); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("got %v, want %v", got, want)
				}
				if watched.longest > 5*time.Second {
					t.Errorf("the answer paused for %v, want at most 5s", watched.longest)
				}
				if c.report == "" {
					p.wantReplaced()
				} else {
					id := c.impostor.id().Short()
					p.wantReplaced(id + " " + strings.ReplaceAll(c.report, "%s", id))
				}
			})
		})
	}
}

// TestFramesThatDripToTheNextMachineAreLate has a machine in the middle say that it is done, and give what it has computed to
// the next one a few bytes at a time. That one seems to do no work, and is replaced first; the one that comes then says that
// what it gets cannot be right, since this impostor does not repeat what it has sent before.
func TestFramesThatDripToTheNextMachineAreLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPark(t, 1, 4, p2ptest.Faults{Latency: time.Millisecond})
		is := &impostor{dripsFrom: 20}
		impose(t, p, is)
		c, err := p.open(2, spread([]centram.PeerID{p.nodes[0].ID(), is.id(), p.nodes[1].ID()}))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		want, _ := greedy(t, alone{newOracle(0, oracleLayers, 2)}, prompts(2, 5), 40, 0)
		watched := &stopwatch{Runner: c}
		if got, _ := greedy(t, watched, prompts(2, 5), 40, 0); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if watched.longest > 8*time.Second {
			t.Errorf("the answer paused for %v, want at most 8s", watched.longest)
		}
		p.wantReplaced(p.nodes[1].ID().Short()+" late: it does no work", is.id().Short()+" wrong: "+p.nodes[2].ID().Short()+" says so")
	})
}

// TestAnAnswerOtherThanTheOneCommittedToIsFound has a machine commit itself to what is right and answer something else, which
// no machine that computes along would notice.
func TestAnAnswerOtherThanTheOneCommittedToIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPark(t, 1, 2, p2ptest.Faults{Latency: time.Millisecond})
		p.auditEvery = time.Hour
		is := &impostor{lie: func(frame int, ret *wire.ActRet) {
			if frame > 50 && len(ret.Rows) > 0 {
				ret.Rows[2] ^= 1 // the last bit of a logit's upper half
			}
		}}
		impose(t, p, is)
		c, err := p.open(2, spread([]centram.PeerID{p.nodes[0].ID(), is.id()}))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if ended := talk(t, c, 1); !strings.Contains(ended, "found to compute wrongly") {
			t.Errorf("the answer under way ended with %q, want that it is said to be wrong", ended)
		}
		p.wantReplaced(is.id().Short() + " wrong: it commits itself to another answer than it gave")
	})
}

// TestAnInputOtherThanTheOneGivenIsFound has a machine compute what is right and commit itself to another input, so that no
// machine that computes along can be held against it.
func TestAnInputOtherThanTheOneGivenIsFound(t *testing.T) {
	for bad := 1; bad <= 2; bad++ {
		t.Run(fmt.Sprintf("machine %d of 3", bad), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPark(t, 1, 4, p2ptest.Faults{Latency: time.Millisecond})
				p.shape = commitsToAnotherInput(bad)
				p.auditEvery = time.Hour
				c, err := p.chain(3, 2, false)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if ended := talk(t, c, bad); !strings.Contains(ended, "found to compute wrongly") {
					t.Errorf("the answer under way ended with %q, want that it is said to be wrong", ended)
				}
				p.wantReplaced(p.nodes[bad].ID().Short() + " wrong: it commits itself to another input than it was given")
			})
		})
	}
}

// commitsToAnotherInput has a machine do so: what came in is hashed when it was computed.
func commitsToAnotherInput(bad int) func(node int, o *oracle) {
	return func(node int, o *oracle) {
		if batches := 0; node == bad {
			o.fail = func(b *engine.StageBatch, _ *engine.StageOutput) error {
				if batches++; batches > 20 {
					b.Hidden[0]++
				}
				return nil
			}
		}
	}
}

// TestAStandbyThatCommitsToAnotherInputDoesNotTakeOver has a standby that its stage could not be held against.
func TestAStandbyThatCommitsToAnotherInputDoesNotTakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPark(t, 1, 6, p2ptest.Faults{Latency: time.Millisecond})
		const bad = 3
		p.shape = commitsToAnotherInput(bad)
		c, err := p.chain(3, 2, true)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if standby := c.Stages()[1].Standby; standby != p.nodes[bad].ID() {
			t.Fatalf("the standby is %s, want %s", standby.Short(), p.nodes[bad].ID().Short())
		}
		want, _ := greedy(t, alone{newOracle(0, oracleLayers, 2)}, prompts(2, 5), 80, 0)
		for range 2 {
			if got, _ := greedy(t, c, prompts(2, 5), 80, 0); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got %v, want %v", got, want)
			}
			p.kill(p.nodes[1].ID())
		}
		if node := c.Stages()[1].Node; node != p.nodes[5].ID() {
			t.Errorf("%s took over, want %s, which is spare", node.Short(), p.nodes[5].ID().Short())
		}
		p.reports.wantNone(t, " wrong: ")
	})
}

// TestAnOutputOtherThanTheOneGivenIsFound has a machine commit itself to another output than it gives. Its word is as good as
// that of the next one, which is replaced first; that another one says the same shows who lies.
func TestAnOutputOtherThanTheOneGivenIsFound(t *testing.T) {
	for _, after := range []time.Duration{0, 10 * time.Millisecond} { // before the next machine commits itself, and after it
		t.Run(fmt.Sprint("committed to after ", after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPark(t, 1, 4, p2ptest.Faults{Latency: time.Millisecond})
				p.auditEvery = time.Hour
				is := &impostor{falseOut: true, commitsAfter: after}
				impose(t, p, is)
				c, err := p.open(2, spread([]centram.PeerID{p.nodes[0].ID(), is.id(), p.nodes[1].ID()}))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if ended := talk(t, c, 1); !strings.Contains(ended, "found to compute wrongly") {
					t.Errorf("the answer under way ended with %q, want that it is said to be wrong", ended)
				}
				p.wantReplaced(
					p.nodes[1].ID().Short()+" wrong: it commits itself to another input than it was given",
					is.id().Short()+" wrong: it commits itself to something else than it gave, two machines say",
				)
			})
		})
	}
}
