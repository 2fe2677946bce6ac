package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/centram/centram/hyperlink/pool"
	"github.com/centram/centram/server"
	"github.com/spf13/cobra"
)

const hyperlinkPath = "/api/v1/hyperlink"

func (a *app) hyperlinkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "hyperlink", Short: "Run one model over several machines", Args: cobra.NoArgs,
		Long: "A model that is too big for this machine is put together from it and others: each computes a range of the layers.\n" +
			"That happens by itself when such a model is asked. A machine that computes a part of the model can read what is said\n" +
			"to it, so only paired ones do: see the setting hyperlink. What this machine does for others, the settings\n" +
			"hyperlink_share and hyperlink_memory say.",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.hyperlinkStatusCommand(), a.hyperlinkPlanCommand(), a.hyperlinkUpCommand(), a.hyperlinkDownCommand(),
		a.demoCommand(), a.shardCommand())
	return cmd
}

func (a *app) hyperlinkStatusCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "status", Short: "Show which machines compute for each other", Args: cobra.NoArgs}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.daemon(cmd.Context())
		if err != nil {
			return err
		}
		var state server.HyperlinkState
		if err := c.do(cmd.Context(), http.MethodGet, hyperlinkPath, nil, &state); err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(state)
		}
		now := time.Now()
		err = tables(a.out, hyperlinkDetails(state), offerRows(state.Offers), seatRows(state.Serving, now), splitRows(state.Running, now),
			splitStageRows(state.Running))
		usable := func(o server.HyperlinkOffer) bool { return o.Usable }
		switch {
		case state.Privacy == string(pool.LocalOnly):
			a.hint("Let paired machines compute for this one with: centram config set hyperlink trusted")
		case !slices.ContainsFunc(state.Offers, usable):
			a.hint("No other machine computes for this one. Pair with one that may: centram peer code")
		}
		return err
	}
	return cmd
}

// tables writes those that have more than a heading, with a line between them. The first has none.
func tables(w io.Writer, first [][]string, rest ...[][]string) error {
	if err := table(w, first); err != nil {
		return err
	}
	for _, rows := range rest {
		if len(rows) < 2 {
			continue
		}
		fmt.Fprintln(w)
		if err := table(w, rows); err != nil {
			return err
		}
	}
	return nil
}

func hyperlinkDetails(s server.HyperlinkState) [][]string {
	sharing := fmt.Sprintf("on: %s for the models of others, %s of it taken", bytesText(s.Sharing.Memory), bytesText(s.Sharing.Taken))
	if !s.Sharing.On {
		sharing = strings.TrimSpace("off: " + s.Sharing.Why + " " + s.Sharing.Hint)
	}
	speed := "not measured"
	if s.Sharing.ReadRate > 0 {
		speed = speedText(s.Sharing.ReadRate, s.Sharing.MulRate)
	}
	return [][]string{{"sharing", sharing}, {"speed", speed}, {"privacy", s.Privacy + ": " + s.Note}}
}

func speedText(read, mul int64) string {
	return bytesText(read) + "/s of weights, " + scaled(float64(mul), 1000, "", "K", "M", "G", "T") + " multiply-adds/s"
}

func offerRows(list []server.HyperlinkOffer) [][]string {
	rows := [][]string{{"OFFERED BY", "ID", "TRUST", "MEMORY", "SPEED", "USED"}}
	for _, o := range list {
		used := "yes"
		if !o.Usable {
			used = "no: " + o.Why
		}
		rows = append(rows, []string{o.Name, o.Short, o.Trust, bytesText(o.Memory), speedText(o.ReadRate, o.MulRate), used})
	}
	return rows
}

func seatRows(list []server.HyperlinkSeat, now time.Time) [][]string {
	rows := [][]string{{"SERVED TO", "ID", "MODEL", "LAYERS", "MEMORY", "TOKENS", "SINCE"}}
	for _, s := range list {
		tokens := fmt.Sprint(s.Tokens)
		if s.Standby {
			tokens = "stands by"
		}
		rows = append(rows, []string{
			s.Peer.Name, s.Peer.Short, s.Model[:min(12, len(s.Model))], layersText(s.First, s.Last), bytesText(s.Memory), tokens,
			span(now.Sub(s.Since)) + " ago",
		})
	}
	return rows
}

func splitRows(list []server.HyperlinkModel, now time.Time) [][]string {
	rows := [][]string{{"MODEL", "MACHINES", "PREDICTED", "MEASURED", "REPLACED", "SINCE"}}
	for _, m := range list {
		measured := "-"
		if m.Measured != nil {
			measured = rateText(*m.Measured)
		}
		rows = append(rows, []string{
			m.Model, fmt.Sprint(len(m.Stages)), rateText(m.Predicted), measured, fmt.Sprint(m.Replaced), span(now.Sub(m.Since)) + " ago",
		})
	}
	return rows
}

func splitStageRows(list []server.HyperlinkModel) [][]string {
	rows := [][]string{{"MODEL", "MACHINE", "ID", "LAYERS", "MEMORY", "PREDICTED", "MEASURED", "STANDBY"}}
	for _, m := range list {
		for _, s := range m.Stages {
			predicted, standby := "-", "-"
			if s.Predicted > 0 {
				predicted = millisText(&s.Predicted)
			}
			if s.Standby != nil {
				standby = machine(*s.Standby)
			}
			rows = append(rows, []string{
				m.Model, machine(s.Peer), s.Peer.Short, layersText(s.First, s.Last), bytesText(s.Memory), predicted, millisText(s.Measured), standby,
			})
		}
	}
	return rows
}

