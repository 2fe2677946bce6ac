package main

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine/local"
	"github.com/centram/centram/hyperlink"
	"github.com/centram/centram/hyperlink/plan"
	"github.com/centram/centram/hyperlink/pool"
	"github.com/centram/centram/models"
	"github.com/centram/centram/server"
)

// splitter is the pool of machines as the server works with it.
type splitter struct {
	*network
	models *models.Library
}

var privacyNotes = map[string]string{
	string(pool.TrustedPeers): "Machines that are paired with this one may compute a part of a model. ",
	string(pool.AnyPeer):      "Any machine may compute a part of a model. ",
	string(pool.LocalOnly):    "No other machine computes for this one. ",
}

// State implements server.Hyperlink.
func (s splitter) State(ctx context.Context) server.HyperlinkState {
	mode := s.app.cfg.Hyperlink
	out := server.HyperlinkState{
		Privacy: mode, Note: privacyNotes[mode] + "A machine that computes a part of the model can read what is said to it.",
		Sharing: s.sharing(), Offers: []server.HyperlinkOffer{}, Serving: []server.HyperlinkSeat{}, Running: []server.HyperlinkModel{},
	}
	for _, k := range s.pool.Known() {
		out.Offers = append(out.Offers, server.HyperlinkOffer{
			HyperlinkPeer: s.who(k.ID), Trust: s.trust(k.ID), Memory: int64(k.Offer.Memory), ReadRate: int64(k.Offer.ReadRate),
			MulRate: int64(k.Offer.MulRate), Backend: printable(k.Offer.Backend), Expires: time.UnixMilli(k.Offer.Expires),
			Usable: k.Why == "", Why: k.Why,
		})
	}
	for _, seat := range s.pool.Host().Seats() {
		out.Serving = append(out.Serving, server.HyperlinkSeat{
			Peer: s.who(seat.Head), Model: seat.Model.String(), First: int(seat.Layers.First), Last: int(seat.Layers.End) - 1,
			Memory: int64(seat.Memory), Tokens: int64(seat.Tokens), Since: seat.Since, Standby: seat.Standby,
		})
	}
	slices.SortFunc(out.Serving, func(a, b server.HyperlinkSeat) int { return a.Since.Compare(b.Since) })
	for _, r := range s.pool.Running() {
		out.Running = append(out.Running, s.running(ctx, r))
	}
	return out
}

// sharing is what is given to others, or why nothing is.
func (s splitter) sharing() server.HyperlinkSharing {
	now := s.pool.Sharing()
	out := server.HyperlinkSharing{Memory: now.Memory, Taken: now.Taken, ReadRate: int64(now.ReadRate), MulRate: int64(now.MulRate)}
	switch {
	case s.app.cfg.HyperlinkShare == "off":
		out.Why, out.Hint = "It is turned off by the setting hyperlink_share.", "Turn it on with: centram config set hyperlink_share on"
	case now.Memory == 0:
		out.Why, out.Hint = "Models of this machine take all of the memory.", "Set some aside with: centram config set hyperlink_memory 4GB"
	case now.ReadRate == 0:
		out.Why = "This machine has not been measured yet."
		out.Hint = "That takes some seconds after the start. If it fails, the log of the daemon says why."
	default:
		out.On = true
	}
	return out
}

// who is a node as a person knows it.
func (s splitter) who(id centram.PeerID) server.HyperlinkPeer {
	out := server.HyperlinkPeer{ID: id.String(), Short: id.Short(), Here: id == s.id}
	if out.Here {
		out.Name = s.node.Name()
	} else if p := s.node.Peer(id); p != nil {
		out.Name = printable(p.Name())
	} else if c, ok := s.node.Book().Contact(id); ok {
		out.Name = printable(c.Name)
	}
	return out
}

func (s splitter) trust(id centram.PeerID) string {
	if p := s.node.Peer(id); p != nil {
		return p.Trust().String()
	}
	c, _ := s.node.Book().Contact(id)
	return c.Trust.String()
}

