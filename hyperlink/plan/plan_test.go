package plan

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/centram/centram"
)

const (
	mega = 1_000_000
	giga = 1000 * mega
)

// slack is how much worse a choice may be than the best, for the sake of fewer machines: once in a split and once between
// the kinds.
const slack = (1 + worthwhile/100.0) * (1 + worthwhile/100.0) * (1 + 1e-6)

func id(i int) centram.PeerID { return centram.PeerID{byte(i)} }

// device reads a layer of uniform in 10 ms and has room for that many.
func device(i, layers int) Device {
	return Device{ID: id(i), Memory: int64(layers) * 125 * mega, ReadRate: 10 * giga, MulRate: 1e12}
}

func uniform(layers int) Model {
	m := Model{Layers: make([]Layer, layers), Width: 1000}
	for i := range m.Layers {
		m.Layers[i] = Layer{Weights: 100 * mega, MulAdds: 100 * mega}
	}
	return m
}

func everywhere(l Link) func(from, to centram.PeerID) Link {
	return func(_, _ centram.PeerID) Link { return l }
}

var lan = Link{RTT: time.Millisecond, Rate: 100 * mega, Measured: true}

func mustMake(t *testing.T, in Input) Choice {
	t.Helper()
	c, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// layout is a plan in short, such as "split 1:0-6 2:6-10".
func layout(o Option) string {
	s := o.Kind.String()
	for _, st := range o.Stages {
		s += fmt.Sprintf(" %d:%d-%d", st.Device[0], st.Layers.First, st.Layers.End)
	}
	return s
}

func TestPlans(t *testing.T) {
	fast := func(i, layers int) Device {
		d := device(i, layers)
		d.ReadRate *= 4
		return d
	}
	slow := func(i, layers int) Device {
		d := device(i, layers)
		d.ReadRate /= 10
		return d
	}
	layer20ms, layer40ms := device(2, 8), fast(3, 8) // by its rates the second would be the better one
	layer20ms.LayerTime, layer40ms.LayerTime = 20*time.Millisecond, 40*time.Millisecond
	wideMouth := uniform(10) // a small model with a large vocabulary, whose output is as much as four layers
	wideMouth.Output = Layer{Weights: 400 * mega, MulAdds: 400 * mega}
	const hops = .001 + .00004 + .00002048 // two half round trips, a frame of 4000 bytes and a reply of 2048
	for _, c := range []struct {
		name   string
		model  Model
		head   Device
		others []Device
		work   Work
		links  func(from, to centram.PeerID) Link
		want   string
		time   float64 // of a token, in seconds
	}{
		{"a model that fits stays at home", uniform(10), device(1, 10), []Device{device(2, 10)}, Work{}, everywhere(lan), "solo 1:0-10", .1},
		{"twins share what fits neither", uniform(10), device(1, 6), []Device{device(2, 6)}, Work{}, everywhere(lan), "split 1:0-5 2:5-10", .1 + hops},
		{"memory bounds a range", uniform(10), device(1, 3), []Device{device(2, 7)}, Work{}, everywhere(lan), "split 1:0-3 2:3-10", .1 + hops},
		{"a much faster machine gets all but the first layer", uniform(10), device(1, 10), []Device{fast(2, 10)}, Work{}, everywhere(lan), "split 1:0-1 2:1-10", .01 + 9*.0025 + hops},
		{"a faster machine far away is not worth it", uniform(10), device(1, 10), []Device{fast(2, 10)}, Work{}, nil, "solo 1:0-10", .1},
		{"a slow machine drops out", uniform(10), device(1, 6), []Device{slow(2, 10), device(3, 6)}, Work{}, everywhere(lan), "split 1:0-5 3:5-10", .1 + hops},
		{"what was measured counts more than rates", uniform(10), device(1, 2), []Device{layer20ms, layer40ms}, Work{}, everywhere(lan), "split 1:0-2 2:2-10", .02 + .16 + hops},
		{"chats at once are shared by those who hold the whole", uniform(10), device(1, 10), []Device{device(2, 10)}, Work{Chats: 2}, everywhere(lan), "replicas 1:0-10 2:0-10", .1},
		{"a replica would see the prompts", uniform(10), device(1, 10), []Device{device(2, 10)}, Work{Chats: 2, Private: true}, everywhere(lan), "solo 1:0-10", .1},
		{"the output counts at the tail", wideMouth, device(1, 8), []Device{device(2, 12)}, Work{Chats: 2, Lanes: 2}, everywhere(lan), "split 1:0-7 2:7-10", .14 + hops},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := mustMake(t, Input{Model: c.model, Head: c.head, Others: c.others, Links: c.links, Work: c.work})
			if layout(got.Option) != c.want || math.Abs(got.TokensPerSecond*c.time-1) > 1e-6 {
				t.Errorf("got %s with %.4f tokens/s, want %s with %.4f", layout(got.Option), got.TokensPerSecond, c.want, 1/c.time)
			}
		})
	}
}

