package main

import (
	"github.com/centram/centram/config"
	"github.com/spf13/cobra"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Show and change the settings", Args: cobra.NoArgs,
		Long: "A setting comes from a flag, else from the environment, else from the file, else it is the default.",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.configPathCommand(), a.configGetCommand(), a.configSetCommand())
	return cmd
}

func (a *app) configPathCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "path", Short: "Show where Centram keeps its things", Args: cobra.NoArgs}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		paths := struct {
			Config string `json:"config"`
			Data   string `json:"data"`
			Models string `json:"models"`
			State  string `json:"state"`
		}{a.cfg.Paths.File, a.cfg.Data, a.cfg.Models, a.cfg.Paths.State}
		if *asJSON {
			return a.printJSON(paths)
		}
		return table(a.out, [][]string{
			{"config", paths.Config}, {"data", paths.Data}, {"models", paths.Models}, {"state", paths.State},
		})
	}
	return cmd
}

// settingRow is one setting as it is shown.
type settingRow struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	config.Origin
	Variable string `json:"variable"`
	Help     string `json:"help"`
}

func (a *app) settingRow(k config.Key) settingRow {
	return settingRow{k.Name, a.cfg.Value(k.Name), a.cfg.Origin(k.Name), k.Variable(), k.Help}
}

func (a *app) configGetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "get [KEY]", Short: "Show the settings and where they come from", Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: completeKeys,
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) == 1 {
			return a.showSetting(args[0], *asJSON)
		}
		rows := []settingRow{}
		lines := [][]string{{"KEY", "VALUE", "FROM", ""}}
		for _, k := range config.Keys() {
			row := a.settingRow(k)
			rows = append(rows, row)
			lines = append(lines, []string{row.Key, row.Value, string(row.Layer), row.Where})
		}
		if *asJSON {
			return a.printJSON(map[string]any{"settings": rows})
		}
		return table(a.out, lines)
	}
	return cmd
}

// showSetting prints the bare value, so that a script can use it, and for a person where it comes from.
func (a *app) showSetting(name string, asJSON bool) error {
	k, err := config.Lookup(name)
	if err != nil {
		return err
	}
	row := a.settingRow(k)
	if asJSON {
		return a.printJSON(row)
	}
	if err := table(a.out, [][]string{{row.Value}}); err != nil {
		return err
	}
	where := row.Where
	if where != "" {
		where = " " + where
	}
	a.hint("From the %s%s. It can be set with %s. What it means: %s.", row.Layer, where, row.Variable, row.Help)
	return nil
}

func (a *app) configSetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "set KEY VALUE", Short: "Change a setting in the file", Args: cobra.ExactArgs(2),
		ValidArgsFunction: completeKeys,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := config.WriteKey(a.cfg.Paths.File, args[0], args[1]); err != nil {
				return err
			}
			a.hint("Written to %s. A daemon that runs takes it over when it is started again.", a.cfg.Paths.File)
			if o := a.cfg.Origin(args[0]); o.Layer == config.Environment {
				a.hint("But %s is set and wins over the file.", o.Where)
			}
			return nil
		},
	}
}

func completeKeys(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, k := range config.Keys() {
		names = append(names, k.Name+"\t"+k.Help)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
