package plan

import (
	"testing"
	"time"

	"github.com/centram/centram"
	"pgregory.net/rapid"
)

func TestTheHeadTakesAPartOfTheOutputMatrixWhereThatPays(t *testing.T) {
	wide := uniform(10) // whose output is as much as four layers, 40 ms
	wide.Output, wide.Shared = Layer{Weights: 400 * mega, MulAdds: 400 * mega}, true
	alone := wide
	alone.Shared = false
	slow := func(from, to centram.PeerID) Link {
		return Link{RTT: 100 * time.Millisecond, Rate: 1e6, Measured: true}
	}
	fast := device(1, 13)
	fast.ReadRate, fast.MulRate = 3*fast.ReadRate, 3*fast.MulRate
	for _, c := range []struct {
		name     string
		model    Model
		head     Device
		links    func(from, to centram.PeerID) Link
		work     Work
		from, to float64 // part of the head
		gain     float64 // how many times as fast a chat is at least
	}{
		{"twins have half each", wide, device(1, 9), everywhere(lan), Work{}, 0.45, 0.55, 1.15},
		{"a faster head has more", wide, fast, everywhere(lan), Work{}, 0.7, 0.8, 1.15},
		{"a matrix that cannot be cut", alone, device(1, 9), everywhere(lan), Work{}, 0, 0, 1},
		{"far away both are done before the way back is over", wide, device(1, 9), slow, Work{}, 0.4, 0.6, 1.05},
		{"a head without room", wide, device(1, 7), everywhere(lan), Work{}, 0, 0.1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			others := []Device{device(2, 12)}
			in := Input{Model: c.model, Head: c.head, Others: others, Links: c.links, Work: c.work}
			got := mustMake(t, in)
			in.Model.Shared = false
			without := mustMake(t, in)
			if got.Kind != Split || got.Shared < c.from || got.Shared > c.to {
				t.Errorf("got %s with %.2f of the output at the head, want %.2f to %.2f", layout(got.Option), got.Shared, c.from, c.to)
			}
			if gain := got.TokensPerSecond / without.TokensPerSecond; gain < c.gain {
				t.Errorf("got %.2f times the speed, want %.2f", gain, c.gain)
			}
			bytes := func(o Option) (n int64) {
				for _, s := range o.Stages {
					n += s.MemoryBytes
				}
				return n
			}
			if bytes(got.Option) != bytes(without.Option) {
				t.Errorf("got %d bytes on all machines, want %d as without", bytes(got.Option), bytes(without.Option))
			}
			if got.Stages[0].MemoryBytes > c.head.room() {
				t.Errorf("the head has %d bytes, and room for %d", got.Stages[0].MemoryBytes, c.head.room())
			}
			in.Model.Shared = c.model.Shared
			if again, err := Predict(in, got.Option); err != nil || again.TokensPerSecond != got.TokensPerSecond {
				t.Errorf("predicted: got %.3f tokens/s, %v, want %.3f as planned", again.TokensPerSecond, err, got.TokensPerSecond)
			}
		})
	}
}

func TestSharingTheOutputNeverCosts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := inputs(t)
		if without, err := Make(in); err == nil {
			in.Model.Shared = true
			got, err := Make(in)
			if err != nil || in.score(got.Option) < in.score(without.Option)*(1-worthwhile/100.0) {
				t.Errorf("got %s, %v, want no slower than %s", layout(got.Option), err, layout(without.Option))
			}
		}
	})
}
