package main

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/centram/centram/server"
	"github.com/spf13/cobra"
)

func (a *app) nodeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Show who this node is among others, and whether it talks to them", Args: cobra.NoArgs}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.daemon(cmd.Context())
		if err != nil {
			return err
		}
		var n server.NodeState
		if err := c.do(cmd.Context(), http.MethodGet, "/api/v1/node", nil, &n); err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(n)
		}
		if err := table(a.out, nodeRows(n)); err != nil {
			return err
		}
		switch {
		case n.State != "on":
			a.hint("%s", printable(n.Hint))
		case n.Peers == 0:
			a.hint("Nodes on the local network find each other by themselves. Elsewhere: centram peer add HOST:PORT")
		}
		return nil
	}
	return cmd
}

func nodeRows(n server.NodeState) [][]string {
	rows := [][]string{{"network", n.State}}
	if n.Why != "" {
		rows[0][1] += ": " + n.Why
	}
	if n.ID != "" {
		rows = append(rows, []string{"id", n.ID}, []string{"words", n.Words})
	}
	if n.State != "on" {
		return rows
	}
	if n.Network != "" {
		rows = append(rows, []string{"network name", n.Network})
	}
	return append(rows, []string{"name", n.Name}, []string{"policy", n.Policy}, []string{"port", fmt.Sprintf("UDP %d", n.Port)},
		[]string{"addresses", strings.Join(n.Addresses, ", ")}, []string{"peers", fmt.Sprint(n.Peers)},
		[]string{"abilities", strings.Join(n.Abilities, ", ")})
}
