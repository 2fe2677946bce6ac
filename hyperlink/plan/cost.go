package plan

import (
	"slices"
	"time"

	"github.com/centram/centram"
)

const (
	// chunk is how many tokens of a prompt go through the chain together. Less, and the stages read their weights too
	// often; more, and they wait for each other.
	chunk = 256

	// replyBytes go from the last stage back to the head for a token: the 256 best logits, each with its token.
	replyBytes = 256 * 8

	// longest is the most that a layer or a hop takes, so that no sum of them overflows.
	longest = time.Hour
)

// part is a range of layers on a device.
type part struct {
	Device
	layers centram.LayerRange
}

func (d Device) measured() bool { return d.ReadRate > 0 && d.MulRate > 0 }

// room is what a plan may use of the memory of d. A fifth stays free, because nodes that were packed full have been
// killed by their systems for what nobody had counted.
func (d Device) room() int64 { return d.Memory / 5 * 4 }

func (in Input) fits(p part) bool { return in.memory(p.layers) <= p.room() }

func (in Input) all() centram.LayerRange { return centram.LayerRange{End: len(in.Model.Layers)} }

// weights are the bytes that come with layer i. The token table comes with the first layer and the output with the last.
func (in Input) weights(i int) int64 {
	n := in.Model.Layers[i].Weights
	if i == 0 {
		n += in.Model.Embedding
	}
	if i == len(in.Model.Layers)-1 {
		n += in.Model.Output.Weights
	}
	return n
}

// shared is what a range needs less than its layers do, because it has both ends of a tied model.
func (in Input) shared(r centram.LayerRange) int64 {
	if in.Model.Tied && r == in.all() {
		return min(in.Model.Output.Weights, in.Model.Embedding)
	}
	return 0
}

func (in Input) memory(r centram.LayerRange) int64 {
	n := in.Model.Fixed - in.shared(r)
	for i := r.First; i < r.End; i++ {
		n += in.layerMemory(i)
	}
	return n
}

func (in Input) layerMemory(i int) int64 {
	return in.weights(i) + in.Model.Layers[i].KV*int64(in.Work.Positions)*int64(in.Work.Lanes)
}

// fetch is how much of the weights of p is not there yet.
func (in Input) fetch(p part) int64 {
	n := int64(0)
	for i := p.layers.First; i < p.layers.End; i++ {
		if !slices.ContainsFunc(p.Resident, func(r centram.LayerRange) bool { return r.First <= i && i < r.End }) {
			n += in.weights(i)
		}
	}
	return max(0, n-in.shared(p.layers))
}

// layerTime is what layer i takes on d in a step of so many rows, which belong to so many chats. A step reads the weights
// once, and the KV cache once for a chat; it multiplies for each row; and it does both at once.
func (in Input) layerTime(d Device, i, rows, chats int) time.Duration {
	l, filled := in.Model.Layers[i], float64(in.Work.Prompt+in.Work.Answer/2) // half of the answer, on average
	kv := float64(l.KV) * filled / d.ReadRate
	mul := l.MulAdds / d.MulRate
	alone := max(float64(l.Weights)/d.ReadRate+kv, mul)
	if d.LayerTime > 0 {
		alone = d.LayerTime.Seconds()
		mul = min(mul, alone) // a batch does not take longer than its rows one by one
	}
	t := max(alone+float64(chats-1)*kv, float64(rows)*mul)
	if i == len(in.Model.Layers)-1 { // logits are wanted for the last row of each chat
		return seconds(t + in.outputTime(d, chats).Seconds())
	}
	return seconds(t)
}

func (in Input) stepTime(p part, rows, chats int) time.Duration {
	t := p.Overhead
	for i := p.layers.First; i < p.layers.End; i++ {
		t += in.layerTime(p.Device, i, rows, chats)
	}
	return t
}

// hop is how long so many bytes are on their way, and for how long of that they keep others from being sent.
func (in Input) hop(from, to Device, bytes int) (total, busy time.Duration) {
	link := Unmeasured
	if in.Links != nil {
		if l := in.Links(from.ID, to.ID); l.Measured && l.Rate > 0 {
			link = l
		}
	}
	busy = seconds(float64(bytes) / link.Rate)
	return min(max(link.RTT, 0)/2, longest) + busy, busy
}

// frame is the size of so many hidden states.
func (in Input) frame(rows int) int { return rows * in.Model.Width * 4 }

func seconds(s float64) time.Duration {
	return time.Duration(min(s, longest.Seconds()) * float64(time.Second))
}

// around is how long a step takes through a chain and back to the head, and the longest that it keeps a stage or a link
// busy.
func (in Input) around(chain []part, rows, chats int) (total, slowest time.Duration) {
	for i, p := range chain {
		t := in.stepTime(p, rows, chats)
		total, slowest = total+t, max(slowest, t)
		if len(chain) == 1 {
			break
		}
		next, bytes := chain[0], chats*replyBytes
		if i+1 < len(chain) {
			next, bytes = chain[i+1], in.frame(rows)
		}
		t, busy := in.hop(p.Device, next.Device, bytes)
		total, slowest = total+t, max(slowest, busy)
	}
	return total, slowest
}

// underWay is how many chats a plan, or a replica, has at once.
func (w Work) underWay() int { return min(w.Chats, w.Lanes) }

// groupSize is how many chats are batched if they go around in that many groups.
func (w Work) groupSize(groups int) int { return (w.underWay() + groups - 1) / groups }

// maxGroups is how many groups there may be. More than there are stages gain nothing to speak of.
func (w Work) maxGroups() int { return min(w.underWay(), maxOthers+1) }

// round is how long it takes until all chats have got one token more. A stage that serves many groups is what they wait
// for, and with few groups the stages wait for them.
func (in Input) round(chain []part, groups int) time.Duration {
	size := in.Work.groupSize(groups)
	total, slowest := in.around(chain, size, size)
	return max(total, time.Duration(groups)*slowest)
}

// readTime is how long a chain takes for a prompt. All chunks but the first follow at the pace of what is slowest.
func (in Input) readTime(chain []part) time.Duration {
	chunks := (in.Work.Prompt + chunk - 1) / chunk
	total, slowest := in.around(chain, (in.Work.Prompt+chunks-1)/chunks, 1)
	return total + time.Duration(chunks-1)*slowest
}

func perSecond(n int, t time.Duration) float64 { return float64(n) / max(t, 1).Seconds() }

// option is what becomes of a kind and its parts.
func (in Input) option(kind Kind, parts []part) Option {
	switch kind {
	case Solo:
		return sharing{in, parts, 0}.option(Solo)
	case Split:
		return in.share(parts).option(Split)
	}
	o := Option{Kind: kind, Groups: 1}
	_, o.Throughput = in.deal(parts)
	for _, p := range parts { // a chat that is alone goes where it is answered fastest
		alone := sharing{in, []part{p}, 0}.option(Solo)
		if alone.TokensPerSecond > o.TokensPerSecond {
			o.TokensPerSecond, o.PromptRate = alone.TokensPerSecond, alone.PromptRate
		}
		o.Stages = append(o.Stages, alone.Stages...)
	}
	return o
}