// running is a model with what was predicted of it and what was measured.
func (s splitter) running(ctx context.Context, r pool.Running) server.HyperlinkModel {
	m := r.Chain.Measured()
	out := server.HyperlinkModel{
		Model: s.modelIn(ctx, r.Path), Path: r.Path, Stages: s.stages(r.Choice.Stages), Predicted: r.Choice.TokensPerSecond,
		Replaced: int(m.Epoch) - 1, Since: r.Since,
	}
	if m.Step > 0 {
		rate := 1 / m.Step.Seconds()
		out.Measured = &rate
	}
	s.measure(out.Stages, r.Chain, m)
	return out
}

// measure puts what a chain measured beside what was planned. A machine that has replaced another was not planned with.
func (s splitter) measure(stages []server.HyperlinkStage, c *hyperlink.Chain, m hyperlink.Measured) {
	for i, now := range c.Stages() {
		if who := s.who(now.Node); who.ID != stages[i].Peer.ID {
			stages[i].Peer, stages[i].Predicted = who, 0
		}
		if now.Standby != (centram.PeerID{}) {
			who := s.who(now.Standby)
			stages[i].Standby = &who
		}
		if t := m.Stages[i]; t > 0 {
			ms := milliseconds(t)
			stages[i].Measured = &ms
		}
	}
}

func (s splitter) modelIn(ctx context.Context, file string) string {
	list, _ := s.models.List(ctx) // a model that was removed is called after its file
	for _, m := range list {
		if m.Path == file {
			return m.Name
		}
	}
	return filepath.Base(file)
}

func (s splitter) stages(list []plan.Stage) []server.HyperlinkStage {
	out := []server.HyperlinkStage{}
	for _, st := range list {
		out = append(out, server.HyperlinkStage{
			Peer: s.who(st.Device), First: st.Layers.First, Last: st.Layers.End - 1, Memory: st.MemoryBytes, Fetch: st.FetchBytes,
			Predicted: milliseconds(st.DecodeTime),
		})
	}
	return out
}

// Plan implements server.Hyperlink.
func (s splitter) Plan(ctx context.Context, file string) (server.HyperlinkPlan, error) {
	info, err := local.Describe(file, runConfig(s.app.cfg))
	if err != nil {
		return server.HyperlinkPlan{}, err
	}
	choice, err := s.pool.Plan(ctx, file, info)
	if err != nil {
		return server.HyperlinkPlan{}, hinted(err, "See who offers what with: centram hyperlink status")
	}
	out := server.HyperlinkPlan{
		HyperlinkOption: s.option(choice.Option), Guessed: s.pool.Sharing().ReadRate == 0, Alternatives: []server.HyperlinkOption{},
		Dropped: []server.HyperlinkDropped{},
	}
	for _, o := range choice.Alternatives {
		out.Alternatives = append(out.Alternatives, s.option(o))
	}
	for _, d := range choice.Dropped {
		out.Dropped = append(out.Dropped, server.HyperlinkDropped{Peer: s.who(d.Device), Reason: d.Reason})
	}
	return out, nil
}

func (s splitter) option(o plan.Option) server.HyperlinkOption {
	return server.HyperlinkOption{
		Kind: o.Kind.String(), Stages: s.stages(o.Stages), Tokens: o.TokensPerSecond, Throughput: o.Throughput, Prompt: o.PromptRate, Shared: o.Shared,
	}
}

// Force implements server.Hyperlink.
func (s splitter) Force(ctx context.Context, file string, on bool) error {
	if !on {
		s.pool.Force(file, false)
		return nil
	}
	if s.app.cfg.Hyperlink == string(pool.LocalOnly) {
		return centram.Errorf(centram.Unavailable, "The setting hyperlink is local, so no other machine may compute a part of a model.").
			WithHint("Let paired ones with: centram config set hyperlink trusted")
	}
	info, err := local.Describe(file, runConfig(s.app.cfg))
	if err != nil {
		return err
	}
	if _, err := s.pool.Need(ctx, file, info); err != nil {
		return hinted(err, "See who offers what with: centram hyperlink status")
	}
	s.pool.Force(file, true)
	return nil
}

// hinted says after what err does which command shows what is missing.
func hinted(err error, command string) error {
	e, ok := errors.AsType[*centram.Error](err)
	if !ok || e.Code != centram.Unavailable || strings.Contains(e.Hint, command) {
		return err
	}
	return e.WithHint("%s", strings.TrimSpace(e.Hint+" "+command))
}