func TestThroughputAddsUp(t *testing.T) {
	in := Input{Model: uniform(10), Head: device(1, 10), Others: []Device{device(2, 10), device(3, 10)}, Links: everywhere(lan), Work: Work{Chats: 3}}
	got := mustMake(t, in)
	if math.Abs(got.Throughput-30) > .01 || got.Kind != Replicas {
		t.Errorf("three replicas of 10 tokens/s: got %.2f from %s, want 30", got.Throughput, got.Kind)
	}
	// Two stages of 50 ms, and two chats that are read together or one after the other: a round is 100 ms and the hops.
	in.Head, in.Others, in.Work = device(1, 6), []Device{device(2, 6)}, Work{Chats: 2, Lanes: 2}
	got = mustMake(t, in)
	if want := 2 / .10106; math.Abs(got.Throughput-want) > .05 {
		t.Errorf("two chats in two stages: got %.2f, want %.2f", got.Throughput, want)
	}
	// A batch that has to multiply for longer than it reads gains from groups: 8 chats of 10 layers of 5 ms.
	for _, d := range []*Device{&in.Head, &in.Others[0]} {
		d.MulRate = 100 * mega / .005
	}
	in.Work = Work{Chats: 8, Lanes: 8}
	got = mustMake(t, in)
	if want := 8 / .2; got.Groups < 2 || math.Abs(got.Throughput-want) > .5 {
		t.Errorf("eight chats in two stages: got %.2f in %d groups, want %.2f in 2 or more", got.Throughput, got.Groups, want)
	}
}

func TestPromptsAreReadInOverlappingChunks(t *testing.T) {
	in := Input{Model: uniform(10), Head: device(1, 6), Others: []Device{device(2, 6)}, Links: everywhere(lan), Work: Work{Prompt: 2048}}
	got := mustMake(t, in)
	step := 256 * 5 * 1e-4 // of 256 tokens at 5 layers of 100 us
	round := 2*step + .001 + 256*4000/100e6 + 2048/100e6
	if want := 2048 / (round + 7*step); math.Abs(got.PromptRate-want) > 1e-3*want {
		t.Errorf("got %.1f tokens/s, want %.1f", got.PromptRate, want)
	}
}

func TestBytesThatAreCounted(t *testing.T) {
	m := uniform(4)
	m.Embedding, m.Output, m.Tied, m.Fixed = 50*mega, Layer{Weights: 50 * mega}, true, 5*mega
	for i := range m.Layers {
		m.Layers[i].KV = 1000
	}
	in := Input{Model: m, Head: device(1, 10), Links: everywhere(lan), Work: Work{Positions: 1000, Lanes: 2}}
	if got, want := mustMake(t, in).Stages[0].MemoryBytes, int64(4*102+50+5)*mega; got != want {
		t.Errorf("alone, with one table: got %d bytes, want %d", got, want)
	}
	in.Head = device(1, 3)
	in.Others = []Device{device(2, 3)}
	in.Others[0].Resident = []centram.LayerRange{{First: 2, End: 3}}
	got := mustMake(t, in)
	for i, want := range []Stage{
		{Device: id(1), Layers: centram.LayerRange{First: 0, End: 2}, MemoryBytes: 259 * mega, FetchBytes: 250 * mega},
		{Device: id(2), Layers: centram.LayerRange{First: 2, End: 4}, MemoryBytes: 259 * mega, FetchBytes: 150 * mega},
	} {
		if got.Stages[i].DecodeTime = 0; !reflect.DeepEqual(got.Stages[i], want) {
			t.Errorf("stage %d: got %+v, want %+v", i, got.Stages[i], want)
		}
	}
}

