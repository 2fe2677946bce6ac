package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/models"
	"github.com/centram/centram/server"
	"github.com/spf13/cobra"
)

func (a *app) loraListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List the adapters of models", Args: cobra.NoArgs}
	model := cmd.Flags().StringP("model", "m", "", "`name` of a model (all)")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		l, err := a.library(cmd.Context())
		if err != nil {
			return err
		}
		defer l.Close()
		list, err := l.Adapters(cmd.Context(), *model)
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(map[string]any{"adapters": list})
		}
		if len(list) == 0 {
			a.hint("There is no adapter yet. Train one with: centram train, or add a file with: centram lora apply FILE --model MODEL")
			return nil
		}
		return table(a.out, adapterRows(list))
	}
	return cmd
}

func adapterRows(list []server.Adapter) [][]string {
	rows := [][]string{{"NAME", "RANK", "PARAMETERS", "SIZE", "STATE"}}
	for _, x := range list {
		rows = append(rows, []string{
			x.Model, fmt.Sprint(x.Rank), countText(x.Parameters), bytesText(x.SizeBytes), strings.TrimSpace(string(x.State) + " " + x.Error),
		})
	}
	return rows
}

func (a *app) loraApplyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "apply FILE", Short: "Have a model answer with an adapter, by the name MODEL:ADAPTER", Args: cobra.ExactArgs(1),
		Long: "Add an adapter to the list of a model. The file stays where it is. Requests that name MODEL:ADAPTER are answered\n" +
			"with it from now on, and MODEL alone answers as before. MODEL:A+B is the model with two, MODEL:A@0.5 with half of one.",
		Example: "  centram lora apply notes.gguf --model qwen\n" +
			"  centram chat qwen:notes",
	}
	model, asJSON := modelFlag(cmd), jsonFlag(cmd)
	name := cmd.Flags().String("name", "", "what to call the adapter (after the file)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path, err := filepath.Abs(args[0])
		if err != nil {
			return err
		}
		base, err := a.listedModel(cmd.Context(), *model)
		if err != nil {
			return err
		}
		l, err := a.library(cmd.Context())
		if err != nil {
			return err
		}
		defer l.Close()
		x, err := l.AddAdapter(cmd.Context(), models.AdapterDraft{Path: path, Base: base, Name: *name})
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(x)
		}
		fmt.Fprintln(a.out, x.Model)
		a.hint("Rank %d, %s parameters. Chat with it: centram chat %s", x.Rank, countText(x.Parameters), x.Model)
		return nil
	}
	return cmd
}

// listedModel is the name of a model in the list, or of the one that a person prefers if none is given.
func (a *app) listedModel(ctx context.Context, model string) (string, error) {
	name, path, err := a.modelFile(ctx, model)
	if err == nil && isFile(model) {
		return "", centram.Errorf(centram.Invalid, "%s is a file, and an adapter is applied to a model of the list.", model).
			WithHint("Add the model first: centram model import %s", path)
	}
	return name, err
}

func (a *app) loraRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "remove MODEL:ADAPTER", Aliases: []string{"rm"}, Short: "Remove an adapter from the list", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.completeAdapters,
	}
	file := cmd.Flags().Bool("file", false, "delete the file as well, if Centram has made it")
	yes := cmd.Flags().BoolP("yes", "y", false, "do not ask before a file is deleted")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		base, name, ok := models.CutAdapters(args[0])
		if !ok {
			return usageError{fmt.Errorf("%q does not name an adapter", args[0]), "Name it as MODEL:ADAPTER; see which there are with: centram lora list"}
		}
		if *file && !*yes {
			if err := a.confirm("Delete the file of the adapter " + args[0] + "?"); err != nil {
				return err
			}
		}
		l, err := a.library(cmd.Context())
		if err != nil {
			return err
		}
		defer l.Close()
		if err := l.RemoveAdapter(cmd.Context(), base, name, *file); err != nil {
			return err
		}
		if *file {
			a.hint("%s and its file are gone.", args[0])
		} else {
			a.hint("%s is no longer in the list. Its file is still there.", args[0])
		}
		return nil
	}
	return cmd
}

// adapterFile finds an adapter by its file or as MODEL:ADAPTER, which then is known. The model that it is looked at with is
// its own unless another one is named.
func (a *app) adapterFile(ctx context.Context, named, model string) (path, base string, known *models.Adapter, err error) {
	owner, name, ok := models.CutAdapters(named)
	if isFile(named) || !ok {
		_, base, err = a.modelFile(ctx, model)
		return named, base, nil, err
	}
	l, err := a.ownLibrary(ctx)
	if err != nil {
		return "", "", nil, err
	}
	x, err := l.library.Adapter(ctx, owner, name)
	if err = errors.Join(err, l.Close()); err != nil {
		return "", "", nil, err
	}
	if model == "" {
		model = x.Base
	}
	_, base, err = a.modelFile(ctx, model)
	return x.Path, base, &x, err
}

// completeAdapters names the adapters for a shell.
func (a *app) completeAdapters(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	names, directive := a.completeModels(cmd, args, typed)
	var out []string
	for _, name := range names {
		if strings.Contains(name, ":") {
			out = append(out, name)
		}
	}
	return out, directive
}
