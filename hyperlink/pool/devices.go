package pool

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hyperlink/plan"
	"github.com/centram/centram/p2p/wire"
)

// Offers are the nodes that would compute for this one now: connected, trusted as far as Privacy asks, and with an offer
// that holds.
func (p *Pool) Offers() map[centram.PeerID]*wire.HLOffer {
	out := map[centram.PeerID]*wire.HLOffer{}
	for _, k := range p.Known() {
		if k.Why == "" {
			out[k.ID] = k.Offer
		}
	}
	return out
}

// input is what a plan is made of.
func (p *Pool) input(path string, info engine.Info) (plan.Input, error) {
	g, err := gguf.OpenModel(path)
	if err != nil {
		return plan.Input{}, err
	}
	defer g.Close()
	p.mu.Lock()
	r := p.rates
	p.mu.Unlock()
	in := plan.Input{
		Model: costs(g), Links: p.link,
		// A plan uses four fifths of a machine's memory; what this one may use has been decided already.
		Head: plan.Device{ID: p.cfg.Node.ID(), Memory: p.cfg.Spare() / 4 * 5, ReadRate: r.read, MulRate: r.mul, Overhead: overhead},
		Work: plan.Work{Positions: info.Context, Lanes: info.Sequences, Private: p.cfg.Privacy != AnyPeer},
	}
	if r == (rates{}) { // not measured yet: as fast as the others, so that memory decides
		in.Head.ReadRate, in.Head.MulRate = 10e9, 50e9
	}
	ours := p.ours()
	for id, o := range p.Offers() {
		in.Others = append(in.Others, plan.Device{
			ID: id, Memory: int64(o.Memory) + ours[id], ReadRate: float64(o.ReadRate), MulRate: float64(o.MulRate), Overhead: overhead,
		})
	}
	return in, nil
}

// ours is the memory that this node's own models take on others, which their offers leave out: a model that is unloaded to
// make room for another gives it back.
func (p *Pool) ours() map[centram.PeerID]int64 {
	out := map[centram.PeerID]int64{}
	for _, r := range p.Running() {
		for _, s := range r.now().Stages[1:] {
			out[s.Device] += s.MemoryBytes
		}
	}
	return out
}

// overhead is what a stage's software takes for a step, as measured on the loopback interface.
const overhead = 100 * time.Microsecond

// costs is what the parts of a model cost. The token table is read from the file, a row at a time, and takes no memory of
// its own.
func costs(g *gguf.Model) plan.Model {
	s := g.Summary
	m := plan.Model{Layers: make([]plan.Layer, s.Layers), Width: s.Embedding, Shared: s.VocabSize%gguf.TokenStep == 0}
	output := ""
	if output = "output.weight"; s.Tied {
		output = "token_embd.weight"
	}
	for _, t := range g.Tensors {
		mul := 0.0
		if len(t.Dims) > 1 {
			mul = float64(t.Elements())
		}
		if t.Name == output {
			m.Output = plan.Layer{Weights: t.Size, MulAdds: mul}
		}
		if layer := layerOf(t.Name); layer >= 0 && layer < s.Layers {
			m.Layers[layer].Weights += t.Size
			m.Layers[layer].MulAdds += mul
		}
	}
	for i := range m.Layers {
		m.Layers[i].KV = s.KVBytesPerToken / int64(s.Layers)
	}
	return m
}

// layerOf reads the 3 of blk.3.attn_q.weight. It is -1 for a tensor of no layer.
func layerOf(name string) int {
	rest, ok := strings.CutPrefix(name, "blk.")
	if !ok {
		return -1
	}
	n := 0
	for i, c := range rest {
		if c == '.' && i > 0 {
			return n
		}
		if c < '0' || c > '9' {
			return -1
		}
		n = 10*n + int(c-'0')
	}
	return -1
}