func TestWhatDoesNotFitSaysWhatIsMissing(t *testing.T) {
	for _, c := range []struct {
		name string
		head Device
		want string
	}{
		{"too little in all", device(1, 3), "the model needs 1.0 GB of memory, but 2 devices have 0.7 GB for it"},
		{"too little at the head", Device{ID: id(1), Memory: 1, ReadRate: 1, MulRate: 1}, "the token table and the first layer, which must be on it, need 0.1 GB"},
	} {
		_, err := Make(Input{Model: uniform(10), Head: c.head, Others: []Device{device(2, 4), {ID: id(3), Memory: giga}}})
		if centram.CodeOf(err) != centram.Unavailable || !strings.Contains(err.Error(), c.want) || centram.HintOf(err) == "" {
			t.Errorf("%s: got %v (%s, hint %q), want %q", c.name, err, centram.CodeOf(err), centram.HintOf(err), c.want)
		}
	}
	for name, in := range map[string]Input{
		"no layers":   {Head: device(1, 1)},
		"no speed":    {Model: uniform(1), Head: Device{ID: id(1), Memory: giga}},
		"same device": {Model: uniform(1), Head: device(1, 1), Others: []Device{device(2, 1), device(2, 1)}},
	} {
		if _, err := Make(in); centram.CodeOf(err) != centram.Invalid {
			t.Errorf("%s: got %v, want %s", name, err, centram.Invalid)
		}
	}
}

func TestOneLayerCannotBeSplit(t *testing.T) {
	in := Input{Model: uniform(1), Head: device(1, 1)}
	for i := range maxOthers + 1 {
		in.Others = append(in.Others, device(2+i, 1))
	}
	if got := mustMake(t, in); layout(got.Option) != "solo 1:0-1" || len(got.Alternatives) != 1 {
		t.Errorf("got %s of %d kinds, want solo 1:0-1 only", layout(got.Option), len(got.Alternatives))
	}
}

func TestWhyADeviceIsNotUsed(t *testing.T) {
	in := Input{Model: uniform(10), Head: device(1, 6), Others: []Device{device(2, 6), {ID: id(3), Memory: giga}, device(4, 0)}, Links: everywhere(lan)}
	in.Others = append(in.Others, device(5, 6))
	in.Others[3].ReadRate /= 2
	got := mustMake(t, in).Dropped
	want := []string{"has not been measured", "one layer needs 0.1 GB", "as fast without it"}
	if len(got) != len(want) {
		t.Fatalf("got %v, want one each for 3, 4 and 5", got)
	}
	for i, d := range got {
		if d.Device != id(3+i) || !strings.Contains(d.Reason, want[i]) {
			t.Errorf("got %s: %s, want %s: %s", d.Device.Short(), d.Reason, id(3+i).Short(), want[i])
		}
	}
}

func TestOfManyDevicesTheQuickestOrTheLargestAreCompared(t *testing.T) {
	in := Input{Model: uniform(40), Head: device(1, 5), Links: everywhere(lan)}
	for i := range 20 {
		d := device(2+i, 5)
		d.ReadRate *= 1 - float64(i)/100
		in.Others = append(in.Others, d)
	}
	got := mustMake(t, in)
	for i, s := range got.Stages {
		if s.Layers.Len() != 5 || i > 0 && int(s.Device[0]) > 9 {
			t.Errorf("got %s, want the head and the eight quickest", layout(got.Option))
		}
	}
	for i := 8; i < 20; i++ {
		in.Others[i].Memory *= 2
	}
	in.Model = uniform(60) // which the eight quickest do not hold
	got = mustMake(t, in)
	if large := slices.ContainsFunc(got.Stages, func(s Stage) bool { return s.Layers.Len() > 5 }); !large || len(got.Stages) > 9 {
		t.Errorf("got %s, want the head and at most eight, large ones", layout(got.Option))
	}
	if reason := got.Dropped[0].Reason; !strings.Contains(reason, "the 8 that seem best were compared") {
		t.Errorf("got %q, want that it was not compared", reason)
	}
}

