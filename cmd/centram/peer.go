package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/centram/centram/server"
	"github.com/spf13/cobra"
)

const pollEvery = 200 * time.Millisecond

func (a *app) peerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "peer", Short: "List other nodes, connect to them and pair with them", Args: cobra.NoArgs,
		Long: "A peer is another node. It is named by its id, the beginning of that, or its name.\n\n" +
			"Pairing is how two owners say that they trust each other's nodes. With a code, which is quickest:\n" +
			"  centram peer code                        on one machine\n" +
			"  centram peer pair ID --code 1234-5678    on the other\n" +
			"Or by comparing words that both screens show:\n" +
			"  centram peer pair ID                     on both machines",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.peerListCommand(), a.peerShowCommand(), a.peerAddCommand(), a.peerPairCommand(), a.peerCodeCommand(),
		a.peerPingCommand(), a.peerForgetCommand())
	return cmd
}

// peerList is what the daemon knows of other nodes.
type peerList struct {
	Peers   []server.Peer    `json:"peers"`
	Dialled []server.Dialled `json:"dialled"`
}

func (c *client) peers(ctx context.Context) (list peerList, err error) {
	err = c.do(ctx, http.MethodGet, "/api/v1/peers", nil, &list)
	return list, err
}

func (c *client) peer(ctx context.Context, name string) (p server.Peer, err error) {
	err = c.do(ctx, http.MethodGet, peerPath(name), nil, &p)
	return p, err
}

func (a *app) peerListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List the other nodes that are known", Args: cobra.NoArgs}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.daemon(cmd.Context())
		if err != nil {
			return err
		}
		list, err := c.peers(cmd.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(list)
		}
		rows := peerRows(list, time.Now())
		if len(rows) == 1 {
			a.hint("No other node is known yet. Those on the local network show up by themselves; elsewhere: centram peer add HOST:PORT")
			return nil
		}
		if err := table(a.out, rows); err != nil {
			return err
		}
		return a.hintPairings(cmd.Context(), c)
	}
	return cmd
}

// hintPairings says who waits for an answer.
func (a *app) hintPairings(ctx context.Context, c *client) error {
	list, err := c.pairings(ctx)
	for _, p := range list {
		if p.State == "waiting" && !p.Outgoing && !p.Mine {
			a.hint("%s wants to pair. Answer with: centram peer pair %s", peerLabel(p.Name, p.Short), p.Short)
		}
	}
	return err
}

func (c *client) pairings(ctx context.Context) ([]server.Pairing, error) {
	var list struct {
		Pairings []server.Pairing `json:"pairings"`
	}
	err := c.do(ctx, http.MethodGet, "/api/v1/pairings", nil, &list)
	return list.Pairings, err
}

func peerRows(list peerList, now time.Time) [][]string {
	rows := [][]string{{"NAME", "ID", "STATE", "TRUST", "ADDRESS", "RTT", "SEEN"}}
	for _, p := range list.Peers {
		rows = append(rows, []string{p.Name, p.Short, p.State, p.Trust, p.Address, roundTrip(p.RTT), seen(p, now)})
	}
	for _, d := range list.Dialled {
		if d.Peer == "" {
			rows = append(rows, []string{"-", "-", "dialling", "-", d.Address, "-", "never"})
		}
	}
	return rows
}

func roundTrip(ms *float64) string {
	if ms == nil {
		return "-"
	}
	return strconv.FormatFloat(*ms, 'f', 1, 64) + " ms"
}

func seen(p server.Peer, now time.Time) string {
	switch {
	case p.Since != nil:
		return "for " + span(now.Sub(*p.Since))
	case p.LastSeen != nil:
		return span(now.Sub(*p.LastSeen)) + " ago"
	}
	return "never"
}

// peerLabel is what a person recognises a peer by.
func peerLabel(name, short string) string {
	if name == "" {
		return short
	}
	return printable(name) + " (" + short + ")"
}

func (a *app) peerShowCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "show PEER", Short: "Show what is known of a peer", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completePeers}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.daemon(cmd.Context())
		if err != nil {
			return err
		}
		p, err := c.peer(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(p)
		}
		return table(a.out, peerDetails(p, time.Now()))
	}
	return cmd
}

