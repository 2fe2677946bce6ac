package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/centram/centram/server"
	"github.com/spf13/cobra"
)

func (a *app) psCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ps", Short: "List the models in memory", Args: cobra.NoArgs}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.daemon(cmd.Context())
		if err != nil {
			return err
		}
		running := struct {
			Models []server.Running `json:"models"`
		}{}
		if err := c.do(cmd.Context(), http.MethodGet, "/api/v1/ps", nil, &running); err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(running)
		}
		if len(running.Models) == 0 {
			a.hint("No model is in memory. The first question loads one: centram chat")
			return nil
		}
		return table(a.out, runningRows(running.Models, time.Now()))
	}
	return cmd
}

func runningRows(list []server.Running, now time.Time) [][]string {
	rows := [][]string{{"NAME", "MEMORY", "PROCESSOR", "CONTEXT", "BUSY", "UNTIL"}}
	for _, r := range list {
		processor, until := "CPU", "for ever"
		if r.GPU {
			processor = "GPU"
		}
		if r.ExpiresAt != nil {
			until = "in " + span(r.ExpiresAt.Sub(now))
		}
		rows = append(rows, []string{
			r.Name, bytesText(r.MemoryBytes), processor, fmt.Sprint(r.Context), fmt.Sprintf("%d of %d", r.Busy, r.Sequences), until,
		})
	}
	return rows
}
