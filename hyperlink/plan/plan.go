// Package plan decides which machine runs which layers of a model: one machine all of them (solo), several machines all
// of them each (replicas), or every machine of a chain a range of them (a split). It takes what answers fastest by what
// was measured, and the fewest machines that are about as fast.
//
// The first machine of every plan is the head, which is the asker's own: words become tokens and tokens words there only,
// so in a split it holds the embedding table and the first layer at least. The last machine holds the output matrix and
// hands its logits straight back to the head, which may have a part of the matrix, too (share.go).
//
// All functions are pure: the same input gives the same output, in whatever order its devices are listed.
package plan

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/centram/centram"
)

const (
	// worthwhile is by how many percent more machines have to be faster than fewer. Two measurements of the same machine
	// differ by as much, and each machine in a plan is one more that can leave.
	worthwhile = 3

	// maxOthers bounds the machines beside the head that are compared exactly: the search looks at every subset of them.
	maxOthers = 8
)

// Input is what a plan is made from.
type Input struct {
	Model  Model
	Head   Device
	Others []Device // that may take part; whoever is on battery or unwanted is left out by the caller
	Links  func(from, to centram.PeerID) Link
	Work   Work
}

// Model says what the parts of a model cost.
type Model struct {
	Layers    []Layer
	Output    Layer // the output matrix, which has no KV cache
	Embedding int64 // bytes of the token table, of which a step reads next to nothing
	Tied      bool  // the output matrix is the token table, so whoever holds both holds it once
	Width     int   // floats of a hidden state
	Shared    bool  // the last machine of a chain and the head may share the output matrix
	Fixed     int64 // bytes that every machine needs beside weights and KV cache, such as compute buffers
}

// Layer is what one layer costs.
type Layer struct {
	Weights int64   // bytes
	MulAdds float64 // for a token
	KV      int64   // bytes of KV cache for a position
}

// Device is a machine and what was measured of it.
type Device struct {
	ID       centram.PeerID
	Memory   int64         // bytes that it offers, of which four fifths are used
	ReadRate float64       // bytes of weights a second, which bounds decoding. Zero means not measured, and the device is not used
	MulRate  float64       // multiply-adds a second, which bounds batches. Zero means not measured, and the device is not used
	Overhead time.Duration // of the software, for a step

	// LayerTime is what a layer of this model takes at decode. It counts instead of what the rates say. Zero means it was
	// not measured.
	LayerTime time.Duration

	Resident []centram.LayerRange // is there already; the token table comes with the first layer, the output with the last
}

// Link is the way from one device to another. If Measured is false, Unmeasured is used instead.
type Link struct {
	RTT      time.Duration
	Rate     float64 // bytes a second
	Measured bool
}

// Unmeasured is what an unknown link is taken for: two homes far apart. Taken for a fast one, it would draw layers to a
// machine that then keeps everyone waiting; taken for a slow one, it costs nothing but the time to measure it.
var Unmeasured = Link{RTT: 60 * time.Millisecond, Rate: 1e6, Measured: true}

// Work is what the model is expected to do.
type Work struct {
	Prompt    int // tokens of a typical request. Zero means 512
	Answer    int // tokens of a typical request. Zero means 256
	Positions int // of the KV cache, for a lane. Zero means Prompt and Answer
	Lanes     int // chats that a plan, or each of its replicas, has under way at once. Zero means 1
	Chats     int // expected at once. Zero means 1

	// Private rules out replicas, since all but the head's would see prompts and answers. Zero means that the others may.
	Private bool
}

// Kind is how a model is laid over machines.
type Kind uint8

// The kinds, in the order in which they are preferred if they are about as fast: alone nothing can leave, and a replica
// that leaves takes only its own chats with it.
const (
	Solo Kind = iota + 1
	Replicas
	Split
)