// inputs draws inputs with few and small numbers, so that there are ties, and narrow memory.
func inputs(t *rapid.T) Input {
	n := func(name string, from, to int) int { return rapid.IntRange(from, to).Draw(t, name) }
	in := Input{Model: Model{Width: n("width", 1, 4) * 1000, Embedding: int64(n("embedding", 0, 2)) * 50 * mega, Fixed: int64(n("fixed", 0, 2)) * 10 * mega, Tied: rapid.Bool().Draw(t, "tied")}}
	for range n("layers", 2, 6) {
		in.Model.Layers = append(in.Model.Layers, Layer{int64(n("weights", 5, 15)) * 10 * mega, float64(n("muls", 1, 20)) * 10 * mega, int64(n("kv", 0, 20)) * 1000})
	}
	in.Model.Output = Layer{Weights: int64(n("output", 0, 20)) * 10 * mega, MulAdds: float64(n("output muls", 0, 20)) * 10 * mega}
	machine := func(i int) Device {
		return Device{
			ID: id(i), Memory: int64(n("memory", 1, 12)) * 80 * mega, ReadRate: float64(n("read", 1, 8)) * giga, MulRate: float64(n("mul", 1, 8)) * 10 * giga,
			Overhead: time.Duration(n("overhead", 0, 2)) * time.Millisecond, LayerTime: time.Duration(max(0, n("measured", -8, 8))) * 10 * time.Millisecond,
		}
	}
	in.Head = machine(1)
	for i := range n("others", 0, 3) {
		in.Others = append(in.Others, machine(2+i))
	}
	links := map[[2]centram.PeerID]Link{}
	for from := range 5 {
		for to := range 5 {
			links[[2]centram.PeerID{id(1 + from), id(1 + to)}] = Link{time.Duration(n("rtt", 0, 20)) * time.Millisecond, float64(n("rate", 1, 100)) * mega, n("known", 0, 9) > 0}
		}
	}
	in.Links = func(from, to centram.PeerID) Link { return links[[2]centram.PeerID{from, to}] }
	in.Work = Work{Prompt: n("prompt", 0, 600), Answer: n("answer", 0, 300), Lanes: n("lanes", 0, 6), Chats: n("chats", 0, 8), Private: rapid.Bool().Draw(t, "private")}
	return in
}

// everyChain lists all splits that memory allows.
func everyChain(in Input) (chains [][]part) {
	var grow func(chain []part, left []Device)
	grow = func(chain []part, left []Device) {
		at := 0
		if len(chain) > 0 {
			at = chain[len(chain)-1].layers.End
		}
		if at == len(in.Model.Layers) {
			if len(chain) > 1 {
				chains = append(chains, slices.Clone(chain))
			}
			return
		}
		for i, d := range left {
			if len(chain) == 0 && i > 0 {
				break // the head
			}
			for end := at + 1; end <= len(in.Model.Layers); end++ {
				if p := (part{d, centram.LayerRange{First: at, End: end}}); in.fits(p) {
					grow(append(slices.Clone(chain), p), slices.Concat(left[:i], left[i+1:]))
				}
			}
		}
	}
	grow(nil, append([]Device{in.Head}, in.Others...))
	return chains
}