func peerDetails(p server.Peer, now time.Time) [][]string {
	rows := [][]string{{"name", p.Name}, {"id", p.ID}, {"state", p.State}, {"trust", p.Trust}, {"seen", seen(p, now)}}
	if p.BannedUntil != nil {
		rows = append(rows, []string{"banned", "for " + span(p.BannedUntil.Sub(now)) + " more, for what it sent"})
	}
	if p.State == "connected" {
		rows = append(rows, []string{"address", p.Address}, []string{"round trip", roundTrip(p.RTT)}, []string{"version", p.Version},
			[]string{"sent", bytesText(p.Sent)}, []string{"received", bytesText(p.Received)},
			[]string{"abilities", strings.Join(p.Abilities, ", ")})
	}
	if p.Static {
		rows = append(rows, []string{"dialled", "for ever: its address was added by hand"})
	}
	for _, at := range p.Addresses {
		rows = append(rows, []string{"known at", fmt.Sprintf("%s, from %s, %s ago", at.Address, at.Source, span(now.Sub(at.Seen)))})
	}
	return rows
}

func (a *app) peerAddCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "add HOST:PORT", Short: "Connect to a node by its address, now and for ever", Args: cobra.ExactArgs(1),
		Example: "  centram peer add 192.168.1.20:9743",
	}
	wait := cmd.Flags().Duration("wait", 10*time.Second, "how long to wait for an answer")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.daemon(cmd.Context())
		if err != nil {
			return err
		}
		var d server.Dialled
		if err := c.do(cmd.Context(), http.MethodPost, "/api/v1/peers", map[string]string{"address": args[0]}, &d); err != nil {
			return err
		}
		p, problem, err := c.answerAt(cmd.Context(), d.Address, *wait)
		if err != nil {
			return err
		}
		switch {
		case p == nil && problem != "":
			a.hint("No session with %s yet: %s. It is dialled again and again; look with: centram peer list", d.Address, problem)
			return nil
		case p == nil:
			a.hint("Nobody has answered at %s yet. It is dialled again and again; look with: centram peer list", d.Address)
			return nil
		}
		fmt.Fprintln(a.out, p.ID)
		a.hint("Connected to %s. Pair with it: centram peer pair %s", peerLabel(p.Name, p.Short), p.Short)
		return nil
	}
	return cmd
}

// answerAt waits until a peer is connected at an address that is dialled. It returns nil if that takes too long, and why it
// may be so.
func (c *client) answerAt(ctx context.Context, address string, wait time.Duration) (*server.Peer, string, error) {
	problem := ""
	for began := time.Now(); ; time.Sleep(pollEvery / 4) {
		list, err := c.peers(ctx)
		if err != nil {
			return nil, "", err
		}
		for _, d := range list.Dialled {
			if d.Address == address {
				problem = d.Error
			}
			for _, p := range list.Peers {
				if d.Address == address && d.Peer == p.ID && p.State == "connected" {
					return &p, "", nil
				}
			}
		}
		if time.Since(began) >= wait {
			return nil, problem, nil
		}
	}
}

func (a *app) peerPingCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ping PEER", Short: "Measure the way to a peer", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completePeers}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.daemon(cmd.Context())
		if err != nil {
			return err
		}
		var pong server.Pong
		if err := c.do(cmd.Context(), http.MethodPost, peerPath(args[0])+"/ping", struct{}{}, &pong); err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(pong)
		}
		fmt.Fprintln(a.out, roundTrip(&pong.RTT))
		return nil
	}
	return cmd
}

func (a *app) peerForgetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "forget PEER|HOST:PORT", Aliases: []string{"rm"}, Short: "Forget a peer and that it was paired, or an address that is dialled",
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completePeers,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.daemon(cmd.Context())
		if err != nil {
			return err
		}
		if err := c.do(cmd.Context(), http.MethodDelete, peerPath(args[0]), nil, nil); err != nil {
			return err
		}
		a.hint("%s is forgotten. A node on the local network may show up again, as a stranger.", args[0])
		return nil
	}
	return cmd
}

// completePeers names the peers for a shell.
func (a *app) completePeers(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	if len(args) > 0 || a.start(cmd) != nil {
		return nil, none
	}
	c, err := a.daemon(cmd.Context())
	if err != nil {
		return nil, none
	}
	list, err := c.peers(cmd.Context())
	if err != nil {
		return nil, none
	}
	var names []string
	for _, p := range list.Peers {
		names = append(names, p.Short+"\t"+printable(p.Name))
	}
	return names, none
}
