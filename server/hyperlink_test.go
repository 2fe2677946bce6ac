package server

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/p2ptest"
)

// machines is a pool of two machines. What is forced and in memory is put together from both.
type machines struct {
	engine *scripted
	forced map[string]bool
	lacks  error // what keeps models from being put together
	asked  []string
}

func (m *machines) State(context.Context) HyperlinkState {
	s := HyperlinkState{
		Privacy: "trusted", Note: "Paired ones.", Sharing: HyperlinkSharing{On: true, Memory: 1000},
		Offers: []HyperlinkOffer{{HyperlinkPeer: HyperlinkPeer{ID: "B", Name: "bob"}, Trust: "stranger", Why: "It is not paired."}},
	}
	for path := range m.forced {
		if len(m.engine.Resident()) > 0 {
			s.Running = append(s.Running, HyperlinkModel{Model: "toy", Path: path, Stages: []HyperlinkStage{{Last: 1}, {First: 2, Last: 3}}})
		}
	}
	return s
}

func (m *machines) Plan(_ context.Context, path string) (HyperlinkPlan, error) {
	m.asked = append(m.asked, path)
	solo, split := HyperlinkOption{Kind: "solo", Tokens: 4.1}, HyperlinkOption{Kind: "split", Tokens: 7.9}
	return HyperlinkPlan{HyperlinkOption: split, Alternatives: []HyperlinkOption{solo, split}}, m.lacks
}

func (m *machines) Force(_ context.Context, path string, on bool) error {
	if on && m.lacks != nil {
		return m.lacks
	}
	delete(m.forced, path)
	if on {
		m.forced[path] = true
	}
	return nil
}

// withMachines starts a server that has them.
func withMachines(t *testing.T) (*node, *machines) {
	t.Helper()
	m := &machines{forced: map[string]bool{}}
	own := p2ptest.New(t, 1, p2ptest.Faults{}).Node(0, p2p.Config{}, nil)
	n := start(t, func(c *Config) {
		m.engine = c.Engine.(*scripted)
		c.Network = Network{Node: own, ID: own.ID(), Hyperlink: m}
	})
	return n, m
}

var missing = centram.Errorf(centram.Unavailable, "The model needs 9 GB.").WithHint("Let another device join.")

func (n *node) wantMissing(verb string) {
	n.t.Helper()
	got := as[Failure](n.t, n.send(503, "POST", "/api/v1/hyperlink/"+verb, `{"model":"toy"}`)).Problem
	if got.Message != missing.Message || got.Hint != missing.Hint {
		n.t.Errorf("got %+v, want %+v", got, missing)
	}
}

func TestHyperlinkSaysWhoComputesForWhom(t *testing.T) {
	n, _ := withMachines(t)
	got := as[HyperlinkState](t, n.send(200, "GET", "/api/v1/hyperlink", ""))
	if got.Privacy != "trusted" || !got.Sharing.On || len(got.Offers) != 1 {
		t.Fatalf("got %+v", got)
	}
	if bob := got.Offers[0]; bob.Name != "bob" || bob.Usable || bob.Why == "" {
		t.Errorf("got %+v", bob)
	}
	n.send(401, "GET", "/api/v1/hyperlink", "", "Authorization", "")
	for _, verb := range []string{"plan", "up", "down"} {
		n.send(401, "POST", "/api/v1/hyperlink/"+verb, `{"model":"toy"}`, "Authorization", "")
		n.send(404, "POST", "/api/v1/hyperlink/"+verb, `{"model":"nothing"}`)
		n.send(400, "POST", "/api/v1/hyperlink/"+verb, `{}`)
	}
}

func TestAPlanIsThatOfTheModelsFile(t *testing.T) {
	n, m := withMachines(t)
	got := as[HyperlinkPlan](t, n.send(200, "POST", "/api/v1/hyperlink/plan", `{"model":"TOY"}`))
	if got.Model != "toy" || got.Kind != "split" || got.Tokens != 7.9 || len(got.Alternatives) != 2 {
		t.Errorf("got %+v", got)
	}
	if want := filepath.Join(n.dir, "models", "toy.gguf"); !slices.Equal(m.asked, []string{want}) {
		t.Errorf("planned %q, want %q", m.asked, want)
	}
	m.lacks = missing
	n.wantMissing("plan")
}

func TestUpPutsAModelTogetherAndDownTakesItApart(t *testing.T) {
	n, m := withMachines(t)
	if err := n.engine.Load(t.Context(), "toy", 0); err != nil { // it is there alone
		t.Fatal(err)
	}
	news := n.view("/api/v1/events")
	got := as[HyperlinkModel](t, n.send(200, "POST", "/api/v1/hyperlink/up", `{"model":"toy"}`))
	if got.Model != "toy" || len(got.Stages) != 2 || got.Path != filepath.Join(n.dir, "models", "toy.gguf") {
		t.Errorf("got %+v", got)
	}
	for _, want := range []string{"unloaded", "loading", "loaded"} {
		if _, data := news.next(); !strings.Contains(data, `"`+want+`"`) {
			t.Errorf("got %s, want %s", data, want)
		}
	}
	if got := as[HyperlinkModel](t, n.send(200, "POST", "/api/v1/hyperlink/up", `{"model":"toy"}`)); len(got.Stages) != 2 {
		t.Errorf("again: got %+v", got)
	}
	if got := as[HyperlinkState](t, n.send(200, "GET", "/api/v1/hyperlink", "")); len(got.Running) != 1 {
		t.Errorf("got %+v", got)
	}
	for range 2 {
		if got := as[Model](t, n.send(200, "POST", "/api/v1/hyperlink/down", `{"model":"toy"}`)); got.Loaded || len(m.forced) != 0 {
			t.Errorf("got %+v, forced %v", got, m.forced)
		}
	}
	if name, data := news.next(); !strings.Contains(data, `"unloaded"`) { // not loaded a second time before
		t.Errorf("got %s %s", name, data)
	}
}

func TestWhatCannotBePutTogetherStaysAsItWas(t *testing.T) {
	n, m := withMachines(t)
	if err := n.engine.Load(t.Context(), "toy", 0); err != nil {
		t.Fatal(err)
	}
	m.lacks = missing
	n.wantMissing("up")
	if len(n.engine.Resident()) != 1 {
		t.Error("the model was unloaded before it was known that it can be put together")
	}
	m.lacks, n.engine.loadErr = nil, missing
	n.wantMissing("up")
	if len(m.forced) != 0 {
		t.Errorf("%v is to be put together after that has failed", m.forced)
	}
}