func TestTheSearchFindsWhatTryingAllFinds(t *testing.T) {
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		in, err := inputs(t).checked()
		if err != nil {
			t.Fatal(err)
		}
		chains := everyChain(in)
		if len(in.Others) == 0 {
			return
		}
		got, ok := in.bestChain(in.Others)
		if ok != (len(chains) > 0) {
			t.Fatalf("found one: %t, there are %d", ok, len(chains))
		}
		if !ok {
			return
		}
		found++
		shortest := never
		for _, c := range chains {
			for g := range in.Work.maxGroups() {
				shortest = min(shortest, in.round(c, g+1))
			}
		}
		if short := shortestOf(in); short != shortest {
			t.Errorf("the shortest round: got %s, want %s", short, shortest)
		}
		limit := shortest + shortest*worthwhile/100
		stages, groups := math.MaxInt, 0
		for _, c := range chains {
			for g := in.Work.maxGroups(); g > 0; g-- {
				if in.round(c, g) <= limit && (len(c) < stages || len(c) == stages && g < groups) {
					stages, groups = len(c), g
				}
			}
		}
		chains = slices.DeleteFunc(chains, func(c []part) bool { return len(c) != stages || in.round(c, groups) > limit })
		size := in.Work.groupSize(groups)
		total := func(c []part) time.Duration { t, _ := in.around(c, size, size); return t }
		slowest := func(c []part) (t time.Duration) {
			for _, p := range c {
				t = max(t, in.stepTime(p, size, size))
			}
			return t
		}
		quickest := never
		for _, c := range chains {
			quickest = min(quickest, total(c))
		}
		want := struct{ slowest, total time.Duration }{never, never} // bounded by the most that evenness may cost
		for _, c := range chains {
			if total(c) <= min(limit, quickest+quickest*worthwhile/100) && slowest(c) < want.slowest {
				want.slowest = slowest(c)
			}
		}
		if len(got) != stages || total(got) > min(limit, quickest+quickest*worthwhile/100) || slowest(got) < want.slowest {
			t.Errorf("got %d stages in %s, the slowest in %s; want %d in %s at most, the slowest in no less than %s", len(got), total(got), slowest(got), stages, limit, want.slowest)
		}
		for _, c := range chains {
			if slowest(c) < slowest(got) && total(c) <= total(got) || slowest(c) == slowest(got) && total(c) < total(got) {
				t.Errorf("got a round of %s, the slowest stage %s, but there is one of %s and %s", total(got), slowest(got), total(c), slowest(c))
			}
		}
	})
	t.Logf("compared %d", found)
}

// shortestOf is the shortest round that the search finds, before anything else counts.
func shortestOf(in Input) time.Duration {
	best := never
	if len(in.Others) > 0 && len(in.Model.Layers) > 1 {
		for _, s := range newSearches(in, in.Others) {
			best = s.shortestRound(best)
		}
	}
	return best
}

func TestEveryPlanIsPossible(t *testing.T) {
	kinds := map[Kind]int{}
	rapid.Check(t, func(t *rapid.T) {
		in := inputs(t)
		c, err := Make(in)
		if err != nil {
			return
		}
		kinds[c.Kind]++
		devices := append([]Device{in.Head}, in.Others...)
		for _, o := range append(c.Alternatives, c.Option) {
			if o.Stages[0].Device != in.Head.ID {
				t.Errorf("%s: the head is not the first", layout(o))
			}
			at, seen := 0, map[centram.PeerID]bool{}
			for _, s := range o.Stages {
				i := slices.IndexFunc(devices, func(d Device) bool { return d.ID == s.Device })
				if i < 0 || seen[s.Device] {
					t.Fatalf("%s: got a device that is not there or was there before", layout(o))
				}
				seen[s.Device] = true
				if most := float64(devices[i].Memory) * .8; float64(s.MemoryBytes) > most {
					t.Errorf("%s: got %d bytes on device %d, want at most %.0f", layout(o), s.MemoryBytes, s.Device[0], most)
				}
				if o.Kind == Replicas {
					at = 0
				}
				if s.Layers.First != at || s.Layers.Len() < 1 {
					t.Errorf("%s: got a range from %d, want one from %d", layout(o), s.Layers.First, at)
				}
				at = s.Layers.End
			}
			if at != len(in.Model.Layers) {
				t.Errorf("%s: got the end at %d, want %d", layout(o), at, len(in.Model.Layers))
			}
			if again, err := Predict(in, o); err != nil || !reflect.DeepEqual(again, o) {
				t.Errorf("predicted anew: got %+v (%v), want %+v", again, err, o)
			}
		}
		if got, want := len(c.Stages)+len(c.Dropped), len(devices); got != want {
			t.Errorf("used or dropped: got %d devices, want %d", got, want)
		}
		in.Others = rapid.Permutation(in.Others).Draw(t, "in another order")
		if again, _ := Make(in); !reflect.DeepEqual(again, c) {
			t.Errorf("with its devices in another order: got %+v, want %+v", again, c)
		}
	})
	t.Log(kinds)
}

