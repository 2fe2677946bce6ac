package plan

import "time"

// The output matrix comes after all layers, and it can be multiplied by two machines at the same time, each with a part of its
// rows: the last one and the head, which gets the answer in any case. What goes into it is sent to the head ahead of the
// answer. The layers are dealt out as if the last machine had all of it; then it is seen whether sharing pays.

// shares are the parts of the output matrix, in so many of it, that are tried at the head.
const shares = 32

// sharing is a chain whose head has a part of the output matrix: none, which is 0, to all of it, which is 1.
type sharing struct {
	in    Input
	chain []part
	part  float64
}

func (s sharing) head() part { return s.chain[0] }
func (s sharing) tail() part { return s.chain[len(s.chain)-1] }

// outputTime is what the output matrix takes on d for so many rows.
func (in Input) outputTime(d Device, rows int) time.Duration {
	return seconds(max(float64(in.Model.Output.Weights)/d.ReadRate, float64(rows)*in.Model.Output.MulAdds/d.MulRate))
}

func of(part float64, t time.Duration) time.Duration { return time.Duration(part * float64(t)) }

// around is Input's: how long a step takes through the chain and back to the head, and the longest that it keeps a stage or a
// link busy.
func (s sharing) around(rows, chats int) (total, slowest time.Duration) {
	total, slowest = s.in.around(s.chain, rows, chats)
	if s.part == 0 {
		return total, slowest
	}
	there, here := s.in.outputTime(s.tail().Device, chats), s.in.outputTime(s.head().Device, chats)
	reply, _ := s.in.hop(s.tail().Device, s.head().Device, chats*replyBytes)
	ahead, busy := s.in.hop(s.tail().Device, s.head().Device, s.in.frame(chats))
	total += max(reply-of(s.part, there), ahead+of(s.part, here)-there) - reply
	slowest = busy
	for i, p := range s.chain {
		t := s.in.stepTime(p, rows, chats)
		switch i {
		case 0:
			t += of(s.part, here)
		case len(s.chain) - 1:
			t -= of(s.part, there)
		}
		next, bytes := s.head(), chats*replyBytes
		if i+1 < len(s.chain) {
			next, bytes = s.chain[i+1], s.in.frame(rows)
		}
		_, busy := s.in.hop(p.Device, next.Device, bytes)
		slowest = max(slowest, t, busy)
	}
	return total, slowest
}

// fits says whether the head has room for its part.
func (s sharing) fits() bool { return s.in.memory(s.head().layers)+s.bytes() <= s.head().room() }

// bytes are those of the head's part.
func (s sharing) bytes() int64 { return int64(s.part * float64(s.in.Model.Output.Weights)) }

// share finds the part of the output matrix that the head of a chain best has. It has none unless that is worthwhile.
func (in Input) share(chain []part) sharing {
	best := sharing{in, chain, 0}
	if !in.Model.Shared || len(chain) < 2 {
		return best
	}
	score := func(s sharing) float64 { return in.score(s.option(Split)) }
	most := score(best) * (1 + worthwhile/100.0)
	for i := 1; i < shares; i++ {
		s := sharing{in, chain, float64(i) / shares}
		if rate := score(s); rate > most && s.fits() {
			best, most = s, rate
		}
	}
	return best
}

// option is what becomes of the chain, which may be one machine alone.
func (s sharing) option(kind Kind) Option {
	in := s.in
	o := Option{Kind: kind, Groups: 1, Shared: s.part}
	for groups := range in.Work.maxGroups() {
		size := in.Work.groupSize(groups + 1)
		total, slowest := s.around(size, size)
		if rate := perSecond(in.Work.underWay(), max(total, time.Duration(groups+1)*slowest)); rate > o.Throughput {
			o.Groups, o.Throughput = groups+1, rate
		}
	}
	total, _ := s.around(1, 1)
	o.TokensPerSecond, o.PromptRate = perSecond(1, total), perSecond(in.Work.Prompt, in.readTime(s.chain))
	for i, p := range s.chain {
		stage := Stage{p.ID, p.layers, in.stepTime(p, 1, 1), in.memory(p.layers), in.fetch(p)}
		switch {
		case s.part == 0:
		case i == 0:
			stage.DecodeTime += of(s.part, in.outputTime(p.Device, 1))
			stage.MemoryBytes += s.bytes()
		case i == len(s.chain)-1:
			stage.DecodeTime -= of(s.part, in.outputTime(p.Device, 1))
			stage.MemoryBytes -= s.bytes()
			stage.FetchBytes = max(0, stage.FetchBytes-s.bytes())
		}
		o.Stages = append(o.Stages, stage)
	}
	return o
}