func (k Kind) String() string {
	switch k {
	case Solo:
		return "solo"
	case Replicas:
		return "replicas"
	case Split:
		return "split"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Option is one way to lay a model over machines, and how fast it would be.
type Option struct {
	Kind   Kind
	Stages []Stage // the head is the first
	// Shared is the part of the output matrix that the head has, if the last stage has not all of it: 0 to 1.
	Shared float64
	Groups int // in which the chats go around a split, so that its stages work at the same time

	TokensPerSecond float64 // of a chat that is alone
	Throughput      float64 // tokens a second of all expected chats together
	PromptRate      float64 // tokens a second at which the prompt of a chat that is alone is read, in overlapping chunks
}

// Stage is the part of one machine.
type Stage struct {
	Device      centram.PeerID
	Layers      centram.LayerRange
	DecodeTime  time.Duration // for a token of a chat that is alone
	MemoryBytes int64
	FetchBytes  int64 // of weights that are not there yet
}

// Choice is the option to take.
type Choice struct {
	Option
	Dropped      []Dropped // in the order of the ids
	Alternatives []Option  // the best of each kind that is possible, in the order of the kinds; the chosen one is among them
}

// Dropped is a device that the choice does not use, with a sentence for people that says why.
type Dropped struct {
	Device centram.PeerID
	Reason string
}

// Make chooses. With one chat expected, the option with the least time for a token is the best, and with more the one
// with the highest throughput. It fails with Unavailable if the model does not fit, and with Invalid if in makes no sense.
func Make(in Input) (Choice, error) {
	in, err := in.checked()
	if err != nil {
		return Choice{}, err
	}
	reasons := map[centram.PeerID]string{}
	others := in.able(reasons)
	var choice Choice
	best := 0.0
	for _, find := range []func([]Device) (Option, bool){in.solo, in.replicas, in.split} {
		if o, ok := find(others); ok {
			choice.Alternatives = append(choice.Alternatives, o)
			best = max(best, in.score(o))
		}
	}
	if choice.Alternatives == nil {
		return Choice{}, in.tooLarge()
	}
	for _, o := range slices.Backward(choice.Alternatives) {
		if in.score(o)*(100+worthwhile) >= best*100 {
			choice.Option = o
		}
	}
	for _, d := range in.Others {
		if !slices.ContainsFunc(choice.Stages, func(s Stage) bool { return s.Device == d.ID }) {
			reason := cmp.Or(reasons[d.ID], in.needless(choice.Kind, d, len(others)))
			choice.Dropped = append(choice.Dropped, Dropped{d.ID, reason})
		}
	}
	return choice, nil
}

// Predict says how fast o would be by what in has measured. It fails with Unavailable if a device of o is not in in, was
// not measured, or has no longer the memory.
func Predict(in Input, o Option) (Option, error) {
	in, err := in.checked()
	if err != nil {
		return Option{}, err
	}
	all := append([]Device{in.Head}, in.Others...)
	var parts []part
	for _, s := range o.Stages {
		if s.Layers.First < 0 || s.Layers.Len() < 1 || s.Layers.End > len(in.Model.Layers) {
			return Option{}, centram.Errorf(centram.Invalid, "layers %d to %d are none of a model with %d", s.Layers.First, s.Layers.End, len(in.Model.Layers))
		}
		i := slices.IndexFunc(all, func(d Device) bool { return d.ID == s.Device })
		if i < 0 {
			return Option{}, centram.Errorf(centram.Unavailable, "the device %s is gone", s.Device.Short())
		}
		p := part{all[i], s.Layers}
		if !p.measured() || !in.fits(p) {
			return Option{}, centram.Errorf(centram.Unavailable, "the device %s cannot hold layers %d to %d any more", s.Device.Short(), s.Layers.First, s.Layers.End)
		}
		parts = append(parts, p)
	}
	if o.Kind == Split {
		s := sharing{in, parts, o.Shared}
		if !s.fits() {
			return Option{}, centram.Errorf(centram.Unavailable, "this computer cannot hold its part of the output matrix any more")
		}
		return s.option(Split), nil
	}
	return in.option(o.Kind, parts), nil
}

// score is what options are compared by.
func (in Input) score(o Option) float64 {
	if in.Work.Chats == 1 {
		return o.TokensPerSecond
	}
	return o.Throughput
}

// checked is in with its defaults, and with the others in the order of their ids.
func (in Input) checked() (Input, error) {
	m, w := in.Model, &in.Work
	bad := len(m.Layers) == 0 || min(m.Embedding, m.Fixed, int64(m.Width-1)) < 0 || min(w.Prompt, w.Answer, w.Positions, w.Lanes, w.Chats) < 0
	for _, l := range append(slices.Clone(m.Layers), m.Output) {
		bad = bad || min(l.Weights, l.KV) < 0 || !(l.MulAdds >= 0) // nor NaN
	}
	if bad {
		return in, centram.Errorf(centram.Invalid, "a model to plan for has layers and a width, and no size is below zero")
	}
	if !in.Head.measured() {
		return in, centram.Errorf(centram.Invalid, "the speed of this computer has not been measured")
	}
	w.Prompt, w.Answer = cmp.Or(w.Prompt, 512), cmp.Or(w.Answer, 256)
	w.Positions, w.Lanes, w.Chats = cmp.Or(w.Positions, w.Prompt+w.Answer), cmp.Or(w.Lanes, 1), cmp.Or(w.Chats, 1)
	in.Others = slices.SortedFunc(slices.Values(in.Others), func(a, b Device) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	last := in.Head.ID
	for _, d := range in.Others {
		if d.ID == last || d.ID == in.Head.ID {
			return in, centram.Errorf(centram.Invalid, "the device %s is listed twice", d.ID.Short())
		}
		last = d.ID
	}
	return in, nil
}

// able are the other devices that could hold a layer, and its reasons say why the rest could not.
func (in Input) able(reasons map[centram.PeerID]string) []Device {
	least := centram.LayerRange{}
	for i := 1; i < len(in.Model.Layers); i++ {
		if r := (centram.LayerRange{First: i, End: i + 1}); least.Len() == 0 || in.memory(r) < in.memory(least) {
			least = r
		}
	}
	return slices.DeleteFunc(slices.Clone(in.Others), func(d Device) bool {
		switch {
		case !d.measured():
			reasons[d.ID] = "Its speed has not been measured yet."
		case !in.fits(part{d, least}):
			reasons[d.ID] = fmt.Sprintf("It offers %s, but one layer needs %s, and a fifth stays free.", gigabytes(d.Memory), gigabytes(in.memory(least)))
		}
		return reasons[d.ID] != ""
	})
}

func (in Input) solo([]Device) (Option, bool) {
	p := part{in.Head, in.all()}
	return in.option(Solo, []part{p}), in.fits(p)
}

// needless says why a choice of that kind does without d, one of so many that could have taken part.
func (in Input) needless(k Kind, d Device, able int) string {
	switch {
	case k == Solo:
		return fmt.Sprintf("This computer alone is as fast; less than %d %% more does not count.", worthwhile)
	case k == Replicas && !in.fits(part{d, in.all()}):
		return fmt.Sprintf("It offers %s, but the whole model needs %s, and a fifth stays free.", gigabytes(d.Memory), gigabytes(in.memory(in.all())))
	case k == Split && able > maxOthers:
		return fmt.Sprintf("Of the %d devices that could take part, the %d that seem best were compared, and the best chain of these does without it.", able, maxOthers)
	}
	return fmt.Sprintf("The others are as fast without it; less than %d %% more does not count.", worthwhile)
}

// tooLarge says what is missing.
func (in Input) tooLarge() error {
	needs, offers := in.memory(in.all()), in.Head.room()
	devices := 1
	for _, d := range in.Others {
		if d.measured() {
			offers += d.room()
			devices++
		}
	}
	first := in.memory(centram.LayerRange{First: 0, End: 1})
	err := centram.Errorf(centram.Unavailable, "the model needs %s of memory, but %d devices have %s for it", gigabytes(needs), devices, gigabytes(offers))
	switch {
	case len(in.Model.Layers) > 1 && in.Head.room() < first:
		err = centram.Errorf(centram.Unavailable, "this computer has %s for a model, but the token table and the first layer, which must be on it, need %s", gigabytes(in.Head.room()), gigabytes(first))
	case offers >= needs:
		err = centram.Errorf(centram.Unavailable, "the model needs %s of memory, and %d devices have %s for it, but its layers cannot be dealt out to them", gigabytes(needs), devices, gigabytes(offers))
	}
	err.Details = map[string]any{"needs_bytes": needs, "offers_bytes": offers}
	return err.WithHint("Choose a smaller model, a shorter context or fewer chats at once, or let another device join or offer more memory.")
}

func gigabytes(n int64) string { return fmt.Sprintf("%.1f GB", float64(n)/1e9) }