// scoreOf is 0 if nothing fits.
func scoreOf(in Input) float64 {
	c, err := Make(in)
	if err != nil {
		return 0
	}
	in, _ = in.checked()
	return in.score(c.Option)
}

func TestADeviceMoreIsNeverWorse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := inputs(t)
		all, _ := in.checked()
		if len(in.Others) == 0 {
			return
		}
		in.Others = in.Others[1:]
		fewer, _ := in.checked()
		if got, want := shortestOf(all), shortestOf(fewer); got > want {
			t.Errorf("the shortest round of a chain: got %s, want no more than %s", got, want)
		}
		if got, want := scoreOf(all), scoreOf(fewer); got*slack < want {
			t.Errorf("got %.3f tokens/s, want no less than %.3f", got, want)
		}
	})
}

// slower is in with one link, both ways, ten times as slow.
func slower(in Input, a, b centram.PeerID) Input {
	links := in.Links
	in.Links = func(from, to centram.PeerID) Link {
		l := links(from, to)
		if !l.Measured {
			l = Unmeasured
		}
		if from == a && to == b || from == b && to == a {
			l.RTT, l.Rate = 10*l.RTT, l.Rate/10
		}
		return l
	}
	return in
}

func TestASlowerLinkIsNeverBetterAndDrawsNoLayers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := inputs(t)
		in, _ = in.checked()
		if len(in.Others) == 0 {
			return
		}
		worse := slower(in, id(rapid.IntRange(1, len(in.Others)).Draw(t, "from")), id(1+len(in.Others)))
		if got, want := shortestOf(worse), shortestOf(in); got < want {
			t.Errorf("the shortest round: got %s, want no less than %s", got, want)
		}
		if got, want := scoreOf(worse), scoreOf(in); got > want*slack {
			t.Errorf("got %.3f tokens/s, want no more than %.3f", got, want)
		}
		in.Others, in.Work.Chats = in.Others[:1], 1
		behind := func(in Input) int {
			if c, err := Make(in); err == nil && c.Kind == Split {
				return c.Stages[1].Layers.Len()
			}
			return 0
		}
		if got, want := behind(slower(in, id(1), id(2))), behind(in); got > want {
			t.Errorf("behind the link: got %d layers, want no more than %d", got, want)
		}
	})
}

func TestASlowerLinkMovesTheCut(t *testing.T) {
	in := Input{Model: uniform(12), Head: device(1, 4), Others: []Device{device(2, 8), device(3, 6), device(4, 6)}, Links: everywhere(lan)}
	if got, want := layout(mustMake(t, in).Option), "split 1:0-4 2:4-12"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	in.Links = func(from, to centram.PeerID) Link {
		if from == id(2) || to == id(2) {
			return Link{100 * lan.RTT, lan.Rate / 100, true}
		}
		return lan
	}
	got := mustMake(t, in)
	if slices.ContainsFunc(got.Stages, func(s Stage) bool { return s.Device == id(2) }) || len(got.Stages) != 3 {
		t.Errorf("got %s, want a chain over 3 and 4", layout(got.Option))
	}
}

func TestTheSlowerTwinNeverGetsMoreLayers(t *testing.T) {
	both := 0
	rapid.Check(t, func(t *rapid.T) {
		in := inputs(t)
		in.Model.Output = Layer{}
		for i := range in.Model.Layers {
			in.Model.Layers[i] = in.Model.Layers[0]
		}
		twin := in.Head
		twin.ID, twin.LayerTime, twin.Memory = id(2), 0, int64(rapid.IntRange(1, 12).Draw(t, "memory"))*80*mega
		half := twin
		half.ID, half.ReadRate, half.MulRate = id(3), twin.ReadRate/2, twin.MulRate/2
		in.Others, in.Links = []Device{half, twin}, everywhere(in.Links(id(1), id(2)))
		c, err := Make(in)
		if err != nil {
			return
		}
		layers := map[centram.PeerID]int{}
		for _, s := range c.Stages {
			layers[s.Device] = s.Layers.Len()
		}
		if got, most := layers[half.ID], layers[twin.ID]; got > most {
			t.Errorf("%s: got %d, want no more than %d", layout(c.Option), got, most)
		} else if got > 0 {
			both++
		}
	})
	t.Logf("both were used in %d", both)
}