// link is what is known of the way between two nodes. That between two others goes, for want of a better word, over here.
func (p *Pool) link(from, to centram.PeerID) plan.Link {
	self := p.cfg.Node.ID()
	if from != self && to != self {
		a, b := p.link(self, from), p.link(self, to)
		return plan.Link{RTT: a.RTT + b.RTT, Rate: min(a.Rate, b.Rate), Measured: a.Measured && b.Measured}
	}
	other := to
	if other == self {
		other = from
	}
	peer := p.cfg.Node.Peer(other)
	if peer == nil {
		return plan.Link{}
	}
	l := peer.Link()
	rtt, rate := cmp.Or(l.RTT, peer.Traffic().RTT), float64(l.Best)
	if rtt < lanRTT {
		rate = max(rate, lanRate) // what was sent so far was not sent as fast as could be
	}
	return plan.Link{RTT: rtt, Rate: rate, Measured: rtt > 0}
}

// split plans a model over several machines. If it were as good on this one alone, that is an error, unless somebody
// wants the split.
func (p *Pool) split(ctx context.Context, path string, info engine.Info) (plan.Choice, error) {
	p.known(ctx)
	p.sound(ctx)
	in, err := p.input(path, info)
	if err != nil {
		return plan.Choice{}, err
	}
	choice, err := plan.Make(in)
	if err != nil {
		return choice, err
	}
	if choice.Kind == plan.Split {
		return choice, nil
	}
	for _, o := range choice.Alternatives {
		if o.Kind == plan.Split {
			choice.Option = o
			return choice, nil
		}
	}
	return choice, centram.Errorf(centram.Unavailable, "there is no other machine to split the model with").
		WithHint("See who offers what with: centram hyperlink status")
}

// sound pings those who offer. A machine that has just gone still counts as connected, and a chain is not to wait for it.
func (p *Pool) sound(ctx context.Context) {
	p.mu.Lock()
	clear(p.mute)
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, answerFor)
	defer cancel()
	var wg sync.WaitGroup
	for id := range p.Offers() {
		if peer := p.cfg.Node.Peer(id); peer != nil {
			wg.Go(func() {
				if _, err := peer.Ping(ctx); err != nil {
					p.mu.Lock()
					defer p.mu.Unlock()
					p.mute[id] = peer
				}
			})
		}
	}
	wg.Wait()
}

// spare finds a node for a stage whose node is lost, or may be: one that is not in the chain, and has the memory. One that
// stands by for another stage is better than none.
func (p *Pool) spare(path string, info engine.Info, stages []wire.PlanStage, number uint16, failed []centram.PeerID) (centram.PeerID, error) {
	in, err := p.input(path, info)
	if err != nil {
		return centram.PeerID{}, err
	}
	s := stages[number].Layers
	need := memory(in, centram.LayerRange{First: int(s.First), End: int(s.End)})
	able := slices.DeleteFunc(in.Others, func(d plan.Device) bool {
		taken := slices.ContainsFunc(stages, func(s wire.PlanStage) bool { return s.Node == d.ID })
		return taken || slices.Contains(failed, d.ID) || d.Memory < need
	})
	if len(able) == 0 {
		return centram.PeerID{}, centram.Errorf(centram.Unavailable, "no other machine offers %d MiB for layers", need>>20)
	}
	waits := func(d plan.Device) int {
		if slices.ContainsFunc(stages, func(s wire.PlanStage) bool { return s.Standby == d.ID }) {
			return 1
		}
		return 0
	}
	return slices.MinFunc(able, func(a, b plan.Device) int {
		return cmp.Or(cmp.Compare(waits(a), waits(b)), cmp.Compare(b.ReadRate, a.ReadRate), slices.Compare(a.ID[:], b.ID[:]))
	}).ID, nil
}

func memory(in plan.Input, r centram.LayerRange) int64 {
	n := int64(0)
	for i := r.First; i < r.End; i++ {
		l := in.Model.Layers[i]
		n += l.Weights + l.KV*int64(in.Work.Positions)*int64(in.Work.Lanes)
	}
	if r.End == len(in.Model.Layers) {
		n += in.Model.Output.Weights
	}
	return n
}
