package main

import "github.com/spf13/cobra"

func (a *app) hyperlinkCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "hyperlink", Short: "Run one model over several machines", Args: cobra.NoArgs}
	cmd.AddCommand(a.demoCommand(), a.shardCommand())
	return cmd
}