// noisy is in measured again, each figure up to 5 % off.
func noisy(in Input, rng *rand.Rand) Input {
	off := func(x float64) float64 { return x * (.95 + .1*rng.Float64()) }
	measure := func(d Device) Device {
		d.ReadRate, d.MulRate = off(d.ReadRate), off(d.MulRate)
		d.LayerTime, d.Overhead = time.Duration(off(float64(d.LayerTime))), time.Duration(off(float64(d.Overhead)))
		return d
	}
	in.Head, in.Others = measure(in.Head), slices.Clone(in.Others)
	for i, d := range in.Others {
		in.Others[i] = measure(d)
	}
	links := map[[2]centram.PeerID]Link{}
	old := in.Links
	in.Links = func(from, to centram.PeerID) Link {
		l, ok := links[[2]centram.PeerID{from, to}]
		if !ok {
			l = old(from, to)
			l.RTT, l.Rate = time.Duration(off(float64(l.RTT))), off(l.Rate)
			links[[2]centram.PeerID{from, to}] = l
		}
		return l
	}
	return in
}

func TestNoiseMovesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := inputs(t)
		first, err := Make(in)
		if err != nil {
			return
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		for range 5 {
			in := noisy(in, rng)
			fresh, err := Make(in)
			if err != nil {
				t.Fatal(err)
			}
			if keep, ahead := Keep(in, first.Option, fresh, time.Hour); !keep {
				t.Fatalf("got a move from %s to %s, ahead: %t, want none", layout(first.Option), layout(fresh.Option), ahead)
			}
		}
	})
}

func TestWhenAPlanIsLeft(t *testing.T) {
	in := Input{Model: uniform(10), Head: device(1, 6), Others: []Device{device(2, 6), device(3, 6)}, Links: everywhere(lan)}
	current := mustMake(t, in).Option
	if got, want := layout(current), "split 1:0-5 2:5-10"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	slow, full, gone := in, in, in
	slow.Others, full.Others, gone.Others = slices.Clone(in.Others), slices.Clone(in.Others), in.Others[1:]
	slow.Others[0].ReadRate /= 3
	full.Others[0].Memory /= 4
	for _, c := range []struct {
		name        string
		in          Input
		better      time.Duration
		keep, ahead bool
	}{
		{"nothing changed", in, time.Hour, true, false},
		{"a device has just become slow", slow, 0, true, true},
		{"a device has been slow", slow, MoveAfter, false, true},
		{"a device lacks memory", full, 0, false, true},
		{"a device is gone", gone, 0, false, true},
	} {
		if keep, ahead := Keep(c.in, current, mustMake(t, c.in), c.better); keep != c.keep || ahead != c.ahead {
			t.Errorf("%s: got keep %t, ahead %t, want %t, %t", c.name, keep, ahead, c.keep, c.ahead)
		}
	}
}

func BenchmarkMake(b *testing.B) {
	for _, c := range []struct{ devices, chats int }{{8, 1}, {8, 4}, {8, 16}, {9, 1}, {9, 16}} {
		b.Run(fmt.Sprintf("80 layers, %d devices, %d chats", c.devices, c.chats), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 2))
			in := Input{Model: uniform(80), Work: Work{Chats: c.chats, Lanes: c.chats}, Links: everywhere(lan)}
			in.Model.Output = Layer{Weights: 300 * mega, MulAdds: 300 * mega}
			for i := range c.devices {
				d := device(1+i, 12+rng.IntN(30))
				d.ReadRate *= .5 + rng.Float64()
				d.MulRate *= .05 * rng.Float64()
				in.Others = append(in.Others, d)
			}
			in.Head, in.Others = in.Others[0], in.Others[1:]
			for b.Loop() {
				if _, err := Make(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