func machine(p server.HyperlinkPeer) string {
	if p.Here {
		return "this one"
	}
	return p.Name
}

func layersText(first, last int) string { return fmt.Sprintf("%d-%d", first, last) }

func rateText(perSecond float64) string {
	return strconv.FormatFloat(perSecond, 'f', 1, 64) + " tokens/s"
}

func millisText(ms *float64) string {
	if ms == nil {
		return "-"
	}
	return strconv.FormatFloat(*ms, 'f', 2, 64) + " ms"
}

func (a *app) hyperlinkPlanCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "plan MODEL", Short: "Say how a model would be laid over the machines that are there", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.completeModels,
		Long: "Say how a model would be laid over the machines that are there, and how fast it would be, without loading anything:\n" +
			"solo on this machine, as replicas, or split by layers.",
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.daemon(cmd.Context())
		if err != nil {
			return err
		}
		var p server.HyperlinkPlan
		if err := c.do(cmd.Context(), http.MethodPost, hyperlinkPath+"/plan", map[string]string{"model": args[0]}, &p); err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(p)
		}
		if err := tables(a.out, planDetails(p), planStageRows(p.Stages), droppedRows(p.Dropped)); err != nil {
			return err
		}
		if p.Guessed {
			a.hint("The times are a guess: this machine has not been measured. See: centram hyperlink status")
		}
		return nil
	}
	return cmd
}

func planDetails(p server.HyperlinkPlan) [][]string {
	return [][]string{
		{"model", p.Model},
		{"kind", p.Kind},
		{"predicted", fmt.Sprintf("%s, %s of a prompt", rateText(p.Tokens), rateText(p.Prompt))},
		{"alternatives", alternativesText(p.Alternatives)},
	}
}

// alternativesText is a line such as: solo 4.1 tokens/s, replicas -, split 7.9 tokens/s.
func alternativesText(list []server.HyperlinkOption) string {
	var parts []string
	for _, kind := range []string{"solo", "replicas", "split"} {
		rate := "-"
		if i := slices.IndexFunc(list, func(o server.HyperlinkOption) bool { return o.Kind == kind }); i >= 0 {
			rate = rateText(list[i].Tokens)
		}
		parts = append(parts, kind+" "+rate)
	}
	return strings.Join(parts, ", ")
}

func planStageRows(list []server.HyperlinkStage) [][]string {
	rows := [][]string{{"MACHINE", "ID", "LAYERS", "MEMORY", "TO FETCH", "PREDICTED"}}
	for _, s := range list {
		fetch := "-" // what is in a file here is not fetched
		if !s.Peer.Here {
			fetch = bytesText(s.Fetch)
		}
		rows = append(rows, []string{
			machine(s.Peer), s.Peer.Short, layersText(s.First, s.Last), bytesText(s.Memory), fetch, millisText(&s.Predicted),
		})
	}
	return rows
}

func droppedRows(list []server.HyperlinkDropped) [][]string {
	rows := [][]string{{"NOT USED", "ID", "WHY"}}
	for _, d := range list {
		rows = append(rows, []string{d.Peer.Name, d.Peer.Short, d.Reason})
	}
	return rows
}

func (a *app) hyperlinkUpCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "up MODEL", Short: "Put a model together from several machines, even if it fits this one", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.completeModels,
		Long: "Put a model together from several machines, even if it fits this one. The weights come from this machine the first\n" +
			"time. From then on the model is loaded so, until: centram hyperlink down MODEL",
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		c, err := a.daemon(ctx)
		if err != nil {
			return err
		}
		m, err := a.putTogether(ctx, c, args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(m)
		}
		if err := table(a.out, splitStageRows([]server.HyperlinkModel{m})); err != nil {
			return err
		}
		a.hint("%s runs over %s. Chat with it: centram chat --model %s", m.Model, plural(len(m.Stages), "machine"), m.Model)
		return nil
	}
	return cmd
}

// putTogether has the daemon put a model together, and shows how far it is.
func (a *app) putTogether(ctx context.Context, c *client, model string) (m server.HyperlinkModel, err error) {
	watching, cancel := context.WithCancel(ctx)
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		a.watchLoading(watching, c, model)
	}()
	err = c.do(ctx, http.MethodPost, hyperlinkPath+"/up", map[string]string{"model": model}, &m)
	cancel()
	<-shown
	return m, err
}

// watchLoading shows how far a model is loaded until ctx ends.
func (a *app) watchLoading(ctx context.Context, c *client, model string) {
	bar := a.newProgress("Loading")
	defer bar.clear()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		var m server.Model
		if err := c.do(ctx, http.MethodGet, modelPath(model), nil, &m); err == nil && m.Loading != nil {
			bar.show(*m.Loading)
		}
	}
}

func (a *app) hyperlinkDownCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "down MODEL", Short: "Take a model out of the memory of all machines", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.completeModels,
		Long:              "Take a model out of the memory of all machines. The next question loads it on this one alone, if it fits.",
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.daemon(cmd.Context())
		if err != nil {
			return err
		}
		var m server.Model
		if err := c.do(cmd.Context(), http.MethodPost, hyperlinkPath+"/down", map[string]string{"model": args[0]}, &m); err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(m)
		}
		a.hint("%s is out of the memory. The next question loads it on this machine alone, if it fits.", m.Name)
		return nil
	}
	return cmd
}
